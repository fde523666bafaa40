//! Whether a program is up to date.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::pipeline::Binary;
use sluice_shell::error::Result;
use sluice_shell::platform::Platform;

/// What a program is made from.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    /// sha256 of everything.
    pub(super) digest: String,
    /// What it is for.
    pub(super) platform: Platform,
    /// The compiler among it, for reports.
    pub(super) compiler: String,
}

/// What is known about a program that was built, beside it in `.stamps/<name>.json`.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Stamp {
    /// sha256 of everything it was made from.
    inputs: String,
    /// The file's state when it was stamped: a file that was touched since is built again.
    file: FileState,
    version: String,
    sha256: String,
}

#[derive(Debug, Deserialize, Serialize, PartialEq, Eq)]
struct FileState {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    fn of(path: &Path) -> Result<Self> {
        let meta = fs_err::metadata(path)?;
        Ok(Self {
            size: meta.size(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Stamp {
    /// The program, if it was made from these inputs and is as it was made.
    pub(super) fn current(path: &Path, inputs: &Inputs) -> Option<Binary> {
        let stamp: Self = serde_json::from_str(&fs_err::read_to_string(Self::file(path)).ok()?).ok()?;
        let fits = stamp.inputs == inputs.digest && FileState::of(path).ok()? == stamp.file;
        fits.then(|| stamp.binary(path, inputs, 0.0))
    }

    /// Stamps a program that was just made.
    pub(super) fn make(path: &Path, inputs: &Inputs, version: String, seconds: f64) -> Result<Binary> {
        let digest = inputs.digest.clone();
        let stamp = Self { inputs: digest, file: FileState::of(path)?, version, sha256: sha256_of(path)? };
        let file = Self::file(path);
        if let Some(folder) = file.parent() {
            fs_err::create_dir_all(folder)?;
        }
        fs_err::write(file, serde_json::to_string_pretty(&stamp)?)?;
        Ok(stamp.binary(path, inputs, seconds))
    }

    fn file(path: &Path) -> PathBuf {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.with_file_name(".stamps").join(format!("{name}.json"))
    }

    fn binary(self, path: &Path, inputs: &Inputs, seconds: f64) -> Binary {
        Binary {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            path: path.to_owned(),
            version: self.version,
            size: self.file.size,
            sha256: self.sha256,
            platform: inputs.platform,
            compiler: inputs.compiler.clone(),
            seconds,
        }
    }
}

/// Digest of a list of texts; the list `["ab"]` differs from `["a", "b"]`.
pub(super) fn digest<S: AsRef<str>>(parts: impl IntoIterator<Item = S>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.as_ref().len() as u64).to_le_bytes());
        hash.update(part.as_ref());
    }
    hex(&hash.finalize())
}

/// sha256 of a file, hex.
pub(super) fn sha256_of(path: &Path) -> Result<String> {
    let mut file = fs_err::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
