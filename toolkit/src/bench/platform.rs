//! `cargo xtask bench platform`: whole control planes under load, one beside the other.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::control_plane::{ControlPlane, Generator, System, versions};
use super::{document, store};
use crate::cluster::database::Database;
use crate::cluster::leftover;
use crate::cluster::settings::Programs;
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::Run;

/// Up to so many shirts all systems run at once and are asked in turns; with more, one after the other has the machine.
const IN_TURNS: u64 = 10_000;

/// How often the questions are asked.
const ROUNDS: usize = 3;

/// The files of the report, and what they are called in docs/.
const FILES: [(&str, &str); 4] = [
    ("platform.json", "benchmarks-platform.json"),
    ("platform-lists.svg", "benchmarks-platform-lists.svg"),
    ("platform-memory.svg", "benchmarks-platform-memory.svg"),
    ("platform-mixed.svg", "benchmarks-platform-mixed.svg"),
];

/// Measure control planes: stock Kubernetes on etcd and on kine, and patched Kubernetes on sluice-shim.
///
/// Two loads, each on fresh data: `shirts` stores up to a million custom resources and lists, pages and watches them;
/// `mixed` lets 120 users create objects and read them back. Prints tables; a JSON report and plots are in
/// .sluice/bench/platform. A system that passes a limit is stopped, and the tables say when.
#[derive(Args, Debug)]
pub(crate) struct Cmd {
    /// Let sluice-shim keep its data on a database server, which is started with its control plane; then only that one
    /// is measured, unless `--system` says otherwise
    #[arg(long, value_enum, value_name = "SERVER")]
    database: Option<Database>,
    /// How many shirts; smaller scales are measured on the way
    #[arg(long, value_enum)]
    scale: Option<Scale>,
    /// Only this system; may be repeated
    #[arg(long, value_enum, value_name = "NAME")]
    system: Vec<System>,
    /// Only this load; may be repeated
    #[arg(long, value_enum, value_name = "LOAD")]
    only: Vec<Load>,
    /// Minutes instead of hours: 1,000 shirts unless `--scale` says otherwise, each question for a second, half a
    /// minute of users
    #[arg(long)]
    quick: bool,
    /// How long the users stay [default: 10; quick: 0.5]
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// How long each question is asked [default: 5; quick: 1]
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// Stop a system whose processes together hold more megabytes
    #[arg(long, value_name = "MB", default_value_t = 14_000)]
    memory: u64,
    /// Stop a system that takes more minutes to store the next scale's shirts
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    patience: u64,
    /// Keep what earlier runs found of other systems and loads, and report it as well
    #[arg(long)]
    add: bool,
    #[command(flatten)]
    target: Target,
    /// Programs in DIR/patched and DIR/stock; build only the load generator
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    /// Put the tables and plots into docs/benchmarks.md as well
    #[arg(long)]
    save: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// How many shirts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scale {
    #[value(name = "1k")]
    Thousand,
    #[value(name = "10k")]
    TenThousand,
    #[value(name = "100k")]
    HundredThousand,
    #[value(name = "1m")]
    Million,
}

impl Scale {
    /// It and all below.
    fn steps(self) -> Vec<u64> {
        let end = match self {
            Self::Thousand => 1_000,
            Self::TenThousand => 10_000,
            Self::HundredThousand => 100_000,
            Self::Million => 1_000_000,
        };
        [1_000, 10_000, 100_000, 1_000_000].into_iter().filter(|step| *step <= end).collect()
    }
}

/// What is done to the systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Load {
    /// Many custom resources of one kind
    Shirts,
    /// Many users
    Mixed,
}

impl Load {
    /// Whether a part of the results is of this load.
    fn owns(self, what: &Value) -> bool {
        (self == Self::Mixed) == what.get("mixed").is_some()
    }
}

impl Cmd {
    /// Builds, measures, reports.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        leftover::clean_up_on_ctrl_c()?;
        let systems = match (&*self.system, self.database) {
            ([], None) => System::value_variants().to_vec(),
            ([], Some(_)) => vec![System::Sluice],
            (chosen, _) => chosen.to_vec(),
        };
        let loads = if self.only.is_empty() { Load::value_variants().to_vec() } else { self.only.clone() };
        let mut programs = Vec::new();
        for system in systems {
            programs.push((system, system.programs(shell, &self.target, self.bin.as_deref())?));
        }
        let out = super::folder(shell, self.database).join("platform");
        fs_err::create_dir_all(&out)?;
        let generator = Generator {
            program: store::generator(shell)?,
            parts: out.join("parts.jsonl"),
            log: shell.paths.log("bench-platform"),
            memory: self.memory,
        };
        keep_others(&generator.parts, self.add, &programs, &loads)?;
        let bench = Bench { cmd: &self, shell, generator, folder: out.join("data") };
        fs_err::create_dir_all(&bench.folder)?;
        leftover::sweep(&bench.folder)?;
        if loads.contains(&Load::Shirts) {
            bench.shirts(&programs)?;
        }
        if loads.contains(&Load::Mixed) {
            bench.mixed(&programs)?;
        }
        self.report(shell, &bench.generator, &programs, &out)
    }

    fn report(
        &self,
        shell: &Context,
        generator: &Generator,
        programs: &[(System, Programs)],
        out: &Path,
    ) -> Result<()> {
        // Earlier runs' programs are named too, if their results are shown.
        let known = out.join("versions.json");
        let mut all: Vec<String> = match fs_err::read(&known) {
            Ok(text) if self.add => serde_json::from_slice(&text)?,
            _ => Vec::new(),
        };
        for (system, programs) in programs {
            for version in versions(*system, programs)? {
                if !all.contains(&version) {
                    all.push(version);
                }
            }
        }
        fs_err::write(&known, serde_json::to_vec(&all)?)?;
        all.extend(self.database.map(|database| format!("Sluice on {database}")));
        let mut run = Run::new(&generator.program, shell.paths.root()).args(["platform", "report"]);
        for version in all {
            run = run.arg("--version").arg(version);
        }
        run.arg("--parts").arg(&generator.parts).arg("--out").arg(out).run()?;
        let table = fs_err::read_to_string(out.join("platform.md"))?;
        if self.save {
            let measurement = super::of_database("platform", self.database);
            let docs = shell.paths.root().join("docs");
            match self.database {
                None => document::save(&docs, out, &measurement, &format!("{table}\n{}", plots()), &FILES)?,
                Some(_) => document::save(&docs, out, &measurement, &table, &[])?,
            }
        }
        if self.json {
            return shell.out.data(fs_err::read_to_string(out.join("platform.json"))?);
        }
        shell.out.data(&table)?;
        shell.out.data(FILES.map(|(name, _)| out.join(name).display().to_string()).join("\n"))
    }
}

