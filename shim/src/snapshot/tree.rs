//! Builds B+ trees bottom-up from sorted input and appends their pages to a file.
//!
//! One node a level is in memory: a leaf is written when the next element does not fit in it, then its first key goes
//! to the branch above, and so on. Several trees may grow at the same time, since a page gets its number when it is
//! written.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::page::{
    BRANCH, BUCKET_HEADER, ELEMENT, FREELIST, Header, LEAF, MAX_KEY, MAX_VALUE, META, Meta, PAGE_HEADER, PAGE_SIZE,
};

/// The largest bucket that lives in its parent's leaf instead of in a page (bbolt: `Bucket.maxInlineBucketSize`).
const MAX_INLINE: usize = PAGE_SIZE / 4;
const WRITE_BUFFER: usize = 256 * 1024;

/// A page on its way into the file.
#[derive(Debug)]
struct Node {
    flags: u16,
    elements: Vec<Element>,
    /// The keys and values, one after the other.
    data: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Element {
    key_len: u32,
    value_len: u32,
    /// Of a leaf: its flags. Of a branch: the child's page.
    tag: u64,
}

impl Node {
    fn new(flags: u16) -> Self {
        Self { flags, elements: Vec::new(), data: Vec::with_capacity(PAGE_SIZE) }
    }

    fn size(&self) -> usize {
        PAGE_HEADER + self.elements.len() * ELEMENT + self.data.len()
    }

    fn fits(&self, key_len: usize, value_len: usize) -> bool {
        self.size() + ELEMENT + key_len + value_len <= PAGE_SIZE
    }

    fn first_key(&self) -> &[u8] {
        self.elements.first().map_or(&[], |first| &self.data[..first.key_len as usize])
    }

    fn add_child(&mut self, key: &[u8], page: u64) {
        self.data.extend_from_slice(key);
        self.elements.push(Element { key_len: key.len() as u32, value_len: 0, tag: page });
    }

    fn pop_child(&mut self) -> Option<(Vec<u8>, u64)> {
        let last = self.elements.pop()?;
        Some((self.data.split_off(self.data.len() - last.key_len as usize), last.tag))
    }

    fn clear(&mut self) {
        self.elements.clear();
        self.data.clear();
        // One huge value must not keep its memory for the rest of the snapshot.
        self.data.shrink_to(64 * 1024);
    }

    /// The header and the table; the data comes right after it.
    fn encode_head(&self, id: u64, overflow: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(PAGE_HEADER + self.elements.len() * ELEMENT);
        let count = self.elements.len() as u16;
        out.extend_from_slice(&Header { id, flags: self.flags, count, overflow }.encode());
        let mut at = self.elements.len() * ELEMENT;
        for element in &self.elements {
            let position = at as u32;
            if self.flags == LEAF {
                out.extend_from_slice(&(element.tag as u32).to_le_bytes());
                out.extend_from_slice(&position.to_le_bytes());
                out.extend_from_slice(&element.key_len.to_le_bytes());
                out.extend_from_slice(&element.value_len.to_le_bytes());
            } else {
                out.extend_from_slice(&position.to_le_bytes());
                out.extend_from_slice(&element.key_len.to_le_bytes());
                out.extend_from_slice(&element.tag.to_le_bytes());
            }
            at = at + (element.key_len + element.value_len) as usize - ELEMENT;
        }
        out
    }
}

/// Where a finished tree is.
#[derive(Debug)]
pub(super) enum Root {
    /// In a page.
    Page(u64),
    /// Here: small enough for its parent's leaf.
    Inline(Vec<u8>),
}

impl Root {
    /// The value of the parent's leaf element for this bucket (bbolt: `InBucket`, `Bucket.write`).
    pub(super) fn bucket_value(self) -> Vec<u8> {
        let (page, inline) = match self {
            Self::Page(page) => (page, Vec::new()),
            Self::Inline(bytes) => (0, bytes),
        };
        let mut out = Vec::with_capacity(BUCKET_HEADER + inline.len());
        out.extend_from_slice(&page.to_le_bytes());
        out.extend_from_slice(&0u64.to_le_bytes());
        out.extend_from_slice(&inline);
        out
    }
}

/// A tree that takes its elements in ascending order.
///
/// Unlike bbolt itself it puts a value that is larger than a page in a leaf alone. What bbolt does rely on is kept: a
/// branch has at least two children (bbolt: `node.rebalance` asserts it when a key is deleted).
#[derive(Debug)]
pub(super) struct Tree {
    leaf: Node,
    /// From the leaves upwards.
    branches: Vec<Node>,
    last_key: Vec<u8>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { leaf: Node::new(LEAF), branches: Vec::new(), last_key: Vec::new() }
    }

