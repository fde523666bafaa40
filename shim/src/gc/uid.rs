//! UIDs of objects, in as few bytes as they need.

use std::borrow::Cow;
use std::fmt;

/// The UID of an object. Kubernetes compares UIDs as text; one in the canonical form of a UUID is kept in 16 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Uid {
    /// Lower-case hexadecimal digits in the groups 8-4-4-4-12.
    Uuid([u8; 16]),
    /// Any other text.
    Text(Box<str>),
}

/// The places of the dashes in a UUID.
const DASHES: [usize; 4] = [8, 13, 18, 23];

impl Uid {
    /// The longest one, in bytes; Kubernetes gives UIDs of 36. An index has to hold it beside a key.
    pub const LONGEST: usize = 1024;

    /// The UID that the text is; `None` if it is empty, or longer than any that is kept.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > Self::LONGEST {
            return None;
        }
        Some(uuid(text.as_bytes()).map_or_else(|| Self::Text(text.into()), Self::Uuid))
    }

    /// How a database stores it: 16 bytes for a UUID, and never 16 for another.
    pub fn to_blob(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Uuid(bytes) => Cow::Borrowed(bytes),
            Self::Text(text) if text.len() == 16 => Cow::Owned([text.as_bytes(), b"\0"].concat()),
            Self::Text(text) => Cow::Borrowed(text.as_bytes()),
        }
    }

    /// The reverse of [`Uid::to_blob`]; `None` for bytes that it never gives.
    pub fn from_blob(blob: &[u8]) -> Option<Self> {
        if let Ok(bytes) = blob.try_into() {
            return Some(Self::Uuid(bytes));
        }
        let text = std::str::from_utf8(blob).ok()?;
        let text = if text.len() == 17 { text.strip_suffix('\0').unwrap_or(text) } else { text };
        (!text.is_empty()).then(|| Self::Text(text.into()))
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Uuid(bytes) => {
                for (at, byte) in bytes.iter().enumerate() {
                    let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{dash}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != 36 || DASHES.iter().any(|at| text[*at] != b'-') {
        return None;
    }
    let mut digits = text.iter().enumerate().filter(|(at, _)| !DASHES.contains(at)).map(|(_, digit)| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    });
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        *byte = digits.next()?? << 4 | digits.next()??;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_keep_their_text_and_their_bytes_tell_them_apart() {
        let texts = [
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "6BA7B810-9dad-11d1-80b4-00c04fd430c8",
            "6ba7b8109dad11d180b400c04fd430c8",
            "6ba7b810-9dad-11d1-80b4-00c04fd430cg",
            "6ba7b810x9dad-11d1-80b4-00c04fd430c8",
            "sixteen-bytes-ok",
            "sixteen-bytes-ok2",
            "x",
        ];
        let mut blobs = Vec::new();
        for text in texts {
            let uid = Uid::parse(text).unwrap();
            assert_eq!(uid.to_string(), text);
            assert_eq!(matches!(uid, Uid::Uuid(_)), text == texts[0], "{text}");
            assert_eq!(uid.to_blob().len() == 16, text == texts[0], "{text}");
            assert_eq!(Uid::from_blob(&uid.to_blob()), Some(uid.clone()), "{text}");
            blobs.push(uid.to_blob().into_owned());
        }
        blobs.sort();
        blobs.dedup();
        assert_eq!(blobs.len(), texts.len());
        assert_eq!((Uid::parse(""), Uid::from_blob(b"")), (None, None));
    }

    #[test]
    fn a_uid_is_not_longer_than_an_index_holds() {
        for (length, is_one) in [(1, true), (36, true), (Uid::LONGEST, true), (Uid::LONGEST + 1, false)] {
            let uid = Uid::parse(&"u".repeat(length));
            assert_eq!(uid.is_some(), is_one, "{length}");
            assert!(uid.is_none_or(|uid| uid.to_blob().len() <= Uid::LONGEST), "{length}");
        }
    }
}
