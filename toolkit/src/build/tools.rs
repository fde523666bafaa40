//! Programs of other projects, from Go modules whose versions and checksums are pinned in `toolkit/go/<module>/go.{mod,sum}`.

use std::path::{Path, PathBuf};

use super::stamp::{digest, sha256_of};
use super::{Program, golang};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::process::{Limit, Run};

/// Linker flags of all of them: kine has to be told its version (kine: pkg/version).
fn ldflags(shell: &Context, program: Program) -> Result<String> {
    const MODULE: &str = "github.com/k3s-io/kine";
    let strip = "-s -w";
    if program != Program::Kine {
        return Ok(strip.to_owned());
    }
    let version =
        golang::go(&module(shell, "kine"), false)?.args(["list", "-m", "-f", "{{.Version}}", MODULE]).read()?;
    Ok(format!("{strip} -X {MODULE}/pkg/version.Version={}", version.trim()))
}

/// Folder below `toolkit/go`, package, and whether it needs cgo.
fn recipe(program: Program) -> (&'static str, &'static str, bool) {
    match program {
        Program::Etcdctl => ("etcd", "go.etcd.io/etcd/etcdctl/v3", false),
        Program::Etcdutl => ("etcd", "go.etcd.io/etcd/etcdutl/v3", false),
        Program::Kine => ("kine", "github.com/k3s-io/kine", true),
        _ => ("etcd", "go.etcd.io/etcd/server/v3", false),
    }
}

fn module(shell: &Context, folder: &str) -> PathBuf {
    shell.paths.root().join("toolkit/go").join(folder)
}

/// Digest of the pins and the compiler.
pub(super) fn inputs(shell: &Context, program: Program) -> Result<String> {
    let (folder, package, cgo) = recipe(program);
    let module = module(shell, folder);
    let pins = [sha256_of(&module.join("go.mod"))?, sha256_of(&module.join("go.sum"))?];
    Ok(digest(["go", package, &cgo.to_string(), &golang::version(&module)?, &pins[0], &pins[1]]))
}

/// Compiles `program` to the file `to`.
pub(super) fn build(shell: &Context, program: Program, to: &Path) -> Result<()> {
    let (folder, package, cgo) = recipe(program);
    let progress = shell.out.spinner(format!("build {}", program.name()));
    golang::go(&module(shell, folder), cgo)?
        .args(["build", "-v", "-ldflags", &ldflags(shell, program)?, "-o"])
        .arg(to)
        .arg(package)
        .log(shell.paths.log(&format!("build-{}", program.name())))
        .limit(Limit::Long)
        .watch(|line| progress.now(line))?;
    progress.done("");
    Ok(())
}

/// The version that the program reports.
pub(super) fn reported(program: Program, path: &Path) -> Result<String> {
    let run = Run::new(path, "/");
    let text = match program {
        Program::Etcdctl | Program::Etcdutl => run.arg("version").read()?,
        _ => run.arg("--version").read()?,
    };
    // "etcd Version: 3.7.3", "etcdctl version: 3.7.3", "kine version v0.17.5 (…)", "sluice-shim 0.1.0"
    let words = text.lines().next().unwrap_or_default().split_whitespace();
    let version =
        words.map(|word| word.trim_start_matches('v')).find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let version = version.map(str::to_owned);
    version.ok_or_else(|| Error::input(format!("{} reports no version: {text:?}", program.name())))
}
