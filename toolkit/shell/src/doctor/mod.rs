//! `cargo xtask doctor`: what this machine lacks, and the command that installs it.

mod machine;
mod needs;
mod space;

use clap::Args;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::{Attempt as _, Explain, Result};
use crate::minor::Minor;
use crate::output::table;
use crate::platform::{Platform, Platforms};
use crate::process::Run;
use machine::Machine;
pub use needs::Purpose;
use needs::{Need, Remedy};
pub use space::warn_if_scarce;

/// Says which tools and Debian packages are missing, and the command that installs each
#[derive(Args, Debug)]
pub struct Cmd {
    /// Install missing Debian packages (as root, on Debian).
    #[arg(long)]
    install: bool,

    /// Look only at what this is needed for; can be given several times.
    #[arg(long = "for", value_enum, value_name = "PURPOSE")]
    purposes: Vec<Purpose>,

    #[command(flatten)]
    platforms: Platforms,

    /// Print a report as JSON.
    #[arg(long)]
    json: bool,
}

/// One need and what was found of it.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    name: String,
    /// What it is needed for.
    purpose: Purpose,
    ok: bool,
    /// The version or path that was found, or what is wrong.
    found: String,
    /// The Debian packages that have it, if any do, with spaces between.
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    /// Where files of the package go, instead of being installed.
    #[serde(skip)]
    folder: Option<PathBuf>,
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
        let needs = needs(shell, &self.platforms.chosen().unwrap_or_default())?;
        let mut findings = look(&machine, &needs, purposes);
        if self.install && findings.iter().any(|finding| !finding.ok) {
            install(shell, &machine, &findings)?;
            findings = look(&machine, &needs, purposes);
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
    require_for(shell, purposes, &[], may_install)
}

/// [`require`], with all that it takes to build for `platforms`.
///
/// # Errors
/// As those of [`require`].
pub fn require_for(shell: &Context, purposes: &[Purpose], platforms: &[Platform], may_install: bool) -> Result<()> {
    let machine = Machine::here();
    let needs = needs(shell, platforms)?;
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

/// The table of needs, with the Go version that the default minor wants, and those of other platforms.
fn needs(shell: &Context, platforms: &[Platform]) -> Result<Vec<Need>> {
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
    let mut needs = needs::all(&pins.kubernetes.go);
    let foreign = Platform::ALL.into_iter().filter(|platform| platforms.contains(platform) && !platform.is_host());
    needs.extend(foreign.flat_map(|platform| needs::cross(platform, &shell.paths.debian(platform))));
    Ok(needs)
}

fn look(machine: &Machine, needs: &[Need], purposes: &[Purpose]) -> Vec<Finding> {
    // Images hold programs that are built first.
    let asked =
        |purpose| purposes.contains(&purpose) || purpose == Purpose::Build && purposes.contains(&Purpose::Images);
    let finding = |need: &Need| {
        let (ok, found) = match machine.find(&need.probe) {
            Ok(found) => (true, found),
            Err(found) => (false, found),
        };
        let (package, folder) = match &need.remedy {
            Remedy::Packages(packages) => (Some(packages.clone()), None),
            Remedy::Files { package, folder } => (Some(package.clone()), Some(folder.clone())),
            Remedy::Command(_) => (None, None),
        };
        let mut finding =
            Finding { name: need.name.clone(), purpose: need.purpose, ok, found, package, folder, install: None };
        if !ok {
            let command = match &need.remedy {
                Remedy::Command(command) => command.clone(),
                _ => commands(std::slice::from_ref(&finding)).join(" && "),
            };
            finding.install = Some(command);
        }
        finding
    };
    needs.iter().filter(|need| asked(need.purpose)).map(finding).collect()
}

fn render(findings: &[Finding]) -> String {
    let mut rows = vec![["", "NEED", "FOR", "FOUND"].map(String::from).to_vec()];
    for finding in findings {
        let mark = if finding.ok { "ok" } else { "MISSING" };
        rows.push(vec![mark.into(), finding.name.clone(), finding.purpose.to_string(), finding.found.clone()]);
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
    let missing: Vec<&Finding> = findings.iter().filter(|finding| !finding.ok).collect();
    let packages = packages(&missing);
    let mut apt: Vec<String> = Vec::new();
    apt.extend(foreign(&missing).map(|arch| format!("dpkg --add-architecture {arch}")));
    apt.push("apt-get update".into());
    if !packages.is_empty() {
        apt.push(format!("apt-get install --no-install-recommends -y {}", packages.join(" ")));
    }
    let mut commands = Vec::new();
    if missing.iter().any(|finding| finding.package.is_some()) {
        commands.push(apt.join(" && "));
    }
    for finding in &missing {
        match (&finding.package, &finding.folder) {
            (Some(package), Some(folder)) => commands.push(unpack(package, folder)),
            (Some(_), None) => {}
            (None, _) => commands.extend(finding.install.clone()),
        }
    }
    commands.dedup();
    commands
}

/// The Debian packages that are to be installed.
fn packages<'a>(missing: &[&'a Finding]) -> Vec<&'a str> {
    let installed = missing.iter().filter(|finding| finding.folder.is_none());
    let names = installed.filter_map(|finding| finding.package.as_deref()).flat_map(str::split_whitespace);
    let mut packages: Vec<&str> = names.collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Processors of other platforms whose packages are needed.
fn foreign(missing: &[&Finding]) -> impl Iterator<Item = &'static str> {
    let names = missing.iter().filter_map(|finding| finding.package.as_deref()).flat_map(str::split_whitespace);
    let wanted: Vec<&str> = names.filter_map(|name| Some(name.split_once(':')?.1)).collect();
    Platform::ALL
        .map(Platform::arch)
        .into_iter()
        .filter(move |arch| wanted.contains(arch))
        .collect::<Vec<_>>()
        .into_iter()
}

/// The command that gets a package and puts its files into a folder, with a file `<name>.control` that says which
/// version that is. Users without privileges may do that.
fn unpack(package: &str, folder: &Path) -> String {
    let (folder, file) = (folder.display(), package.replace(':', "_*_"));
    let name = package.split(':').next().unwrap_or(package);
    format!(
        "mkdir -p '{folder}' && cd '{folder}' && apt-get download {package} && dpkg-deb --extract {file}.deb . && \
         dpkg-deb --field {file}.deb > {name}.control && rm {file}.deb"
    )
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
    let missing: Vec<&Finding> = findings.iter().filter(|it| !it.ok && it.package.is_some()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = packages(&missing);
    let names: Vec<&str> = missing.iter().filter_map(|finding| finding.package.as_deref()).collect();
    let progress = shell.out.spinner(format!("install {}", names.join(" ")));
    let apt = |log: &str| {
        let run = Run::new("apt-get", "/").env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]);
        run.log(shell.paths.log(log))
    };
    for arch in foreign(&missing) {
        Run::new("dpkg", "/").args(["--add-architecture", arch]).run()?;
    }
    // A package list that can't be refreshed may still do: the installation itself decides.
    if let Err(error) = apt("apt-get-update").arg("update").watch(|line| progress.now(line)) {
        shell.out.note(format!("apt-get update: {error}"));
    }
    if !packages.is_empty() {
        apt("apt-get-install")
            .args(["install", "--no-install-recommends"])
            .args(packages)
            .watch(|line| progress.now(line))?;
    }
    for finding in missing {
        if let (Some(package), Some(folder)) = (&finding.package, &finding.folder) {
            Run::new("sh", "/").args(["-c", &unpack(package, folder)]).run()?;
        }
    }
    progress.done("");
    Ok(())
}

#[cfg(test)]
mod tests;
