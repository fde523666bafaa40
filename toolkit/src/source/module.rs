//! The source tree from Go modules.
//!
//! `k8s.io/kubernetes` is published without its staging modules, which are published one by one. Putting them back
//! under `staging/src/` gives upstream's repository, less the sample modules (nothing that ships imports them) and
//! `vendor/`.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::copy;
use super::pins::{Kubernetes, Module, Pins, Sluice};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Explain, Result};
use sluice_shell::minor::Minor;
use sluice_shell::process::{self, Run};

const MAIN: &str = "k8s.io/kubernetes";

/// One object of `go mod download -json` (cmd/go, internal/modcmd/download.go, `ModuleJSON`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Download {
    path: String,
    version: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    info: PathBuf,
    #[serde(default)]
    dir: PathBuf,
    #[serde(default)]
    sum: String,
}

/// The `.info` file of a module version.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    time: String,
}

/// The parts of `go mod edit -json` that matter here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoMod {
    #[serde(default)]
    require: Vec<Requirement>,
    #[serde(default)]
    replace: Vec<Replacement>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Requirement {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Replacement {
    old: Requirement,
}

/// Content is not what the pins say.
#[derive(Debug, thiserror::Error)]
#[error("{module} has checksum {found}, pinned is {pinned}")]
pub(crate) struct Drift {
    module: String,
    pinned: String,
    found: String,
    cached: Option<PathBuf>,
}

impl Explain for Drift {
    fn hint(&self) -> Option<String> {
        Some(match &self.cached {
            Some(folder) => format!(
                "the download was right, its copy in the Go module cache was changed since: remove it and run again\n\
                 chmod -R u+w {0} && rm -r {0}",
                folder.display()
            ),
            None => {
                "either the module proxy serves something else than was reviewed, or source.toml was edited: find out \
                     before you accept it with\ncargo xtask source --pin"
                    .into()
            }
        })
    }
}

/// The Go command could not get a module.
#[derive(Debug, thiserror::Error)]
#[error("cannot download {module}: {reason}")]
struct Unavailable {
    module: String,
    reason: String,
}

impl Explain for Unavailable {
    fn hint(&self) -> Option<String> {
        let usual = "check the network and GOPROXY; a module that was downloaded once needs neither";
        Some(process::advice(&self.reason).unwrap_or(usual).into())
    }
}

/// Lays the tree out in the empty folder `to`.
pub(crate) fn compose(shell: &Context, pins: &Pins, to: &Path) -> Result<()> {
    let main =
        Module { module: MAIN.into(), version: pins.kubernetes.version.clone(), sum: pins.kubernetes.sum.clone() };
    let wanted: Vec<&Module> = std::iter::once(&main).chain(&pins.staging).collect();
    let names: Vec<String> = wanted.iter().map(|module| format!("{}@{}", module.module, module.version)).collect();
    let downloads = download(shell, &names, true)?;

    let progress = shell.out.bar("compose the source tree", wanted.len() as u64);
    for (module, name) in wanted.into_iter().zip(names) {
        progress.now(name.clone());
        let found =
            downloads.get(&module.module).ok_or_else(|| Error::input(format!("the go command left out {name}")))?;
        let drift =
            |sum: &str, cached| Drift { module: name.clone(), pinned: module.sum.clone(), found: sum.into(), cached };
        if found.sum != module.sum {
            return Err(drift(&found.sum, None).into());
        }
        let folder = if module.module == MAIN { to.to_owned() } else { to.join("staging/src").join(&module.module) };
        fs_err::create_dir_all(&folder)?;
        let read = copy::module(&found.dir, &name, &folder)?;
        if read != module.sum {
            return Err(drift(&read, Some(found.dir.clone())).into());
        }
        progress.advance(1);
    }
    settle(to, &pins.staging).attempting(|| "cannot adapt go.mod")?;
    progress.done(format!("Kubernetes {}", pins.kubernetes.version));
    Ok(())
}

/// Makes go.mod and go.work say what the go command would make of them: staging modules are required in the version
/// that their published go.mod files ask for, and the modules that are not there are not named. A build then changes
/// neither.
fn settle(tree: &Path, staging: &[Module]) -> Result<()> {
    let GoMod { require, replace } = read_mod(tree)?;
    let mut edits = Vec::new();
    let mut uses = Vec::new();
    for Requirement { path } in replace.iter().map(|replacement| &replacement.old) {
        let required = require.iter().any(|requirement| requirement.path == *path);
        match staging.iter().find(|module| module.module == *path) {
            Some(module) if required => edits.push(format!("-require={path}@{}", module.version)),
            Some(_) => {}
            None => {
                edits.extend([format!("-droprequire={path}"), format!("-dropreplace={path}")]);
                uses.push(format!("-dropuse=./staging/src/{path}"));
            }
        }
    }
    go(tree).args(["mod", "edit"]).args(edits).run()?;
    if tree.join("go.work").is_file() {
        go(tree).args(["work", "edit"]).args(uses).arg("go.work").run()?;
    }
    Ok(())
}

/// The pins of `version` from what the module proxy (and the checksum database, unless GONOSUMDB says otherwise) says.
/// Our own revision is kept for the version that is pinned, and begins anew for another one.
pub(crate) fn pins(shell: &Context, minor: &Minor, version: &str) -> Result<Pins> {
    let Some(patch) = version.strip_prefix(minor.as_str()).filter(|rest| rest.starts_with('.')) else {
        return Err(Error::input(format!("{version} is no version of {minor}")));
    };
    let name = format!("{MAIN}@{version}");
    let main =
        download(shell, &[name], false)?.remove(MAIN).ok_or_else(|| Error::input("the go command printed nothing"))?;
    let (_, number) = minor.numbers();
    let names: Vec<String> = staging(&main.dir)?.iter().map(|module| format!("{module}@v0.{number}{patch}")).collect();
    let modules = download(shell, &names, false)?.into_values();
    let info: Info = serde_json::from_str(&fs_err::read_to_string(&main.info)?)?;
    let pinned = Pins::load(shell, minor).ok().filter(|pins| pins.kubernetes.version == version);
    Ok(Pins {
        kubernetes: Kubernetes {
            version: main.version,
            sum: main.sum,
            go: fs_err::read_to_string(main.dir.join(".go-version"))?.trim().to_owned(),
            time: info.time,
        },
        sluice: pinned.map_or(Sluice { revision: 1 }, |pins| pins.sluice),
        staging: modules.map(|found| Module { module: found.path, version: found.version, sum: found.sum }).collect(),
    })
}

/// The extracted modules of a version that hold `paths`, by the folder of the tree that each makes.
pub(crate) fn holding(
    shell: &Context,
    version: &str,
    pins: Option<&Pins>,
    paths: &BTreeSet<&str>,
) -> Result<BTreeMap<String, PathBuf>> {
    const STAGING: &str = "staging/src/";
    let mut modules = BTreeSet::new();
    for path in paths {
        let staged = path.strip_prefix(STAGING).map(|rest| rest.splitn(3, '/').take(2).collect::<Vec<_>>().join("/"));
        modules.insert(staged.unwrap_or_else(|| MAIN.to_owned()));
    }
    let staged = version.strip_prefix("v1.").unwrap_or(version);
    let name = |module: &String| {
        if module == MAIN { format!("{module}@{version}") } else { format!("{module}@v0.{staged}") }
    };
    let names: Vec<String> = modules.iter().map(name).collect();
    let mut folders = BTreeMap::new();
    for (module, found) in download(shell, &names, pins.is_some())? {
        let sum = |pins: &Pins| {
            let staging = pins.staging.iter().find(|pinned| pinned.module == module);
            staging.map_or_else(|| pins.kubernetes.sum.clone(), |pinned| pinned.sum.clone())
        };
        if let Some(pinned) = pins.map(sum).filter(|pinned| *pinned != found.sum) {
            return Err(Drift { module: name(&module), pinned, found: found.sum, cached: None }.into());
        }
        let folder = if module == MAIN { String::new() } else { format!("{STAGING}{module}/") };
        folders.insert(folder, found.dir);
    }
    Ok(folders)
}

/// The newest release of the minor of `version`, and the newest of all, as far as they are newer; the module proxy
/// knows.
pub(crate) fn newer(shell: &Context, version: &str) -> Result<Vec<String>> {
    let progress = shell.out.spinner("list the versions of Kubernetes");
    let outside = tempfile::tempdir()?;
    let text = go(outside.path()).args(["list", "-m", "-versions", MAIN]).read()?;
    progress.done("");
    Ok(newer_of(version, text.split_whitespace()))
}

fn newer_of<'a>(version: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let numbers = |text: &str| -> Option<[u32; 3]> {
        let parts: Option<Vec<u32>> = text.strip_prefix('v')?.split('.').map(|part| part.parse().ok()).collect();
        parts?.try_into().ok()
    };
    let Some(from) = numbers(version) else { return Vec::new() };
    let all: Vec<[u32; 3]> = known.filter_map(numbers).filter(|it| *it > from).collect();
    let newest = [all.iter().filter(|it| it[..2] == from[..2]).max(), all.iter().max()];
    let newest: BTreeSet<_> = newest.into_iter().flatten().collect();
    newest.into_iter().map(|[major, minor, patch]| format!("v{major}.{minor}.{patch}")).collect()
}

