//! Packages of Python with pinned digests.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::Run;

/// The folder, for PYTHONPATH, of the packages that `toolkit/python/<name>.txt` pins. They are installed once.
///
/// # Errors
/// When a package can't be fetched, or its digest is another one.
pub(crate) fn packages(shell: &Context, name: &str) -> Result<PathBuf> {
    let pins = shell.paths.root().join(format!("toolkit/python/{name}.txt"));
    let folder = shell.paths.cache().join("python");
    let digest = Sha256::digest(fs_err::read(&pins)?);
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let installed = folder.join(format!("{name}-{digest}"));
    let _lock = shell.lock("python")?;
    if !installed.exists() {
        fs_err::create_dir_all(&folder)?;
        let partial = tempfile::Builder::new().prefix(".partial-").tempdir_in(&folder)?;
        let options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"];
        let run = Run::new("pip3", shell.paths.root()).arg("install").args(options).arg("--target").arg(partial.path());
        run.arg("--requirement").arg(&pins).run()?;
        fs_err::rename(partial.keep(), &installed)?;
    }
    Ok(installed)
}
