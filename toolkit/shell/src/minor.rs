//! The name of a Kubernetes minor.

use std::fmt;
use std::str::FromStr;

use crate::error::Explain;

/// A Kubernetes minor, such as `v1.37`: the name of a folder under `patches/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Minor(String);

/// The text is no Kubernetes minor.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a Kubernetes minor such as v1.37")]
pub struct NotAMinor(String);

impl Explain for NotAMinor {}

impl Minor {
    /// The minor that is built unless told otherwise.
    pub const DEFAULT: &str = "v1.37";

    /// `v1.37`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The numbers: (1, 37) of `v1.37`.
    pub fn numbers(&self) -> (&str, &str) {
        self.0[1..].split_once('.').unwrap_or_default()
    }
}

impl FromStr for Minor {
    type Err = NotAMinor;

    fn from_str(text: &str) -> Result<Self, NotAMinor> {
        let number = |part: &str| !part.is_empty() && part.len() < 4 && part.bytes().all(|byte| byte.is_ascii_digit());
        match text.strip_prefix('v').and_then(|rest| rest.split_once('.')) {
            Some((major, minor)) if number(major) && number(minor) => Ok(Self(text.to_owned())),
            _ => Err(NotAMinor(text.to_owned())),
        }
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minors() {
        for good in ["v1.37", "v1.8"] {
            assert_eq!(good.parse::<Minor>().unwrap().as_str(), good);
        }
        for bad in ["1.37", "v1", "v1.37.2", "v1.", "../v1.37", "v1.3x", "v1.37/"] {
            assert!(bad.parse::<Minor>().is_err(), "{bad}");
        }
    }
}
