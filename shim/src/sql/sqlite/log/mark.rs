//! What the database's file says of its log.

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

/// What a mark is stored as.
type Bytes = [u8; sluice_wal::RESERVED.end - sluice_wal::RESERVED.start];

/// The mark of a database that says nothing.
const NOTHING: Bytes = [0; 20];

/// What the database's file says of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The salt of the log.
    pub(super) salt: [u8; 8],
    /// How many frames of the log the file needs; 0 if the file is whole without the log.
    pub(super) frames: u32,
    /// When the mark was made, in seconds since 1970.
    pub(super) seconds: u32,
}

impl Mark {
    fn to_bytes(self) -> Bytes {
        let mut bytes = NOTHING;
        bytes[..8].copy_from_slice(&self.salt);
        bytes[8..12].copy_from_slice(&self.frames.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.seconds.to_be_bytes());
        let sum = sum(&bytes);
        bytes[16..].copy_from_slice(&sum);
        bytes
    }

    /// `None` for what is no mark.
    fn from_bytes(bytes: &Bytes) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let salt = bytes[..8].try_into().ok()?;
        (bytes[16..] == sum(bytes)).then_some(Self { salt, frames: number(8)?, seconds: number(12)? })
    }

    /// Reads the mark of a database; `None` if there is none.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        sluice_wal::read_reserved(connection).map(|bytes| Self::from_bytes(&bytes))
    }

    /// Writes it; [`sluice_wal::sync_database`] brings it to the disk.
    pub(super) fn write(self, connection: &Connection) -> rusqlite::Result<()> {
        sluice_wal::write_reserved(connection, &self.to_bytes())
    }

    /// Takes the mark away.
    pub(super) fn clear(connection: &Connection) -> rusqlite::Result<()> {
        sluice_wal::write_reserved(connection, &NOTHING)
    }

    /// Whether a log with this salt is the log that is meant, or the one that begins afresh in its place: SQLite counts
    /// the first half of the salt up by one then (`walRestartHdr` in wal.c).
    pub(super) fn fit(&self, salt: [u8; 8]) -> Fit {
        let number = |salt: [u8; 8]| u32::from_be_bytes([salt[0], salt[1], salt[2], salt[3]]);
        if salt == self.salt {
            Fit::Same
        } else if number(salt) == number(self.salt).wrapping_add(1) {
            Fit::Next
        } else {
            Fit::Other
        }
    }
}

/// How a log belongs to a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Same,
    Next,
    Other,
}

/// Tells a mark from whatever else may stand there.
fn sum(bytes: &Bytes) -> [u8; 4] {
    let digest = Sha256::new().chain_update("sluice log mark").chain_update(&bytes[..16]).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_a_mark() {
        let mark = Mark { salt: *b"\xff\xff\xff\xffabcd", frames: 7, seconds: 1_782_907_200 };
        let bytes = mark.to_bytes();
        assert_eq!(Mark::from_bytes(&bytes), Some(mark));
        assert_eq!(Mark::from_bytes(&NOTHING), None);
        for at in 0..bytes.len() {
            let mut other = bytes;
            other[at] ^= 1;
            assert_eq!(Mark::from_bytes(&other), None, "byte {at}");
        }
        assert_eq!(mark.fit(*b"\xff\xff\xff\xffabcd"), Fit::Same);
        assert_eq!(mark.fit(*b"\0\0\0\0wxyz"), Fit::Next);
        assert_eq!(mark.fit(*b"\0\0\0\x01abcd"), Fit::Other);
    }
}
