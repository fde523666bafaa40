//! `cargo xtask test clients`: programs of others that use Kubernetes or etcd, as they are, against patched Kubernetes
//! on sluice-shim.
//!
//! A [`Program`] finds out what became of each of its tests. A file in `ci/conformance/clients/` says which of them
//! can't pass, and why ([`list`]). A listed test that passes fails the run just as one that is not listed and fails.

mod check;
mod envtest;
mod kube_rs;
mod list;
mod python;
mod section;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::report::{self, Row};
use super::specs::System;
use super::suite::{Entry, Store};
use super::verdict::{Ran, Verdict};
use crate::runner::Tally;
use list::List;
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_toolkit::cluster::leftover::{self, Guard, Leftover};
use sluice_toolkit::cluster::settings::{Programs, Settings};
use sluice_toolkit::cluster::{self, Cluster, shirts};
use sluice_toolkit::source::Target;
use walkdir::WalkDir;

/// What to run.
pub(crate) struct Wish<'a> {
    /// The folder of the programs `patched`, if none are to be built.
    pub(crate) bin: Option<&'a Path>,
    /// Only the client programs with this text in their names.
    pub(crate) filter: Option<&'a str>,
    /// Whether docs/conformance.md gets the result.
    pub(crate) write_docs: bool,
}

/// What client programs run against.
struct Bench<'a> {
    shell: &'a Context,
    /// Patched Kubernetes, and the shim.
    programs: Programs,
    /// The client program's files, clusters and logs.
    folder: PathBuf,
}

/// What became of a client program's tests.
struct Ended {
    /// The client program's version.
    version: String,
    runs: Vec<Ran>,
}

/// A client program: its list, and how to run it.
struct Program {
    /// The list's file without `.toml`.
    name: &'static str,
    run: fn(&Bench<'_>, &List) -> Result<Ended>,
}

const PROGRAMS: [Program; 4] = [
    Program { name: "kubernetes-python", run: python::run },
    Program { name: "controller-runtime", run: envtest::run },
    Program { name: "etcdctl-check", run: check::run },
    Program { name: "kube-rs", run: kube_rs::run },
];

/// Runs the client programs, one after the other, and prints a table.
///
/// # Errors
/// When one can't be run at all; a test that fails is in the tally.
pub(crate) fn run(shell: &Context, target: &Target, wish: &Wish<'_>) -> Result<Tally> {
    let chosen = chosen(wish.filter)?;
    leftover::clean_up_on_ctrl_c()?;
    let programs = System::Sluice.programs(shell, target, wish.bin)?;
    let scratch = shell.paths.cache().join("clients");
    fs_err::create_dir_all(&scratch)?;
    leftover::sweep(&scratch)?;
    let (mut rows, mut lists) = (Vec::new(), Vec::new());
    for program in chosen {
        let list = List::load(shell.paths.root(), program.name)?;
        let clock = Instant::now();
        let folder = scratch.join(format!("{}-{}-0", program.name, std::process::id()));
        fs_err::create_dir_all(&folder)?;
        let bench = Bench { shell, programs: programs.clone(), folder };
        let ended = (program.run)(&bench, &list)
            .attempting(|| format!("cannot run {}; logs: {:?}", program.name, bench.folder))?;
        let verdict = Verdict::new(&ended.runs, &list.cannot.iter().collect::<Vec<&Entry>>(), true);
        let mut problems = verdict.problems().peekable();
        if problems.peek().is_none() {
            fs_err::remove_dir_all(&bench.folder)?;
        } else {
            shell.out.note(format!("logs of {}: {}", program.name, bench.folder.display()));
        }
        for line in problems {
            shell.out.data(format!("FAIL {}: {line}", program.name))?;
        }
        let (name, version, seconds) = (program.name.to_owned(), ended.version, clock.elapsed().as_secs_f64());
        rows.push(Row { name, version, store: Store::Sqlite, verdict, seconds });
        lists.push(list);
    }
    shell.out.data(report::table(&rows))?;
    if wish.write_docs {
        let all =
            PROGRAMS.iter().map(|program| List::load(shell.paths.root(), program.name)).collect::<Result<Vec<_>>>()?;
        report::write(shell, |previous| section::document(&rows, &all, previous))?;
    }
    let count = |of: fn(&Verdict) -> usize| rows.iter().map(|row| of(&row.verdict)).sum();
    Ok(Tally { passed: count(|verdict| verdict.passed), failed: count(|verdict| verdict.problems().count()) })
}

fn chosen(filter: Option<&str>) -> Result<Vec<&'static Program>> {
    let chosen: Vec<_> =
        PROGRAMS.iter().filter(|program| filter.is_none_or(|filter| program.name.contains(filter))).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
        return Err(Error::input(format!("no client program of that name; there are:\n{}", names.join("\n"))));
    }
    Ok(chosen)
}

/// Starts a cluster whose group of shirts has no watch cache. It ends with the guard.
fn start(bench: &Bench<'_>, list: &List) -> Result<(Cluster, Guard)> {
    let folder = bench.folder.join("cluster");
    let guard = Guard::new(Leftover::Cluster(folder.clone()));
    let settings = Settings {
        kubernetes: list.name.clone(),
        store: cluster::settings::Store::Shim,
        backend: None,
        programs: bench.programs.clone(),
        apiserver_args: vec![shirts::NO_WATCH_CACHE_FOR_GROUP.to_owned()],
        controller_manager_args: Vec::new(),
        store_args: Vec::new(),
        shards: Vec::new(),
    };
    let cluster = Cluster::prepare(&folder, settings, Some(0))?;
    cluster.start(|_| {})?;
    Ok((cluster, guard))
}

/// Copies the files of a package. The Go command keeps a module's without the right to write or to run them.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in WalkDir::new(from) {
        let entry = entry.map_err(anyhow::Error::from)?;
        let target = to.join(entry.path().strip_prefix(from).map_err(anyhow::Error::from)?);
        if entry.file_type().is_dir() {
            fs_err::create_dir_all(&target)?;
            continue;
        }
        fs_err::copy(entry.path(), &target)?;
        let mode = if target.extension().is_some_and(|extension| extension == "sh") { 0o755 } else { 0o644 };
        fs_err::set_permissions(&target, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_program_has_a_list_that_can_be_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let files = fs_err::read_dir(root.join("ci/conformance/clients")).unwrap().map(|entry| entry.unwrap().path());
        let lists = files.filter(|file| file.extension().is_some_and(|extension| extension == "toml")).count();
        assert_eq!(lists, PROGRAMS.len());
        for program in &PROGRAMS {
            List::load(&root, program.name).unwrap();
        }
    }

    #[test]
    fn a_filter_that_fits_no_client_program_is_told_what_there_is() {
        assert_eq!(chosen(Some("python")).unwrap().len(), 1);
        let error = chosen(Some("nosuch")).err().unwrap().to_string();
        assert!(error.contains("there are:\nkubernetes-python"), "{error}");
    }
}
