//! Reads snapshot files, etcd's own as well. Trusts nothing in them: whatever they hold, the result is data or an
//! error.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message;

use super::page::{
    BRANCH, BUCKET_ELEMENT, BUCKET_HEADER, ELEMENT, Header, LEAF, META_SIZE, Meta, PAGE_HEADER, u32_at, u64_at,
};
use super::schema::{self, RevisionKey, StoredKeyValue, StoredLease};
use super::{digest, with_path};
use crate::engine::{LeaseId, Record, Revision};

/// A tree this high holds more than any disk; a branch that leads back to itself is higher.
const MAX_DEPTH: usize = 32;
const DIGEST: u64 = 32;

/// An open snapshot file.
#[derive(Debug)]
pub struct SnapshotReader {
    path: PathBuf,
    file: File,
    page_size: usize,
    /// How many pages there are.
    pages: u64,
    root: u64,
    digest: bool,
}

/// The elements of a bucket in order, until the first error.
#[derive(Debug)]
pub struct Entries<'a> {
    reader: &'a SnapshotReader,
    /// What is left of the branches on the way down to the leaf.
    branches: Vec<std::vec::IntoIter<(Bytes, u64)>>,
    leaf: std::vec::IntoIter<Element>,
    last_key: Bytes,
    /// How many pages the tree may still have: no more than the file, or pages are read again and again.
    left: u64,
}

/// An element of a leaf.
#[derive(Debug, Clone)]
struct Element {
    flags: u32,
    key: Bytes,
    value: Bytes,
}

#[derive(Debug)]
enum Node {
    Branch(Vec<(Bytes, u64)>),
    Leaf(Vec<Element>),
}

