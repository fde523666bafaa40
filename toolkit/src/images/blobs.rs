//! A folder of blobs named by their digest.

use std::{
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use fs_err as fs;
use tempfile::NamedTempFile;

use super::{
    Error,
    digest::{Digest, Hashed, of_reader},
};

/// `blobs/sha256` of an OCI layout (OCI image-layout.md). A blob appears under its name only when it is complete.
#[derive(Clone, Debug)]
pub(crate) struct BlobStore {
    folder: PathBuf,
}

/// A blob in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    /// Its name.
    pub(crate) digest: Digest,
    /// Its length in bytes.
    pub(crate) size: u64,
}

/// A blob that is being written. Dropped without [`BlobWriter::commit`] it leaves nothing behind.
pub(crate) struct BlobWriter {
    folder: PathBuf,
    file: Hashed<BufWriter<NamedTempFile>>,
}

impl BlobStore {
    /// The store in the OCI layout `layout`; its folder is made if it does not exist.
    pub(crate) fn open(layout: &Path) -> Result<Self, Error> {
        let folder = layout.join("blobs").join("sha256");
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// The folder that holds the blobs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the blob is or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// Whether the blob is here with exactly these bytes. Reads all of it.
    pub(crate) fn holds(&self, blob: &Blob) -> Result<bool, Error> {
        match fs::File::open(self.path(&blob.digest)) {
            Ok(file) => Ok(of_reader(file)? == (blob.digest, blob.size)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Starts a blob in a temporary file beside the others.
    pub(crate) fn writer(&self) -> Result<BlobWriter, Error> {
        let file = NamedTempFile::with_prefix_in(".partial-", &self.folder)
            .map_err(|source| Error::Write { path: self.folder.clone(), source })?;
        Ok(BlobWriter { folder: self.folder.clone(), file: Hashed::new(BufWriter::with_capacity(1 << 18, file)) })
    }

    /// Stores `bytes`.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Blob, Error> {
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(|source| Error::Write { path: self.folder.clone(), source })?;
        writer.commit()
    }

    /// Copies a blob into `to`, unless it is there already.
    pub(crate) fn copy(&self, blob: &Blob, to: &Self) -> Result<(), Error> {
        if to.holds(blob)? {
            return Ok(());
        }
        let mut source = fs::File::open(self.path(&blob.digest))?;
        let mut writer = to.writer()?;
        io::copy(&mut source, &mut writer).map_err(|source| Error::Write { path: to.folder.clone(), source })?;
        let copied = writer.commit()?;
        if copied != *blob {
            return Err(Error::Changed { what: blob.digest.to_string() });
        }
        Ok(())
    }

    /// Removes every file that `keep` does not name, also what an interrupted run left.
    pub(crate) fn prune(&self, keep: impl Fn(&str) -> bool) -> Result<(), Error> {
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(&keep) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl BlobWriter {
    /// Gives the blob its name. Readable by everyone, as a registry's content is.
    pub(crate) fn commit(self) -> Result<Blob, Error> {
        let (buffer, digest, size) = self.file.finish();
        let path = self.folder.join(digest.hex());
        let fail = |source| Error::Write { path: path.clone(), source };
        let file = buffer.into_inner().map_err(|error| fail(error.into_error()))?;
        file.as_file().set_permissions(PermissionsExt::from_mode(0o644)).map_err(fail)?;
        file.persist(&path).map_err(|error| fail(error.error))?;
        Ok(Blob { digest, size })
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(store: &BlobStore) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(store.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_blob_appears_only_when_complete() {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        let mut writer = store.writer().unwrap();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert_eq!(names(&store), [""; 0]);

        let blob = store.put(b"abc").unwrap();
        assert_eq!(names(&store), [blob.digest.hex()]);
        assert!(store.holds(&blob).unwrap());
    }

    #[test]
    fn a_damaged_copy_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let from = BlobStore::open(&dir.path().join("a")).unwrap();
        let to = BlobStore::open(&dir.path().join("b")).unwrap();
        let blob = from.put(b"abc").unwrap();
        fs::write(to.path(&blob.digest), "abd").unwrap();
        from.copy(&blob, &to).unwrap();
        assert!(to.holds(&blob).unwrap());

        fs::write(from.path(&blob.digest), "xyz").unwrap();
        fs::remove_file(to.path(&blob.digest)).unwrap();
        assert!(matches!(from.copy(&blob, &to), Err(Error::Changed { .. })));
    }
}
