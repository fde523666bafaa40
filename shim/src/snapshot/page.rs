//! bbolt's page layout, little-endian, as amd64 and arm64 write it (bbolt:
//! internal/common/{page,meta,bucket,inode}.go).
//!
//! A page is a header of 16 bytes (id, flags, count, overflow), a table of 16 bytes an element, then the elements' keys
//! and values. A node that needs more than one page takes the ones that follow as well: its *overflow*. Positions in
//! the table count from the table entry itself.

/// The page size that is written. A reader takes what the meta page says.
pub(super) const PAGE_SIZE: usize = 4096;
/// Bytes of a page's header.
pub(super) const PAGE_HEADER: usize = 16;
/// Bytes of one entry of the element table, in leaf and branch pages alike.
pub(super) const ELEMENT: usize = 16;
/// Bytes of a bucket's header: root page and sequence.
pub(super) const BUCKET_HEADER: usize = 16;

/// The `flags` of a branch page.
pub(super) const BRANCH: u16 = 0x01;
/// The `flags` of a leaf page.
pub(super) const LEAF: u16 = 0x02;
/// The `flags` of a meta page.
pub(super) const META: u16 = 0x04;
/// The `flags` of the page with the free pages' numbers.
pub(super) const FREELIST: u16 = 0x10;

/// Marks a leaf element whose value is a bucket.
pub(super) const BUCKET_ELEMENT: u32 = 0x01;

/// bbolt's `MaxKeySize`.
pub(super) const MAX_KEY: usize = 32768;
/// bbolt's `MaxValueSize`.
pub(super) const MAX_VALUE: usize = (1 << 31) - 2;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Bytes of a meta record that its checksum covers; the checksum follows them.
const META_BODY: usize = 56;
/// Bytes of a meta record.
pub(super) const META_SIZE: usize = META_BODY + 8;

/// What the first 16 bytes of a page say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) flags: u16,
    pub(super) count: u16,
    /// How many further pages belong to this one.
    pub(super) overflow: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; PAGE_HEADER] {
        let mut out = [0; PAGE_HEADER];
        out[..8].copy_from_slice(&self.id.to_le_bytes());
        out[8..10].copy_from_slice(&self.flags.to_le_bytes());
        out[10..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..].copy_from_slice(&self.overflow.to_le_bytes());
        out
    }

    /// `None` if there are not enough bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            id: u64_at(bytes, 0)?,
            flags: u16::from_le_bytes(bytes.get(8..10)?.try_into().ok()?),
            count: u16::from_le_bytes(bytes.get(10..12)?.try_into().ok()?),
            overflow: u32_at(bytes, 12)?,
        })
    }
}

/// The record in pages 0 and 1 that everything else is found from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_size: u32,
    /// The root page of the bucket that holds the buckets.
    pub(super) root: u64,
    /// The page with the free pages' numbers. All ones if they are not stored, as in etcd's own files.
    pub(super) freelist: u64,
    /// The number of pages; bbolt's high water mark.
    pub(super) pages: u64,
    /// The transaction that wrote it. The valid record with the higher one counts.
    pub(super) transaction: u64,
}

impl Meta {
    pub(super) fn encode(self) -> [u8; META_SIZE] {
        let mut out = [0; META_SIZE];
        out[..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..8].copy_from_slice(&VERSION.to_le_bytes());
        out[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        // 12..16 flags and 24..32 the root bucket's sequence: both zero.
        out[16..24].copy_from_slice(&self.root.to_le_bytes());
        out[32..40].copy_from_slice(&self.freelist.to_le_bytes());
        out[40..48].copy_from_slice(&self.pages.to_le_bytes());
        out[48..56].copy_from_slice(&self.transaction.to_le_bytes());
        let checksum = fnv64a(&out[..META_BODY]);
        out[META_BODY..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// `None` if it is not a meta record of the known version or its checksum is wrong.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let body = bytes.get(..META_BODY)?;
        let known = u32_at(body, 0)? == MAGIC && u32_at(body, 4)? == VERSION;
        if !known || u64_at(bytes, META_BODY)? != fnv64a(body) {
            return None;
        }
        Some(Self {
            page_size: u32_at(body, 8)?,
            root: u64_at(body, 16)?,
            freelist: u64_at(body, 32)?,
            pages: u64_at(body, 40)?,
            transaction: u64_at(body, 48)?,
        })
    }
}

/// The four bytes at an offset; `None` past the end.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The eight bytes at an offset; `None` past the end.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
