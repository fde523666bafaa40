//! What docs/ tells a reader to type works, and prints what the pages show: each console block is run, or says why not.

mod output;
mod page;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::output::is_shown;
use self::page::{Block, Step, pages};
use super::lab::{folder, kubectl_of};
use super::stores::Tools;
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::{Error, Result};
use sluice_shell::minor::Minor;
use sluice_shell::process::{Run, THIS, quoted};
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::programs;
use sluice_toolkit::cluster::settings::Store;
use sluice_toolkit::cluster::wait::ensure;

/// The pages of which a test runs anything, with what their readers have done before: a `snapshot.db` of a cluster.
const RUN: [(&str, &str); 4] =
    [("backup", SNAPSHOT), ("garbage-collection", NOTHING), ("migrate", SNAPSHOT), ("pushdown", NOTHING)];

const NOTHING: &str = ":";
const SNAPSHOT: &str = "cargo xtask up > up.log 2>&1 && cargo xtask down --keep-data > down.log 2>&1 &&
    sluice-shim export --endpoint sqlite://.sluice/cluster/data/sluice.db --to snapshot.db > export.log 2>&1";

/// Where the pages put a database, and where it is in a test.
const PLACE: (&str, &str) = ("/var/lib/sluice/", "");

/// Begins the line behind the output of a command.
const MARK: char = '\u{1e}';

pub(super) fn cases() -> Vec<Case> {
    let pages = RUN.map(|(page, before)| {
        let case = Case::new(format!("docs/{page}"), move |suite| follow(suite, page, before));
        case.of(Column::OURS).on_files()
    });
    let rest = Case::new("docs/not-run", |suite| Ok(Verdict::Passed(not_run(&suite.workspace.join("docs"))?)));
    pages.into_iter().chain([rest.of(Column::OURS).on_files()]).collect()
}

/// Does what a page says, in a folder that looks like a clone in which everything is built.
fn follow(suite: &Suite, name: &str, before: &str) -> Result<Verdict> {
    if suite.minor.as_str() != Minor::DEFAULT {
        return Ok(Verdict::Skipped(format!("the pages are about {}", Minor::DEFAULT)));
    }
    let Some(tools) = Tools::of(suite)? else {
        return Ok(Verdict::Skipped("needs etcdctl and etcdutl beside etcd".to_owned()));
    };
    let pages = pages(&suite.workspace.join("docs"))?;
    let (_, blocks) = pages.iter().find(|(page, _)| page == name).ok_or_else(|| Error::input(format!("no {name}")))?;
    let place = Place::new(suite, &tools)?;
    let mut steps: Vec<&Step> = Vec::new();
    for block in blocks {
        match block {
            Block::File { name, text } => fs_err::write(place.clone.join(name), text)?,
            Block::Commands(all) => steps.extend(all),
            Block::Left { .. } => {}
        }
    }
    let printed = place.run(before, &steps)?;
    let mut wrong = Vec::new();
    for (Step { command, shown }, (code, text)) in steps.iter().zip(&printed) {
        if *code != 0 {
            wrong.push(format!("$ {command}\nfailed with {code}\n{text}"));
        } else if !is_shown(shown, text) {
            wrong.push(format!("$ {command}\nprinted\n{text}instead of\n{}", shown.join("\n")));
        }
    }
    ensure(wrong.is_empty() && printed.len() == steps.len(), || {
        format!("docs/{name}.md, {} of {} commands:\n{}", printed.len(), steps.len(), wrong.join("\n\n"))
    })?;
    place.finish()?;
    Ok(Verdict::Passed(format!("{} commands", steps.len())))
}

/// How many blocks no test runs, and why.
fn not_run(docs: &Path) -> Result<String> {
    let mut left: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (page, blocks) in pages(docs)? {
        for block in blocks {
            if let Block::Left { why } = block {
                *left.entry((page.clone(), why)).or_default() += 1;
            }
        }
    }
    let lines = left.iter().map(|((page, why), count)| format!("\n       {page}: {count} not run: {why}"));
    Ok(format!("{} blocks of docs/ are not run{}", left.values().sum::<usize>(), lines.collect::<String>()))
}

/// A folder that looks like a clone, and its cluster.
struct Place {
    workspace: PathBuf,
    clone: PathBuf,
    cluster: PathBuf,
    /// Kubernetes and the shim under their usual names.
    bin: PathBuf,
    /// The shim and etcd's tools.
    tools: PathBuf,
    guard: Guard,
}

