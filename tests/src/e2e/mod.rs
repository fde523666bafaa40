//! The end-to-end tests: real control planes, real kubectl.
//!
//! A [`Case`] is one function over the [`Programs`](sluice_toolkit::cluster::settings::Programs) under test. It starts
//! its own [`lab::Lab`] (a cluster in a folder of its own on free ports), so that any number of runs can go on side by
//! side. Its shims keep their data where the run's [`data::Data`] says.

mod annotation;
mod at_rest;
mod controllers;
mod crash;
mod data;
mod docs;
mod downtime;
mod equal;
mod etcdctl;
mod gc;
mod http;
mod images;
mod lab;
mod local;
mod manifests;
mod metrics;
mod migrate;
mod mount;
mod names;
mod policies;
mod pushdown;
mod raw;
mod script;
mod selective;
mod shards;
mod storage;
mod stores;
mod walkthrough;
mod watches;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::data::Data;
use crate::choice;
use crate::runner::{self, Tally, Verdict};
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};
use sluice_shell::minor::Minor;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::leftover;
use sluice_toolkit::cluster::programs;
use sluice_toolkit::cluster::settings::{Programs, Store};
use sluice_toolkit::source::Target;

/// The programs under test, and where clusters may be put.
pub(crate) struct Suite {
    /// For each column that the chosen cases are about: what it runs.
    columns: Vec<(Column, Programs)>,
    /// The tree that the programs were built from; none if they came from elsewhere.
    built_from: Option<Target>,
    /// What they are of.
    minor: Minor,
    /// The folder that they came from, if they were not built.
    bin: Option<PathBuf>,
    /// Where the toolkit is run by itself.
    workspace: PathBuf,
    /// Folder for the clusters.
    scratch: PathBuf,
    /// Where shims keep their data.
    data: Arc<Data>,
}

/// One combination of apiserver and store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Column {
    /// Whether Kubernetes carries the patches.
    pub(crate) patched: bool,
    /// What keeps the objects.
    pub(crate) store: Store,
}

impl Column {
    /// What Sluice is for.
    pub(crate) const OURS: Self = Self { patched: true, store: Store::Shim };

    /// All four.
    pub(crate) const ALL: [Self; 4] = [
        Self { patched: false, store: Store::Etcd },
        Self { patched: true, store: Store::Etcd },
        Self { patched: false, store: Store::Shim },
        Self::OURS,
    ];

    fn name(self) -> &'static str {
        match (self.patched, self.store) {
            (true, Store::Shim) => "patched-shim",
            (true, Store::Etcd) => "patched-etcd",
            (false, Store::Shim) => "stock-shim",
            (false, Store::Etcd) => "stock-etcd",
            (true, Store::Kine) => "patched-kine",
            (false, Store::Kine) => "stock-kine",
        }
    }
}

impl Suite {
    /// With programs that the toolkit builds, or with those of a folder that has a `patched` and a `stock` one in it:
    /// those that the `cases` need. With a `database`, a server of that kind keeps the shims' data.
    ///
    /// # Errors
    /// When a program can't be built or is missing, or the server does not get ready.
    pub(crate) fn new(
        shell: &Context,
        target: &Target,
        bin: Option<&Path>,
        database: Option<Database>,
        cases: &[Case],
    ) -> Result<Self> {
        let programs = |column: Column| match bin {
            Some(bin) => {
                let flavor = bin.join(if column.patched { "patched" } else { "stock" });
                programs::in_folder(&flavor, column.store, column.patched)
            }
            None => programs::built(shell, target, column.store, column.patched),
        };
        let columns =
            needed(cases, &target.k8s).map(|column| Ok((column, programs(column)?))).collect::<Result<_>>()?;
        let built_from = bin.is_none().then(|| target.clone());
        Ok(Self {
            columns,
            built_from,
            minor: target.k8s.clone(),
            bin: bin.map(std::path::absolute).transpose()?,
            workspace: shell.paths.root().to_owned(),
            scratch: shell.paths.cache().join("e2e"),
            data: Arc::new(database.map_or(Ok(Data::default()), |database| Data::on(shell, database))?),
        })
    }

    /// The same programs, with the shims' data on a server.
    ///
    /// # Errors
    /// When the server does not get ready.
    fn on(&self, database: Database) -> Result<Self> {
        let data = Arc::new(Data::on(&Context::from_env()?, database)?);
        Ok(Self {
            columns: self.columns.clone(),
            built_from: self.built_from.clone(),
            minor: self.minor.clone(),
            bin: self.bin.clone(),
            workspace: self.workspace.clone(),
            scratch: self.scratch.clone(),
            data,
        })
    }

    /// The programs of a column.
    fn programs(&self, column: Column) -> Result<&Programs> {
        let found = self.columns.iter().find(|(name, _)| *name == column);
        found.map(|(_, programs)| programs).ok_or_else(|| Error::input(format!("no programs for {}", column.name())))
    }
}

type Body = Box<dyn Fn(&Suite) -> Result<Verdict>>;

/// One test.
pub(crate) struct Case {
    name: String,
    body: Body,
    runs: Runs,
    /// The columns whose programs it asks for.
    needs: Vec<Column>,
    /// The first minor that has what it is about, if not all have, and what that is.
    since: Option<(u32, &'static str)>,
}

/// When a case runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    /// Always, with the shims' data wherever the run keeps it.
    Always,
    /// Unless the run is about a server: it starts no shim, or is about the file, or about how a server is started.
    OnFiles,
    /// Unless the run is about another server: it starts one of its own.
    On(Database),
}

