//! Runs the go command on packages of a Kubernetes tree, without a change to the tree.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::file::Patch;
use super::series::hex;
use sluice_shell::error::Result;
use sluice_shell::process::Run;

/// Where upstream keeps the modules that it publishes under k8s.io/.
const STAGING: &str = "staging/src/";

/// The go command in one tree.
pub(super) struct Go {
    tree: PathBuf,
    /// Stands in for the tree's go.mod: `-mod=mod` completes it (the go.mod of a published staging module names
    /// versions where upstream's own says v0.0.0), and the tree must stay as it is.
    modfile: PathBuf,
}

impl Go {
    /// For the work tree as it is now; `scratch` is a folder for copies of go.mod and go.sum.
    pub(super) fn new(tree: &Path, scratch: &Path) -> Result<Self> {
        let (module, sums) = (fs_err::read(tree.join("go.mod"))?, fs_err::read(tree.join("go.sum"))?);
        let mut digest = Sha256::new();
        digest.update(&module);
        digest.update(&sums);
        // A folder for each state of the two files, so that what go adds once is found the next time.
        let folder = scratch.join(&hex(&digest.finalize())[..16]);
        if !folder.join("go.mod").exists() {
            fs_err::create_dir_all(&folder)?;
            fs_err::write(folder.join("go.sum"), sums)?;
            // Whole or not at all: it says that the folder is complete.
            fs_err::write(folder.join("go.mod.new"), module)?;
            fs_err::rename(folder.join("go.mod.new"), folder.join("go.mod"))?;
        }
        Ok(Self { tree: tree.to_owned(), modfile: folder.join("go.mod") })
    }

    /// `go build` for the packages that have code, then `go vet` for all, tests included.
    pub(super) fn compile(&self, packages: &[Package], log: &Path, line: impl FnMut(&str) + Copy) -> Result<()> {
        let code: Vec<&str> =
            packages.iter().filter(|package| package.code).map(|package| package.pattern.as_str()).collect();
        if !code.is_empty() {
            self.run("build", log).args(code).watch(line)?;
        }
        self.run("vet", log).args(packages.iter().map(|package| &package.pattern)).watch(line)
    }

    /// `go test` for package patterns as they stand in a patch's `Test:` line.
    pub(super) fn test(&self, patterns: &BTreeSet<&str>, log: &Path, line: impl FnMut(&str)) -> Result<()> {
        self.run("test", log).args(patterns.iter().map(|pattern| import(pattern))).watch(line)
    }

    /// What `go version` says: part of every verdict.
    pub(super) fn version(&self) -> Result<String> {
        Run::new("go", &self.tree).arg("version").env("GOWORK", "off").read()
    }

    fn run(&self, verb: &str, log: &Path) -> Run {
        let modfile = format!("-modfile={}", self.modfile.display());
        Run::new("go", &self.tree)
            .args([verb, &modfile])
            .env("GOWORK", "off")
            .env("GOFLAGS", "-mod=mod -buildvcs=false -trimpath")
            .env("CGO_ENABLED", "0")
            .log(log)
    }
}

/// A Go package that a patch touches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Package {
    /// As the go command takes it.
    pub(super) pattern: String,
    /// Whether it has more than test files.
    code: bool,
}

/// The packages that hold the Go files of a patch; `tree` has the patch applied.
pub(super) fn packages(patch: &Patch, tree: &Path) -> Result<Vec<Package>> {
    let mut found = BTreeSet::new();
    for file in patch.files.iter().filter(|file| file.path.ends_with(".go") && !file.path.contains("/testdata/")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !tree.join(folder).is_dir() {
            continue;
        }
        let mut names = Vec::new();
        for entry in fs_err::read_dir(tree.join(folder))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        let go = |name: &&String| name.ends_with(".go");
        if names.iter().any(|name| go(&name)) {
            let code = names.iter().filter(go).any(|name| !name.ends_with("_test.go"));
            found.insert(Package { pattern: import(&format!("./{folder}")), code });
        }
    }
    Ok(found.into_iter().collect())
}

/// A path from the root of the tree as the go command takes it: staging modules are modules of their own, which go
/// knows by import path only.
fn import(pattern: &str) -> String {
    let inner = pattern.strip_prefix("./").unwrap_or(pattern);
    inner.strip_prefix(STAGING).map_or_else(|| format!("./{inner}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_paths_become_import_paths() {
        assert_eq!(import("./staging/src/k8s.io/api/core/..."), "k8s.io/api/core/...");
        assert_eq!(import("./pkg/quota/..."), "./pkg/quota/...");
    }
}
