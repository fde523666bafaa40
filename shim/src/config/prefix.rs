//! What keys begin with.

use super::ConfigError;
use crate::engine::KeyRange;

/// The keys with a prefix, which is one of whole segments.
pub(crate) fn prefix(prefix: &str) -> Result<KeyRange, ConfigError> {
    if !prefix.ends_with('/') {
        let what = format!("the prefix {prefix:?} does not end in a slash");
        return Err(ConfigError::new(what, "write it as --prefix /registry/stable.example.com/shirts/"));
    }
    Ok(KeyRange::tree(prefix.as_bytes()))
}