impl Case {
    fn new(name: impl Into<String>, body: impl Fn(&Suite) -> Result<Verdict> + 'static) -> Self {
        let (runs, needs) = (Runs::Always, Column::ALL.to_vec());
        Self { name: name.into(), body: Box::new(body), runs, needs, since: None }
    }

    /// A case about `what`, which v1.`minor` is the first to have.
    fn since(self, minor: u32, what: &'static str) -> Self {
        Self { since: Some((minor, what)), ..self }
    }

    /// What the case needs and `minor` does not have.
    fn lacks(&self, minor: &Minor) -> Option<String> {
        let (first, what) = self.since?;
        let older = minor.numbers().1.parse().is_ok_and(|number: u32| number < first);
        older.then(|| format!("needs v1.{first} or newer: {what}"))
    }

    fn run(&self, suite: &Suite) -> Result<Verdict> {
        self.lacks(&suite.minor).map_or_else(|| (self.body)(suite), |why| Ok(Verdict::Skipped(why)))
    }

    fn on_files(self) -> Self {
        Self { runs: Runs::OnFiles, ..self }
    }

    /// A case about one column, which needs no other programs: without a shim it is not about a server.
    fn of(self, column: Column) -> Self {
        let case = Self { needs: vec![column], ..self };
        if column.store == Store::Shim { case } else { case.on_files() }
    }

    fn on(self, database: Database) -> Self {
        Self { runs: Runs::On(database), ..self }
    }

    fn runs_on(&self, database: Option<Database>) -> bool {
        match self.runs {
            Runs::Always => true,
            Runs::OnFiles => database.is_none(),
            Runs::On(server) => database.is_none_or(|database| database == server),
        }
    }
}

/// The columns whose programs the cases ask for that `minor` has all for.
fn needed(cases: &[Case], minor: &Minor) -> impl Iterator<Item = Column> {
    let run: Vec<&Case> = cases.iter().filter(|case| case.lacks(minor).is_none()).collect();
    Column::ALL.into_iter().filter(move |column| run.iter().any(|case| case.needs.contains(column)))
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(local::cases());
    cases.extend(images::cases());
    cases.extend(walkthrough::cases());
    cases.extend(controllers::cases());
    cases.extend(policies::cases());
    cases.extend(gc::cases());
    cases.extend(selective::cases());
    cases.extend(shards::cases());
    cases.extend(equal::cases());
    cases.extend(pushdown::cases());
    cases.extend(watches::cases());
    cases.extend(annotation::cases());
    cases.extend(crash::cases());
    cases.extend(storage::cases());
    cases.extend(etcdctl::cases());
    cases.extend(downtime::cases());
    cases.extend(http::cases());
    cases.extend(names::cases());
    cases.extend(metrics::cases());
    cases.extend(manifests::cases());
    cases.extend(migrate::cases());
    cases.extend(docs::cases());
    cases
}

/// The cases whose name contains `filter`, of those that run on a database.
///
/// # Errors
/// When there is none.
pub(crate) fn chosen(filter: Option<&str>, database: Option<Database>) -> Result<Vec<Case>> {
    let all = cases().into_iter().filter(|case| case.runs_on(database));
    choice::chosen("end-to-end test", filter, all, |case| &case.name)
}

/// Runs the cases, one after the other, and prints how each ended.
///
/// # Errors
/// When stdout is broken. A failed case is no error here: see the tally.
pub(crate) fn run(shell: &Context, suite: &Suite, cases: Vec<Case>) -> Result<Tally> {
    leftover::clean_up_on_ctrl_c()?;
    fs_err::create_dir_all(&suite.scratch)?;
    leftover::sweep(&suite.scratch)?;
    let steps = cases.iter().map(|case| (case.name.as_str(), || case.run(suite)));
    let tally = runner::run(shell, "e2e", &suite.scratch, steps)?;
    if tally.failed == 0 {
        suite.data.remove()?;
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kubernetes is compiled for each kind of programs: ten minutes.
    #[test]
    fn only_the_programs_that_the_chosen_cases_need_are_built() {
        let (stock, etcd) =
            (Column { patched: false, store: Store::Etcd }, Column { patched: true, store: Store::Etcd });
        for (filter, minor, expected) in [
            (Some("walkthrough/patched-shim"), "v1.37", vec![Column::OURS]),
            (Some("policies/"), "v1.37", vec![Column::OURS]),
            (Some("etcdctl/"), "v1.37", vec![Column::OURS]),
            (Some("watches/"), "v1.37", vec![stock, etcd, Column::OURS]),
            (Some("gc/collector-missing"), "v1.37", vec![etcd]),
            (Some("gc/t39"), "v1.37", Column::ALL.to_vec()),
            (Some("gc/t39"), "v1.36", vec![]),
            (None, "v1.36", Column::ALL.to_vec()),
        ] {
            let chosen = chosen(filter, None).expect("cases");
            let minor = minor.parse().expect("a minor");
            assert_eq!(needed(&chosen, &minor).collect::<Vec<_>>(), expected, "{filter:?} of {minor}");
        }
    }

    #[test]
    fn a_case_about_what_an_older_minor_lacks_says_so() {
        let chosen = chosen(Some("gc/t39"), None).expect("cases");
        let lacks = |minor: &str| chosen[0].lacks(&minor.parse().expect("a minor"));
        assert_eq!(lacks("v1.37"), None);
        assert_eq!(lacks("v1.100"), None);
        let why = "needs v1.37 or newer: storage versions are migrated by an API that is served by default";
        assert_eq!(lacks("v1.36").as_deref(), Some(why));
        assert_eq!(lacks("v1.9").as_deref(), Some(why));
    }
}
