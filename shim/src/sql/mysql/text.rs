//! Statements as text. The protocol prepares statements one by one; values that stand in the text save that.

use std::fmt::{self, Write as _};

use crate::engine::{KeyRange, RangeEnd};

/// Several statements that go to the database together. It stops at the first that fails.
#[derive(Debug, Default)]
pub(super) struct Packet {
    text: String,
    /// What each statement is called in errors.
    names: Vec<&'static str>,
    commits: bool,
}

impl Packet {
    /// With one statement.
    pub(super) fn of(name: &'static str, statement: impl fmt::Display) -> Self {
        let mut packet = Self::default();
        packet.add(name, statement);
        packet
    }

    /// Adds a statement.
    pub(super) fn add(&mut self, name: &'static str, statement: impl fmt::Display) {
        self.names.push(name);
        let between = if self.text.is_empty() { "" } else { ";" };
        // Nothing that is written into memory fails.
        let _ = write!(self.text, "{between}{statement}");
    }

    /// Adds a statement, or returns its text if the packet would be longer than the limit.
    pub(super) fn try_add(&mut self, name: &'static str, statement: impl fmt::Display, limit: usize) -> Option<String> {
        let end = self.text.len();
        self.add(name, statement);
        if end == 0 || self.text.len() <= limit {
            return None;
        }
        self.names.pop();
        let last = self.text.split_off(end);
        // Without what stands between the two.
        last.get(1..).map(str::to_owned)
    }

    /// The names of its statements.
    pub(super) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Ends the transaction. Whether it did is unknown if the answer does not come.
    pub(super) fn commit(&mut self) {
        self.add(COMMIT, COMMIT);
        self.commits = true;
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn commits(&self) -> bool {
        self.commits
    }

    /// The name of the nth statement.
    pub(super) fn name(&self, nth: usize) -> &'static str {
        self.names.get(nth).copied().unwrap_or_default()
    }
}

/// The statement that commits.
pub(super) const COMMIT: &str = "COMMIT";

/// Bytes as a literal. Text is shorter with escapes, all else can only be sent as hexadecimal digits: the driver takes
/// statements in UTF-8.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(mut text) = std::str::from_utf8(self.0) else {
            f.write_str("x'")?;
            return self
                .0
                .chunks(512)
                .try_for_each(|chunk| f.write_str(&hexadecimal(chunk)))
                .and_then(|()| f.write_str("'"));
        };
        f.write_str("_binary'")?;
        while let Some(at) = memchr::memchr3(b'\\', b'\'', 0, text.as_bytes()) {
            f.write_str(&text[..at])?;
            f.write_str(match text.as_bytes()[at] {
                b'\\' => r"\\",
                b'\'' => r"\'",
                _ => r"\0",
            })?;
            text = &text[at + 1..];
        }
        f.write_str(text)?;
        f.write_str("'")
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(b"0123456789abcdef"[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Bytes, or NULL.
pub(super) struct Maybe<T>(pub(super) Option<T>);

impl<T: fmt::Display> fmt::Display for Maybe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("NULL"),
        }
    }
}

/// Whatever can be told again, with commas between.
pub(super) struct List<I>(pub(super) I);

impl<T: fmt::Display, I: Iterator<Item = T> + Clone> fmt::Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, item) in self.0.clone().enumerate() {
            if nth > 0 {
                f.write_str(",")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

/// The condition that a column holds one of several keys, names or the like.
pub(super) struct In<'a, B>(pub(super) &'static str, pub(super) &'a [B]);

impl<B: AsRef<[u8]>> fmt::Display for In<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(column, all) = self;
        // The language has no empty list.
        if all.is_empty() {
            return f.write_str("FALSE");
        }
        write!(f, "{column} IN ({})", List(all.iter().map(|bytes| Bytes(bytes.as_ref()))))
    }
}

/// The condition that a column lies in a range.
pub(super) struct Within<'a>(pub(super) &'static str, pub(super) &'a KeyRange);

impl fmt::Display for Within<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(column, KeyRange { start, end }) = self;
        let start = Bytes(start);
        match end {
            RangeEnd::Single => write!(f, "{column} = {start}"),
            RangeEnd::Before(end) => write!(f, "{column} >= {start} AND {column} < {}", Bytes(end)),
            RangeEnd::Unbounded => write!(f, "{column} >= {start}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        let table: [(&[u8], &str); 6] = [
            (b"", "_binary''"),
            (b"/registry/a", "_binary'/registry/a'"),
            (b"it's \\ a\0b'", r"_binary'it\'s \\ a\0b\''"),
            ("\u{e9}".as_bytes(), "_binary'\u{e9}'"),
            (&[0xff, b'\'', 0x5c, 0x0a], "x'ff275c0a'"),
            (&[0xe9], "x'e9'"),
        ];
        for (bytes, expected) in table {
            assert_eq!(Bytes(bytes).to_string(), expected);
        }
    }

    #[test]
    fn a_packet_knows_its_statements() {
        let mut packet = Packet::of("one", "SELECT 1");
        packet.add("two", format_args!("SELECT {}", In("k", &["a", "b"])));
        assert!(!packet.commits());
        packet.commit();
        assert_eq!(packet.text(), "SELECT 1;SELECT k IN (_binary'a',_binary'b');COMMIT");
        assert_eq!(In::<&str>("k", &[]).to_string(), "FALSE");
        assert_eq!((packet.name(1), packet.name(2), packet.name(3), packet.commits()), ("two", COMMIT, "", true));
    }
}
