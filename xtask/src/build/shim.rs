//! `sluice-shim`, static.

use std::path::{Path, PathBuf};
use walkdir::WalkDir;

use super::Job;
use super::stamp::{digest, sha256_of};
use crate::error::Result;
use crate::process::Run;

/// Where the shim runs. With an explicit target, build scripts and proc macros stay dynamic.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// No dynamic loader, no libc of the machine: the image needs nothing else.
const STATIC: &str = "-C target-feature=+crt-static";

/// Digest of the crate's files, the lock file, the compiler and the flags.
pub(super) fn inputs(job: &Job<'_>) -> Result<String> {
    let root = job.shell.paths.root();
    let mut files: Vec<PathBuf> =
        ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"].map(|name| root.join(name)).to_vec();
    for entry in WalkDir::new(root.join("shim")).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    let rustc = Run::new("rustc", root).arg("-vV").read()?;
    let mut parts = vec!["shim".to_owned(), TARGET.to_owned(), STATIC.to_owned(), rustc];
    for file in files {
        parts.push(file.strip_prefix(root).unwrap_or(&file).display().to_string());
        parts.push(sha256_of(&file)?);
    }
    Ok(digest(parts))
}

/// Compiles the shim and copies it to the file `to`.
pub(super) fn build(job: &Job<'_>, to: &Path) -> Result<()> {
    let root = job.shell.paths.root();
    let folder = root.join("target");
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    let mut flags = format!("{STATIC} --remap-path-prefix={}=/sluice", root.display());
    if let Ok(home) = home {
        flags.push_str(&format!(" --remap-path-prefix={home}=/cargo"));
    }
    let progress = job.shell.out.spinner("build sluice-shim");
    Run::new("cargo", root)
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "sluice-shim",
            "--bin",
            "sluice-shim",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&folder)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS")
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags)
        .env("SOURCE_DATE_EPOCH", job.epoch.to_string())
        .log(job.shell.paths.log("build-sluice-shim"))
        .watch(|line| progress.now(line.trim()))?;
    fs_err::copy(folder.join(TARGET).join("release/sluice-shim"), to)?;
    progress.done("");
    Ok(())
}
