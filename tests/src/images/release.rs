//! A release of both platforms, made of the commit of the workspace: whole and signed, also for the tools of others
//! ([`super::standard`]), and with programs that run. What it installs is tried in [`super::installed`].

use std::path::Path;

use fs_err as fs;
use serde_json::Value;

use super::standard::Taken;
use super::{installed, platforms, says_version};
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};
use sluice_shell::platform::Platform;
use sluice_shell::process::{Run, THIS};
use sluice_toolkit::build::Program;
use sluice_toolkit::cluster::wait::ensure;
use sluice_toolkit::source::Target;

/// Makes, checks and installs one.
pub(super) fn made(shell: &Context, target: &Target) -> Result<()> {
    let folder = shell.paths.cache().join("images-release");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let (root, keys) = (shell.paths.root(), folder.join("keys"));
    Run::new(THIS, root).args(["release", "--new-key"]).arg(&keys).run()?;
    let go = Run::new("go", root).args(["env", "GOVERSION"]).read()?;
    let report = Run::new(THIS, root)
        .args(["release", "--json", "--platform", &platforms()])
        .args(["--k8s", target.k8s.as_str(), "--source", &target.source.to_string()])
        // Upstream's or the one of this machine: what a release says of it is tested elsewhere.
        .args(["--allow-go", go.trim_start_matches("go")])
        .arg("--sign")
        .arg(&keys)
        .arg("--out")
        .arg(folder.join("out"))
        .env_remove("CARGO_MANIFEST_DIR")
        .read()?;
    let report: Value = serde_json::from_str(&report)?;
    // The archive has all of it.
    fs::remove_dir_all(report["folder"].as_str().unwrap_or_default())?;
    let archive = Path::new(report["archive"].as_str().unwrap_or_default());
    let verify = Run::new(THIS, root).args(["verify-release", "--key"]).arg(&keys);
    let taken = Taken::new(root, archive, &keys, verify)?;
    taken.is_accepted_and_refused()?;
    programs_run(&taken)?;
    installed::works(shell, target, &taken.unpacked, &folder.join("root"))?;
    Ok(fs::remove_dir_all(folder)?)
}

/// What `release.json` says of each program: its name, platform, version and file.
fn programs(release: &Taken) -> Result<Vec<[String; 4]>> {
    let programs = release.description()?["programs"].as_array().cloned().unwrap_or_default();
    let field = |program: &Value, name: &str| program[name].as_str().unwrap_or_default().to_owned();
    Ok(programs.iter().map(|it| ["name", "platform", "version", "file"].map(|name| field(it, name))).collect())
}

/// Those of both platforms say their version.
fn programs_run(release: &Taken) -> Result<()> {
    let mut platforms = vec![];
    for [name, platform, version, file] in programs(release)? {
        let built_for = Platform::ALL.into_iter().find(|it| it.to_string() == platform);
        let built_for = built_for.ok_or_else(|| Error::input(format!("{file} is for {platform}")))?;
        // It carries none.
        if name != Program::KubeLogRunner.name() {
            says_version(&release.unpacked.join(file), built_for, &version)?;
        }
        platforms.push(built_for);
    }
    platforms.dedup();
    ensure(platforms == Platform::ALL, || format!("the release has programs for {platforms:?}"))
}
