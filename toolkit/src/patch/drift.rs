//! `patch drift`: what upstream did to the places of our patches between two versions. Nothing is written: neither a
//! tree nor a patch.

use git2::{Oid, Repository};
use serde::Serialize;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use super::carry::{self, Laid};
use super::diff::{self, Hunk, PLAIN, Side};
use super::engine::{self, Content};
use super::file::{Author, Patch};
use super::reject::symbol;
use super::resolution;
use super::route::To;
use super::series::Series;
use crate::source::{self, Files, Origin, Pins, Target};
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Explain, Result};
use sluice_shell::output::table;

/// Shows which of our hunks and functions upstream touched between the pinned version and another one; writes nothing.
/// Exit code 1 if a rebase would conflict
#[derive(clap::Args)]
pub(super) struct Cmd {
    /// A version such as v1.37.3, or `newest`: the newest release of the minor, and of all minors, that the Go module
    /// proxy has
    #[arg(long, value_name = "VERSION|newest")]
    to: String,
    /// Where the source of that version comes from, as --source
    #[arg(long, value_name = "ORIGIN", default_value = "module")]
    to_source: Origin,
    #[command(flatten)]
    target: Target,
    /// Print a report for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Reports {
    versions: Vec<Report>,
}

/// What a rebase from one version to another would meet.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    from: String,
    to: String,
    pub(super) patches: Vec<Outcome>,
    /// Those of upstream's files that a patch changes and that upstream changed.
    pub(super) files: Vec<Changed>,
    /// How many of upstream's files the patches change.
    of_files: usize,
}

/// What would become of a patch.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) file: String,
    /// As in the table of `patch rebase`, or `conflict`.
    pub(super) how: String,
    /// Files with conflicts.
    pub(super) conflicts: Vec<String>,
}

/// A file that both sides changed.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    path: String,
    patches: Vec<String>,
    /// Upstream has no such file any more.
    gone: bool,
    /// Ours that upstream changed the lines of, or lines near by.
    pub(super) hunks: Vec<Touched>,
    /// Declarations that both sides change, at other lines.
    pub(super) symbols: Vec<String>,
    /// Declarations that upstream added to the file: maybe the patch should change them too.
    pub(super) new_symbols: Vec<String>,
}

/// A change of ours with upstream's changes at it.
#[derive(Debug, Serialize)]
pub(super) struct Touched {
    /// In the old version, from 1.
    pub(super) line: usize,
    pub(super) symbol: Option<String>,
    /// Lines that upstream removed or added there.
    pub(super) upstream_lines: usize,
}

/// A rebase would need a person.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
struct WouldConflict(Vec<String>);

impl Explain for WouldConflict {
    fn hint(&self) -> Option<String> {
        Some("cargo xtask patch rebase --to VERSION   stops at each conflict".into())
    }
}

impl Cmd {
    pub(super) fn run(self, shell: &Context) -> Result<()> {
        let series = Series::of(shell, &self.target.k8s)?;
        let pins = Pins::load(shell, &self.target.k8s)?;
        let paths: BTreeSet<&str> = changed_paths(&series);
        let from = &pins.kubernetes.version;
        let old = Files::of(shell, &self.target.source, from, Some(&pins), &paths)?;
        let mut versions = Vec::new();
        for to in self.versions(shell, from)? {
            let new = Files::of(shell, &self.to_source, &to, None, &paths)?;
            let minor = to.parse::<To>()?.minor;
            let folder = shell.paths.patches(&minor).join("resolutions").join(self.target.k8s.as_str());
            versions.push(compare((from, &old), (&to, &new), &series, &folder)?);
        }
        let conflicts: Vec<String> = versions.iter().filter_map(Report::conflicts).collect();
        if self.json {
            shell.out.json(&Reports { versions })?;
        } else if versions.is_empty() {
            shell.out.note(format!("{from} is the newest"));
        } else {
            shell.out.data(versions.iter().map(Report::text).collect::<Vec<_>>().join("\n\n"))?;
        }
        if conflicts.is_empty() { Ok(()) } else { Err(WouldConflict(conflicts).into()) }
    }

