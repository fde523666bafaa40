//! controller-runtime's own tests: its envtest starts a kube-apiserver and an `etcd`, which here are the patched one
//! and the shim.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::list::List;
use super::{Bench, Ended};
use crate::conformance::gotest;
use crate::conformance::specs::ginkgo;
use crate::conformance::verdict::{Outcome, Ran};
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::build;
use sluice_toolkit::cluster::pid::Process;

const MODULE: &str = "sigs.k8s.io/controller-runtime";

/// How long the tests of a package may take, and how much longer their process may live.
const LIMIT: Duration = Duration::from_mins(10);
const PATIENCE: Duration = Duration::from_mins(1);

/// Compiles the packages of the list, and runs each.
pub(super) fn run(bench: &Bench<'_>, list: &List) -> Result<Ended> {
    let module = build::module_folder(bench.shell.paths.root(), "controller-runtime", MODULE)?;
    let version = module.file_name().and_then(|name| name.to_str()?.split_once('@')).map(|(_, version)| version);
    let version = version.ok_or_else(|| Error::input(format!("{} names no version", module.display())))?.to_owned();
    // The tests write beside their sources, and run scripts there.
    let source = bench.folder.join("source");
    super::copy(&module, &source)?;
    let packages = Packages { bench, list, assets: assets(bench)?, converter: gotest::converter()?, source };
    let progress = bench.shell.out.bar(format!("test {}", list.name), 2 * list.packages.len() as u64);
    for package in &list.packages {
        progress.now(format!("compile {package}"));
        packages.compile(package).attempting(|| format!("cannot compile the tests of {package}"))?;
        progress.advance(1);
    }
    let mut runs = Vec::new();
    for package in &list.packages {
        progress.now(package);
        runs.extend(packages.run(package).attempting(|| format!("cannot run the tests of {package}"))?);
        progress.advance(1);
    }
    progress.done("");
    Ok(Ended { version, runs })
}

/// The folder where envtest finds its programs. It starts an etcd with a data folder, which becomes that of a database.
fn assets(bench: &Bench<'_>) -> Result<PathBuf> {
    let folder = bench.folder.join("assets");
    fs_err::create_dir_all(&folder)?;
    let programs = &bench.programs;
    let kubectl = programs.kubectl.as_ref().ok_or_else(|| Error::input("envtest needs a kubectl"))?;
    fs_err::os::unix::fs::symlink(&programs.apiserver, folder.join("kube-apiserver"))?;
    fs_err::os::unix::fs::symlink(kubectl, folder.join("kubectl"))?;
    let etcd = folder.join("etcd");
    let shim = sluice_shell::process::quoted(&programs.store);
    fs_err::write(&etcd, ETCD.replace("SHIM", &shim))?;
    fs_err::set_permissions(&etcd, std::fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// Starts the shim with the flags that envtest has for etcd.
const ETCD: &str = r#"#!/bin/sh
for word; do
    shift
    case $word in
        --data-dir=*) set -- "$@" "--endpoint=sqlite://${word#*=}/state.db" ;;
        --listen-peer-urls=*) ;;
        *) set -- "$@" "$word" ;;
    esac
done
exec SHIM "$@"
"#;

/// What compiles and runs packages of tests.
struct Packages<'a> {
    bench: &'a Bench<'a>,
    list: &'a List,
    assets: PathBuf,
    /// Go's `test2json`.
    converter: PathBuf,
    source: PathBuf,
}

impl Packages<'_> {
    /// A file of a package, by its extension.
    fn file(&self, package: &str, extension: &str) -> PathBuf {
        self.bench.folder.join(format!("{}.{extension}", package.replace('/', "_")))
    }

    fn compile(&self, package: &str) -> Result<()> {
        // The module's own go.mod and go.sum pin all that it is built of.
        Run::new("go", &self.source)
            .env("GOWORK", "off")
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .args(["test", "-c", "-vet=off", "-o"])
            .arg(self.file(package, "test"))
            .arg(format!("./{package}"))
            .run()
    }

    fn run(&self, package: &str) -> Result<Vec<Ran>> {
        let temporary = self.bench.folder.join("tmp");
        fs_err::create_dir_all(&temporary)?;
        let report = self.file(package, "json");
        let said = Run::new(&self.converter, self.source.join(package))
            .arg(self.file(package, "test"))
            .args(["-test.v=test2json", &format!("-test.timeout={}s", LIMIT.as_secs())])
            .arg(format!("-test.skip={}", self.skip(package)))
            .args(["-ginkgo.flake-attempts=2", "-ginkgo.no-color"])
            .arg(format!("-ginkgo.json-report={}", report.display()))
            .env("KUBEBUILDER_ASSETS", &self.assets)
            .env("TMPDIR", &temporary)
            .limit(Limit::Clock(LIMIT + PATIENCE))
            .outcome()?;
        end(&self.bench.folder)?;
        let tests = Tests::read(&said.stdout)?;
        fs_err::write(self.file(package, "log"), format!("{}{}", tests.output, said.stderr))?;
        let mut runs = tests.ran(package, report.is_file());
        if report.is_file() {
            runs.extend(specs(package, &report)?);
        }
        if runs.is_empty() {
            return Err(Error::input(format!("no test ran: {}", said.stderr)));
        }
        let counts = |ran: &Ran| ran.outcomes.keys().any(|test| !self.list.is_outside(package, test));
        Ok(runs.into_iter().filter(counts).collect())
    }

    /// Go's pattern for the tests that the list leaves out.
    fn skip(&self, package: &str) -> String {
        let here = |name: &&String| self.list.outside.iter().any(|entry| entry.covering(package, name).is_some());
        let names = self.list.outside.iter().flat_map(|entry| &entry.tests).filter(here);
        let patterns = names.map(|name| {
            let parts = name.split('/').map(|part| format!("^{part}$"));
            parts.collect::<Vec<_>>().join("/")
        });
        patterns.collect::<Vec<_>>().join("|")
    }
}

