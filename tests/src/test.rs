//! `cargo xtask test`: everything that must hold, from the form of the code to real clusters.

use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use clap::ValueEnum;

use crate::cluster;
use crate::conformance;
use crate::databases;
use crate::e2e::{self, Suite};
use crate::images;
use crate::libtest::Results;
use crate::runner::Tally;
use crate::scale;
use crate::soak;
use sluice_shell::context::Context;
use sluice_shell::doctor::{self, Purpose};
use sluice_shell::error::{Error, Result};
use sluice_shell::platform::Platform;
use sluice_shell::process::{Run, THIS};
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::leftover;
use sluice_toolkit::patch;
use sluice_toolkit::pipeline::Patched;
use sluice_toolkit::source::{Origin, Target};

/// Runs the tests: all of them, or one part. The last line is `N passed, N failed`; exit code 1 if one failed.
#[derive(clap::Args)]
pub(crate) struct Cmd {
    /// Which part [default: all but `images`, `cluster`, `clients`, `soak` and `scale`]
    #[arg(value_enum)]
    part: Option<Part>,
    /// Only the end-to-end, conformance, cluster, image, client or scale tests whose name holds this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Only say what this machine lacks; install nothing
    #[arg(long)]
    no_install: bool,
    /// End-to-end and conformance tests, and the soak: the shim's data is on a server of this kind, which they start
    #[arg(long, value_enum, value_name = "SERVER")]
    database: Option<Database>,
    #[command(flatten)]
    target: Target,
    /// End-to-end tests, specs, clients and the soak with the programs in DIR/patched and DIR/stock; build nothing
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    #[command(flatten)]
    conformance: conformance::Options,
    #[command(flatten)]
    databases: databases::Servers,
}

/// What all tests take with empty caches, about: 13 GB in the clone, the rest in Go's cache.
const ALL_GIGABYTES: u64 = 30;

/// Packages whose tests are the part `unit`.
const TOOLKIT: [&str; 5] = ["xtask", "sluice-shell", "sluice-toolkit", "sluice-tests", "sluice-bench"];

/// Packages whose tests are the part `shim`.
const SHIM: [&str; 3] = ["sluice-shim", "sluice-wal", "sluice-wire"];

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Form and lints of all code; the toolkit's own tests, which run with the shim's when all parts run
    Unit,
    /// The shim's tests
    Shim,
    /// The patch series: applies, compiles, passes its Go tests
    Patches,
    /// Clusters with all combinations of apiserver and store
    E2e,
    /// Upstream's own storage tests against the shim; as a part of all tests, only the quick suites
    Conformance,
    /// The shim's tests on PostgreSQL and MariaDB
    Db,
    /// Images of both platforms, built twice, and programs of the other platform under qemu: half an hour
    Images,
    /// A cluster that kubeadm makes of our images, on a node that runs Pods (as root)
    Cluster,
    /// Client programs of others, as they are, on patched Kubernetes and the shim: half an hour
    Clients,
    /// The shim under a mixed load for two minutes, or for SLUICE_SOAK_SECONDS: what it holds does not grow
    Soak,
    /// Shims and database servers killed again and again in all layouts: a minute each, or SLUICE_SCALE_SECONDS
    Scale,
}

impl Part {
    /// Those that are run if none is named.
    fn usual() -> Vec<Self> {
        Self::value_variants()
            .iter()
            .copied()
            .filter(|part| !matches!(part, Self::Images | Self::Cluster | Self::Clients | Self::Soak | Self::Scale))
            .collect()
    }
}

