//! `ci/conformance/<suite>.toml`: which of upstream's packages run, and which of their tests can't.

use serde::Deserialize;
use std::path::Path;

use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_toolkit::cluster::database::Database;

/// A suite, as its file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suite {
    /// The file's name without `.toml`.
    #[serde(skip)]
    pub(super) name: String,
    /// One line for people.
    pub(super) about: String,
    /// Where the tests come from.
    pub(super) upstream: Upstream,
    /// Whether it is part of a quick run.
    #[serde(default)]
    pub(super) quick: bool,
    /// Import paths.
    pub(super) packages: Vec<String>,
    /// Build tags.
    #[serde(default)]
    pub(super) tags: Vec<String>,
    /// Seconds that a top-level test may take.
    pub(super) timeout: u64,
    /// Top-level tests that say nothing about a store behind an endpoint: they do not run and are not counted.
    #[serde(default)]
    pub(super) outside: Vec<Entry>,
    /// Tests that can't pass. They run, to see that they still do not.
    #[serde(default)]
    pub(super) cannot: Vec<Entry>,
}

/// A project whose tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Upstream {
    /// The Kubernetes version that `--k8s` names.
    Kubernetes,
    /// The etcd version that `toolkit/go/etcd-tests` pins.
    Etcd,
}

/// What the shim keeps its data in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Store {
    /// A SQLite file.
    Sqlite,
    /// A database on a PostgreSQL server.
    Postgres,
    /// A database on a MariaDB server.
    Mariadb,
}

impl Store {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Sqlite, Self::Postgres, Self::Mariadb];

    /// A database on a server, or a file.
    pub(super) fn of(server: Option<Database>) -> Self {
        match server {
            None => Self::Sqlite,
            Some(Database::Postgres) => Self::Postgres,
            Some(Database::Mariadb) => Self::Mariadb,
        }
    }

    /// For people.
    pub(super) fn title(self) -> String {
        match self {
            Self::Sqlite => "SQLite".to_owned(),
            Self::Postgres => Database::Postgres.to_string(),
            Self::Mariadb => Database::Mariadb.to_string(),
        }
    }
}

/// Tests with the same reason.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Import path without what is common to all packages of the suite; all packages if absent.
    pub(super) package: Option<String>,
    /// `TestName` or `TestName/subtest`, with all that is below; one `*` at the end stands for anything.
    pub(super) tests: Vec<String>,
    /// The databases that this is about; all if absent.
    #[serde(default)]
    pub(super) only: Vec<Store>,
    /// Why, in a sentence.
    pub(super) reason: String,
}

impl Entry {
    /// The first of the names that covers `test` of `package`.
    pub(super) fn covering(&self, package: &str, test: &str) -> Option<usize> {
        let here = self.package.as_ref().is_none_or(|suffix| {
            package.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        });
        self.tests.iter().position(|name| here && covers(name, test))
    }
}

fn covers(name: &str, test: &str) -> bool {
    match name.strip_suffix('*') {
        Some(start) => test.starts_with(start),
        None => test.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
    }
}

impl Suite {
    /// All suites of a folder, by name.
    pub(super) fn load_all(folder: &Path) -> Result<Vec<Self>> {
        let mut suites = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                suites.push(Self::load(&path).attempting(|| format!("cannot read {}", path.display()))?);
            }
        }
        suites.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(suites)
    }

    fn load(path: &Path) -> Result<Self> {
        let mut suite: Self = toml::from_str(&fs_err::read_to_string(path)?)?;
        suite.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let unexplained = suite.outside.iter().chain(&suite.cannot).find(|entry| entry.reason.trim().is_empty());
        if let Some(entry) = unexplained {
            return Err(Error::input(format!("no reason for {}", entry.tests.join(", "))));
        }
        Ok(suite)
    }

    /// The tests that can't pass on a database.
    pub(super) fn cannot(&self, store: Store) -> Vec<&Entry> {
        self.cannot.iter().filter(|entry| entry.only.is_empty() || entry.only.contains(&store)).collect()
    }

    /// Whether a top-level test is not for a store behind an endpoint.
    pub(super) fn is_outside(&self, package: &str, test: &str) -> bool {
        self.outside.iter().any(|entry| entry.covering(package, test).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suites_of_the_repository_can_be_read() {
        let suites = Suite::load_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/conformance")).unwrap();
        assert!(suites.iter().any(|suite| suite.quick), "{suites:?}");
    }

    #[test]
    fn an_entry_covers_a_test_with_all_below_or_what_begins_so() {
        let entry = |package: Option<&str>, test: &str| Entry {
            package: package.map(str::to_owned),
            tests: vec![test.to_owned()],
            only: vec![],
            reason: "because".to_owned(),
        };
        let cases = [
            (entry(None, "TestA"), "x/y", "TestA", true),
            (entry(None, "TestA"), "x/y", "TestA/sub", true),
            (entry(None, "TestA"), "x/y", "TestAB", false),
            (entry(None, "TestA*"), "x/y", "TestAB/sub", true),
            (entry(None, "TestA/sub"), "x/y", "TestA", false),
            (entry(Some("y"), "TestA"), "x/y", "TestA", true),
            (entry(Some("y"), "TestA"), "x/zy", "TestA", false),
        ];
        for (entry, package, test, expected) in cases {
            assert_eq!(entry.covering(package, test).is_some(), expected, "{entry:?} {package} {test}");
        }
    }
}
