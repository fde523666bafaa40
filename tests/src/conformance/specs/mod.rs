//! `cargo xtask test conformance e2e` and `e2e-node`: upstream's end-to-end specs against whole control planes.
//!
//! `e2e.test` is compiled from upstream's tree as it is, and Ginkgo runs it ([`ginkgo`]) against each [`System`] in
//! turn. With `e2e` no kubelet runs: a [`node`] is kept ready by its lease. With `e2e-node` the system is on a node
//! that runs Pods ([`Ground`]). A file in `ci/conformance/e2e/` says which specs run, and which need a Pod that runs
//! ([`area`]). A listed spec that passes fails the run just as one that is not listed and fails.

mod area;
pub(super) mod ginkgo;
mod ground;
mod node;
mod running;
mod section;
mod system;

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::report;
use super::suite::{Entry, Store};
use super::verdict::{Ran, Verdict};
use crate::runner::Tally;
use area::Area;
use ginkgo::{Report, Subject};
pub(super) use ground::Ground;
use running::Running;
use section::Ended;
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::leftover;
use sluice_toolkit::cluster::programs::{self, EndToEnd};
use sluice_toolkit::cluster::settings::Programs;
use sluice_toolkit::source::Target;
pub(super) use system::System;

/// The file that says which specs run.
const AREA: &str = "ci/conformance/e2e/api-machinery.toml";

/// What to run.
pub(super) struct Wish<'a> {
    /// What the systems stand on.
    pub(super) ground: Ground,
    /// Against these.
    pub(super) systems: &'a [System],
    /// Where the shims keep their data; none for a file.
    pub(super) database: Option<Database>,
    /// The folder of the programs `patched` and `stock`, if none are to be built.
    pub(super) bin: Option<&'a Path>,
    /// Only the specs with this text in their names.
    pub(super) filter: Option<&'a str>,
    /// Whether the other systems' last runs count as well.
    pub(super) add: bool,
    /// Whether docs/conformance.md gets the result.
    pub(super) write_docs: bool,
}

/// Runs the specs against each of the systems, and prints a table.
///
/// # Errors
/// When the specs can't be run at all; a spec that fails is in the tally.
pub(super) fn run(shell: &Context, target: &Target, wish: &Wish<'_>) -> Result<Tally> {
    let area = Area::load(&shell.paths.root().join(AREA), wish.ground)?;
    let missing = wish.ground.systems().iter().any(|system| !wish.systems.contains(system));
    if wish.write_docs && (wish.filter.is_some() || missing && !wish.add) {
        return Err(Error::input("--write-docs is for a run of all specs against all systems"));
    }
    leftover::clean_up_on_ctrl_c()?;
    let suite = match wish.bin {
        Some(bin) => programs::end_to_end_in_folder(&bin.join("stock"))?,
        None => programs::end_to_end(shell, target)?,
    };
    let built = wish.systems.iter().map(|system| {
        let programs = (wish.ground == Ground::Processes).then(|| system.programs(shell, target, wish.bin));
        Ok((*system, programs.transpose()?))
    });
    let built: Vec<(System, Option<Programs>)> = built.collect::<Result<_>>()?;
    let scratch = shell.paths.cache().join("conformance-e2e");
    fs_err::create_dir_all(&scratch)?;
    leftover::sweep(&scratch)?;
    let mut results = others(&area, &suite, wish, &scratch)?;
    for (system, programs) in built {
        let folder = scratch.join(format!("{}-{}-0", wish.ground.name(system), std::process::id()));
        let start = || match &programs {
            Some(programs) => Running::processes(system, programs, wish.database, &folder),
            None => Running::node(shell, target, system),
        };
        let ended = one(shell, &area, &suite, (system, &start), wish, &folder)
            .attempting(|| format!("cannot run the specs on {}; logs and data: {}", system.name(), folder.display()))?;
        for line in problems(&area, &ended, wish.filter) {
            shell.out.data(format!("FAIL {}: {line}", ended.title()))?;
        }
        results.push(ended);
    }
    results.sort_by_key(|result| wish.ground.systems().iter().position(|system| *system == result.system));
    shell.out.data(section::table(&results))?;
    if wish.write_docs {
        report::write(shell, |previous| section::document(&area, wish.ground, &suite.version, &results, previous))?;
    }
    let mut tally = Tally::default();
    for result in &results {
        tally += Tally { passed: result.verdict.passed, failed: problems(&area, result, wish.filter).count() };
    }
    Ok(tally)
}

