//! Bytes that are to be written one after the other.

/// How many bytes are gathered at most; a larger commit is written in several pieces. SQLite's VFS for Unix takes no
/// more at once (`seekAndWriteFd` in os_unix.c).
const MOST: usize = 0x1_ffff;

/// What becomes of bytes that are given to [`Gathered::take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    /// What is here must be written first: they don't follow it, or it is full.
    Flush,
    /// They come after bytes that were lost.
    Lost,
}

/// A run of bytes that has not been written yet.
///
/// If it can't be written it is lost, and with it all that comes behind it in the file, until its first byte is written
/// anew: the transaction that the bytes are of can't append to the log any more, so not commit, and none of it turns up
/// later, when the disk has room again.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    start: i64,
    bytes: Vec<u8>,
    /// The first place that was lost.
    lost: Option<i64>,
}

impl Gathered {
    /// Takes bytes for a place in the file.
    pub(crate) fn take(&mut self, bytes: &[u8], offset: i64) -> Taken {
        if self.lost.is_some_and(|lost| offset > lost) {
            return Taken::Lost;
        }
        if self.bytes.is_empty() {
            self.start = offset;
        } else if offset != end(self.start, &self.bytes) || self.bytes.len() + bytes.len() > MOST {
            return Taken::Flush;
        }
        if self.is_lost(end(offset, bytes)) {
            self.lost = None;
        }
        self.bytes.extend_from_slice(bytes);
        Taken::Yes
    }

    /// Writes what is here by `write` (bytes, offset) and forgets it; it is lost if that does not return 0.
    pub(crate) fn flush(&mut self, write: impl FnOnce(&[u8], i64) -> i32) -> i32 {
        if self.bytes.is_empty() {
            return 0;
        }
        let code = write(&self.bytes, self.start);
        self.bytes.clear();
        if code != 0 {
            self.lost = Some(self.start);
        }
        code
    }

    /// Whether bytes up to this place are, or follow, lost ones.
    pub(crate) fn is_lost(&self, end: i64) -> bool {
        self.lost.is_some_and(|lost| end > lost)
    }

    /// The file is cut at this place: what was to come behind it need not be written.
    pub(crate) fn cut(&mut self, size: i64) {
        if self.start >= size {
            self.bytes.clear();
        }
        self.lost = self.lost.filter(|lost| *lost < size);
    }
}

fn end(offset: i64, bytes: &[u8]) -> i64 {
    offset + bytes.len() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_is_gathered() {
        let mut gathered = Gathered::default();
        assert_eq!(gathered.flush(|_, _| panic!("nothing to write")), 0);
        assert_eq!(gathered.take(b"ab", 10), Taken::Yes);
        assert_eq!(gathered.take(b"c", 12), Taken::Yes);
        assert_eq!(gathered.take(b"x", 12), Taken::Flush, "a place that is taken");
        assert_eq!(gathered.take(b"x", 20), Taken::Flush, "a gap");
        assert_eq!(gathered.flush(|bytes, offset| i32::from((bytes, offset) != (b"abc", 10))), 0);
        assert_eq!(gathered.take(b"x", 20), Taken::Yes);
        assert_eq!(gathered.take(&vec![0; MOST], 21), Taken::Flush, "too much");
    }

    #[test]
    fn what_could_not_be_written_is_lost_until_its_place_is_written_anew() {
        let mut gathered = Gathered::default();
        assert_eq!(gathered.take(b"abc", 10), Taken::Yes);
        assert_eq!(gathered.flush(|_, _| 13), 13);
        assert_eq!(gathered.flush(|_, _| panic!("it is lost")), 0);
        assert_eq!((gathered.is_lost(10), gathered.is_lost(11)), (false, true));
        assert_eq!(gathered.take(b"x", 13), Taken::Lost);
        assert_eq!(gathered.take(b"x", 11), Taken::Lost);
        assert_eq!(gathered.take(b"before", 4), Taken::Yes);
        assert!(gathered.is_lost(11), "its place is not written yet");
        assert_eq!(gathered.take(b"ABC", 10), Taken::Yes);
        assert!(!gathered.is_lost(11));
        assert_eq!(gathered.take(b"x", 13), Taken::Yes);
        assert_eq!(gathered.flush(|bytes, offset| i32::from((bytes, offset) != (b"beforeABCx", 4))), 0);
    }

    #[test]
    fn what_is_cut_off_is_not_written() {
        let mut gathered = Gathered::default();
        assert_eq!(gathered.take(b"abc", 10), Taken::Yes);
        gathered.flush(|_, _| 13);
        assert_eq!(gathered.take(b"ab", 8), Taken::Yes);
        gathered.cut(11);
        assert!(gathered.is_lost(11));
        gathered.cut(0);
        assert!(!gathered.is_lost(11));
        assert_eq!(gathered.flush(|_, _| panic!("it is cut off")), 0);
    }
}
