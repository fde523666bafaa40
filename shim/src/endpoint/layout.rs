//! How the tables that hold keys are divided.

use std::collections::BTreeSet;
use std::fmt;

use crate::config::error::ConfigError;

/// How many prefixes may have parts of their own; the keys between them make as many parts again. In PostgreSQL a
/// statement locks every part of a table.
const PREFIXES: usize = 32;
/// What the flags and the command are shown with.
const EXAMPLE: &str = "write it as --partition /registry/stable.example.com/shirts/";

/// How the tables that hold keys are divided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Layout {
    /// Not at all.
    #[default]
    Whole,
    /// Into so many parts, by a hash of the key.
    Hashed(u16),
    /// Into ranges of keys. Each begins at one of these, in order, but for the first, which has all keys before.
    Ranges(Vec<Vec<u8>>),
}

impl Layout {
    /// A range for each prefix, and one for what is before, between and behind them.
    ///
    /// # Errors
    /// When there is none or there are too many, one is no prefix of whole segments, or one lies in another.
    pub fn of_prefixes(prefixes: &[String]) -> Result<Self, ConfigError> {
        let refuse = |what: String| Err(ConfigError::new(what, EXAMPLE));
        if prefixes.is_empty() {
            return refuse("--partition-by resource: no resource is named with --partition".to_owned());
        }
        if prefixes.len() > PREFIXES {
            return refuse(format!("--partition: {} prefixes; at most {PREFIXES} have partitions", prefixes.len()));
        }
        for prefix in prefixes {
            let is_plain = prefix.bytes().all(|byte| byte.is_ascii_graphic() && !b"'\"\\".contains(&byte));
            if !is_plain || prefix.len() < 2 || prefix.len() > 512 || !prefix.ends_with('/') {
                return refuse(format!("--partition: {prefix:?} is no prefix of keys that ends in a slash"));
            }
            if let Some(outer) = prefixes.iter().find(|other| *other != prefix && prefix.starts_with(*other)) {
                return refuse(format!("--partition: {prefix} lies within {outer}"));
            }
        }
        let ends = prefixes.iter().map(|prefix| end(prefix.as_bytes()));
        let bounds: BTreeSet<Vec<u8>> = prefixes.iter().map(|prefix| prefix.clone().into_bytes()).chain(ends).collect();
        Ok(Self::Ranges(bounds.into_iter().collect()))
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        match self {
            Self::Whole => 1,
            Self::Hashed(parts) => usize::from(*parts),
            Self::Ranges(bounds) => bounds.len() + 1,
        }
    }

    /// The flags that ask for it.
    pub fn flags(&self) -> String {
        match self {
            Self::Whole => "--partition-by none".to_owned(),
            Self::Hashed(parts) => format!("--partition-by key --partitions {parts}"),
            Self::Ranges(_) => {
                let flags: Vec<String> = self.prefixes().map(|prefix| format!(" --partition {prefix}")).collect();
                format!("--partition-by resource{}", flags.concat())
            }
        }
    }

    /// Where its ranges begin that have the keys of a prefix.
    fn prefixes(&self) -> impl Iterator<Item = String> {
        let bounds: &[Vec<u8>] = if let Self::Ranges(bounds) = self { bounds } else { &[] };
        bounds.iter().filter(|bound| bound.ends_with(b"/")).map(|bound| bound.escape_ascii().to_string())
    }
}

/// The first key behind all with the prefix, which ends in a slash.
fn end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// What a store with it is.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("not partitioned"),
            Self::Hashed(parts) => write!(f, "partitioned by key into {parts}"),
            Self::Ranges(_) => {
                write!(f, "partitioned by resource, {}", self.prefixes().collect::<Vec<_>>().join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prefixes: &[&str]) -> Result<Layout, ConfigError> {
        Layout::of_prefixes(&prefixes.iter().map(|&prefix| prefix.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_prefix_has_a_range_and_what_is_around_it() {
        let layout = of(&["/registry/pods/", "/registry/a/b/", "/registry/a/c/"]).unwrap();
        let bounds = [
            "/registry/a/b/",
            "/registry/a/b0",
            "/registry/a/c/",
            "/registry/a/c0",
            "/registry/pods/",
            "/registry/pods0",
        ];
        assert_eq!(layout, Layout::Ranges(bounds.map(|bound| bound.as_bytes().to_vec()).to_vec()));
        assert_eq!(layout.parts(), 7);
        let flags =
            "--partition-by resource --partition /registry/a/b/ --partition /registry/a/c/ --partition /registry/pods/";
        assert_eq!(layout.flags(), flags);
        assert_eq!(layout.to_string(), "partitioned by resource, /registry/a/b/ /registry/a/c/ /registry/pods/");
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        let many: Vec<String> = (0..33).map(|number| format!("/{number}/")).collect();
        assert!(Layout::of_prefixes(&many).unwrap_err().what.contains("at most 32"));
        let table: [(&[&str], &str); 5] = [
            (&[], "no resource is named"),
            (&["/registry/pods"], "ends in a slash"),
            (&["/registry/p'ods/"], "ends in a slash"),
            (&["/"], "ends in a slash"),
            (&["/a/b/", "/a/"], "/a/b/ lies within /a/"),
        ];
        for (prefixes, says) in table {
            let error = of(prefixes).unwrap_err();
            assert!(error.what.contains(says), "{error}");
        }
    }
}
