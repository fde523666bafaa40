//! A log as it lies on the disk, read without SQLite: <https://sqlite.org/fileformat2.html#the_write_ahead_log>.
//!
//! SQLite may not be asked: it takes what fits together for the log of the database beside it.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Result};
use std::path::Path;

/// The first word of a log, but for its last bit, which says in which order the bytes are summed up.
const MAGIC: u32 = 0x377f_0682;
const HEADER: usize = 32;
const FRAME: usize = 24;

/// The file of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnDisk {
    /// There is none.
    Missing,
    /// It has no header, so SQLite takes it for empty.
    Empty,
    /// A log.
    Log(Header),
}

/// The header of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The salt of the log.
    pub(super) salt: [u8; 8],
    page: usize,
    big_endian: bool,
    sum: Sum,
}

/// Reads the header.
pub(super) fn header(path: &Path) -> Result<OnDisk> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(OnDisk::Missing),
        Err(error) => return Err(error),
    };
    let mut bytes = [0; HEADER];
    let read = fill(&mut file, &mut bytes)?.then(|| parse(&bytes)).flatten();
    Ok(read.map_or(OnDisk::Empty, OnDisk::Log))
}

fn parse(bytes: &[u8; HEADER]) -> Option<Header> {
    let (magic, page) = (word(bytes, 0), word(bytes, 8));
    let big_endian = magic & 1 == 1;
    let sum = Sum::default().with(&bytes[..24], big_endian);
    let sound = magic & !1 == MAGIC && page.is_power_of_two() && (512..=65_536).contains(&page) && sum.is(&bytes[24..]);
    let salt = bytes[16..24].try_into().ok()?;
    sound.then_some(Header { salt, page: page as usize, big_endian, sum })
}

/// How many frames the log has up to the end of a commit: of the first commit that ends at or behind `enough`, or of
/// the last one.
pub(super) fn committed(path: &Path, header: &Header, enough: u32) -> Result<u32> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    fill(&mut file, &mut [0; HEADER])?;
    let mut frame = vec![0; FRAME + header.page];
    let (mut sum, mut number, mut committed) = (header.sum, 0, 0);
    while committed < enough.max(1) && fill(&mut file, &mut frame)? {
        let (head, page) = frame.split_at(FRAME);
        sum = sum.with(&head[..8], header.big_endian).with(page, header.big_endian);
        if head[8..16] != header.salt || !sum.is(&head[16..24]) || word(head, 0) == 0 {
            break;
        }
        number += 1;
        // The size of the database after the commit; 0 for a frame that is not the last one of a commit.
        if word(head, 4) != 0 {
            committed = number;
        }
    }
    Ok(committed)
}

/// Reads so many bytes; false if there are not as many.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// The sum over all that stands in a log up to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sum(u32, u32);

impl Sum {
    fn with(self, bytes: &[u8], big_endian: bool) -> Self {
        let mut words = bytes.chunks_exact(4).map(|word| {
            let little = word.try_into().map_or(0, u32::from_le_bytes);
            if big_endian { little.swap_bytes() } else { little }
        });
        let Self(mut first, mut second) = self;
        while let (Some(one), Some(other)) = (words.next(), words.next()) {
            first = first.wrapping_add(one).wrapping_add(second);
            second = second.wrapping_add(other).wrapping_add(first);
        }
        Self(first, second)
    }

    fn is(self, bytes: &[u8]) -> bool {
        (word(bytes, 0), word(bytes, 4)) == (self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn the_frames_of_whole_commits_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (path, log) = (folder.path().join("db"), folder.path().join("db-wal"));
        let connection = Connection::open(&path).unwrap();
        assert_eq!(header(&log).unwrap(), OnDisk::Missing);
        connection.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (x)").unwrap();
        connection.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        let OnDisk::Log(found) = header(&log).unwrap() else { panic!("a log") };
        let frames: u32 = connection.query_row("PRAGMA wal_checkpoint", [], |row| row.get(1)).unwrap();
        assert_eq!(committed(&log, &found, u32::MAX).unwrap(), frames);
        assert_eq!(committed(&log, &found, 1).unwrap(), frames - 1, "the first commit is enough");
        // Of the last frame a byte is missing, or another one than was.
        let whole = std::fs::read(&log).unwrap();
        std::fs::write(&log, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(committed(&log, &found, u32::MAX).unwrap(), frames - 1);
        let mut other = whole.clone();
        *other.last_mut().unwrap() ^= 1;
        std::fs::write(&log, other).unwrap();
        assert_eq!(committed(&log, &found, u32::MAX).unwrap(), frames - 1);
        for length in [0, 31] {
            std::fs::write(&log, &whole[..length]).unwrap();
            assert_eq!(header(&log).unwrap(), OnDisk::Empty, "{length}");
        }
        std::fs::write(&log, &whole[..32]).unwrap();
        assert_eq!((header(&log).unwrap(), committed(&log, &found, 1).unwrap()), (OnDisk::Log(found), 0));
        std::fs::write(&log, vec![0; whole.len()]).unwrap();
        assert_eq!(header(&log).unwrap(), OnDisk::Empty);
    }
}
