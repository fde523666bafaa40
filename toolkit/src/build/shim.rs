//! `sluice-shim`, static.

use std::path::{Path, PathBuf};
use walkdir::WalkDir;

use super::stamp::{Inputs, digest, sha256_of};
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::platform::Platform;
use sluice_shell::process::Run;

/// No dynamic loader, no libc of the machine: the image needs nothing else.
const STATIC: &str = "-C target-feature=+crt-static";

/// Digest of the crate's files, the lock file, the compiler and the flags.
pub(super) fn inputs(shell: &Context, platform: Platform) -> Result<Inputs> {
    let root = shell.paths.root();
    let mut files: Vec<PathBuf> =
        ["Cargo.toml", "Cargo.lock", ".cargo/config.toml", "rust-toolchain.toml"].map(|name| root.join(name)).to_vec();
    for entry in WalkDir::new(root.join("shim")).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    let rustc = Run::new("rustc", root).arg("-vV").read()?;
    let compiler = rustc.lines().next().unwrap_or_default().to_owned();
    let mut parts = vec!["shim".to_owned(), platform.triple(), STATIC.to_owned(), rustc, commit(root)];
    for file in files {
        parts.push(file.strip_prefix(root).unwrap_or(&file).display().to_string());
        parts.push(sha256_of(&file)?);
    }
    Ok(Inputs { digest: digest(parts), compiler })
}

/// The last commit that changed the shim, for its `--version`; "unknown" outside a git checkout.
///
/// Not HEAD: then every commit would make another binary, and another image.
fn commit(root: &Path) -> String {
    let found = || -> Result<Option<String>, git2::Error> {
        let repository = git2::Repository::open(root)?;
        let shim =
            |commit: &git2::Commit<'_>| commit.tree().ok().and_then(|tree| tree.get_name("shim").map(|it| it.id()));
        let mut walk = repository.revwalk()?;
        walk.push_head()?;
        walk.set_sorting(git2::Sort::TOPOLOGICAL)?;
        for id in walk {
            let commit = repository.find_commit(id?)?;
            if commit.parents().all(|parent| shim(&parent) != shim(&commit)) {
                return Ok(Some(commit.id().to_string()[..12].to_owned()));
            }
        }
        Ok(None)
    };
    found().ok().flatten().unwrap_or_else(|| "unknown".into())
}

/// Compiles the shim and copies it to the file `to`.
pub(super) fn build(shell: &Context, platform: Platform, to: &Path) -> Result<()> {
    let root = shell.paths.root();
    // The target is named although it may be the machine's own: build scripts and procedural macros stay dynamic.
    let (folder, target) = (root.join("target"), platform.triple());
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    let mut flags = format!("{STATIC} --remap-path-prefix={}=/sluice", root.display());
    if let Ok(home) = home {
        flags.push_str(&format!(" --remap-path-prefix={home}=/cargo"));
    }
    let progress = shell.out.spinner("build sluice-shim");
    Run::cargo(root)
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "sluice-shim",
            "--bin",
            "sluice-shim",
            "--target",
            &target,
        ])
        .arg("--target-dir")
        .arg(&folder)
        .env("SLUICE_COMMIT", commit(root))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env(format!("CARGO_TARGET_{}_RUSTFLAGS", target.replace('-', "_").to_uppercase()), flags)
        .log(shell.paths.log("build-sluice-shim"))
        .watch(|line| progress.now(line.trim()))?;
    fs_err::copy(folder.join(&target).join("release/sluice-shim"), to)?;
    progress.done("");
    Ok(())
}