impl Cmd {
    /// Runs the tests and prints the summary.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let parts = self.parts()?;
        if parts.contains(&Part::E2e) {
            // Before minutes are spent on what it needs.
            e2e::chosen(self.filter.as_deref(), self.database)?;
        }
        if parts.contains(&Part::Cluster) {
            cluster::check(self.filter.as_deref())?;
        }
        if parts.contains(&Part::Images) {
            images::chosen(self.filter.as_deref())?;
        }
        if parts.contains(&Part::Soak) {
            soak::seconds()?;
        }
        if parts.contains(&Part::Scale) {
            scale::chosen(self.filter.as_deref()).and_then(|_| scale::seconds())?;
        }
        if self.part.is_none() && self.filter.is_none() {
            doctor::warn_if_scarce(shell, "a first run of all tests", ALL_GIGABYTES);
        }
        let (mut tally, mut times) = (Tally::default(), Vec::new());
        for part in parts {
            let clock = Instant::now();
            tally += self.part(shell, part)?;
            times.push(format!("{part:?} {:.0} s", clock.elapsed().as_secs_f64()).to_lowercase());
        }
        shell.out.data(times.join(", "))?;
        shell.out.data(format!("{} passed, {} failed", tally.passed, tally.failed))?;
        if tally.failed > 0 {
            // All has been said: nothing may follow the summary, which scripts read.
            std::process::exit(1);
        }
        Ok(())
    }

    /// What to run, unless flags of one part are given to another.
    fn parts(&self) -> Result<Vec<Part>> {
        let parts = match (self.part, &self.filter) {
            (Some(Part::Db), None) => vec![Part::Db],
            _ if self.databases.is_chosen() => {
                return Err(Error::input("`--only` and `--endpoint` choose a server for the part `db`"));
            }
            (Some(part), None) => vec![part],
            (None | Some(Part::E2e), Some(_)) => vec![Part::E2e],
            (
                Some(part @ (Part::Conformance | Part::Cluster | Part::Images | Part::Clients | Part::Scale)),
                Some(_),
            ) => vec![part],
            (Some(_), Some(_)) => {
                return Err(Error::input(
                    "`--filter` chooses among end-to-end, conformance, cluster, image, client or scale tests",
                ));
            }
            (None, None) => Part::usual(),
        };
        if self.conformance.is_end_to_end() && parts != [Part::Conformance] {
            return Err(Error::input("`e2e` as the second word is for the part `conformance`"));
        }
        let elsewhere = parts.iter().any(|part| !matches!(part, Part::E2e | Part::Conformance | Part::Soak));
        if self.database.is_some() && elsewhere {
            return Err(Error::input(
                "`--database` is for the parts `e2e`, `conformance` and `soak`; `db --only` chooses a server",
            ));
        }
        Ok(parts)
    }

    fn part(&self, shell: &Context, part: Part) -> Result<Tally> {
        let clock = Instant::now();
        let needed: &[Purpose] = match part {
            Part::Unit => &[Purpose::Build, Purpose::Test, Purpose::Databases],
            Part::Db if !self.databases.starts_servers() => &[Purpose::Build],
            Part::Shim | Part::Db | Part::Scale => &[Purpose::Build, Purpose::Test, Purpose::Databases],
            Part::Conformance if self.part.is_none() || self.database.is_some() => {
                &[Purpose::Build, Purpose::Databases]
            }
            Part::Soak if self.database.is_some() => &[Purpose::Build, Purpose::Databases],
            Part::Patches | Part::Conformance | Part::Soak => &[Purpose::Build],
            Part::E2e if self.bin.is_some() && self.database.is_none() => &[],
            Part::E2e if self.bin.is_some() => &[Purpose::Databases],
            Part::E2e => &[Purpose::Build, Purpose::Images, Purpose::Databases],
            Part::Images => &[Purpose::Images, Purpose::Test],
            Part::Cluster => &[Purpose::Build, Purpose::Images, Purpose::Cluster],
            Part::Clients => &[Purpose::Build, Purpose::Test],
        };
        let platforms: &[Platform] = if part == Part::Images { &Platform::ALL } else { &[] };
        if let Err(missing) = doctor::require_for(shell, needed, platforms, !self.no_install) {
            return step(shell, "doctor", clock, Err(missing));
        }
        let mut tally = Tally::default();
        match part {
            Part::Unit => {
                tally += codegen(shell)?;
                tally += cargo(shell, "fmt", &["fmt", "--all", "--check"])?;
                let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
                tally += cargo(shell, "clippy", &clippy)?;
                tally += deny(shell)?;
                if self.part.is_some() {
                    tally += cargo(shell, "toolkit", &tests_of(&TOOLKIT))?;
                }
            }
            Part::Shim if self.part.is_some() => tally += cargo(shell, "shim", &tests_of(&SHIM))?,
            // Together they, and clippy, compile half of what they build on once, and not once each.
            Part::Shim => tally += cargo(shell, "toolkit and shim", &["test", "--no-fail-fast", "--workspace"])?,
            Part::Patches => tally += self.patches(shell)?,
            Part::E2e => {
                let cases = e2e::chosen(self.filter.as_deref(), self.database)?;
                match Suite::new(shell, &self.target, self.bin.as_deref(), self.database, &cases) {
                    Ok(suite) => tally += e2e::run(shell, &suite, cases)?,
                    Err(error) => tally += step(shell, "e2e programs", Instant::now(), Err(error))?,
                }
            }
            Part::Conformance => tally += self.conformance(shell)?,
            Part::Cluster => match cluster::run(shell, &self.target, self.filter.as_deref()) {
                Ok(ran) => tally += ran,
                Err(error) => tally += step(shell, "cluster up", clock, Err(error))?,
            },
            Part::Clients => {
                let wish = conformance::ClientsWish {
                    bin: self.bin.as_deref(),
                    filter: self.filter.as_deref(),
                    write_docs: self.conformance.writes_docs(),
                };
                tally += step(shell, "clients", clock, conformance::clients(shell, &self.target, &wish))?;
            }
            Part::Soak => match soak::run(shell, self.database, self.bin.as_deref()) {
                Ok(ran) => tally += ran,
                Err(error) => tally += step(shell, "soak", clock, Err(error))?,
            },
            Part::Scale => {
                leftover::clean_up_on_ctrl_c()?;
                tally += scale::run(shell, &scale::chosen(self.filter.as_deref())?)?;
            }
            Part::Images => {
                leftover::clean_up_on_ctrl_c()?;
                for (name, run) in images::chosen(self.filter.as_deref())? {
                    let clock = Instant::now();
                    let ran = run(shell, &self.target).map(|()| Tally { passed: 1, failed: 0 });
                    tally += step(shell, name, clock, ran)?;
                }
            }
            Part::Db => {
                leftover::clean_up_on_ctrl_c()?;
                tally += on_servers(shell, self.databases.lanes())?;
            }
        }
        Ok(tally)
    }

    fn conformance(&self, shell: &Context) -> Result<Tally> {
        let clock = Instant::now();
        let ran = if self.conformance.is_end_to_end() {
            let chosen = (self.filter.as_deref(), self.bin.as_deref());
            conformance::end_to_end(shell, &self.target, &self.conformance, self.database, chosen)
        } else if self.part.is_some() {
            conformance::run(shell, &self.target, &self.conformance, &[self.database], self.filter.as_deref())
        } else {
            let everywhere = [None].into_iter().chain(Database::ALL.map(Some)).collect::<Vec<_>>();
            conformance::run(shell, &self.target, &conformance::Options::quick(), &everywhere, None)
        };
        step(shell, "conformance", clock, ran)
    }

    /// Verifies the chosen series, each of its patches on its own. In a run of everything the other minors' series
    /// follow, as they are at their ends: for each of them alone a whole Kubernetes is compiled.
    fn patches(&self, shell: &Context) -> Result<Tally> {
        let mut tally = verify(shell, &self.target, |patched| patch::verify_all(shell, patched).map(drop))?;
        if self.part.is_none() {
            for minor in patch::minors(&shell.paths.root().join("patches"))?.into_iter().rev() {
                if minor != self.target.k8s {
                    let target = Target { k8s: minor, source: Origin::Module };
                    tally += verify(shell, &target, |patched| patch::verify_end(shell, patched))?;
                }
            }
        }
        Ok(tally)
    }
}

