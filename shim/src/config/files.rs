//! Files and folders that flags name: looked at before anything is opened.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{Config, ConfigError};

impl Config {
    /// Checks that the files and folders can be used for what they are meant for. Leaves nothing behind.
    ///
    /// # Errors
    /// For the first that can't.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let read = [
            ("--cert-file", &self.cert_file),
            ("--key-file", &self.key_file),
            ("--trusted-ca-file", &self.trusted_ca_file),
            ("--peer-trusted-ca-file", &self.peer_trusted_ca_file),
            ("--peer-cert-file", &self.peer_cert_file),
            ("--peer-key-file", &self.peer_key_file),
            ("--definitions-cacert", &self.definitions.definitions_cacert),
            ("--definitions-cert", &self.definitions.definitions_cert),
            ("--definitions-key", &self.definitions.definitions_key),
        ];
        for (flag, path) in read {
            if let Some(path) = path {
                readable(path)
                    .map_err(|error| refused(flag, path, &error, "name a PEM file that this user can read"))?;
            }
        }
        if let Some(folder) = &self.snapshot_dir {
            let hint = "name a folder in which this user can make files";
            writable(folder).map_err(|error| refused("--snapshot-dir", folder, &error, hint))?;
        }
        Ok(())
    }
}

fn refused(flag: &str, path: &Path, error: &io::Error, hint: &str) -> ConfigError {
    ConfigError::here(format!("{flag} {} can't be used: {error}", path.display()), hint)
}

/// A file that can be read. One that is none may block whoever opens it.
fn readable(path: &Path) -> io::Result<()> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    File::open(path).map(drop)
}

/// A folder in which files can be made.
fn writable(folder: &Path) -> io::Result<()> {
    if !fs::metadata(folder)?.is_dir() {
        return Err(io::Error::other("it is no folder"));
    }
    let probe = folder.join(format!(".sluice-probe-{}", std::process::id()));
    File::create_new(&probe)?;
    fs::remove_file(&probe)
}
