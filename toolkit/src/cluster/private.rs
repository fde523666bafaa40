//! Files that only their owner may read: keys, and connection strings with passwords.

use std::io::{Read as _, Write as _};
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt as _;

use sluice_shell::error::Result;

/// Writes a file with mode 0600, whole or not at all.
///
/// # Errors
/// When it can't be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    if Path::new(&unfinished).exists() {
        // It may have been made with another mode.
        fs_err::remove_file(&unfinished)?;
    }
    let mut file = fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs_err::rename(&unfinished, path)?;
    Ok(())
}

/// A new secret: 32 hexadecimal digits, which need no quotes anywhere.
///
/// # Errors
/// When the system gives no random bytes.
pub(super) fn random() -> Result<String> {
    let mut bytes = [0; 16];
    fs_err::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
