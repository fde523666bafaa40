//! `cargo xtask doctor`: what this machine lacks, and the command that installs it.

mod machine;
mod needs;

use clap::Args;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

use crate::context::Context;
use crate::error::{Attempt as _, Explain, Result};
use crate::minor::Minor;
use crate::output::table;
use crate::process::Run;
use machine::Machine;
pub use needs::Purpose;
use needs::{Need, Remedy};

/// Says which tools and Debian packages are missing, and the command that installs each
#[derive(Args, Debug)]
pub struct Cmd {
    /// Install missing Debian packages (as root, on Debian).
    #[arg(long)]
    install: bool,

    /// Look only at what this is needed for; can be given several times.
    #[arg(long = "for", value_enum, value_name = "PURPOSE")]
    purposes: Vec<Purpose>,

    /// Print a report as JSON.
    #[arg(long)]
    json: bool,
}

/// One need and what was found of it.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    name: &'static str,
    /// What it is needed for.
    purpose: Purpose,
    ok: bool,
    /// The version or path that was found, or what is wrong.
    found: String,
    /// The Debian package, if one has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<&'static str>,
    /// The command that installs it, if it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    install: Option<String>,
}

/// Something that is needed is not there.
#[derive(Debug, thiserror::Error)]
#[error("missing on this machine: {}", .0.iter().map(|it| format!("{} ({})", it.name, it.found)).collect::<Vec<_>>().join(", "))]
pub struct Missing(Vec<Finding>);

impl Explain for Missing {
    fn hint(&self) -> Option<String> {
        Some(format!("install with\n{}", commands(&self.0).join("\n")))
    }
}

impl Cmd {
    /// Looks, installs if asked to, reports.
    pub fn run(self, shell: &Context) -> Result<()> {
        let purposes = if self.purposes.is_empty() { &Purpose::ALL[..] } else { &self.purposes[..] };
        let machine = Machine::here();
        let mut findings = look(&machine, &needs(shell)?, purposes);
        if self.install && findings.iter().any(|finding| !finding.ok) {
            install(shell, &machine, &findings)?;
            findings = look(&machine, &needs(shell)?, purposes);
        }
        if self.json {
            #[derive(Serialize)]
            struct Report<'a> {
                ok: bool,
                needs: &'a [Finding],
            }
            shell.out.json(&Report { ok: findings.iter().all(|finding| finding.ok), needs: &findings })?;
        } else {
            shell.out.data(render(&findings))?;
        }
        verdict(findings)
    }
}

/// Makes sure that everything for `purposes` is there; installs what is missing if `may_install`, as root on Debian.
///
/// # Errors
/// [`Missing`], with the commands that install it.
pub fn require(shell: &Context, purposes: &[Purpose], may_install: bool) -> Result<()> {
    let machine = Machine::here();
    let needs = needs(shell)?;
    let mut findings = look(&machine, &needs, purposes);
    if may_install && machine.can_install() && findings.iter().any(|finding| !finding.ok && finding.package.is_some()) {
        install(shell, &machine, &findings)?;
        findings = look(&machine, &needs, purposes);
    }
    verdict(findings)
}

fn verdict(mut findings: Vec<Finding>) -> Result<()> {
    findings.retain(|finding| !finding.ok);
    if findings.is_empty() { Ok(()) } else { Err(Missing(findings).into()) }
}

/// The table of needs, with the Go version that the default minor wants.
fn needs(shell: &Context) -> Result<Vec<Need>> {
    /// The one line of the pins that counts here.
    #[derive(Deserialize)]
    struct Pins {
        kubernetes: Kubernetes,
    }
    #[derive(Deserialize)]
    struct Kubernetes {
        go: String,
    }
    let file = shell.paths.pins(&Minor::DEFAULT.parse()?);
    let pins: Pins =
        toml::from_str(&fs_err::read_to_string(&file)?).attempting(|| format!("cannot read {}", file.display()))?;
    Ok(needs::all(&pins.kubernetes.go))
}

fn look(machine: &Machine, needs: &[Need], purposes: &[Purpose]) -> Vec<Finding> {
    let wanted = needs.iter().filter(|need| purposes.contains(&need.purpose));
    let finding = |need: &Need| {
        let (ok, found) = match machine.find(&need.probe) {
            Ok(found) => (true, found),
            Err(found) => (false, found),
        };
        let package = match &need.remedy {
            Remedy::Package(package) => Some(*package),
            Remedy::Command(_) => None,
        };
        let install = (!ok).then(|| need.remedy.command());
        Finding { name: need.name, purpose: need.purpose, ok, found, package, install }
    };
    wanted.map(finding).collect()
}

fn render(findings: &[Finding]) -> String {
    let mut rows = vec![["", "NEED", "FOR", "FOUND"].map(String::from).to_vec()];
    for finding in findings {
        let mark = if finding.ok { "ok" } else { "MISSING" };
        rows.push(vec![mark.into(), finding.name.into(), finding.purpose.to_string(), finding.found.clone()]);
    }
    let mut text = table(&rows);
    let commands = commands(findings);
    if !commands.is_empty() {
        let _ = write!(text, "\n\nInstall what is missing:\n  {}", commands.join("\n  "));
    }
    text
}

/// The commands that install what is missing: one for all Debian packages, and one for each other thing.
fn commands(findings: &[Finding]) -> Vec<String> {
    let missing = || findings.iter().filter(|finding| !finding.ok);
    let mut packages: Vec<&str> = missing().filter_map(|finding| finding.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let mut commands = Vec::new();
    if !packages.is_empty() {
        commands.push(format!("apt-get update && apt-get install --no-install-recommends -y {}", packages.join(" ")));
    }
    commands
        .extend(missing().filter(|finding| finding.package.is_none()).filter_map(|finding| finding.install.clone()));
    commands.dedup();
    commands
}

/// `--install` where it can't work.
#[derive(Debug, thiserror::Error)]
#[error("can install packages only as root on Debian (apt-get)")]
struct CannotInstall(Vec<String>);

impl Explain for CannotInstall {
    fn hint(&self) -> Option<String> {
        Some(format!("as root, or with your system's own package manager:\n{}", self.0.join("\n")))
    }
}

fn install(shell: &Context, machine: &Machine, findings: &[Finding]) -> Result<()> {
    if !machine.can_install() {
        return Err(CannotInstall(commands(findings)).into());
    }
    let missing = findings.iter().filter(|finding| !finding.ok);
    let mut packages: Vec<&str> = missing.filter_map(|finding| finding.package).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let progress = shell.out.spinner(format!("install {}", packages.join(" ")));
    let apt = |log: &str| {
        let run = Run::new("apt-get", "/").env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]);
        run.log(shell.paths.log(log))
    };
    // A package list that can't be refreshed may still do: the installation itself decides.
    if let Err(error) = apt("apt-get-update").arg("update").watch(|line| progress.now(line)) {
        shell.out.note(format!("apt-get update: {error}"));
    }
    apt("apt-get-install")
        .args(["install", "--no-install-recommends"])
        .args(packages)
        .watch(|line| progress.now(line))?;
    progress.done("");
    Ok(())
}

#[cfg(test)]
mod tests;
