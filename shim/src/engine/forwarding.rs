//! The note that a store leaves behind when it moves to another database.

use std::fmt;
use std::str::FromStr;

use super::types::{Error, Revision};

/// Where a store has moved to, without a password. As text it is the revision, a space, and the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// The last revision before the move.
    pub revision: Revision,
    /// The database that has the store now.
    pub endpoint: String,
}

impl Forwarding {
    /// What a process is told that serves the old database, or is to.
    pub fn error(&self) -> Error {
        let Self { revision, endpoint } = self;
        Error::Replaced(format!(
            "the store has moved to {endpoint}, at revision {revision}; start with --endpoint {endpoint}"
        ))
    }
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.revision, self.endpoint)
    }
}

impl FromStr for Forwarding {
    type Err = Error;

    /// A note that can't be read is one all the same: whatever is in the database is not to be served.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = text.trim_end().split_once(' ');
        let read = parts.and_then(|(revision, endpoint)| Some((revision.parse().ok()?, endpoint.to_owned())));
        let (revision, endpoint) = read.ok_or_else(|| {
            Error::Replaced("the store has moved, and the note that says where to can't be read".into())
        })?;
        Ok(Self { revision, endpoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let note = Forwarding { revision: 7, endpoint: "sqlite:///a b/c.db".to_owned() };
        assert_eq!(format!("{note}\n").parse(), Ok(note));
        for odd in ["", "7", "x sqlite://a"] {
            assert!(matches!(odd.parse::<Forwarding>(), Err(Error::Replaced(_))), "{odd:?}");
        }
    }
}