/// The plots, for the document.
fn plots() -> String {
    let plots = FILES.iter().filter(|(_, to)| to.ends_with(".svg"));
    plots.map(|(_, to)| format!("![{}]({to})\n", to.trim_end_matches(".svg").replace('-', " "))).collect()
}

/// Removes what will be measured anew; without `add` everything.
fn keep_others(parts: &Path, add: bool, programs: &[(System, Programs)], loads: &[Load]) -> Result<()> {
    let mut kept = String::new();
    if add && parts.exists() {
        for line in fs_err::read_to_string(parts)?.lines() {
            let part: Value = serde_json::from_str(line)?;
            let of_system = programs.iter().any(|(system, _)| part["system"] == system.name());
            if !(of_system && loads.iter().any(|load| load.owns(&part["what"]))) {
                kept.push_str(line);
                kept.push('\n');
            }
        }
    }
    Ok(fs_err::write(parts, kept)?)
}

/// A run.
struct Bench<'a> {
    cmd: &'a Cmd,
    shell: &'a Context,
    generator: Generator,
    /// For the systems' data.
    folder: PathBuf,
}

impl Bench<'_> {
    fn start(&self, system: System, programs: &Programs) -> Result<ControlPlane> {
        self.shell.out.note(format!("{}: starting", system.name()));
        // Named so that a later run finds what this one leaves if it is killed.
        let name = format!("{}-{}-0", system.name(), std::process::id());
        ControlPlane::start(system, programs, super::backend(self.cmd.database), &self.folder.join(name))
    }

    fn shirts(&self, programs: &[(System, Programs)]) -> Result<()> {
        let scale = self.cmd.scale.unwrap_or(if self.cmd.quick { Scale::Thousand } else { Scale::HundredThousand });
        let steps = scale.steps();
        if steps.iter().all(|step| *step <= IN_TURNS) {
            let all = programs.iter().map(|(system, programs)| self.start(*system, programs));
            return self.steps(all.collect::<Result<_>>()?, &steps);
        }
        programs.iter().try_for_each(|(system, programs)| self.steps(vec![self.start(*system, programs)?], &steps))
    }

    /// Takes the systems from step to step; those that have to be stopped are left out from then on.
    fn steps(&self, mut running: Vec<ControlPlane>, steps: &[u64]) -> Result<()> {
        self.each(&mut running, "idle", &[])?;
        let mut from = 0;
        let seconds = self.cmd.seconds.unwrap_or(if self.cmd.quick { 1.0 } else { 5.0 });
        for to in steps {
            let limit = self.cmd.patience * 60;
            self.each(&mut running, "load", &flags(&[("from", &from), ("to", to), ("limit", &limit)]))?;
            for _ in 0..ROUNDS {
                self.each(&mut running, "query", &flags(&[("objects", to), ("seconds", &seconds)]))?;
            }
            from = *to;
        }
        Ok(())
    }

    fn each(&self, running: &mut Vec<ControlPlane>, command: &str, args: &[String]) -> Result<()> {
        let mut left = Vec::new();
        for system in running.drain(..) {
            match system.measure(self.shell, &self.generator, command, args)? {
                None => left.push(system),
                Some(reason) => self.shell.out.note(format!("{}: killed {reason}", system.system.name())),
            }
        }
        *running = left;
        Ok(())
    }

    fn mixed(&self, programs: &[(System, Programs)]) -> Result<()> {
        let minutes = self.cmd.minutes.unwrap_or(if self.cmd.quick { 0.5 } else { 10.0 });
        programs.iter().try_for_each(|(system, programs)| {
            self.each(&mut vec![self.start(*system, programs)?], "mixed", &flags(&[("minutes", &minutes)]))
        })
    }
}

fn flags(flags: &[(&str, &dyn std::fmt::Display)]) -> Vec<String> {
    flags.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_scale_holds_those_below() {
        assert_eq!(Scale::HundredThousand.steps(), [1_000, 10_000, 100_000]);
        assert_eq!(Scale::Thousand.steps(), [1_000]);
    }

    #[test]
    fn parts_belong_to_a_load() {
        for (what, mixed) in [(json!("idle"), false), (json!({"load": {}}), false), (json!({"mixed": {}}), true)] {
            assert_eq!((Load::Mixed.owns(&what), Load::Shirts.owns(&what)), (mixed, !mixed), "{what}");
        }
    }
}
