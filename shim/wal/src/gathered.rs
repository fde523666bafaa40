//! Bytes that are to be written one after the other.

/// How many bytes are gathered at most; a larger commit is written in several pieces. SQLite's VFS for Unix takes no more at once (`seekAndWriteFd` in os_unix.c).
const MOST: usize = 0x1_ffff;

/// A run of bytes that has not been written yet.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    start: i64,
    bytes: Vec<u8>,
}

impl Gathered {
    /// Takes bytes for a place in the file; `false` if what is here must be written first, as they don't follow it or it is full.
    pub(crate) fn take(&mut self, bytes: &[u8], offset: i64) -> bool {
        if self.bytes.is_empty() {
            self.start = offset;
        } else if offset != self.start + self.bytes.len() as i64 || self.bytes.len() + bytes.len() > MOST {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        true
    }

    /// Writes what is here by `write` (bytes, offset); forgets it when that returns 0, else keeps it for the next time.
    pub(crate) fn flush(&mut self, write: impl FnOnce(&[u8], i64) -> i32) -> i32 {
        if self.bytes.is_empty() {
            return 0;
        }
        let code = write(&self.bytes, self.start);
        if code == 0 {
            self.bytes.clear();
        }
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_gathered_and_a_failure_keeps_it() {
        let mut gathered = Gathered::default();
        assert_eq!(gathered.flush(|_, _| panic!("nothing to write")), 0);
        assert!(gathered.take(b"ab", 10));
        assert!(gathered.take(b"c", 12));
        assert!(!gathered.take(b"x", 12), "a place that is taken");
        assert!(!gathered.take(b"x", 20), "a gap");
        assert_eq!(gathered.flush(|bytes, offset| if (bytes, offset) == (b"abc", 10) { 13 } else { 0 }), 13);
        assert_eq!(gathered.flush(|bytes, offset| i32::from((bytes, offset) != (b"abc", 10))), 0);
        assert!(gathered.take(b"x", 20));
        assert!(!gathered.take(&vec![0; MOST], 21), "too much");
    }
}