fn verify(shell: &Context, target: &Target, check: impl FnOnce(Patched) -> Result<()>) -> Result<Tally> {
    let clock = Instant::now();
    let verified = target.open(shell).and_then(|fetched| patch::apply(shell, fetched)).and_then(check);
    step(shell, &format!("patch verify {}", target.k8s), clock, verified.map(|()| Tally { passed: 1, failed: 0 }))
}

/// Whether the generated constants are those of the contract.
fn codegen(shell: &Context) -> Result<Tally> {
    let clock = Instant::now();
    let check = Run::new(THIS, shell.paths.root()).args(["codegen", "--check"]).run();
    step(shell, "codegen", clock, check.map(|()| Tally { passed: 1, failed: 0 }))
}

/// Runs the shim's tests on servers, the lanes side by side: these tests wait for half of their time.
fn on_servers(shell: &Context, lanes: Vec<databases::Lane>) -> Result<Tally> {
    let run = |lane: databases::Lane| -> Result<Tally> {
        let mut tally = Tally::default();
        for turn in lane {
            tally += on_server(shell, turn)?;
        }
        Ok(tally)
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = lanes.into_iter().map(|lane| scope.spawn(move || run(lane))).collect();
        let mut tally = Tally::default();
        for lane in lanes {
            tally += lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(tally)
    })
}

