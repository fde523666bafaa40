//! Why a selector is not honoured.

use crate::contract::SELECTOR_BYTES_LIMIT;

/// Why a selector was not parsed. The message quotes the part that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    kind: ErrorKind,
    message: String,
}

/// The kind of a [`ParseError`], for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Longer than [`SELECTOR_BYTES_LIMIT`].
    TooLong,
    /// Not a selector that Kubernetes would parse.
    Syntax,
}

impl ParseError {
    /// What kind it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(super) fn too_long(bytes: usize) -> Self {
        let message = format!("the selector has {bytes} bytes, more than the limit of {SELECTOR_BYTES_LIMIT}");
        Self { kind: ErrorKind::TooLong, message }
    }

    pub(super) fn syntax(message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Syntax, message: message.into() }
    }
}