    /// Adds an element; `write` appends exactly `value_len` bytes. The key must be greater than the last one.
    pub(super) fn push(
        &mut self,
        file: &mut PageFile,
        flags: u32,
        key: &[u8],
        value_len: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> io::Result<()> {
        if key.is_empty() || key.len() > MAX_KEY || value_len > MAX_VALUE {
            return Err(file.refuse(format!("a key of {} and a value of {value_len} bytes can't be stored", key.len())));
        }
        if key <= &self.last_key[..] {
            return Err(file.refuse("keys are not in ascending order"));
        }
        if !self.leaf.elements.is_empty() && !self.leaf.fits(key.len(), value_len) {
            let page = file.append(&self.leaf)?;
            let first = self.leaf.first_key().to_vec();
            self.leaf.clear();
            self.link(file, 0, first, page)?;
        }
        let leaf = &mut self.leaf;
        leaf.data.extend_from_slice(key);
        let before = leaf.data.len();
        write(&mut leaf.data);
        if leaf.data.len() - before != value_len {
            return Err(file.refuse(format!("a value has {} bytes, not {value_len}", leaf.data.len() - before)));
        }
        let (key_len, value_len) = (key.len() as u32, value_len as u32);
        leaf.elements.push(Element { key_len, value_len, tag: u64::from(flags) });
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    /// Adds a child to the branch of a level. A full branch is written without its last child, so that the one begun
    /// after it has two children from the start.
    fn link(&mut self, file: &mut PageFile, level: usize, key: Vec<u8>, page: u64) -> io::Result<()> {
        if level == self.branches.len() {
            self.branches.push(Node::new(BRANCH));
        }
        let node = &mut self.branches[level];
        if node.elements.len() < 3 || node.fits(key.len(), 0) {
            node.add_child(&key, page);
            return Ok(());
        }
        let kept = node.pop_child();
        let full = file.append(node)?;
        let first = node.first_key().to_vec();
        node.clear();
        if let Some((key, page)) = kept {
            node.add_child(&key, page);
        }
        node.add_child(&key, page);
        self.link(file, level + 1, first, full)
    }

    /// Ends the tree of a bucket.
    pub(super) fn finish(self, file: &mut PageFile) -> io::Result<Root> {
        if self.branches.is_empty() && self.leaf.size() <= MAX_INLINE {
            let mut bytes = self.leaf.encode_head(0, 0);
            bytes.extend_from_slice(&self.leaf.data);
            return Ok(Root::Inline(bytes));
        }
        self.finish_in_page(file).map(Root::Page)
    }

    /// Ends a tree that has to have a page of its own, and returns that.
    pub(super) fn finish_in_page(mut self, file: &mut PageFile) -> io::Result<u64> {
        let mut page = file.append(&self.leaf)?;
        let mut first = self.leaf.first_key().to_vec();
        let mut level = 0;
        while level < self.branches.len() {
            self.link(file, level, first, page)?;
            page = file.append(&self.branches[level])?;
            first = self.branches[level].first_key().to_vec();
            level += 1;
        }
        Ok(page)
    }
}

/// The file: pages are appended, the two meta pages come last.
#[derive(Debug)]
pub(super) struct PageFile {
    path: PathBuf,
    out: BufWriter<File>,
    next_page: u64,
}

impl PageFile {
    /// Creates the file, for its owner alone. It must not exist.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let open = || {
            let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
            file.seek(SeekFrom::Start(2 * PAGE_SIZE as u64))?;
            Ok(file)
        };
        let file = open().map_err(|error| with_path("create", path, &error))?;
        Ok(Self { path: path.to_owned(), out: BufWriter::with_capacity(WRITE_BUFFER, file), next_page: 2 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// An error about what the caller gave.
    pub(super) fn refuse(&self, why: impl std::fmt::Display) -> io::Error {
        with_path("write", &self.path, &io::Error::new(io::ErrorKind::InvalidInput, why.to_string()))
    }

    fn append(&mut self, node: &Node) -> io::Result<u64> {
        let pages = node.size().div_ceil(PAGE_SIZE);
        let page = self.next_page;
        let head = node.encode_head(page, (pages - 1) as u32);
        let padding = pages * PAGE_SIZE - node.size();
        self.write(&[&head, &node.data, &[0; PAGE_SIZE][..padding]])?;
        self.next_page += pages as u64;
        Ok(page)
    }

    fn write(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.out.write_all(part).map_err(|error| with_path("write", &self.path, &error))?;
        }
        Ok(())
    }

    /// Writes an empty list of free pages and both meta pages. Returns the file and its size in bytes.
    pub(super) fn finish(&mut self, root: u64) -> io::Result<(&mut File, u64)> {
        let freelist = self.next_page;
        let header = Header { id: freelist, flags: FREELIST, count: 0, overflow: 0 };
        self.write(&[&header.encode(), &[0; PAGE_SIZE - PAGE_HEADER]])?;
        let pages = freelist + 1;
        let mut metas = vec![0; 2 * PAGE_SIZE];
        for (id, transaction) in [(0, 2), (1, 1)] {
            let record = Meta { page_size: PAGE_SIZE as u32, root, freelist, pages, transaction }.encode();
            let at = id as usize * PAGE_SIZE;
            metas[at..at + PAGE_HEADER].copy_from_slice(&Header { id, flags: META, count: 0, overflow: 0 }.encode());
            metas[at + PAGE_HEADER..at + PAGE_HEADER + record.len()].copy_from_slice(&record);
        }
        let finish = |out: &mut BufWriter<File>| {
            out.seek(SeekFrom::Start(0))?;
            out.write_all(&metas)?;
            out.flush()?;
            out.seek(SeekFrom::Start(0))
        };
        finish(&mut self.out).map_err(|error| with_path("write", &self.path, &error))?;
        Ok((self.out.get_mut(), pages * PAGE_SIZE as u64))
    }
}

/// The same kind of error, which says what was done to which file.
pub(super) fn with_path(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} the snapshot file {}: {error}", path.display()))
}