/// Where the report of a system's last run of all specs is.
fn kept(scratch: &Path, suite: &EndToEnd, system: System, wish: &Wish<'_>) -> PathBuf {
    let store = if system == System::Stock { String::new() } else { format!("-{}", Store::of(wish.database).title()) };
    scratch.join(format!("{}-{}{store}.json", suite.version, wish.ground.name(system)))
}

/// What the last runs of the systems found that do not run now, if that is wished.
fn others(area: &Area, suite: &EndToEnd, wish: &Wish<'_>, scratch: &Path) -> Result<Vec<Ended>> {
    let mut others = Vec::new();
    let systems = wish.ground.systems().iter().copied();
    for system in systems.filter(|system| wish.add && !wish.systems.contains(system)) {
        let file = kept(scratch, suite, system, wish);
        if !file.is_file() && wish.write_docs {
            return Err(Error::input(format!("{} was never run: {} is not there", system.name(), file.display())));
        }
        if file.is_file() {
            let mut report = ginkgo::read(&file)?;
            // It may be older than an entry of the list.
            report.specs.iter_mut().filter(|(name, _)| area.is_outside(name)).for_each(|(_, spec)| spec.outcome = None);
            let verdict = verdict(area, &report, true);
            others.push(Ended { system, store: Store::of(wish.database), report, verdict, seconds: None });
        }
    }
    Ok(others)
}

/// Runs the specs against one system, which is started for this and ends with it.
fn one(
    shell: &Context,
    area: &Area,
    suite: &EndToEnd,
    (system, start): (System, &dyn Fn() -> Result<Running>),
    wish: &Wish<'_>,
    folder: &Path,
) -> Result<Ended> {
    let clock = Instant::now();
    let running = start()?;
    let files = folder.join("ginkgo");
    fs_err::create_dir_all(&files)?;
    let (name, kubeconfig) = (wish.ground.name(system), running.kubeconfig());
    let subject = Subject { name: &name, kubeconfig, kubectl: running.kubectl(), folder: &files };
    let report = ginkgo::run(shell, area, suite, &subject, wish.filter)?;
    if wish.filter.is_none() {
        fs_err::copy(files.join(ginkgo::REPORT), kept(folder.parent().unwrap_or(folder), suite, system, wish))?;
    }
    let verdict = verdict(area, &report, wish.filter.is_none());
    let seconds = Some(clock.elapsed().as_secs_f64());
    let ended = Ended { system, store: Store::of(wish.database), report, verdict, seconds };
    match problems(area, &ended, wish.filter).next() {
        None => {
            running.remove()?;
            if folder.exists() {
                fs_err::remove_dir_all(folder)?;
            }
        }
        Some(_) => shell.out.note(format!("logs and data of {}: {}", system.name(), running.folder().display())),
    }
    Ok(ended)
}

/// The outcomes beside the list of specs that can't pass; `complete`: if all of them ran.
fn verdict(area: &Area, report: &Report, complete: bool) -> Verdict {
    let runs: Vec<Ran> = report
        .specs
        .iter()
        .filter_map(|(name, spec)| {
            let outcomes = [(name.clone(), spec.outcome?)].into();
            Some(Ran { package: area.name.clone(), outcomes, asked: true, repeated: spec.repeated })
        })
        .collect();
    let cannot: Vec<&Entry> = area.cannot.iter().collect();
    Verdict::new(&runs, &cannot, complete)
}

/// One line for each thing that is wrong.
fn problems<'a>(area: &'a Area, ended: &'a Ended, filter: Option<&str>) -> impl Iterator<Item = String> + 'a {
    let gone = match filter {
        None => area.gone(ended.report.specs.keys().map(String::as_str)),
        Some(_) => Vec::new(),
    };
    let gone =
        gone.into_iter().map(|name| format!("{name} is listed as one that is not run, and there is no such spec"));
    ended.report.broken.iter().cloned().chain(ended.verdict.problems()).chain(gone)
}
