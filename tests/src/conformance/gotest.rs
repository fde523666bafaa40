//! Compiles Go tests and runs them, each top-level test in a process of its own.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::suite::{Entry, Suite};
use super::tree::{self, Prepared};
use super::verdict::{Outcome, Ran};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_shell::process::{Limit, Overdue, Run};

/// How much longer than its own limit a test's process may live.
const PATIENCE: Duration = Duration::from_mins(1);

/// One suite, compiled, and the program that it runs against.
pub(super) struct Runner<'a> {
    /// Paths and output.
    pub(super) shell: &'a Context,
    /// The suite.
    pub(super) suite: &'a Suite,
    /// The program of the servers that the tests start.
    pub(super) program: &'a Path,
    /// The tests.
    pub(super) jobs: &'a [Job],
    /// Those of them that can't pass.
    pub(super) listed: &'a [&'a Entry],
    /// Where a test gets databases for its servers; without it they are files.
    pub(super) databases: Option<SocketAddr>,
    /// Go's `test2json`.
    pub(super) converter: &'a Path,
}

/// The program that turns a test's output into events. Go builds it when it is first asked for.
pub(super) fn converter() -> Result<PathBuf> {
    Ok(Run::new("go", "/").env("GOWORK", "off").env("GOFLAGS", "").args(["tool", "-n", "test2json"]).read()?.into())
}

/// A compiled package of tests.
struct Package {
    import: String,
    dir: PathBuf,
    binary: PathBuf,
}

/// A top-level test.
pub(super) struct Job {
    package: Arc<Package>,
    test: String,
}

/// One event of `test2json`; cmd/test2json documents the fields.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: String,
    test: Option<String>,
    output: Option<String>,
}

/// Compiles a suite; returns its tests whose name holds `filter`.
///
/// # Errors
/// When upstream's tests do not compile.
pub(super) fn compile(shell: &Context, suite: &Suite, prepared: &Prepared, filter: Option<&str>) -> Result<Vec<Job>> {
    let format = "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}\t{{.Dir}}{{end}}";
    let listing = prepared.go("list").args(["-f", format]).args(&suite.packages).read()?;
    let folder = tree::folder(shell).join(&suite.name);
    let progress = shell.out.bar(format!("compile {}", suite.name), listing.lines().count() as u64);
    let mut jobs = Vec::new();
    for (import, dir) in listing.lines().filter_map(|line| line.split_once('\t')) {
        progress.now(import);
        let binary = folder.join(format!("{}.test", import.replace('/', "_")));
        let package = Arc::new(Package { import: import.to_owned(), dir: dir.into(), binary });
        let command = prepared.go("test").args(["-c", "-vet=off", "-o"]).arg(&package.binary).arg(import);
        command.run().attempting(|| format!("cannot compile the tests of {import}"))?;
        let tests = package
            .tests()?
            .into_iter()
            .filter(|test| filter.is_none_or(|filter| test.contains(filter)) && !suite.is_outside(import, test));
        jobs.extend(tests.map(|test| Job { package: Arc::clone(&package), test }));
        progress.advance(1);
    }
    progress.done("");
    Ok(jobs)
}

impl Package {
    /// The names of the top-level tests; a package without any has no binary.
    fn tests(&self) -> Result<Vec<String>> {
        if !self.binary.is_file() {
            return Ok(Vec::new());
        }
        let names = Run::new(&self.binary, &self.dir).arg("-test.list=^Test").read()?;
        Ok(names.lines().filter(|name| name.starts_with("Test")).map(str::to_owned).collect())
    }
}