/// The staging modules that go.mod takes from `staging/`, without the samples.
fn staging(tree: &Path) -> Result<Vec<String>> {
    let names = read_mod(tree)?.replace.into_iter().map(|replacement| replacement.old.path);
    Ok(names.filter(|name| name.starts_with("k8s.io/") && !name.starts_with("k8s.io/sample-")).collect())
}

fn read_mod(tree: &Path) -> Result<GoMod> {
    Ok(serde_json::from_str(&go(tree).args(["mod", "edit", "-json"]).read()?)?)
}

/// Downloads `path@version` names to Go's module cache. `pinned`: the caller compares checksums with pins, so Go's
/// checksum database, which needs the network, is not asked.
fn download(shell: &Context, names: &[String], pinned: bool) -> Result<BTreeMap<String, Download>> {
    let progress = shell.out.spinner(format!("download {} Go modules", names.len()));
    // Outside any module, so that no go.mod or go.work of the workspace plays a part.
    let outside = tempfile::tempdir()?;
    let mut run = go(outside.path()).args(["mod", "download", "-json"]).args(names);
    if pinned {
        run = run.env("GONOSUMDB", "k8s.io");
    }
    let outcome = run.outcome()?;
    let mut found = BTreeMap::new();
    for module in serde_json::Deserializer::from_str(&outcome.stdout).into_iter::<Download>() {
        let module = module?;
        if !module.error.is_empty() {
            let name = format!("{}@{}", module.path, module.version);
            return Err(Unavailable { module: name, reason: module.error }.into());
        }
        found.insert(module.path.clone(), module);
    }
    if !outcome.status.success() {
        return Err(Unavailable { module: names.join(" "), reason: outcome.stderr.trim().to_owned() }.into());
    }
    progress.done("");
    Ok(found)
}

/// The go command, free of the user's flags and workspace.
fn go(dir: &Path) -> Run {
    Run::new("go", dir).env("GOWORK", "off").env("GO111MODULE", "on").env("GOFLAGS", "-mod=mod")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_of_the_minor_and_of_all() {
        let known = "k8s.io/kubernetes v1.4.0 v1.36.9 v1.37.2 v1.37.9 v1.37.10 v1.38.0-rc.1 v1.38.1 v1.39.0-alpha.3";
        for (from, newer) in [
            ("v1.37.2", vec!["v1.37.10", "v1.38.1"]),
            ("v1.37.10", vec!["v1.38.1"]),
            ("v1.38.0", vec!["v1.38.1"]),
            ("v1.38.1", vec![]),
            ("v1.36.9", vec!["v1.38.1"]),
        ] {
            assert_eq!(newer_of(from, known.split(' ')), newer, "{from}");
        }
    }
}
