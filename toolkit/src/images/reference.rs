//! Names of images in registries.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Error;

/// A registry name, repository path and tag: `ghcr.io/sluice-project/kube-apiserver:v1.37.2_sluice.1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    repository: String,
    tag: String,
}

impl Reference {
    /// Checks both against the grammar of github.com/distribution/reference (reference.go): other tools refuse the
    /// rest.
    pub(crate) fn new(repository: &str, tag: &str) -> Result<Self, Error> {
        let fail = |what, value: &str, reason| Err(Error::Name { what, value: value.to_owned(), reason });
        let Some((domain, path)) = repository.split_once('/') else {
            return fail("image name", repository, "it needs a registry first, as in ghcr.io/me/name");
        };
        if !is_domain(domain) {
            return fail("image name", repository, "its first part is not a host (a dot, a port, or localhost)");
        }
        if path.is_empty() || !path.split('/').all(is_path_component) || repository.len() > 255 {
            return fail("image name", repository, "it must be lower-case words joined by `/`, `.`, `-`, `_`");
        }
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !tag.starts_with(word) || tag.len() > 128 || !tag.chars().all(|c| word(c) || matches!(c, '.' | '-')) {
            return fail("tag", tag, "it must be at most 128 letters, digits, `_`, `.`, `-`");
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() })
    }

    /// Everything before the tag.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn is_domain(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let port_ok = !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    host.split('.').all(label) && port_ok && (host == "localhost" || text.contains(['.', ':']))
}

fn is_path_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = text.starts_with(alphanumeric) && text.ends_with(alphanumeric);
    let separators = text.split(alphanumeric).filter(|separator| !separator.is_empty());
    let separator_ok = |s: &str| matches!(s, "." | "_" | "__") || s.chars().all(|c| c == '-');
    ends && separators.into_iter().all(separator_ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_registries_accept() {
        for repository in ["ghcr.io/a/b", "localhost/a", "localhost:5000/a-b/c_d", "10.0.0.1:5000/a", "r.io/a--b.c__d"]
        {
            let reference = Reference::new(repository, "v1.37.2_sluice.1").unwrap();
            assert_eq!(reference.to_string(), format!("{repository}:v1.37.2_sluice.1"));
        }
    }

    #[test]
    fn names_that_registries_refuse() {
        for repository in [
            "",
            "a",
            "a/b",
            "ghcr.io/",
            "ghcr.io/A",
            "ghcr.io/a//b",
            "ghcr.io/a/",
            "ghcr.io/-a",
            "r.io/a..b",
            "r.io:/a",
            "-.io/a",
        ] {
            assert!(Reference::new(repository, "v1").is_err(), "{repository:?}");
        }
        for tag in ["", "v1.37.2+sluice.1", ".a", "-a", "a/b", "a b", &"a".repeat(129)] {
            assert!(Reference::new("ghcr.io/a", tag).is_err(), "{tag:?}");
        }
    }
}
