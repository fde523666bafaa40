//! The verb `build` itself.

use clap::Args;
use serde::Serialize;

use super::{Options, OtherGo, Program, build_patched, build_stock, build_tested, build_tools_for};
use crate::pipeline::{Binary, Built, Depth};
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::minor::Minor;
use sluice_shell::output::table;
use sluice_shell::platform::{Platform, Platforms};

/// Build programs from the verified, patched tree into .sluice/bin/.
#[derive(Args, Debug)]
pub struct Cmd {
    /// What to build [default: kube-apiserver kube-controller-manager kube-scheduler kubectl sluice-shim].
    #[arg(value_enum, value_name = "PROGRAM")]
    programs: Vec<Program>,

    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    platforms: Platforms,

    /// Without symbol tables and DWARF, as upstream's releases.
    #[arg(long)]
    release_flags: bool,

    /// Verify the whole series before, tests included: what a release is made of
    #[arg(long, conflicts_with = "stock")]
    tested: bool,

    /// Build Kubernetes as upstream ships it, without our patches.
    #[arg(long)]
    stock: bool,

    /// Print a report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Default, Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    minor: Option<Minor>,
    /// Of the Kubernetes programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    flavor: &'static str,
    /// Version of the Go that compiled Kubernetes.
    #[serde(skip_serializing_if = "String::is_empty")]
    go: String,
    /// Of all platforms.
    binaries: Vec<Binary>,
}

impl Cmd {
    /// Builds, then prints a table of the programs.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let mut report = Report::default();
        for platform in self.platforms.chosen()? {
            let part = self.build(shell, platform)?;
            let binaries = report.binaries.into_iter().chain(part.binaries).collect();
            report = Report { binaries, ..part };
        }
        if let Some(minor) = &report.minor
            && let Some(other) = OtherGo::find(shell, minor, &report.go)?
        {
            shell.out.note(format!("warning: {other}"));
        }
        if self.json { shell.out.json(&report) } else { shell.out.data(report.table()) }
    }

    fn build(&self, shell: &Context, platform: Platform) -> Result<Report> {
        let programs = if self.programs.is_empty() { &Program::DEFAULT[..] } else { &self.programs[..] };
        let options = Options { release_flags: self.release_flags, platform };
        if !programs.iter().any(|program| program.is_kubernetes()) {
            let binaries = build_tools_for(shell, platform, programs)?;
            return Ok(Report { flavor: "tools", binaries, ..Report::default() });
        }
        if self.stock {
            let stock = build_stock(shell, &self.target, options, programs)?;
            return Ok(Report::of(stock, "stock"));
        }
        let built = match self.tested {
            true => build_tested(shell, &self.target, options, programs)?.into(),
            false => build_patched(shell, &self.target, options, programs)?,
        };
        Ok(Report::of(built, "patched"))
    }
}

impl Report {
    fn of<D: Depth>(built: Built<D>, flavor: &'static str) -> Self {
        let Built { minor, version, go, binaries, .. } = built;
        Self { minor: Some(minor), version, flavor, go, binaries }
    }

    /// For people.
    fn table(&self) -> String {
        let mut rows = vec![["PROGRAM", "VERSION", "PLATFORM", "SIZE", "SECONDS", "PATH"].map(String::from).to_vec()];
        for binary in &self.binaries {
            let seconds = if binary.seconds > 0.0 { format!("{:.1}", binary.seconds) } else { "up to date".into() };
            rows.push(vec![
                binary.name.clone(),
                binary.version.clone(),
                binary.platform.to_string(),
                format!("{:.1} MB", binary.size as f64 / 1e6),
                seconds,
                binary.path.display().to_string(),
            ]);
        }
        table(&rows)
    }
}
