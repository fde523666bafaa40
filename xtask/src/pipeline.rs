//! The stages of a build as types: `Fetched → Patched → Verified → Built`.
//!
//! A stage can only be made by the verb that does its work, from the stage before it, so a build or an image of an unverified tree
//! does not compile:
//!
//! ```text
//! source::Target::fetch, open      -> Fetched      patch::apply(shell, Fetched)       -> Patched
//! patch::verify(shell, Patched, …) -> Verified     build::build(shell, &Verified, …)  -> Built
//! ```
//!
//! `new` of a stage belongs to one verb's folder; the test `stages_are_made_by_their_verb_only` keeps it there.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::Explain;

/// A Kubernetes minor, such as `v1.37`: the name of a folder under `patches/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub(crate) struct Minor(String);

/// The text is no Kubernetes minor.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a Kubernetes minor such as v1.37")]
pub(crate) struct NotAMinor(String);

impl Explain for NotAMinor {}

impl Minor {
    /// The minor that is built unless told otherwise.
    pub(crate) const DEFAULT: &str = "v1.37";

    /// `v1.37`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The numbers: (1, 37) of `v1.37`.
    pub(crate) fn numbers(&self) -> (&str, &str) {
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

/// A composed upstream tree: a git repository whose branch `base` is the untouched upstream source.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    /// The minor.
    pub(crate) minor: Minor,
    /// Upstream's full version, `v1.37.2`.
    pub(crate) version: String,
    /// The work tree.
    pub(crate) tree: PathBuf,
    /// Commit id of the upstream source: the same on every machine for the same pins.
    pub(crate) base: String,
}

impl Fetched {
    /// Called by `source` when the tree is complete.
    pub(crate) fn new(minor: Minor, version: String, tree: PathBuf, base: String) -> Self {
        Self { minor, version, tree, base }
    }
}

/// A tree with the series applied: one commit per patch on top of the base.
#[derive(Clone, Debug)]
pub(crate) struct Patched {
    /// What it was made from.
    pub(crate) fetched: Fetched,
    /// Commit id after the last patch.
    pub(crate) head: String,
}

impl Patched {
    /// Called by `patch` when the last patch of the series is committed.
    pub(crate) fn new(fetched: Fetched, head: String) -> Self {
        Self { fetched, head }
    }
}

/// A patched tree that passed `patch verify`, or at least its checks that need no compiler (see `patch::verify`).
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// What was verified.
    pub(crate) patched: Patched,
    /// sha256 (hex) over everything the verdict rests on: series, patches, base commit.
    pub(crate) digest: String,
}

impl Verified {
    /// Called by `patch` when the checks passed.
    pub(crate) fn new(patched: Patched, digest: String) -> Self {
        Self { patched, digest }
    }
}

/// One finished program.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Binary {
    /// File name: `kube-apiserver`, `sluice-shim`.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// The version that it reports.
    pub(crate) version: String,
    /// Bytes.
    pub(crate) size: u64,
    /// sha256 of the file, hex.
    pub(crate) sha256: String,
    /// How long this run took to make it; 0 when it was up to date.
    pub(crate) seconds: f64,
}

/// The binaries of one build, all from the same verified tree.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// The minor.
    pub(crate) minor: Minor,
    /// Version stamped into the Kubernetes binaries, `v1.37.2+sluice.1`.
    pub(crate) version: String,
    /// Seconds since 1970 of the stamped build date; images use it for their times.
    pub(crate) source_date_epoch: i64,
    /// In the order asked for.
    pub(crate) binaries: Vec<Binary>,
}

impl Built {
    /// Called by `build` when every program is in place.
    pub(crate) fn new(minor: Minor, version: String, source_date_epoch: i64, binaries: Vec<Binary>) -> Self {
        Self { minor, version, source_date_epoch, binaries }
    }

    /// The file of one program, if it was part of this build.
    #[cfg(test)]
    pub(crate) fn path(&self, name: &str) -> Option<&std::path::Path> {
        self.binaries.iter().find(|binary| binary.name == name).map(|binary| binary.path.as_path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn minors() {
        for good in ["v1.37", "v1.8"] {
            assert_eq!(good.parse::<Minor>().unwrap().as_str(), good);
        }
        for bad in ["1.37", "v1", "v1.37.2", "v1.", "../v1.37", "v1.3x", "v1.37/"] {
            assert!(bad.parse::<Minor>().is_err(), "{bad}");
        }
    }

    /// Unit tests (after `mod tests`) may make any stage.
    #[test]
    fn stages_are_made_by_their_verb_only() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let owners = [("Fetched", "source"), ("Patched", "patch"), ("Verified", "patch"), ("Built", "build")];
        for entry in walkdir::WalkDir::new(&source) {
            let path = entry.unwrap().into_path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs_err::read_to_string(&path).unwrap();
            let code = text.split("mod tests {").next().unwrap_or_default();
            let inner = path.strip_prefix(&source).unwrap().with_extension("");
            for (stage, verb) in owners {
                let owned = inner.starts_with(verb) || inner == Path::new("pipeline");
                assert!(owned || !code.contains(&format!("{stage}::new(")), "{} makes a {stage}", path.display());
            }
        }
    }
}
