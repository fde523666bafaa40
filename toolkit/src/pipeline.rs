//! The stages of a build as types: `Fetched → Patched → Verified → Built`.
//!
//! A stage can only be made by the verb that does its work, from the stage before it, so a build or an image of an
//! unverified tree does not compile:
//!
//! ```text
//! source::Target::fetch, open      -> Fetched      patch::apply(shell, Fetched)       -> Patched
//! patch::verify_form(shell, Patched) -> Verified<Form>     build::build(shell, &Verified<D>, …) -> Built<D>
//! patch::verify_all(shell, Patched)  -> Verified<Tested>
//! build::build_stock(shell, …)       -> Built<Upstream>
//! ```
//!
//! How much was verified is part of the type, and goes on into what is built: a function that takes `Built<Tested>`
//! can't be given a build of a series of which only the form is known:
//!
//! ```compile_fail,E0308
//! use sluice_toolkit::pipeline::{Built, Form, Tested};
//! fn release(_: &Built<Tested>) {}
//! fn build(built: &Built<Form>) {
//!     release(built);
//! }
//! ```
//!
//! `new` of a stage belongs to one verb's folder; the test `stages_are_made_by_their_verb_only` keeps it there.

use std::marker::PhantomData;
use std::path::PathBuf;

use sluice_shell::minor::Minor;
use sluice_shell::platform::Platform;

/// A composed upstream tree: a git repository whose branch `base` is the untouched upstream source.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The minor.
    pub minor: Minor,
    /// Upstream's full version, `v1.37.2`.
    pub version: String,
    /// The work tree.
    pub tree: PathBuf,
    /// Commit id of the upstream source: the same on every machine for the same pins.
    pub base: String,
}

impl Fetched {
    /// Called by `source` when the tree is complete.
    pub(crate) fn new(minor: Minor, version: String, tree: PathBuf, base: String) -> Self {
        Self { minor, version, tree, base }
    }
}

/// A tree with the series applied: one commit per patch on top of the base.
#[derive(Clone, Debug)]
pub struct Patched {
    /// What it was made from.
    pub fetched: Fetched,
    /// Commit id after the last patch.
    pub head: String,
}

impl Patched {
    /// Called by `patch` when the last patch of the series is committed.
    pub(crate) fn new(fetched: Fetched, head: String) -> Self {
        Self { fetched, head }
    }
}

/// How much of a series was verified.
pub trait Depth: Clone + Copy + std::fmt::Debug {
    /// As reports say it.
    const NAME: &str;
}

/// Form and headers, strict apply, re-export, invariants: what needs no compiler.
#[derive(Clone, Copy, Debug)]
pub enum Form {}

/// Upstream's tree as it is, of which there is nothing to verify: what is built of it is compared with, and never
/// published.
#[derive(Clone, Copy, Debug)]
pub enum Upstream {}

/// The whole: besides the form, each patch was compiled and vetted at its commit, and the tests that the patches name
/// passed.
#[derive(Clone, Copy, Debug)]
pub enum Tested {}

impl Depth for Upstream {
    const NAME: &str = "upstream";
}

impl Depth for Form {
    const NAME: &str = "form";
}

impl Depth for Tested {
    const NAME: &str = "tested";
}

/// A patched tree that passed so much of `patch verify`.
#[derive(Clone, Debug)]
pub struct Verified<D: Depth> {
    /// What was verified.
    pub patched: Patched,
    /// sha256 (hex) over everything the verdict rests on: series, patches, base commit.
    pub digest: String,
    depth: PhantomData<D>,
}

impl<D: Depth> Verified<D> {
    /// Called by `patch` when the checks of this depth passed.
    pub(crate) fn new(patched: Patched, digest: String) -> Self {
        Self { patched, digest, depth: PhantomData }
    }
}

/// One finished program.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Binary {
    /// File name: `kube-apiserver`, `sluice-shim`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The version that it reports.
    pub version: String,
    /// Bytes.
    pub size: u64,
    /// sha256 of the file, hex.
    pub sha256: String,
    /// What it runs on.
    pub platform: Platform,
    /// What compiled it: `go1.26.10`, or what `rustc --version` says.
    pub compiler: String,
    /// How long this run took to make it; 0 when it was up to date.
    pub seconds: f64,
}

/// The binaries of one build, all from the same tree, of which so much was verified.
#[derive(Clone, Debug)]
pub struct Built<D: Depth = Form> {
    /// The minor.
    pub minor: Minor,
    /// Version stamped into the Kubernetes binaries, `v1.37.2+sluice.1`.
    pub version: String,
    /// What the binaries run on.
    pub platform: Platform,
    /// Whether they are without symbol tables and DWARF.
    pub release_flags: bool,
    /// Version of the Go that compiled them, `1.26.10`.
    pub go: String,
    /// Seconds since 1970 of the stamped build date; images use it for their times.
    pub source_date_epoch: i64,
    /// In the order asked for.
    pub binaries: Vec<Binary>,
    depth: PhantomData<D>,
}

impl<D: Depth> Built<D> {
    /// Called by `build` when every program is in place.
    pub(crate) fn new(
        minor: Minor,
        version: String,
        platform: Platform,
        release_flags: bool,
        go: String,
        source_date_epoch: i64,
        binaries: Vec<Binary>,
    ) -> Self {
        Self { minor, version, platform, release_flags, go, source_date_epoch, binaries, depth: PhantomData }
    }

    /// How much of the series was verified, for reports.
    pub fn verified(&self) -> &'static str {
        D::NAME
    }

    /// The file of one program, if it was part of this build.
    #[cfg(test)]
    pub fn path(&self, name: &str) -> Option<&std::path::Path> {
        self.binaries.iter().find(|binary| binary.name == name).map(|binary| binary.path.as_path())
    }
}

/// What less is asked of.
impl From<Built<Tested>> for Built<Form> {
    fn from(built: Built<Tested>) -> Self {
        let Built { minor, version, platform, release_flags, go, source_date_epoch, binaries, .. } = built;
        Self { minor, version, platform, release_flags, go, source_date_epoch, binaries, depth: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Unit tests (after `mod tests`, or in files and folders of that name) may make any stage.
    #[test]
    fn stages_are_made_by_their_verb_only() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let owners = [("Fetched", "source"), ("Patched", "patch"), ("Verified", "patch"), ("Built", "build")];
        for entry in walkdir::WalkDir::new(&source) {
            let path = entry.unwrap().into_path();
            let inner = path.strip_prefix(&source).unwrap().with_extension("");
            if path.extension().is_none_or(|extension| extension != "rs") || inner.iter().any(|part| part == "tests") {
                continue;
            }
            let text = fs_err::read_to_string(&path).unwrap();
            let code = text.split("mod tests {").next().unwrap_or_default();
            for (stage, verb) in owners {
                let owned = inner.starts_with(verb) || inner == Path::new("pipeline");
                let makes = code.contains(&format!("{stage}::new(")) || code.contains(&format!("{stage}::<"));
                assert!(owned || !makes, "{} makes a {stage}", path.display());
            }
        }
    }
}
