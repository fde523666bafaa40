//! What is wrong with the configuration.

/// What is wrong with the configuration, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ConfigError {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
    /// Whether it is wrong on every machine; else another file or folder would make it right.
    pub usage: bool,
}

impl ConfigError {
    /// Flags that can't be right.
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into(), usage: true }
    }

    /// Flags that don't fit to what is on this machine.
    pub(crate) fn here(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into(), usage: false }
    }
}