impl SnapshotReader {
    /// Opens the file and compares its content with the digest at its end. A file without one is a backend copied from
    /// a data folder: see [`SnapshotReader::has_digest`].
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        Self::load(&path, true).map_err(|error| with_path("read", &path, &error))
    }

    /// The same without looking at the digest. What is read from a damaged file is data or an error, but not what was
    /// saved.
    pub fn open_unverified(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        Self::load(&path, false).map_err(|error| with_path("read", &path, &error))
    }

    fn load(path: &Path, verify: bool) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        // etcd tells by the size whether there is a digest (etcdutl: snapshot/v3_snapshot.go, `hasChecksum`).
        let with_digest = size % 512 == DIGEST;
        let content = if with_digest { size - DIGEST } else { size };
        if with_digest && verify {
            let mut expected = [0; DIGEST as usize];
            file.read_exact_at(&mut expected, content)?;
            file.seek(SeekFrom::Start(0))?;
            if digest(&mut file, content)? != expected {
                return Err(corrupt("its content does not have the SHA-256 at its end"));
            }
        }
        let meta = find_meta(&file, content)?;
        let page_size = meta.page_size as usize;
        if meta.pages > content / page_size as u64 {
            return Err(corrupt(format!("it is cut off: {} pages of {page_size} bytes in {content}", meta.pages)));
        }
        Ok(Self { path: path.to_owned(), file, page_size, pages: meta.pages, root: meta.root, digest: with_digest })
    }

    /// Whether the file had a digest, and so is known to be whole.
    pub fn has_digest(&self) -> bool {
        self.digest
    }

    /// The names of the buckets.
    pub fn buckets(&self) -> io::Result<Vec<Bytes>> {
        let mut names = Vec::new();
        let mut elements = self.tree(self.root)?;
        while let Some(element) = elements.advance()? {
            if element.flags & BUCKET_ELEMENT != 0 {
                names.push(element.key);
            }
        }
        Ok(names)
    }

    /// The elements of a bucket; `None` if there is no such bucket.
    pub fn bucket(&self, name: &[u8]) -> io::Result<Option<Entries<'_>>> {
        let mut elements = self.tree(self.root)?;
        while let Some(element) = elements.advance()? {
            if element.key == name && element.flags & BUCKET_ELEMENT != 0 {
                return self.open_bucket(&element.value).map(Some);
            }
        }
        Ok(None)
    }

    /// All records, in order of (revision, sub). One with an empty key only moves the revision
    /// (etcdutl: `snapshot restore --bump-revision`).
    pub fn records(&self) -> io::Result<impl Iterator<Item = io::Result<Record>> + '_> {
        let entries = self.bucket(schema::KEY)?.into_iter().flatten();
        Ok(entries.map(|entry| {
            let (key, value) = entry?;
            let Some(RevisionKey { revision, sub, tombstone }) = RevisionKey::decode(&key) else {
                return Err(self.corrupt(format!("{key:?} is not a revision")));
            };
            let stored = StoredKeyValue::decode(value)
                .map_err(|error| self.corrupt(format!("the record at {revision}/{sub}: {error}")))?;
            Ok(Record { revision, sub, tombstone, kv: stored.into() })
        }))
    }

    /// All leases with their time to live in seconds.
    pub fn leases(&self) -> io::Result<impl Iterator<Item = io::Result<(LeaseId, i64)>> + '_> {
        let entries = self.bucket(schema::LEASE)?.into_iter().flatten();
        Ok(entries.map(|entry| {
            let (key, value) = entry?;
            let lease =
                StoredLease::decode(value).map_err(|error| self.corrupt(format!("the lease {key:?}: {error}")))?;
            Ok((lease.id, lease.ttl))
        }))
    }

    /// The revision of the last compaction, or 0. Records that it makes superfluous may still be there.
    pub fn compact_revision(&self) -> io::Result<Revision> {
        let mut found = 0;
        for entry in self.bucket(schema::META)?.into_iter().flatten() {
            let (key, value) = entry?;
            if key == schema::SCHEDULED_COMPACT || key == schema::FINISHED_COMPACT {
                let mark = RevisionKey::decode(&value).ok_or_else(|| self.corrupt("the compaction's revision"))?;
                found = found.max(mark.revision);
            }
        }
        Ok(found)
    }

    fn open_bucket(&self, value: &Bytes) -> io::Result<Entries<'_>> {
        let root = u64_at(value, 0).filter(|_| value.len() >= BUCKET_HEADER);
        match root.ok_or_else(|| self.corrupt("a bucket without a header"))? {
            0 => {
                let page = value.slice(BUCKET_HEADER..);
                let header = Header::decode(&page).ok_or_else(|| self.corrupt("an inline bucket without a page"))?;
                self.entries(self.parse(header, &page)?, 0)
            }
            page => self.tree(page),
        }
    }

    fn tree(&self, root: u64) -> io::Result<Entries<'_>> {
        let mut left = self.pages;
        let root = self.node(root, &mut left)?;
        self.entries(root, left)
    }

    fn entries(&self, root: Node, left: u64) -> io::Result<Entries<'_>> {
        let leaf = Vec::new().into_iter();
        let mut entries = Entries { reader: self, branches: Vec::new(), leaf, last_key: Bytes::new(), left };
        entries.descend(root)?;
        Ok(entries)
    }

    /// Reads a page with its overflow. `left`: how many pages the tree may still have.
    fn node(&self, id: u64, left: &mut u64) -> io::Result<Node> {
        let named = |error: io::Error| with_path("read", &self.path, &error);
        let offset = id.checked_mul(self.page_size as u64).filter(|_| id >= 2 && id < self.pages);
        let offset = offset.ok_or_else(|| self.corrupt(format!("there is no page {id}")))?;
        let mut bytes = vec![0; self.page_size];
        self.file.read_exact_at(&mut bytes, offset).map_err(named)?;
        let header = Header::decode(&bytes).filter(|header| header.id == id);
        let header = header.ok_or_else(|| self.corrupt(format!("page {id} is another page")))?;
        if u64::from(header.overflow) >= self.pages - id {
            return Err(self.corrupt(format!("page {id} goes on after the end")));
        }
        let rest = left.checked_sub(u64::from(header.overflow) + 1);
        *left = rest.ok_or_else(|| self.corrupt(format!("page {id} is part of two others")))?;
        let size = self.page_size * (header.overflow as usize + 1);
        bytes.try_reserve_exact(size - bytes.len()).map_err(|error| named(io::Error::other(error)))?;
        bytes.resize(size, 0);
        self.file.read_exact_at(&mut bytes[self.page_size..], offset + self.page_size as u64).map_err(named)?;
        self.parse(header, &bytes.into())
    }

    fn parse(&self, header: Header, page: &Bytes) -> io::Result<Node> {
        let bad = || self.corrupt(format!("an element of page {} is out of bounds", header.id));
        let positions = (0..usize::from(header.count)).map(|index| PAGE_HEADER + index * ELEMENT);
        let part = |from: usize, len: u32| {
            let end = from.checked_add(len as usize)?;
            (end <= page.len()).then(|| page.slice(from..end))
        };
        let child = |at: usize| {
            let key = part(at.checked_add(u32_at(page, at)? as usize)?, u32_at(page, at + 4)?)?;
            Some((key, u64_at(page, at + 8)?))
        };
        let element = |at: usize| {
            let (flags, position) = (u32_at(page, at)?, u32_at(page, at + 4)?);
            let (key_len, value_len) = (u32_at(page, at + 8)?, u32_at(page, at + 12)?);
            let start = at.checked_add(position as usize)?;
            let key = part(start, key_len).filter(|key| !key.is_empty())?;
            Some(Element { flags, key, value: part(start.checked_add(key_len as usize)?, value_len)? })
        };
        match header.flags {
            BRANCH => Ok(Node::Branch(positions.map(child).collect::<Option<_>>().ok_or_else(bad)?)),
            LEAF => {
                let elements: Vec<Element> = positions.map(element).collect::<Option<_>>().ok_or_else(bad)?;
                let size: usize =
                    elements.iter().map(|element| ELEMENT + element.key.len() + element.value.len()).sum();
                if size > page.len() {
                    return Err(self.corrupt(format!("elements of page {} lie upon each other", header.id)));
                }
                Ok(Node::Leaf(elements))
            }
            flags => Err(self.corrupt(format!("page {} has the flags {flags:#x}", header.id))),
        }
    }

    fn corrupt(&self, why: impl std::fmt::Display) -> io::Error {
        with_path("read", &self.path, &corrupt(why))
    }
}

