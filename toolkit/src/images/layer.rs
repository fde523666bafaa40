//! Packs a tree into a layer: a tar archive, compressed with gzip, the same bytes on every machine.

use std::{
    io::{self, Write},
    path::Path,
};

use flate2::{Compression, GzBuilder};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{
    Error, Timestamp,
    blobs::{Blob, BlobStore},
    digest::{Digest, Hashed},
    tree::{Content, Entry, Node, Tree, capability_attribute},
};

/// The gzip level of every layer. Six is what docker and go-containerregistry use: nine is 3 times slower for 1 %.
const LEVEL: u32 = 6;

/// A packed layer whose bytes are in a [`BlobStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    blob: Blob,
    diff_id: Digest,
    summary: String,
}

impl Layer {
    /// Packs `tree`, which lies upon the layers `below`, into `store`. Every file has the modification time `moment`.
    /// A layer with the same content that the store has already is not compressed again.
    pub(crate) fn write(tree: &Tree, below: &[&Tree], moment: Timestamp, store: &BlobStore) -> Result<Self, Error> {
        let entries: Vec<_> = tree.complete(below)?.into_iter().collect();
        let (_, diff_id, _) = archive(&entries, moment, Hashed::new(io::sink()))?.finish();
        let layer = |blob| Self { blob, diff_id, summary: tree.summary() };
        let note = Note::path(store, &diff_id);
        if let Some(blob) = Note::read(&note)
            && store.holds(&blob)?
        {
            return Ok(layer(blob));
        }
        // GzBuilder's defaults: no name, no comment, time 0, system "unknown". They are a part of the digest.
        let gzip = GzBuilder::new().write(store.writer()?, Compression::new(LEVEL));
        let (gzip, written, _) = archive(&entries, moment, Hashed::new(gzip))?.finish();
        if written != diff_id {
            return Err(Error::Changed { what: tree.summary() });
        }
        let fail = |source| Error::Write { path: store.folder().to_owned(), source };
        let blob = gzip.finish().map_err(fail)?.commit()?;
        Note::write(&note, &blob)?;
        Ok(layer(blob))
    }

    /// The compressed bytes.
    pub(crate) fn blob(&self) -> &Blob {
        &self.blob
    }

    /// The digest of the tar archive inside (OCI config.md, "Layer DiffID").
    pub(crate) fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// The paths in the layer, for the image's history.
    pub(crate) fn summary(&self) -> &str {
        &self.summary
    }
}

/// Which blob a tar archive was compressed to, so that it need not be done again.
#[derive(Serialize, Deserialize)]
struct Note {
    digest: Digest,
    size: u64,
}

impl Note {
    fn path(store: &BlobStore, diff_id: &Digest) -> std::path::PathBuf {
        store.folder().with_file_name(format!("gzip-{LEVEL}")).join(diff_id.hex())
    }

    /// Nothing, if there is no note or it can't be read: the layer is compressed again then.
    fn read(path: &Path) -> Option<Blob> {
        let Self { digest, size } = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        Some(Blob { digest, size })
    }

    fn write(path: &Path, blob: &Blob) -> Result<(), Error> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let note = Self { digest: blob.digest, size: blob.size };
        Ok(fs::write(path, serde_json::to_vec(&note)?)?)
    }
}

fn archive<W: Write>(entries: &[(String, Entry)], moment: Timestamp, to: W) -> Result<W, Error> {
    let mut tar = tar::Builder::new(to);
    for (path, entry) in entries {
        append(&mut tar, path, entry, moment).map_err(|source| Error::Write { path: path.into(), source })?;
    }
    tar.into_inner().map_err(|source| Error::Write { path: "the end of a layer".into(), source })
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, entry: &Entry, moment: Timestamp) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.into());
    header.set_gid(entry.owner.into());
    header.set_mtime(moment.seconds());
    header.set_size(0);
    match &entry.node {
        Node::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Node::Link { target } => {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, path, target)
        }
        Node::File { content, capabilities } => {
            if !capabilities.is_empty() {
                // The key is what containerd, docker, umoci and GNU tar read.
                let value = capability_attribute(capabilities);
                tar.append_pax_extensions([("SCHILY.xattr.security.capability", value.as_slice())])?;
            }
            append_file(tar, header, path, content)
        }
    }
}