impl Place {
    fn new(suite: &Suite, tools: &Tools) -> Result<Self> {
        let (clone, cluster) = (folder(suite, "docs-clone"), folder(suite, "docs"));
        let guard = Guard::new(Leftover::Cluster(cluster.clone()));
        let built = clone.join(".sluice/bin");
        let (bin, of_tools) = (built.join(Minor::DEFAULT).join("patched"), built.join("tools"));
        let ours = suite.programs(Column::OURS)?;
        let shim = programs::of_store(Store::Shim).name();
        for (folder, name, program) in [
            (&bin, "kube-apiserver", &ours.apiserver),
            (&bin, "kube-controller-manager", &ours.controller_manager),
            (&bin, "kubectl", &kubectl_of(ours)?),
            (&bin, shim, &ours.store),
            (&of_tools, shim, &ours.store),
            (&of_tools, "etcdctl", &tools.etcdctl),
            (&of_tools, "etcdutl", &tools.etcdutl),
        ] {
            fs_err::create_dir_all(folder)?;
            fs_err::os::unix::fs::symlink(program, folder.join(name))?;
        }
        fs_err::create_dir_all(&cluster)?;
        fs_err::os::unix::fs::symlink(&cluster, clone.join(".sluice/cluster"))?;
        Ok(Self { workspace: suite.workspace.clone(), clone, cluster, bin, tools: of_tools, guard })
    }

    /// Runs commands in one shell, up to the first one that fails; the exit code and the output of each.
    fn run(&self, before: &str, steps: &[&Step]) -> Result<Vec<(i32, String)>> {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut script = format!(
            "exec 2>&1\nset -o pipefail\ncargo() {{ shift; local verb=$1; shift\n\
             case $verb in up) set -- --bin {bin} \"$@\";; esac\n\
             /proc/{this}/exe \"$verb\" --dir {cluster} \"$@\"; }}\n{before} || exit\n",
            bin = quoted(&self.bin),
            this = std::process::id(),
            cluster = quoted(&self.cluster),
        );
        let (from, to) = PLACE;
        for Step { command, .. } in steps {
            let command = command.replace(from, to);
            script += &format!("{command}\ncode=$?; printf '\\n{MARK}%d\\n' $code; [ $code = 0 ] || exit 1\n");
        }
        let run = Run::new("bash", &self.clone)
            .args(["--noprofile", "--norc", "-c"])
            .arg(script)
            .env("PATH", format!("{}:{}:{path}", self.tools.display(), self.bin.display()))
            .env("CARGO_MANIFEST_DIR", &self.workspace)
            .env("HOME", &self.clone)
            .env("CI", "1");
        let outcome = run.outcome()?;
        let mut parts = outcome.stdout.split(MARK);
        let mut printed = Vec::new();
        let mut text = parts.next().unwrap_or_default();
        for part in parts {
            let (code, rest) = part.split_once('\n').unwrap_or((part, ""));
            printed.push((code.parse().unwrap_or(-1), text.to_owned()));
            text = rest;
        }
        ensure(!printed.is_empty() || steps.is_empty(), || format!("what the page needs failed: {}", outcome.stdout))?;
        Ok(printed)
    }

    fn finish(self) -> Result<()> {
        let Self { workspace, clone, cluster, guard, .. } = self;
        let down = Run::new(THIS, &workspace).args(["down", "--dir"]).arg(&cluster).outcome();
        drop(guard);
        ensure(down.is_ok_and(|down| down.status.success()), || format!("{} can't be removed", cluster.display()))?;
        if cluster.exists() {
            fs_err::remove_dir_all(cluster)?;
        }
        Ok(fs_err::remove_dir_all(clone)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_console_block_is_run_or_says_why_not() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs");
        let pages = pages(&docs).unwrap();
        let is_run = |blocks: &[Block]| blocks.iter().any(|block| matches!(block, Block::Commands(_)));
        let with_commands: Vec<&str> =
            pages.iter().filter(|(_, blocks)| is_run(blocks)).map(|(page, _)| &**page).collect();
        assert_eq!(with_commands, RUN.map(|(page, _)| page));
        println!("{}", not_run(&docs).unwrap());
    }
}