impl Entries<'_> {
    /// Goes into a node. Only a tree's only leaf may be empty; with ascending keys this makes a walk end, whatever the
    /// pages say.
    fn descend(&mut self, node: Node) -> io::Result<()> {
        match node {
            Node::Branch(children) if children.is_empty() => Err(self.reader.corrupt("an empty branch")),
            Node::Branch(_) if self.branches.len() == MAX_DEPTH => Err(self.reader.corrupt("a tree without leaves")),
            Node::Branch(children) => {
                self.branches.push(children.into_iter());
                Ok(())
            }
            Node::Leaf(elements) if elements.is_empty() && !self.branches.is_empty() => {
                Err(self.reader.corrupt("an empty leaf"))
            }
            Node::Leaf(elements) => {
                self.leaf = elements.into_iter();
                Ok(())
            }
        }
    }

    fn advance(&mut self) -> io::Result<Option<Element>> {
        loop {
            if let Some(element) = self.leaf.next() {
                if element.key <= self.last_key {
                    return Err(self.reader.corrupt(format!("the key {:?} is out of order", element.key)));
                }
                self.last_key = element.key.clone();
                return Ok(Some(element));
            }
            let Some(branch) = self.branches.last_mut() else { return Ok(None) };
            match branch.next() {
                // A key below what it is filed under is lost to every search.
                Some((least, page)) => {
                    let node = self.reader.node(page, &mut self.left)?;
                    if node.first_key() < &least[..] {
                        return Err(self.reader.corrupt(format!("page {page} begins before {least:?}")));
                    }
                    self.descend(node)?;
                }
                None => {
                    self.branches.pop();
                }
            }
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = io::Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.branches.clear();
            self.leaf = Vec::new().into_iter();
        }
        Some(next.transpose()?.map(|element| (element.key, element.value)))
    }
}

impl Node {
    fn first_key(&self) -> &[u8] {
        match self {
            Self::Branch(children) => children.first().map_or(&[], |child| &child.0),
            Self::Leaf(elements) => elements.first().map_or(&[], |element| &element.key),
        }
    }
}

fn corrupt(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is corrupt: {why}"))
}

/// The newer of the two valid meta records. The second one stands one page after the first, whatever the page size
/// (bbolt: `DB.getPageSize`).
fn find_meta(file: &File, size: u64) -> io::Result<Meta> {
    let read = |offset: u64| -> io::Result<Option<Meta>> {
        let mut bytes = [0; PAGE_HEADER + META_SIZE];
        if size < offset + bytes.len() as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut bytes, offset)?;
        let meta = Meta::decode(&bytes[PAGE_HEADER..]);
        Ok(meta.filter(|meta| meta.page_size.is_power_of_two() && (1 << 10..=1 << 25).contains(&meta.page_size)))
    };
    let mut newest = read(0)?;
    for page_size in (10..=25).map(|bits| 1u64 << bits) {
        if let Some(meta) = read(page_size)?
            && u64::from(meta.page_size) == page_size
            && newest.is_none_or(|newest| newest.page_size == meta.page_size && newest.transaction < meta.transaction)
        {
            newest = Some(meta);
        }
    }
    newest.ok_or_else(|| corrupt("it is not a bbolt database, or both of its meta pages are damaged"))
}
