//! The machine as `doctor` sees it.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::needs::{LEAST_RUST, Probe};
use crate::process::Run;
use crate::rust;

/// Where programs and files are looked for, and who we are.
pub(super) struct Machine {
    /// As `$PATH`.
    pub(super) path: OsString,
    /// In front of absolute paths; `/` but in tests.
    pub(super) root: PathBuf,
    /// We may install packages.
    pub(super) superuser: bool,
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Self {
        Self {
            path: env::var_os("PATH").unwrap_or_default(),
            root: "/".into(),
            superuser: nix::unistd::geteuid().is_root(),
        }
    }

    /// Root on a Debian.
    pub(super) fn can_install(&self) -> bool {
        self.superuser && self.file("/etc/debian_version").exists() && self.program("apt-get").is_some()
    }

    /// What is there (a version or a path), or else what is wrong.
    pub(super) fn find(&self, probe: &Probe) -> Result<String, String> {
        match probe {
            Probe::Program(name) => {
                self.program(name).map(|path| path.display().to_string()).ok_or_else(|| "not in PATH".into())
            }
            Probe::File(path) => {
                let shown = path.display().to_string();
                if self.file(path).exists() { Ok(shown) } else { Err(format!("no {shown}")) }
            }
            Probe::Version { program, args, least, prefix } => {
                version(&self.program(program).ok_or("not in PATH")?, args, least, prefix)
            }
            Probe::Rust(platform) => {
                let rustc = self.program("rustc").ok_or("no rustc in PATH")?;
                let found = rust::compiler(&rustc, Path::new("/"), &self.root, *platform);
                let found = found.map_err(|error| error.to_string())?;
                let rustc = found.ok_or_else(|| format!("no library of {}", platform.triple()))?;
                version(&rustc, &["--version"], &LEAST_RUST, "")
            }
        }
    }

    fn file(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path.as_ref().strip_prefix("/").unwrap_or(path.as_ref()))
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let executable = |path: &Path| {
            fs_err::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        env::split_paths(&self.path).map(|folder| folder.join(name)).find(|path| executable(path))
    }
}

/// The version that the command says, if it is not older than `least`; else what is wrong.
fn version(program: &Path, args: &[&str], least: &[u32], prefix: &str) -> Result<String, String> {
    let text = Run::new(program, "/").args(args).read().map_err(|error| error.to_string())?;
    let version = text.split_whitespace().find_map(|word| {
        let version = word.strip_prefix(prefix)?;
        version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
    });
    let version = version.ok_or_else(|| format!("{} says {text:?}", program.display()))?;
    if numbers(version).as_slice() >= least {
        return Ok(version.to_owned());
    }
    let least: Vec<String> = least.iter().map(u32::to_string).collect();
    Err(format!("{version}, older than {}", least.join(".")))
}

/// [1, 26, 8] of `1.26.8`, [1, 27] of `1.27rc1`.
fn numbers(version: &str) -> Vec<u32> {
    let leading = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().ok()
    };
    version.split('.').map_while(leading).collect()
}
