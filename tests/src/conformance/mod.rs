//! `cargo xtask test conformance`: upstream's own storage tests against sluice-shim.
//!
//! The tests are compiled from upstream's modules as they are; one file, the one that starts a server, is exchanged
//! through `go test -overlay` ([`tree`]). A suite is a file in `ci/conformance/` ([`suite`]): the packages, and the
//! tests that can't run, each with the reason. A listed test that passes fails the run just as one that is not listed
//! and fails ([`verdict`]).
//!
//! Each top-level test runs in a process of its own ([`gotest`]): one that hangs or crashes does not take others with
//! it.
//!
//! `cargo xtask test conformance e2e` runs upstream's end-to-end specs instead, against whole control planes
//! ([`specs`]). `cargo xtask test clients` runs programs of others against a control plane ([`clients`]).

mod clients;
mod gotest;
mod report;
mod specs;
mod suite;
mod tree;
mod verdict;

pub(crate) use clients::{Wish as ClientsWish, run as clients};

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::runner::Tally;
use crate::server::Server;
use clap::ValueEnum;
use gotest::Runner;
use report::Row;
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_toolkit::build::{self, Program};
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::leftover;
use sluice_toolkit::source::Target;
use specs::{Ground, System};
use suite::{Store, Suite};
use verdict::Verdict;

/// What to run of upstream's tests, and against what.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Options {
    /// Conformance: what to run instead of the storage tests; not part of all tests
    #[arg(value_enum, value_name = "SPECS")]
    specs: Option<Specs>,
    /// Conformance e2e: only this system [default: all]
    #[arg(long, value_enum, value_name = "SYSTEM", requires = "specs")]
    system: Vec<System>,
    /// Conformance e2e: count what the last runs of the other systems found as well; without `--system` of all
    #[arg(long, requires = "specs")]
    add: bool,
    /// Conformance: only the tests of the apiserver's storage layer, which take some minutes
    #[arg(long)]
    quick: bool,
    /// Conformance: only the suite of this name (a file in ci/conformance/)
    #[arg(long, value_name = "NAME")]
    suite: Option<String>,
    /// Conformance: the server, a `sluice-shim` or (for comparison; the lists do not count then) an `etcd`; build
    /// nothing
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Conformance: write the result to docs/conformance.md; what did not run stays there as it is
    #[arg(long)]
    write_docs: bool,
}

/// What runs against whole control planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Specs {
    /// Upstream's end-to-end specs of the API machinery that need no Pod, on stock Kubernetes and on ours
    E2e,
    /// The same and those that need Pods, on nodes that run Pods (as root)
    E2eNode,
}

impl Specs {
    fn ground(self) -> Ground {
        match self {
            Self::E2e => Ground::Processes,
            Self::E2eNode => Ground::Node,
        }
    }
}

impl Options {
    /// Whether whole control planes are meant.
    pub(crate) fn is_end_to_end(&self) -> bool {
        self.specs.is_some()
    }

    /// Whether docs/conformance.md gets the result.
    pub(crate) fn writes_docs(&self) -> bool {
        self.write_docs
    }

    /// What runs as a part of all tests.
    pub(crate) fn quick() -> Self {
        Self { quick: true, ..Self::default() }
    }
}

/// Runs the suites on each of the databases (`None`: a file) and prints a table. `filter`: only the top-level tests
/// whose name holds this text.
///
/// # Errors
/// When the tests can't be run at all; a test that fails is in the tally.
pub(crate) fn run(
    shell: &Context,
    target: &Target,
    options: &Options,
    databases: &[Option<Database>],
    filter: Option<&str>,
) -> Result<Tally> {
    let program = program(shell, options)?;
    if !is_shim(&program) && databases != [None] {
        return Err(Error::input("`--database` is for sluice-shim: etcd has its own"));
    }
    let suites = Suite::load_all(&shell.paths.root().join("ci/conformance"))?;
    let chosen: Vec<&Suite> = suites.iter().filter(|suite| wanted(options, suite)).collect();
    if chosen.is_empty() {
        return Err(Error::input("no suite of that name in ci/conformance/"));
    }
    if options.write_docs && !(filter.is_none() && is_shim(&program)) {
        return Err(Error::input("--write-docs is for a run of whole suites against sluice-shim"));
    }
    leftover::clean_up_on_ctrl_c()?;
    let start = |database: &Option<Database>| database.map(|database| Server::start(shell, database)).transpose();
    let servers: Vec<Option<Server>> = databases.iter().map(start).collect::<Result<_>>()?;
    let mut rows = Vec::new();
    for suite in chosen {
        let of_suite = one(shell, target, suite, &program, &servers, filter)
            .attempting(|| format!("cannot run suite {}", suite.name))?;
        for row in &of_suite {
            for line in row.verdict.problems() {
                shell.out.data(format!("FAIL {} on {}: {line}", suite.name, row.store.title()))?;
            }
        }
        rows.extend(of_suite);
    }
    servers.iter().flatten().try_for_each(Server::stop)?;
    shell.out.data(report::table(&rows))?;
    if options.write_docs {
        report::write(shell, |previous| report::document(&rows, &suites, previous))?;
    }
    let count = |of: fn(&Verdict) -> usize| rows.iter().map(|row| of(&row.verdict)).sum();
    Ok(Tally { passed: count(|verdict| verdict.passed), failed: count(|verdict| verdict.problems().count()) })
}