fn on_server(shell: &Context, turn: databases::Turn) -> Result<Tally> {
    let clock = Instant::now();
    let part = match turn.start(shell) {
        Ok(part) => part,
        Err(error) => return step(shell, "database server", clock, Err(error)),
    };
    let run = Run::cargo(shell.paths.root()).env_remove(databases::VARIABLE).env_remove(databases::DIRECT);
    let told = part.variables.iter().fold(run, |run, (name, value)| run.env(name, value));
    let tally = cargo_by(shell, &part.name, told.args(&part.args))?;
    part.finish()?;
    Ok(tally)
}

/// The command line that tests packages.
fn tests_of<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    ["test", "--no-fail-fast"].into_iter().chain(packages.iter().flat_map(|package| ["--package", *package])).collect()
}

/// Licences, sources and known flaws of what we build on, where cargo-deny is installed.
fn deny(shell: &Context) -> Result<Tally> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join("cargo-deny").is_file()) {
        return cargo(shell, "deny", &["deny", "check"]);
    }
    shell.out.data("skip deny: there is no cargo-deny in PATH (`cargo install --locked cargo-deny`)")?;
    Ok(Tally::default())
}

/// Runs cargo. The tests in its output are counted one by one; a command without any counts as one.
fn cargo(shell: &Context, name: &str, args: &[&str]) -> Result<Tally> {
    // Only the part `db` is about that server.
    cargo_by(shell, name, Run::cargo(shell.paths.root()).args(args).env_remove(databases::VARIABLE))
}

fn cargo_by(shell: &Context, name: &str, run: Run) -> Result<Tally> {
    let clock = Instant::now();
    let mut results = Results::default();
    let log = shell.paths.log(&format!("test-{}", name.replace(' ', "-").to_lowercase()));
    let progress = shell.out.spinner(name);
    let result = run.log(log).watch(|line| {
        progress.now(line.trim());
        results.take(line);
    });
    drop(progress);
    if let Some(said) = results.said() {
        shell.out.data(said)?;
    }
    let tally = results.tally;
    let counted = match result {
        Ok(()) if tally == Tally::default() => Ok(Tally { passed: 1, failed: 0 }),
        Err(error) if tally.failed == 0 => Err(error),
        Err(error) => {
            shell.out.data(format!("{error:?}"))?;
            Ok(tally)
        }
        Ok(()) => Ok(tally),
    };
    let passed_before_it_broke = if counted.is_err() { tally.passed } else { 0 };
    let mut total = step(shell, name, clock, counted)?;
    total.passed += passed_before_it_broke;
    Ok(total)
}

