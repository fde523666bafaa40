//! Where the programs of servers are, and who runs them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// A folder with the programs of the PostgreSQL to test; without it the newest that Debian has installed.
pub(crate) const POSTGRES: &str = "SLUICE_TEST_POSTGRES";

/// Who owns nothing. PostgreSQL refuses to run as root.
pub(crate) const NOBODY: u32 = 65534;

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A program of PostgreSQL: of the folder to test if it is there, else of Debian's newest version.
pub(crate) fn postgres(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.extend(std::env::var_os(POSTGRES).filter(|folder| !folder.is_empty()).map(PathBuf::from));
    let found = folders.iter().rev().map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "PostgreSQL has no {program} here: apt-get install -y --no-install-recommends postgresql-15, or name the folder \
             of its programs with {POSTGRES}"
        )
    })
}