    fn versions(&self, shell: &Context, from: &str) -> Result<Vec<String>> {
        if self.to == "newest" {
            return source::newer(shell, from);
        }
        match self.to.parse::<To>()?.version {
            Some(version) => Ok(vec![version]),
            None => Err(Error::input(format!("{} is a minor: name a version of it, or `newest`", self.to))),
        }
    }
}

fn changed_paths(series: &Series) -> BTreeSet<&str> {
    series.entries.iter().flat_map(|entry| &entry.patch.files).map(|file| file.path.as_str()).collect()
}

/// Carries the series from one version to another in a repository of its own, which has only the files that the patches
/// change.
pub(super) fn compare(
    (from, old): (&str, &Files),
    (to, new): (&str, &Files),
    series: &Series,
    resolutions: &Path,
) -> Result<Report> {
    let place = tempfile::tempdir()?;
    let repo = Repository::init_bare(place.path())?;
    let paths = changed_paths(series);
    let (base, next) = (snapshot(&repo, old, &paths)?, snapshot(&repo, new, &paths)?);
    let (mut head, mut patches) = (next, Vec::new());
    for old in carry::read(&repo, base, series)? {
        let (mut how, mut conflicts) = (String::new(), Vec::new());
        match carry::lay(&repo, head, &old)? {
            Laid::Stands(commit, laid) => {
                how += laid.text();
                head = commit;
            }
            Laid::Clashes(clash) => {
                let parent = repo.find_commit(head)?;
                let conflicted = engine::with_files(&repo, &parent.tree()?, &clash.files)?;
                let replayed = resolution::replay(&repo, resolutions, &old, conflicted.id())?;
                how += if replayed.is_some() { "replayed" } else { "conflict" };
                if replayed.is_none() {
                    conflicts = clash.conflicts;
                }
                // The next patches are tried on top of the conflict, to tell theirs from those that follow from it.
                let tree = repo.find_tree(replayed.unwrap_or(conflicted.id()))?;
                head = engine::commit(&repo, &old.patch, &tree, &parent)?;
            }
        }
        patches.push(Outcome { file: old.name.clone(), how, conflicts });
    }
    let all = series.entries.iter().map(|entry| (entry.name.as_str(), &entry.patch));
    let patched = engine::commit_series(&repo, base, all)?.last().map_or(base, |step| step.commit);
    let trees = [base, patched, next].map(|commit| repo.find_commit(commit).and_then(|commit| commit.tree()));
    let [base, patched, next] = trees;
    let (base, patched, next) = (base?, patched?, next?);
    let (mut files, mut of_files) = (Vec::new(), 0);
    for path in paths {
        let content = |tree| Ok::<_, Error>(engine::content(&repo, tree, path)?.map(|(content, _)| content));
        let Some(before) = content(&base)? else { continue };
        of_files += 1;
        let upstream = content(&next)?;
        if upstream.as_ref() != Some(&before) {
            let ours = content(&patched)?.unwrap_or_default();
            files.push(changed(path, series, &before, &ours, upstream)?);
        }
    }
    Ok(Report { from: from.to_owned(), to: to.to_owned(), patches, files, of_files })
}

/// A commit with these files of a version.
pub(super) fn snapshot(repo: &Repository, files: &Files, paths: &BTreeSet<&str>) -> Result<Oid> {
    let mut contents: Vec<(String, Content)> = Vec::new();
    for path in paths {
        if let Some(content) = files.read(path)? {
            contents.push(((*path).to_owned(), Some((content, PLAIN))));
        }
    }
    let empty = repo.find_tree(repo.treebuilder(None)?.write()?)?;
    let Author { name, email, .. } = Author::maintainers();
    let who = git2::Signature::new(&name, &email, &git2::Time::new(0, 0))?;
    let tree = engine::with_files(repo, &empty, &contents)?;
    Ok(repo.commit(None, &who, &who, "upstream", &tree, &[])?)
}

