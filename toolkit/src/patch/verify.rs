//! `patch verify`: whether the series is fit to build from.

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use super::apply::bring;
use super::engine::{self, Step};
use super::gocheck::{self, Go};
use super::header;
use super::invariant::Invariant;
use super::series::{Entry, Problem, Series, hex};
use super::tree::WorkTree;
use crate::pipeline::{Form, Patched, Tested, Verified};
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Explain, Result};
use sluice_shell::output::table;

/// Checks the series: form and headers, strict apply, re-export, invariants, compile, vet, tests
#[derive(clap::Args)]
pub(super) struct Cmd {
    #[command(flatten)]
    target: Target,
    /// Compile and vet, but run no tests
    #[arg(long)]
    no_test: bool,
    /// Compile and vet at the end of the series alone, not each patch at its own commit, and run the tests that the
    /// patches add, but not upstream's
    #[arg(long, conflicts_with_all = ["no_test", "each"])]
    end: bool,
    /// Run the tests of each patch at its own commit too, not only at the end of the series
    #[arg(long, conflicts_with = "no_test")]
    each: bool,
    /// Print a report for programs
    #[arg(long)]
    json: bool,
}

/// How much to check. Each level includes [`Effort::Series`], and what it does of the same kind as the ones between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effort {
    /// Form, headers, strict apply, re-export, invariants: milliseconds, no compiler.
    Series,
    /// `go build` and `go vet` of all that the patches touch, and the tests that they add, at the end of the series.
    End,
    /// `go build` and `go vet` of the packages that a patch touches, at its commit.
    Compile,
    /// The tests that the patches name, at the end of the series.
    Test,
    /// The tests of each patch at its commit as well.
    TestEach,
}

#[derive(Debug, Serialize)]
struct Report {
    minor: String,
    version: String,
    head: String,
    /// sha256 over the upstream commit and the patches.
    digest: String,
    checks: Vec<Check>,
}

/// A check that passed.
#[derive(Debug, Serialize)]
struct Check {
    /// File name of the patch, or `series`.
    patch: String,
    check: &'static str,
    /// Passed in an earlier run on the same commit with the same Go version.
    cached: bool,
    seconds: f64,
}

/// The series breaks its rules.
#[derive(Debug, thiserror::Error)]
#[error("{} has {} problems:{}", dir.display(), problems.len(), lines(problems))]
pub(super) struct Unfit {
    dir: PathBuf,
    /// What is wrong.
    pub(super) problems: Vec<Problem>,
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {}: {}", problem.file, problem.problem)).collect()
}

impl Explain for Unfit {
    fn hint(&self) -> Option<String> {
        Some("edit the messages with `git rebase -i` in the tree, or in the patch files; then `cargo xtask patch refresh`".into())
    }
}

impl Cmd {
    pub(super) fn run(self, shell: &Context) -> Result<()> {
        let effort = match (self.end, self.no_test, self.each) {
            (true, ..) => Effort::End,
            (_, true, _) => Effort::Compile,
            (_, _, true) => Effort::TestEach,
            _ => Effort::Test,
        };
        let series = Series::of(shell, &self.target.k8s)?;
        let fetched = self.target.open(shell)?;
        lint(&series)?;
        let (patched, _, _) = bring(shell, fetched, &series, false)?;
        let Checked { patched: Patched { fetched, head }, digest, checks } = check(shell, patched, effort)?;
        if !self.json {
            let mut rows = vec![["PATCH", "CHECK", "SECONDS"].map(String::from).to_vec()];
            for check in checks {
                let seconds = if check.cached { "cached".into() } else { format!("{:.1}", check.seconds) };
                rows.push(vec![check.patch, check.check.into(), seconds]);
            }
            shell.out.data(table(&rows))?;
            shell.out.note(format!("{} {}: verified", fetched.version, &head[..12]));
            return Ok(());
        }
        let (minor, version) = (fetched.minor.to_string(), fetched.version);
        shell.out.json(&Report { minor, version, head, digest, checks })
    }
}

/// Checks what needs no compiler: form and headers, strict apply, re-export, invariants. Takes milliseconds.
///
/// # Errors
/// A rule that the series or the patched source breaks; a re-export that differs.
pub fn verify_form(shell: &Context, patched: Patched) -> Result<Verified<Form>> {
    let checked = check(shell, patched, Effort::Series)?;
    Ok(Verified::new(checked.patched, checked.digest))
}

