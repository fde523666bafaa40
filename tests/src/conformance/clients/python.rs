//! The client library of PyPI: a program of ours does with it what a platform's Python does.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::list::List;
use super::{Bench, Ended, start};
use crate::conformance::verdict::{Outcome, Ran};
use crate::python;
use sluice_shell::error::{Error, Result};
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::cluster::shirts;

/// How long the program may take.
const LIMIT: Limit = Limit::Clock(Duration::from_mins(10));

/// Runs the program against a cluster whose shirts have no watch cache.
pub(super) fn run(bench: &Bench<'_>, list: &List) -> Result<Ended> {
    let packages = python::packages(bench.shell, "kubernetes")?;
    let (cluster, guard) = start(bench, list)?;
    shirts::prepare(&cluster.client()?)?;
    let program = bench.shell.paths.root().join("ci/conformance/clients/kubernetes_client.py");
    let ended = Run::new("python3", &bench.folder)
        .env("PYTHONPATH", &packages)
        .env("KUBECONFIG", cluster.kubeconfig())
        // Nothing is written beside the program.
        .arg("-B")
        .arg(program)
        .arg("-v")
        .limit(LIMIT)
        .outcome()?;
    drop(guard);
    fs_err::write(bench.folder.join("unittest.log"), &ended.stderr)?;
    let outcomes = read(&ended.stderr);
    if outcomes.is_empty() {
        return Err(Error::input(format!("no test ran: {}", ended.stderr)));
    }
    let ran = Ran { package: list.name.clone(), outcomes, asked: true, repeated: false };
    Ok(Ended { version: version(&packages)?, runs: vec![ran] })
}

/// The library's version, by the folder that pip makes for it.
fn version(packages: &Path) -> Result<String> {
    for entry in fs_err::read_dir(packages)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let version = name.strip_prefix("kubernetes-").and_then(|rest| rest.strip_suffix(".dist-info"));
        if let Some(version) = version {
            return Ok(version.to_owned());
        }
    }
    Err(Error::input(format!("{} holds no package `kubernetes`", packages.display())))
}

/// The lines of `unittest -v`: `test_a (__main__.Lists.test_a) ... ok`. A class whose start fails has a line as well.
fn read(said: &str) -> BTreeMap<String, Outcome> {
    let line = |line: &str| {
        let (test, outcome) = line.rsplit_once(" ... ")?;
        let (_, name) = test.trim_end_matches(')').split_once(" (__main__.")?;
        let outcome = match outcome.split(' ').next()? {
            "ok" => Outcome::Passed,
            "skipped" => Outcome::Skipped,
            _ => Outcome::Failed,
        };
        Some((name.replace('.', "/"), outcome))
    };
    said.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_unittest_are_read() {
        let said = "test_a (__main__.Lists.test_a) ... ok\ntest_b (__main__.Lists.test_b) ... FAIL\nsetUpClass \
                    (__main__.Watches) ... ERROR\ntest_c (__main__.Lists.test_c) ... skipped 'because'\n\nRan 3 tests";
        let expected = [
            ("Lists/test_a", Outcome::Passed),
            ("Lists/test_b", Outcome::Failed),
            ("Watches", Outcome::Failed),
            ("Lists/test_c", Outcome::Skipped),
        ];
        assert_eq!(read(said), expected.map(|(name, outcome)| (name.to_owned(), outcome)).into());
    }
}