/// Prints how a step went, with its tests' numbers if it has more than one.
fn step(shell: &Context, name: &str, clock: Instant, result: Result<Tally>) -> Result<Tally> {
    let (tally, error) = match result {
        Ok(tally) => (tally, None),
        Err(error) => (Tally { passed: 0, failed: 1 }, Some(error)),
    };
    let word = if tally.failed == 0 { "ok" } else { "FAIL" };
    let numbers = match tally.passed + tally.failed {
        0 | 1 => String::new(),
        _ => format!("  {} passed, {} failed", tally.passed, tally.failed),
    };
    shell.out.data(format!("{word:<4} {name} ({:.1} s){numbers}", clock.elapsed().as_secs_f64()))?;
    if let Some(error) = error {
        shell.out.data(format!("{error:?}"))?;
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    #[test]
    fn the_tests_of_all_packages_are_run() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let metadata = Run::cargo(root).args(["metadata", "--no-deps", "--format-version", "1"]).read().unwrap();
        let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let mut names: Vec<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
        let mut tested = [&TOOLKIT[..], &SHIM].concat();
        names.sort_unstable();
        tested.sort_unstable();
        assert_eq!(tested, names);
    }

    #[test]
    fn a_filter_that_fits_no_test_is_told_what_there_is() {
        let error = e2e::chosen(Some("nosuch"), None).err().unwrap().to_string();
        assert!(error.starts_with("no end-to-end test has \"nosuch\" in its name; there are:\n"), "{error}");
        assert!(e2e::chosen(Some("up/round"), None).is_ok_and(|cases| cases.len() == 1));
        let error = images::chosen(Some("nosuch")).err().unwrap().to_string();
        assert!(error.contains("; there are:\nprograms of another platform\n"), "{error}");
        assert_eq!(images::chosen(Some("release")).unwrap().len(), 1);
    }

    #[test]
    fn a_run_on_a_server_is_about_shims_on_that_server() {
        let database = Some(Database::Postgres);
        for (filter, count) in [
            ("walkthrough/patched-shim/cached", 1),
            ("walkthrough/patched-etcd", 0),
            ("storage/", 0),
            ("up/", 0),
            ("crash/on-postgresql", 1),
            ("crash/on-mariadb", 0),
            ("etcdctl/same-as-etcd", 1),
        ] {
            let chosen = e2e::chosen(Some(filter), database).map_or(0, |cases| cases.len());
            assert_eq!(chosen, count, "{filter}");
        }
    }

    #[test]
    fn flags_of_one_part_are_refused_by_the_others() {
        let parts = |line: &str| {
            let words = std::iter::once("test").chain(line.split_whitespace());
            let matches = Cmd::augment_args(clap::Command::new("test")).try_get_matches_from(words).unwrap();
            Cmd::from_arg_matches(&matches).unwrap().parts().map_err(|error| error.to_string())
        };
        let table = [
            ("db --only postgres", vec![Part::Db]),
            ("db --only mariadb-11.4", vec![Part::Db]),
            ("db --endpoint mysql://root@127.0.0.1/mysql", vec![Part::Db]),
            ("--filter x", vec![Part::E2e]),
            ("", vec![Part::Unit, Part::Shim, Part::Patches, Part::E2e, Part::Conformance, Part::Db]),
            ("images", vec![Part::Images]),
            ("images --filter release", vec![Part::Images]),
            ("cluster --filter pods", vec![Part::Cluster]),
            ("clients --filter python", vec![Part::Clients]),
            ("--filter x --database postgres", vec![Part::E2e]),
            ("soak --database mariadb", vec![Part::Soak]),
            ("scale --filter several", vec![Part::Scale]),
            ("conformance --database mariadb", vec![Part::Conformance]),
            ("conformance e2e --system sluice --filter Watchers", vec![Part::Conformance]),
        ];
        for (line, expected) in table {
            assert_eq!(parts(line), Ok(expected), "{line}");
        }
        let server = "`--only` and `--endpoint` choose a server for the part `db`";
        for line in
            ["unit --only postgres", "--only mariadb", "e2e --endpoint mysql://a/b", "e2e --filter x --only postgres"]
        {
            assert_eq!(parts(line), Err(server.to_owned()), "{line}");
        }
        let database = "`--database` is for the parts `e2e`, `conformance` and `soak`; `db --only` chooses a server";
        for line in ["--database postgres", "shim --database postgres", "db --database mariadb"] {
            assert_eq!(parts(line), Err(database.to_owned()), "{line}");
        }
        assert!(parts("db --filter x").is_err());
        assert!(parts("soak --filter x").is_err());
        assert!(parts("unit e2e").is_err());
    }
}
