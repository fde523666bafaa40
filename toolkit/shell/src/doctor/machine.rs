//! The machine as `doctor` sees it.

use std::env;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::needs::Probe;
use crate::process::Run;

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
                if self.file(path).exists() {
                    Ok((*path).into())
                } else {
                    Err(format!("no {path}"))
                }
            }
            Probe::Version { program, args, least, prefix } => {
                let path = self.program(program).ok_or("not in PATH")?;
                let text = Run::new(&path, "/").args(*args).read().map_err(|error| error.to_string())?;
                let version = text.split_whitespace().find_map(|word| {
                    let version = word.strip_prefix(prefix)?;
                    version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
                });
                let version = version.ok_or_else(|| format!("{} says {text:?}", path.display()))?;
                if numbers(version) >= *least {
                    return Ok(version.to_owned());
                }
                let least: Vec<String> = least.iter().map(u32::to_string).collect();
                Err(format!("{version}, older than {}", least.join(".")))
            }
        }
    }

    fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let executable = |path: &Path| {
            fs_err::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        env::split_paths(&self.path).map(|folder| folder.join(name)).find(|path| executable(path))
    }
}

/// [1, 26, 8] of `1.26.8`, [1, 27] of `1.27rc1`.
fn numbers(version: &str) -> Vec<u32> {
    let leading = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().ok()
    };
    version.split('.').map_while(leading).collect()
}