fn changed(path: &str, series: &Series, before: &[u8], ours: &[u8], upstream: Option<Vec<u8>>) -> Result<Changed> {
    let touches = |patch: &Patch| patch.files.iter().any(|file| file.path == path);
    let patches = series.entries.iter().filter(|entry| touches(&entry.patch)).map(|entry| entry.name.clone());
    let mut changed = Changed {
        path: path.to_owned(),
        patches: patches.collect(),
        gone: upstream.is_none(),
        hunks: Vec::new(),
        symbols: Vec::new(),
        new_symbols: Vec::new(),
    };
    let Some(after) = upstream else { return Ok(changed) };
    let lines = |text| -> Vec<&[u8]> { <[u8]>::split_inclusive(text, |&byte| byte == b'\n').collect() };
    let (old, new) = (lines(before), lines(&after));
    let at = |range: &Range<usize>| symbol(&old, range.start + 1);
    let theirs = runs(&diff::between(path, before, &after)?);
    let ours = runs(&diff::between(path, before, ours)?);
    for (range, _) in &ours {
        let near =
            theirs.iter().filter(|(other, _)| other.start <= range.end + NEAR && range.start <= other.end + NEAR);
        let upstream_lines: usize = near.map(|(_, lines)| lines).sum();
        if upstream_lines > 0 {
            changed.hunks.push(Touched { line: range.start + 1, symbol: at(range), upstream_lines });
        }
    }
    let symbols = |runs: &[(Range<usize>, usize)]| -> BTreeSet<String> {
        runs.iter().filter_map(|(range, _)| at(range)).collect()
    };
    let (ours, theirs) = (symbols(&ours), symbols(&theirs));
    let told = |name: &&String| !changed.hunks.iter().any(|touched| touched.symbol.as_ref() == Some(*name));
    changed.symbols = ours.intersection(&theirs).filter(told).cloned().collect();
    let declared =
        |lines: &[&[u8]]| -> BTreeSet<String> { (1..=lines.len()).filter_map(|line| symbol(lines, line)).collect() };
    changed.new_symbols = declared(&new).difference(&declared(&old)).cloned().collect();
    Ok(changed)
}

/// Lines of context of a hunk: what changes within them, a strict apply refuses.
const NEAR: usize = 3;

/// The changes in hunks: lines of the old file that are replaced (indexes), and how many lines go and come.
fn runs(hunks: &[Hunk]) -> Vec<(Range<usize>, usize)> {
    let mut runs: Vec<(Range<usize>, usize)> = Vec::new();
    for hunk in hunks {
        let (mut at, mut open) = (hunk.old_start.saturating_sub(1), false);
        for line in &hunk.lines {
            if line.side == Side::Context {
                open = false;
                at += 1;
                continue;
            }
            if !open {
                runs.push((at..at, 0));
                open = true;
            }
            at += usize::from(line.side == Side::Removed);
            if let Some((range, lines)) = runs.last_mut() {
                range.end = at;
                *lines += 1;
            }
        }
    }
    runs
}

impl Report {
    fn conflicts(&self) -> Option<String> {
        let count = self.patches.iter().filter(|patch| patch.how == "conflict").count();
        let Self { from, to, patches, .. } = self;
        (count > 0).then(|| format!("{from} → {to}: {count} of {} patches would conflict", patches.len()))
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut rows = vec![["PATCH", "HOW", "CONFLICTS"].map(String::from).to_vec()];
        for Outcome { file, how, conflicts } in &self.patches {
            rows.push(vec![file.clone(), how.clone(), conflicts.join(", ")]);
        }
        let mut text = format!(
            "{} → {}\n{}\n\nupstream changed {} of the {} files that the patches change",
            self.from,
            self.to,
            table(&rows),
            self.files.len(),
            self.of_files
        );
        for file in &self.files {
            text += &format!("\n{}{} ({})", file.path, if file.gone { ": gone" } else { "" }, file.patches.join(", "));
            for Touched { line, symbol, upstream_lines } in &file.hunks {
                let place = symbol.as_ref().map_or(String::new(), |symbol| format!(" in `{symbol}`"));
                text += &format!("\n  line {line}{place}: upstream changed {upstream_lines} lines at ours");
            }
            for symbol in &file.symbols {
                text += &format!("\n  `{symbol}`: both changed it, at different lines");
            }
            for symbol in &file.new_symbols {
                text += &format!("\n  `{symbol}`: new");
            }
        }
        text
    }
}
