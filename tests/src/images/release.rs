//! A release of both platforms, made of the commit of the workspace: whole, signed, found damaged when it is, and with
//! programs that run. What it installs is tried in [`super::installed`].

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::Value;

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
    let archive = Path::new(report["archive"].as_str().unwrap_or_default());
    let verify = |path: &Path| Run::new(THIS, root).args(["verify-release", "--key"]).arg(&keys).arg(path);
    verify(archive).run()?;
    // With a tool of others, as whoever takes a release does it.
    Run::new("tar", &folder).args(["--zstd", "-xf"]).arg(archive).run()?;
    let release = folder.join(archive_top(archive)?);
    every_flipped_program_is_found(&release, &verify(&release))?;
    programs_run(&release)?;
    installed::works(shell, target, &release, &folder.join("root"))?;
    Ok(fs::remove_dir_all(folder)?)
}

/// The name of the folder in an archive of a release.
fn archive_top(archive: &Path) -> Result<PathBuf> {
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    let top = name.strip_suffix(".tar.zst").map(PathBuf::from);
    top.ok_or_else(|| Error::input(format!("{} is no archive of a release", archive.display())))
}

/// What `release.json` says of each program: its name, platform, version and file.
fn programs(release: &Path) -> Result<Vec<[String; 4]>> {
    let text = fs::read_to_string(release.join("release.json"))?;
    let description: Value = serde_json::from_str(&text)?;
    let programs = description["programs"].as_array().cloned().unwrap_or_default();
    let field = |program: &Value, name: &str| program[name].as_str().unwrap_or_default().to_owned();
    Ok(programs.iter().map(|it| ["name", "platform", "version", "file"].map(|name| field(it, name))).collect())
}

/// One for each platform, in its middle.
fn every_flipped_program_is_found(release: &Path, verify: &Run) -> Result<()> {
    verify.run()?;
    for platform in Platform::ALL {
        let name = format!("bin/linux-{}/{}", platform.arch(), Program::SluiceShim.name());
        let whole = fs::read(release.join(&name))?;
        let mut bad = whole.clone();
        bad[whole.len() / 2] ^= 1;
        fs::write(release.join(&name), bad)?;
        let found = verify.outcome()?;
        ensure(found.status.code() == Some(1) && found.stderr.contains(&name), || format!("{name}: {found:?}"))?;
        fs::write(release.join(&name), whole)?;
    }
    verify.run()
}

/// Those of both platforms say their version.
fn programs_run(release: &Path) -> Result<()> {
    let mut platforms = vec![];
    for [name, platform, version, file] in programs(release)? {
        let built_for = Platform::ALL.into_iter().find(|it| it.to_string() == platform);
        let built_for = built_for.ok_or_else(|| Error::input(format!("{file} is for {platform}")))?;
        // It carries none.
        if name != Program::KubeLogRunner.name() {
            says_version(&release.join(file), built_for, &version)?;
        }
        platforms.push(built_for);
    }
    platforms.dedup();
    ensure(platforms == Platform::ALL, || format!("the release has programs for {platforms:?}"))
}