impl Runner<'_> {
    /// Runs the tests; one that fails and is not listed gets a second try, alone. The title is for people.
    ///
    /// # Errors
    /// When a test can't be run at all.
    pub(super) fn run(&self, title: &str) -> Result<Vec<Ran>> {
        let log = Mutex::new(self.log(title)?);
        let mut runs = self.side_by_side(title, &log)?;
        for (job, run) in self.jobs.iter().zip(&mut runs) {
            if self.surprising(run) {
                let again = self.one(job, &log)?;
                if !self.surprising(&again) {
                    *run = Ran { repeated: true, ..again };
                }
            }
        }
        Ok(runs)
    }

    fn log(&self, title: &str) -> Result<fs_err::File> {
        let path = self.shell.paths.log(&format!("conformance-{}", title.replace(' ', "-").to_lowercase()));
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        self.shell.out.note(format!("what the tests that fail print goes to {}", path.display()));
        Ok(fs_err::File::create(path)?)
    }

    /// Whether a test failed that is not listed.
    fn surprising(&self, run: &Ran) -> bool {
        let below = |test: &str| format!("{test}/");
        let leaf = |test: &str| !run.outcomes.keys().any(|other| other.starts_with(&below(test)));
        run.outcomes.iter().any(|(test, outcome)| {
            let listed = || self.listed.iter().any(|entry| entry.covering(&run.package, test).is_some());
            *outcome == Outcome::Failed && leaf(test) && !listed()
        })
    }

    fn side_by_side(&self, title: &str, log: &Mutex<fs_err::File>) -> Result<Vec<Ran>> {
        let jobs = self.jobs;
        let progress = self.shell.out.bar(format!("test {title}"), jobs.len() as u64);
        let next = AtomicUsize::new(0);
        let finished = Mutex::new(BTreeMap::new());
        // Tests wait more than they compute.
        let workers = 2 * thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            let work = || {
                while let Some((place, job)) = take(jobs, &next) {
                    let run = self.one(job, log);
                    progress.now(&job.test);
                    progress.advance(1);
                    finished.lock().unwrap_or_else(PoisonError::into_inner).insert(place, run);
                }
            };
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
        progress.done("");
        finished.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
    }

    fn one(&self, job: &Job, log: &Mutex<fs_err::File>) -> Result<Ran> {
        let scratch = tempfile::tempdir_in(tree::folder(self.shell))?;
        let asked = scratch.path().join("asked");
        // Go's own limit comes first, and shows what every goroutine waits for.
        let limit = Limit::Clock(Duration::from_secs(self.suite.timeout) + PATIENCE);
        let run = Run::new(self.converter, &job.package.dir)
            .args(["-p", &job.package.import])
            .arg(&job.package.binary)
            .args(["-test.v=test2json", &format!("-test.timeout={}s", self.suite.timeout)])
            .arg(format!("-test.run=^{}$", job.test))
            .env("TMPDIR", scratch.path())
            .env("SLUICE_CONFORMANCE_SERVER", self.program)
            .env("SLUICE_CONFORMANCE_ASKED", &asked)
            .limit(limit);
        let run = match self.databases {
            Some(address) => run.env("SLUICE_CONFORMANCE_DATABASES", address.to_string()),
            None => run.env_remove("SLUICE_CONFORMANCE_DATABASES"),
        };
        let outcome = match run.outcome() {
            Err(error) if error.downcast_ref::<Overdue>().is_some() => {
                let outcomes = BTreeMap::from([(job.test.clone(), Outcome::Failed)]);
                write(log, job, &format!("{error:?}\n"))?;
                return Ok(Ran {
                    package: job.package.import.clone(),
                    outcomes,
                    asked: asked.exists(),
                    repeated: false,
                });
            }
            other => other?,
        };
        let (outcomes, output) = read(&outcome.stdout)?;
        if outcomes.is_empty() {
            return Err(Error::input(format!(
                "{} of {} did not run: {}",
                job.test, job.package.import, outcome.stderr
            )));
        }
        if outcomes.values().any(|outcome| *outcome == Outcome::Failed) {
            write(log, job, &format!("{output}{}", outcome.stderr))?;
        }
        Ok(Ran { package: job.package.import.clone(), outcomes, asked: asked.exists(), repeated: false })
    }
}

fn write(log: &Mutex<fs_err::File>, job: &Job, text: &str) -> Result<()> {
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(writeln!(log, "##### {} {}\n{text}", job.package.import, job.test)?)
}

fn take<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let place = next.fetch_add(1, Ordering::Relaxed);
    items.get(place).map(|item| (place, item))
}

/// The outcomes, and all that was printed. A test that began and did not end has failed.
pub(super) fn read(stream: &str) -> Result<(BTreeMap<String, Outcome>, String)> {
    let (mut outcomes, mut output) = (BTreeMap::new(), String::new());
    for line in stream.lines() {
        let event: Event = serde_json::from_str(line).attempting(|| format!("cannot read the event {line}"))?;
        output.push_str(event.output.as_deref().unwrap_or_default());
        let outcome = match event.action.as_str() {
            "run" | "fail" => Outcome::Failed,
            "pass" => Outcome::Passed,
            "skip" => Outcome::Skipped,
            _ => continue,
        };
        if let Some(test) = event.test {
            outcomes.insert(test, outcome);
        }
    }
    Ok((outcomes, output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_does_not_end_has_failed() {
        let stream = [
            r#"{"Action":"start","Package":"x"}"#,
            r#"{"Action":"run","Package":"x","Test":"TestA"}"#,
            r#"{"Action":"run","Package":"x","Test":"TestA/b"}"#,
            r#"{"Action":"output","Package":"x","Test":"TestA/b","Output":"hello\n"}"#,
            r#"{"Action":"pass","Package":"x","Test":"TestA/b","Elapsed":0.1}"#,
            r#"{"Action":"run","Package":"x","Test":"TestA/c"}"#,
            r#"{"Action":"fail","Package":"x"}"#,
        ]
        .join("\n");
        let (outcomes, output) = read(&stream).unwrap();
        let expected = [("TestA", Outcome::Failed), ("TestA/b", Outcome::Passed), ("TestA/c", Outcome::Failed)];
        assert_eq!(outcomes, expected.map(|(name, outcome)| (name.to_owned(), outcome)).into());
        assert_eq!(output, "hello\n");
    }
}