/// Checks the whole series of a patched tree. What passed on the same commit before is not done again.
///
/// # Errors
/// Those of [`verify_form`]; a package that does not build, or a test that fails.
pub fn verify_all(shell: &Context, patched: Patched) -> Result<Verified<Tested>> {
    let checked = check(shell, patched, Effort::Test)?;
    Ok(Verified::new(checked.patched, checked.digest))
}

/// Checks the end of a patched tree's series, but not each patch by itself, with the tests that the patches add, but
/// not upstream's. What passed on the same commit before is not done again.
///
/// # Errors
/// Those of [`verify_all`].
pub fn verify_end(shell: &Context, patched: Patched) -> Result<()> {
    check(shell, patched, Effort::End).map(drop)
}

/// What passed.
pub(super) struct Checked {
    patched: Patched,
    /// sha256 (hex) over the upstream commit and the patches.
    pub(super) digest: String,
    checks: Vec<Check>,
}

pub(super) fn check(shell: &Context, patched: Patched, effort: Effort) -> Result<Checked> {
    let started = Instant::now();
    let series = Series::load(&shell.paths.patches(&patched.fetched.minor))?;
    lint(&series)?;
    let tree = WorkTree::open(shell, &patched.fetched)?;
    let steps = re_export(&tree, &series)?;
    let end = steps.last().map_or(tree.base, |step| step.commit);
    if end.to_string() != patched.head || tree.head()? != end {
        return Err(Error::input("the patches or the tree changed meanwhile; run the command again"));
    }
    tree.refuse_loss(end)?;
    invariants(&tree, &series, end)?;
    let seconds = started.elapsed().as_secs_f64();
    let check = "form, apply, export, invariants";
    let mut checks = vec![Check { patch: "series".into(), check, cached: false, seconds }];
    if effort > Effort::Series {
        let bench = Bench { shell, tree: &tree, patched: &patched };
        let result = bench.all(&series, &steps, effort);
        tree.switch(end)?;
        checks.extend(result.attempting(|| format!("{} is not fit to build from", series.dir.display()))?);
    }
    let mut digest = Sha256::new();
    digest.update(format!("{}\n{}\n", patched.fetched.base, series.digest()));
    Ok(Checked { patched, digest: hex(&digest.finalize()), checks })
}

fn lint(series: &Series) -> Result<()> {
    let problems = series.problems();
    if problems.is_empty() { Ok(()) } else { Err(Unfit { dir: series.dir.clone(), problems }.into()) }
}

/// Applies the series and demands that each commit gives the bytes of its file, line numbers included.
pub(super) fn re_export(tree: &WorkTree, series: &Series) -> Result<Vec<Step>> {
    let patches = series.entries.iter().map(|entry| (entry.name.as_str(), &entry.patch));
    let steps = engine::commit_series(&tree.repo, tree.base, patches)?;
    let mut problems = Vec::new();
    for (entry, step) in series.entries.iter().zip(&steps) {
        if engine::to_patch(&tree.repo, step.commit)?.to_bytes() != entry.bytes {
            let problem = match step.moved.first() {
                Some(moved) => format!("hunk {} of {} stands {:+} lines away", moved.hunk, moved.path, moved.lines),
                None => "its commit exports as other text".into(),
            };
            problems.push(Problem {
                file: entry.name.clone(),
                problem: format!("{problem}; run `cargo xtask patch refresh`"),
            });
        }
    }
    if problems.is_empty() { Ok(steps) } else { Err(Unfit { dir: series.dir.clone(), problems }.into()) }
}

/// What the patches' headers say of the whole source must be true at the end of the series.
pub(super) fn invariants(tree: &WorkTree, series: &Series, end: git2::Oid) -> Result<()> {
    let after = tree.repo.find_commit(end)?.tree()?;
    let mut problems = Vec::new();
    for entry in &series.entries {
        for text in header::parse(&entry.patch.body).invariants {
            let invariant: Invariant = text.parse().map_err(Error::input)?;
            let broken = invariant.check(&tree.repo, &after)?;
            problems.extend(broken.into_iter().map(|problem| Problem { file: entry.name.clone(), problem }));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Broken { dir: series.dir.clone(), problems }.into()) }
}

/// The patched source is not what a patch says that it is.
#[derive(Debug, thiserror::Error)]
#[error("the patched source breaks invariants of {}:{}", dir.display(), lines(problems))]
struct Broken {
    dir: PathBuf,
    problems: Vec<Problem>,
}

impl Explain for Broken {
    fn hint(&self) -> Option<String> {
        Some(
            "upstream has a place that the patch should change as well, or has renamed what the rule is about: change \
             the patch, or its line `Invariant:`"
                .into(),
        )
    }
}