/// Ends the servers that tests left: they have a folder in their command lines that no other run has.
fn end(folder: &Path) -> Result<()> {
    let folder = folder.to_string_lossy();
    for entry in fs_err::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended meanwhile.
        let words = fs_err::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&words).contains(&*folder)
            && let Some(process) = Process::of(pid)
        {
            process.kill()?;
        }
    }
    Ok(())
}

/// One event of `test2json`; cmd/test2json documents the fields.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    test: Option<String>,
    output: Option<String>,
}

/// What the tests of a package did, those of Go.
struct Tests {
    outcomes: BTreeMap<String, Outcome>,
    output: String,
    /// Those that only run specs, which have a report of their own.
    of_specs: BTreeSet<String>,
}

impl Tests {
    fn read(stream: &str) -> Result<Self> {
        let (outcomes, output) = gotest::read(stream)?;
        let mut of_specs = BTreeSet::new();
        for line in stream.lines() {
            let event: Event = serde_json::from_str(line)?;
            let runs_specs = event.output.is_some_and(|output| output.starts_with("Running Suite: "));
            of_specs.extend(event.test.filter(|_| runs_specs));
        }
        Ok(Self { outcomes, output, of_specs })
    }

    /// Each top-level test; those of specs only if there is no report.
    fn ran(&self, package: &str, reported: bool) -> Vec<Ran> {
        let counts = |test: &&String| !(test.contains('/') || reported && self.of_specs.contains(*test));
        let tests = self.outcomes.keys().filter(counts).map(|test| {
            let below = format!("{test}/");
            let own = self.outcomes.iter().filter(|(name, _)| *name == test || name.starts_with(&below));
            let outcomes = own.map(|(name, outcome)| (name.clone(), *outcome)).collect();
            Ran { package: package.to_owned(), outcomes, asked: true, repeated: false }
        });
        tests.collect()
    }
}

/// The specs of a package; what broke outside of specs is a test of its own that failed.
fn specs(package: &str, report: &Path) -> Result<Vec<Ran>> {
    let report = ginkgo::read_any(report)?;
    let ran = |name: String, outcome: Outcome, repeated: bool| Ran {
        package: package.to_owned(),
        outcomes: [(name, outcome)].into(),
        asked: true,
        repeated,
    };
    let mut runs: Vec<Ran> = report.broken.iter().map(|what| ran(what.clone(), Outcome::Failed, false)).collect();
    let specs = report.specs.into_iter().filter_map(|(name, spec)| Some(ran(name, spec.outcome?, spec.repeated)));
    runs.extend(specs);
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use sluice_toolkit::cluster::launch::launch;

    use super::*;

    #[test]
    fn a_test_that_runs_specs_is_counted_by_its_report() {
        let mut stream = String::new();
        for (action, test, output) in [
            ("run", "TestSuite", ""),
            ("output", "TestSuite", "Running Suite: Suite - /x\\n"),
            ("pass", "TestSuite", ""),
            ("run", "TestPlain", ""),
            ("run", "TestPlain/a", ""),
            ("pass", "TestPlain/a", ""),
            ("pass", "TestPlain", ""),
        ] {
            let _ = writeln!(stream, r#"{{"Action":"{action}","Test":"{test}","Output":"{output}"}}"#);
        }
        let tests = Tests::read(&stream).unwrap();
        let names = |reported: bool| {
            let ran = tests.ran("pkg/x", reported);
            ran.iter().flat_map(|ran| ran.outcomes.keys().cloned()).collect::<Vec<_>>()
        };
        assert_eq!(names(true), ["TestPlain", "TestPlain/a"]);
        assert_eq!(names(false), ["TestPlain", "TestPlain/a", "TestSuite"]);
    }

    #[test]
    fn servers_that_tests_left_are_ended() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display().to_string();
        let log = folder.path().join("log");
        let script = ["-c", "echo up; while :; do sleep 1; done", here.as_str()];
        let left = launch("a server", &Run::new("sh", "/").args(script), &log).unwrap();
        // A process has no command line until the kernel has loaded its program.
        while fs_err::read(&log).unwrap().is_empty() {
            std::thread::yield_now();
        }
        end(folder.path()).unwrap();
        assert!(!left.is_alive());
    }

    /// As envtest starts etcd.
    #[test]
    fn the_shim_gets_the_flags_that_it_has() {
        let script = ETCD.replace("exec SHIM", "echo");
        let flags = ["--data-dir=/a b/c", "--listen-peer-urls=http://x:1", "--listen-client-urls=http://y:2"];
        let said = Run::new("sh", "/").args(["-c", &script, "etcd"]).args(flags).read().unwrap();
        assert_eq!(said.trim_end(), "--endpoint=sqlite:///a b/c/state.db --listen-client-urls=http://y:2");
    }
}
