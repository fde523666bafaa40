//! Parses, evaluates and plans Kubernetes selectors.

/// Selectors that came with a request, compiled.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selection {}

impl Selection {
    /// Whether the stored object may match. True for all that can't be decoded.
    pub fn may_match(&self, _value: &[u8]) -> bool {
        true
    }
}
