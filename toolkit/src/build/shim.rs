//! `sluice-shim`, static, with its symbols in a file of their own.

use std::path::{Path, PathBuf};
use walkdir::WalkDir;

use super::revision::last_change;
use super::stamp::{Inputs, digest, sha256_of};
use super::{Program, foreign, tools};
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::platform::Platform;
use sluice_shell::process::Run;
use sluice_shell::rust;

/// No dynamic loader, no libc of the machine: the image needs nothing else.
const STATIC: &str = "-Ctarget-feature=+crt-static";

/// The moment that C sources see as now: the allocator's has the time of its compilation in a message.
const EPOCH: (&str, &str) = ("SOURCE_DATE_EPOCH", "0");

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
    let rustc = Run::new(rustc(root, platform)?, root).arg("-vV").read()?;
    let compiler = rustc.lines().next().unwrap_or_default().to_owned();
    let mut parts =
        vec!["shim".to_owned(), platform.triple(), STATIC.to_owned(), EPOCH.1.to_owned(), rustc, commit(root)];
    for file in files {
        parts.push(file.strip_prefix(root).unwrap_or(&file).display().to_string());
        parts.push(sha256_of(&file)?);
    }
    Ok(Inputs { digest: digest(parts), platform, compiler })
}

/// The version that the program reports. A program of another platform is not asked: it has the workspace's.
pub(super) fn reported(shell: &Context, platform: Platform, path: &Path) -> Result<String> {
    if platform.is_host() {
        return tools::reported(Program::SluiceShim, path);
    }
    foreign::check("sluice-shim", path, platform, &commit(shell.paths.root()))?;
    Ok(env!("CARGO_PKG_VERSION").to_owned())
}

/// The rustc that compiles for `platform`.
pub(super) fn rustc(root: &Path, platform: Platform) -> Result<PathBuf> {
    let own = Path::new("rustc");
    if platform.is_host() {
        return Ok(own.to_owned());
    }
    // Whether there is one for the platform is asked before anything is built.
    Ok(rust::compiler(own, root, Path::new("/"), platform)?.unwrap_or_else(|| own.to_owned()))
}

/// The last commit that changed the shim, for its `--version`; "unknown" outside a git checkout.
fn commit(root: &Path) -> String {
    last_change(root, &["shim"]).map_or_else(|| "unknown".into(), |commit| commit[..12].to_owned())
}

/// Compiles the shim to the file `to`, without symbols, and writes these to [`debug_file`].
pub(super) fn build(shell: &Context, platform: Platform, to: &Path) -> Result<()> {
    let root = shell.paths.root();
    // The target is named although it may be the machine's own: build scripts and procedural macros stay dynamic.
    let (folder, target) = (root.join("target"), platform.triple());
    let rustc = rustc(root, platform)?;
    let paths = Remapped::new(root, &rustc)?;
    let variable = target.replace('-', "_");
    let progress = shell.out.spinner(format!("build sluice-shim for {platform}"));
    let cargo = match platform.is_host() {
        true => Run::cargo(root),
        false => Run::cargo(root)
            .env("RUSTC", &rustc)
            .env(format!("CARGO_TARGET_{}_LINKER", variable.to_uppercase()), platform.gnu("gcc"))
            .env(format!("CC_{variable}"), platform.gnu("gcc"))
            .env(format!("AR_{variable}"), platform.gnu("ar")),
    };
    cargo
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
        .env("CARGO_ENCODED_RUSTFLAGS", format!("{STATIC}\x1f{}", paths.for_rust()))
        .env_remove("CFLAGS")
        .env_remove("TARGET_CFLAGS")
        .env(format!("CFLAGS_{variable}"), paths.for_c())
        .env(EPOCH.0, EPOCH.1)
        // Quotes in the flags count.
        .env("CC_SHELL_ESCAPED_FLAGS", "1")
        .log(shell.paths.log(&format!("build-sluice-shim{}", platform.suffix())))
        .watch(|line| progress.now(line.trim()))?;
    strip(platform, &folder.join(&target).join("release/sluice-shim"), to)?;
    progress.done("");
    Ok(())
}

/// Where the symbols of the shim at `program` are: debuggers look for this name beside the program.
fn debug_file(program: &Path) -> PathBuf {
    program.with_file_name("sluice-shim.debug")
}

/// Copies the program `from` to `to` without its symbols, four fifths of it, and these to a file beside `to`.
fn strip(platform: Platform, from: &Path, to: &Path) -> Result<()> {
    let (folder, apart) = (from.parent().unwrap_or(Path::new("/")), debug_file(from));
    let objcopy = || Run::new(platform.gnu("objcopy"), folder);
    objcopy().arg("--only-keep-debug").args([from, &apart]).run()?;
    let link = format!("--add-gnu-debuglink={}", apart.display());
    objcopy().arg("--strip-all").arg(link).args([from, to]).run()?;
    fs_err::copy(&apart, debug_file(to))?;
    Ok(())
}

/// Folders of this machine that get other names in the program, its symbols and its messages: who builds it where makes
/// no difference.
struct Remapped(Vec<(String, String)>);

impl Remapped {
    fn new(root: &Path, rustc: &Path) -> Result<Self> {
        let mut paths = vec![(root.display().to_string(), "/sluice".to_owned())];
        let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
        if let Ok(home) = home {
            // Sources are named by the one, and the folders that compilers work in by the other.
            let real = fs_err::canonicalize(&home).ok().map(|real| real.display().to_string());
            let names = [Some(home.clone()), real.filter(|real| *real != home)];
            paths.extend(names.into_iter().flatten().map(|home| (home, "/cargo".to_owned())));
        }
        // Where the sources of the standard library are installed, rustc names them instead of those that it was
        // built from.
        let ask = |args: &[&str]| Run::new(rustc, root).args(args).read();
        let version = ask(&["-vV"])?;
        if let Some(commit) = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")) {
            let library = format!("{}/lib/rustlib/src/rust", ask(&["--print", "sysroot"])?);
            paths.push((library, format!("/rustc/{commit}")));
        }
        Ok(Self::sorted(paths))
    }

    /// Of several that fit, the last one counts, for both compilers.
    fn sorted(mut paths: Vec<(String, String)>) -> Self {
        paths.sort_by_key(|(from, _)| from.len());
        Self(paths)
    }

    /// In the form of `CARGO_ENCODED_RUSTFLAGS`.
    fn for_rust(&self) -> String {
        let flags = self.0.iter().map(|(from, to)| format!("--remap-path-prefix={from}={to}"));
        flags.collect::<Vec<_>>().join("\x1f")
    }

    /// For SQLite, ring and the allocator, which are C and assembler.
    fn for_c(&self) -> String {
        let flag = |(from, to): &(String, String)| format!("'-ffile-prefix-map={}={to}'", from.replace('\'', r"'\''"));
        self.0.iter().map(flag).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_folders_the_inner_one_counts_and_quotes_are_kept() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let paths = Remapped::sorted(vec![pair("/a/it's/home", "/cargo"), pair("/a/it's", "/sluice")]);
        let rust = "--remap-path-prefix=/a/it's=/sluice\x1f--remap-path-prefix=/a/it's/home=/cargo";
        assert_eq!(paths.for_rust(), rust);
        let c = r"'-ffile-prefix-map=/a/it'\''s=/sluice' '-ffile-prefix-map=/a/it'\''s/home=/cargo'";
        assert_eq!(paths.for_c(), c);
    }
}
