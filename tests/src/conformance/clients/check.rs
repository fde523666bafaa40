//! `etcdctl check`, which says of a store whether it is fast enough and holds enough for a cluster of some size.

use std::path::Path;
use std::time::Duration;

use super::list::List;
use super::{Bench, Ended};
use crate::conformance::verdict::{Outcome, Ran};
use sluice_shell::error::{Error, Result};
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::build::{self, Program};
use sluice_toolkit::cluster::client::Client;
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::wait::{self, ensure, until};

/// The checks, with the sizes of clusters that a machine of two processors can be asked for: 50 clients with 150 writes
/// a second or 200 with 1,000, each for a minute; 10,000 and
/// 100,000 keys.
const CHECKS: [[&str; 2]; 4] =
    [["perf", "--load=s"], ["perf", "--load=m"], ["datascale", "--load=s"], ["datascale", "--load=m"]];

/// How long a check may take.
const LIMIT: Limit = Limit::Clock(Duration::from_mins(10));

/// Carries the checks out, one after the other, each on an empty database.
pub(super) fn run(bench: &Bench<'_>, list: &List) -> Result<Ended> {
    let built = build::build_tools(bench.shell, &[Program::Etcdctl])?;
    let etcdctl = built.into_iter().next().ok_or_else(|| Error::input("etcdctl was not built"))?;
    let progress = bench.shell.out.bar(list.name.clone(), CHECKS.len() as u64);
    let mut runs = Vec::new();
    for check in CHECKS {
        let name = check.join(" ");
        progress.now(&name);
        let passed = one(bench, &etcdctl.path, check)?;
        let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
        let outcomes = [(name, outcome)].into();
        runs.push(Ran { package: list.name.clone(), outcomes, asked: true, repeated: false });
        progress.advance(1);
    }
    progress.done("");
    Ok(Ended { version: format!("v{}", etcdctl.version), runs })
}

fn one(bench: &Bench<'_>, etcdctl: &Path, check: [&str; 2]) -> Result<bool> {
    let name = check.concat().replace("--load=", "-");
    let (port, log) = (port::free()?, bench.folder.join(format!("{name}.shim.log")));
    let url = format!("http://127.0.0.1:{port}");
    let shim = Run::new(&bench.programs.store, &bench.folder)
        .env("SLUICE_ENDPOINT", format!("sqlite://{name}.db"))
        .arg(format!("--listen-client-urls={url}"));
    let process = launch("the shim", &shim, &log)?;
    let _guard = Guard::new(Leftover::Process(process.clone()));
    let client = Client::plain(port);
    until("the shim's readiness", wait::LIMIT, || {
        ensure(process.is_alive(), || format!("the shim ended by itself: see {}", log.display()))?;
        Ok(client.probe("/readyz").ok().map(|_| ()))
    })?;
    let said = Run::new(etcdctl, &bench.folder)
        .args([&format!("--endpoints={url}"), "check"])
        .args(check)
        .limit(LIMIT)
        .outcome()?;
    let text = format!("{}{}", said.stdout, said.stderr);
    fs_err::write(bench.folder.join(format!("{name}.log")), &text)?;
    // What it measured; before that are the steps of a bar.
    for line in text.lines().filter(|line| line.starts_with("PASS") || line.starts_with("FAIL")) {
        bench.shell.out.note(format!("etcdctl check {}: {line}", check.join(" ")));
    }
    Ok(said.status.success())
}