fn append_file<W: Write>(
    tar: &mut tar::Builder<W>,
    mut header: tar::Header,
    path: &str,
    content: &Content,
) -> io::Result<()> {
    let (size, reader) = content.open()?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    // A file that grows meanwhile must not break the archive; one that shrinks must not be padded in silence.
    let mut bounded = Exactly { reader, left: size };
    tar.append_data(&mut header, path, &mut bounded)
}

/// Reads exactly `left` bytes; an early end is an error.
struct Exactly<R> {
    reader: R,
    left: u64,
}

impl<R: io::Read> io::Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.reader.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn file(bytes: &[u8], mode: u32, owner: u32) -> Entry {
        Entry { node: Node::File { content: Content::Bytes(bytes.to_vec()), capabilities: vec![] }, mode, owner }
    }

    fn tree<'a>(files: impl IntoIterator<Item = (&'a String, &'a Vec<u8>)>) -> Tree {
        let mut tree = Tree::default();
        for (name, bytes) in files {
            tree.insert(&format!("/{name}"), file(bytes, 0o755, 0)).unwrap();
        }
        tree
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_same_files_in_any_order_have_the_same_digest(
            files in proptest::collection::btree_map("d?/?[a-c]{1,3}".prop_filter("normal", |s| !s.starts_with('/') && !s.ends_with('/')),
                proptest::collection::vec(any::<u8>(), 0..2000), 1..8)
        ) {
            let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let moment = Timestamp::new(1_700_000_000).unwrap();
            let forth = tree(&files);
            let back = tree(files.iter().rev());
            if let Ok(a) = Layer::write(&forth, &[], moment, &BlobStore::open(one.path()).unwrap()) {
                let b = Layer::write(&back, &[], moment, &BlobStore::open(two.path()).unwrap()).unwrap();
                prop_assert_eq!(a, b);
            }
        }
    }

    #[test]
    fn headers_hold_what_the_tree_says() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let mut tree = Tree::default();
        tree.insert("/data", Entry { node: Node::Folder, mode: 0o700, owner: 65532 }).unwrap();
        tree.insert("/bin/sh", Entry { node: Node::Link { target: "busybox".into() }, mode: 0o777, owner: 0 }).unwrap();
        let node = Node::File {
            content: Content::Bytes(b"abc".to_vec()),
            capabilities: vec![super::super::tree::Capability::NetBindService],
        };
        tree.insert("/usr/run", Entry { node, mode: 0o755, owner: 0 }).unwrap();
        let moment = Timestamp::new(77).unwrap();
        let layer = Layer::write(&tree, &[], moment, &store).unwrap();

        let file = fs::File::open(store.path(&layer.blob().digest)).unwrap();
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let mut seen = vec![];
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 77);
            assert_eq!(header.gid().unwrap(), header.uid().unwrap());
            let (mode, uid) = (header.mode().unwrap(), header.uid().unwrap());
            let link = entry.link_name().unwrap().map(|l| l.display().to_string());
            let attributes = entry.pax_extensions().unwrap().map_or(0, Iterator::count);
            let mut bytes = vec![];
            entry.read_to_end(&mut bytes).unwrap();
            seen.push((entry.path().unwrap().display().to_string(), mode, uid, link, attributes, bytes.len()));
        }
        let expected = [
            ("bin/", 0o755, 0, None, 0, 0),
            ("bin/sh", 0o777, 0, Some("busybox".to_owned()), 0, 0),
            ("data/", 0o700, 65532, None, 0, 0),
            ("usr/", 0o755, 0, None, 0, 0),
            ("usr/run", 0o755, 0, None, 1, 3),
        ]
        .map(|(path, mode, uid, link, attributes, size)| (path.to_owned(), mode, uid, link, attributes, size));
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_damaged_cached_layer_is_packed_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let mut tree = Tree::default();
        tree.insert("/a", file(b"abc", 0o644, 0)).unwrap();
        let first = Layer::write(&tree, &[], Timestamp::default(), &store).unwrap();
        fs::write(store.path(&first.blob().digest), "damaged").unwrap();
        assert_eq!(Layer::write(&tree, &[], Timestamp::default(), &store).unwrap(), first);
        assert!(store.holds(first.blob()).unwrap());
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let mut reader = Exactly { reader: &b"abc"[..], left: 4 };
        assert_eq!(reader.read_to_end(&mut vec![]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
