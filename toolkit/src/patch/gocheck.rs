//! Runs the go command on packages of a Kubernetes tree, without a change to the tree.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::diff::Side;
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

    /// `go test` for package patterns as they stand in a patch's `Test:` line. Some of upstream's tests depend on who
    /// is first: those that fail are run again, alone, and a failure is what fails again. Returns those that passed
    /// then. `only`: of all tests there these, if any are named.
    pub(super) fn test(
        &self,
        patterns: &BTreeSet<&str>,
        only: &BTreeSet<String>,
        log: &Path,
        mut line: impl FnMut(&str),
    ) -> Result<Vec<String>> {
        let mut failed = Failed::default();
        let run = (!only.is_empty()).then(|| run_flag(only.iter().map(String::as_str)));
        let packages = patterns.iter().map(|pattern| import(pattern));
        let first = self.run("test", log).args(run).args(packages).watch(|text| {
            failed.see(text);
            line(text);
        });
        let Err(error) = first else { return Ok(Vec::new()) };
        let Some(packages) = failed.packages() else { return Err(error) };
        for (package, tests) in &packages {
            let run = run_flag(tests.iter().map(String::as_str));
            let again = log.with_extension("again.log");
            if self.run("test", &again).args(["-count=1", &run, package]).watch(&mut line).is_err() {
                return Err(error);
            }
        }
        Ok(packages.into_iter().flat_map(|(_, tests)| tests).collect())
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

/// Of all tests these.
fn run_flag<'a>(tests: impl Iterator<Item = &'a str>) -> String {
    format!("-run=^({})$", tests.collect::<Vec<_>>().join("|"))
}

/// The Go tests that a patch adds.
pub(super) fn tests(patch: &Patch) -> impl Iterator<Item = String> {
    let added = patch.files.iter().filter(|file| file.path.ends_with("_test.go")).flat_map(|file| &file.hunks);
    added.flat_map(|hunk| &hunk.lines).filter(|line| line.side == Side::Added).filter_map(|line| {
        let text = std::str::from_utf8(&line.text).ok()?.strip_prefix("func Test")?;
        Some(format!("Test{}", text.split_once('(')?.0))
    })
}

/// What failed, read from what `go test` prints.
#[derive(Default)]
struct Failed {
    /// Tests of the package whose end was not seen yet.
    tests: Vec<String>,
    packages: Vec<(String, Vec<String>)>,
    /// Something else than a test that failed by itself.
    other: bool,
}

impl Failed {
    fn see(&mut self, line: &str) {
        if let Some(test) = line.strip_prefix("--- FAIL: ") {
            self.tests.extend(test.split_whitespace().next().map(str::to_owned));
        } else if let Some(package) = line.strip_prefix("FAIL\t") {
            let package = package.split_whitespace().next().unwrap_or_default();
            let tests = std::mem::take(&mut self.tests);
            self.other |= tests.is_empty();
            self.packages.push((package.to_owned(), tests));
        } else if line.starts_with("panic: ") || line.starts_with("fatal error: ") {
            // The tests behind it were not run.
            self.other = true;
        }
    }

    /// The packages with the tests that failed; none if running these again would not tell enough.
    fn packages(self) -> Option<Vec<(String, Vec<String>)>> {
        (!self.other && self.tests.is_empty() && !self.packages.is_empty()).then_some(self.packages)
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

    #[test]
    fn what_failed_is_run_again_only_if_that_tells_enough() {
        let one = "ok  \ta\t0.1s\n--- FAIL: TestA (0.12s)\n    a.go:3: no\n    --- FAIL: TestA/x (0.1s)\n\
                   --- FAIL: TestB (0.00s)\nFAIL\nFAIL\tb\t0.4s\nFAIL\n";
        let tests = vec!["TestA".to_owned(), "TestB".to_owned()];
        for (output, expected) in [
            (one.to_owned(), Some(vec![("b".to_owned(), tests)])),
            (format!("{one}FAIL\tc [build failed]\n"), None),
            (one.replace("FAIL\tb", "panic: oh\nFAIL\tb"), None),
            ("go: no such module\n".to_owned(), None),
        ] {
            let mut failed = Failed::default();
            output.lines().for_each(|line| failed.see(line));
            assert_eq!(failed.packages(), expected, "{output}");
        }
    }

    #[test]
    fn a_test_that_fails_once_is_told_and_one_that_fails_twice_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs_err::create_dir(&tree).unwrap();
        for (name, text) in [
            ("go.mod", "module example.test/m\n"),
            ("go.sum", ""),
            (
                "m_test.go",
                "package m\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestOnce(t *testing.T) {\n\
                 \tif os.Mkdir(\"seen\", 0o755) == nil {\n\t\tt.Fatal(\"the first time\")\n\t}\n}\n\n\
                 func TestNever(t *testing.T) {\n\tif _, err := os.Stat(\"never\"); err == nil {\n\
                 \t\tt.Fatal(\"each time\")\n\t}\n}\n",
            ),
        ] {
            fs_err::write(tree.join(name), text).unwrap();
        }
        let go = Go::new(&tree, &dir.path().join("scratch")).unwrap();
        let test = |only: &[&str]| {
            let only = only.iter().map(|name| (*name).to_owned()).collect();
            go.test(&BTreeSet::from(["./."]), &only, &dir.path().join("log"), |_| ())
        };
        assert_eq!(test(&[]).unwrap(), ["TestOnce"]);
        assert_eq!(test(&[]).unwrap(), [""; 0]);
        fs_err::write(tree.join("never"), "").unwrap();
        test(&[]).unwrap_err();
        assert_eq!(test(&["TestOnce"]).unwrap(), [""; 0]);
    }
}