/// Compiles and tests commits of a tree, and remembers what passed.
struct Bench<'a> {
    shell: &'a Context,
    tree: &'a WorkTree,
    patched: &'a Patched,
}

impl Bench<'_> {
    fn all(&self, series: &Series, steps: &[Step], effort: Effort) -> Result<Vec<Check>> {
        let mut checks = Vec::new();
        let mut every: BTreeSet<String> = BTreeSet::new();
        for (entry, step) in series.entries.iter().zip(steps) {
            if effort >= Effort::Compile {
                checks.push(self.compile(&entry.name, std::slice::from_ref(entry), step)?);
            }
            let tests: BTreeSet<String> = header::parse(&entry.patch.body).tests.into_iter().collect();
            if effort >= Effort::TestEach {
                checks.push(self.test(&entry.name, step, &tests, &BTreeSet::new())?);
            }
            every.extend(tests);
        }
        if let Some(last) = steps.last().filter(|_| effort != Effort::Compile) {
            let mut only = BTreeSet::new();
            if effort == Effort::End {
                checks.push(self.compile("series", &series.entries, last)?);
                only.extend(series.entries.iter().flat_map(|entry| gocheck::tests(&entry.patch)));
            }
            checks.push(self.test("series", last, &every, &only)?);
        }
        Ok(checks)
    }

    /// Compiles what some patches touch, at the commit of the last of them.
    fn compile(&self, name: &str, entries: &[Entry], step: &Step) -> Result<Check> {
        let key = if entries.len() == 1 { "compile" } else { "compile all" };
        self.once(name, "build, vet", step, key, |go, log| {
            let mut packages = BTreeSet::new();
            for entry in entries {
                packages.extend(gocheck::packages(&entry.patch, &self.patched.fetched.tree)?);
            }
            let packages = Vec::from_iter(packages);
            let progress = self.shell.out.spinner(format!("compile {name}"));
            if !packages.is_empty() {
                go.compile(&packages, log, |line| progress.now(line))?;
            }
            progress.done(format!("{} packages", packages.len()));
            Ok(())
        })
    }

    /// Tests packages; of their tests `only` these, if any are named.
    fn test(&self, name: &str, step: &Step, patterns: &BTreeSet<String>, only: &BTreeSet<String>) -> Result<Check> {
        let patterns: BTreeSet<&str> = patterns.iter().map(String::as_str).collect();
        let named = patterns.iter().copied().chain(only.iter().map(String::as_str));
        let key = named.collect::<Vec<_>>().join(" ");
        self.once(name, "test", step, &format!("test {key}"), |go, log| {
            let progress = self.shell.out.spinner(format!("test {name}"));
            let mut again = Vec::new();
            if !patterns.is_empty() {
                again = go.test(&patterns, only, log, |line| progress.now(line))?;
            }
            progress.done("passed");
            if !again.is_empty() {
                self.shell.out.note(format!("warning: passed at the second try: {}", again.join(", ")));
            }
            Ok(())
        })
    }

    /// Does `work` on the files of a commit, unless the same passed before. The commit id covers the source and all
    /// patches up to it.
    fn once(
        &self,
        name: &str,
        check: &'static str,
        step: &Step,
        key: &str,
        work: impl FnOnce(&Go, &std::path::Path) -> Result<()>,
    ) -> Result<Check> {
        let started = Instant::now();
        let go = Go::new(&self.patched.fetched.tree, &self.shell.paths.cache().join("gomod"))?;
        let mut sum = Sha256::new();
        sum.update(format!("{key}\n{}", go.version()?));
        let stamp =
            self.shell.paths.cache().join("verified").join(format!("{}-{}", step.commit, &hex(&sum.finalize())[..16]));
        let cached = stamp.exists();
        if !cached {
            self.tree.visit(step.commit)?;
            // go.mod may be another one in this commit.
            let go = Go::new(&self.patched.fetched.tree, &self.shell.paths.cache().join("gomod"))?;
            let (minor, patch) = (&self.patched.fetched.minor, name.trim_end_matches(".patch"));
            let log = self.shell.paths.log(&format!("verify-{minor}-{patch}-{}", &check[..4]));
            work(&go, &log).attempting(|| format!("{name}: {check} failed"))?;
            fs_err::create_dir_all(self.shell.paths.cache().join("verified"))?;
            fs_err::write(stamp, format!("{name}\n{key}\n"))?;
        }
        Ok(Check { patch: name.to_owned(), check, cached, seconds: started.elapsed().as_secs_f64() })
    }
}