/// Runs upstream's end-to-end specs, with the shims' data on a database (`None`: in files). `filter`: only the specs
/// with this text in their names; `bin`: the folder of programs, if none are to be built.
///
/// # Errors
/// When the specs can't be run at all; a spec that fails is in the tally.
pub(crate) fn end_to_end(
    shell: &Context,
    target: &Target,
    options: &Options,
    database: Option<Database>,
    (filter, bin): (Option<&str>, Option<&Path>),
) -> Result<Tally> {
    if options.quick || options.suite.is_some() || options.server.is_some() {
        return Err(Error::input("`--quick`, `--suite` and `--server` are for the storage tests"));
    }
    let ground = options.specs.map_or(Ground::Processes, Specs::ground);
    if ground == Ground::Node && (database.is_some() || bin.is_some()) {
        return Err(Error::input("a node is made of what is built here, on SQLite: no `--database` and no `--bin`"));
    }
    if let Some(other) = options.system.iter().find(|system| !ground.systems().contains(system)) {
        let known: Vec<&str> = ground.systems().iter().map(|system| system.name()).collect();
        return Err(Error::input(format!("there is no {} there, but {}", other.name(), known.join(" and "))));
    }
    let all = options.system.is_empty() && !options.add;
    let systems = if all { ground.systems().to_vec() } else { options.system.clone() };
    let (add, write_docs) = (options.add, options.write_docs);
    let wish = specs::Wish { ground, systems: &systems, database, bin, filter, add, write_docs };
    specs::run(shell, target, &wish)
}

fn wanted(options: &Options, suite: &Suite) -> bool {
    match &options.suite {
        Some(name) => suite.name == *name,
        None => suite.quick || !options.quick,
    }
}

/// Runs one suite: on each of the servers, and on files where there is `None`.
fn one(
    shell: &Context,
    target: &Target,
    suite: &Suite,
    program: &Path,
    servers: &[Option<Server>],
    filter: Option<&str>,
) -> Result<Vec<Row>> {
    let prepared = tree::prepare(shell, target, suite)?;
    let converter = gotest::converter()?;
    let jobs = gotest::compile(shell, suite, &prepared, filter)?;
    let mut rows = Vec::new();
    for server in servers {
        let clock = Instant::now();
        let store = Store::of(server.as_ref().map(Server::database));
        let listed = if is_shim(program) { suite.cannot(store) } else { Vec::new() };
        let title = format!("{} on {}", suite.name, store.title());
        let run = |databases| {
            let runner =
                Runner { shell, suite, program, jobs: &jobs, listed: &listed, converter: &converter, databases };
            runner.run(&title)
        };
        let runs = match server {
            None => run(None)?,
            Some(server) => {
                let before = server.made();
                let runs = server.hand_out(|address| run(Some(address)))??;
                // Else a file that stands in for upstream's has not heard of servers, and all is well on SQLite.
                if server.made() == before && runs.iter().any(|run| run.asked) {
                    return Err(Error::input(format!("no test asked for a database on {}", store.title())));
                }
                runs
            }
        };
        let verdict = Verdict::new(&runs, &listed, filter.is_none());
        let (name, version) = (suite.name.clone(), prepared.version.clone());
        rows.push(Row { name, version, store, verdict, seconds: clock.elapsed().as_secs_f64() });
    }
    Ok(rows)
}

fn is_shim(server: &Path) -> bool {
    server.file_name().is_some_and(|name| name == Program::SluiceShim.name())
}

/// The program to test.
fn program(shell: &Context, options: &Options) -> Result<PathBuf> {
    if let Some(file) = &options.server {
        let file = std::path::absolute(file)?;
        let known = [Program::SluiceShim, Program::Etcd].map(Program::name);
        if !file.is_file() || !known.iter().any(|name| file.file_name().is_some_and(|found| found == *name)) {
            return Err(Error::input(format!("{} is no file named {}", file.display(), known.join(" or "))));
        }
        return Ok(file);
    }
    let built = build::build_tools(shell, &[Program::SluiceShim])?;
    built.into_iter().next().map(|binary| binary.path).ok_or_else(|| Error::input("sluice-shim was not built"))
}
