//! What goes wrong with a cluster, and what to do about it.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::port;
use sluice_shell::error::Explain;

/// How much of a log's end is looked at. Bytes.
const LOG_END: u64 = 32 * 1024;

/// How many lines of it are shown.
const LOG_LINES: usize = 15;

/// A port of the cluster can't be listened on, mostly because another process does.
#[derive(Debug, thiserror::Error)]
#[error("{component} cannot listen on 127.0.0.1:{port}: {why}")]
pub(crate) struct PortTaken {
    component: String,
    port: u16,
    why: String,
}

impl PortTaken {
    /// What `component` wanted, and why that was refused.
    pub(super) fn of(component: &str, port: u16, why: &std::io::Error) -> Self {
        let why = match (why.kind(), port::holder(port)) {
            (std::io::ErrorKind::AddrInUse, Some(holder)) => format!("{holder} listens there"),
            (std::io::ErrorKind::AddrInUse, None) => "another process listens there".into(),
            _ => why.to_string(),
        };
        Self { component: component.to_owned(), port, why }
    }
}

impl Explain for PortTaken {
    fn hint(&self) -> Option<String> {
        Some("stop what listens there, or choose another port with `--port` (0: any that is free)".into())
    }
}

/// A process of the cluster ended, or never said that it is ready.
#[derive(Debug, thiserror::Error)]
#[error("{component} {reason}{}", shown(tail))]
pub struct NotReady {
    pub(super) component: String,
    /// Why it is not.
    pub reason: Reason,
    pub(super) log: PathBuf,
    pub(super) tail: Vec<String>,
}

/// Why it is not ready.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It ended by itself.
    #[error("ended right after its start")]
    Ended,
    /// It runs, but its probe says no.
    #[error("is not ready after {} s ({last})", limit.as_secs())]
    TimedOut {
        /// How long it was given.
        limit: Duration,
        /// The last answer of its probe.
        last: String,
    },
}

impl Explain for NotReady {
    fn hint(&self) -> Option<String> {
        let full = |line: &String| line.contains("database space exceeded") || line.contains("No space left on device");
        let cause = if self.tail.iter().any(full) { "the disk is full (`df -h` shows which)\n" } else { "" };
        let log = self.log.display();
        Some(format!("{cause}the whole log is in {log}; when the cause is gone, run the same command again"))
    }
}

/// The cluster runs, but not as it is now asked for.
#[derive(Debug, thiserror::Error)]
#[error("the cluster in {} runs with other settings ({difference})", folder.display())]
pub(crate) struct OtherSettings {
    pub(super) folder: PathBuf,
    pub(super) difference: String,
}

impl Explain for OtherSettings {
    fn hint(&self) -> Option<String> {
        let folder = self.folder.display();
        Some(format!(
            "stop it first (its data stays):\ncargo xtask down --keep-data --dir {folder}\nor give the new one another folder with `--dir`"
        ))
    }
}

/// The cluster's objects are somewhere else than where it is now to keep them.
#[derive(Debug, thiserror::Error)]
#[error("the cluster in {} keeps its objects in {is}; {wanted} has none of them", folder.display())]
pub(crate) struct OtherPlace {
    pub(super) folder: PathBuf,
    pub(super) is: String,
    pub(super) wanted: String,
    /// The flags that it was last started with.
    pub(super) before: String,
}

impl Explain for OtherPlace {
    fn hint(&self) -> Option<String> {
        let (folder, before) = (self.folder.display(), &self.before);
        Some(format!(
            "start it as before, {before}; or give the new one another folder with `--dir`; or remove the \
             old one with its objects:\ncargo xtask down --dir {folder}\nTo move the objects to a database that runs \
             already, move them first, then name it with `--backend`"
        ))
    }
}

/// A cluster can't be in the folder.
#[derive(Debug, thiserror::Error)]
#[error("no cluster can be in {}: {cause}", folder.display())]
pub(crate) struct NoFolder {
    pub(super) folder: PathBuf,
    pub(super) cause: String,
}

impl Explain for NoFolder {
    fn hint(&self) -> Option<String> {
        Some("name another folder with `--dir`; one that does not exist is created".into())
    }
}

/// The folder holds files of somebody else.
#[derive(Debug, thiserror::Error)]
#[error("{} holds no cluster, but files where a cluster keeps its own: {}", folder.display(), files.join(", "))]
pub(crate) struct Foreign {
    pub(super) folder: PathBuf,
    pub(super) files: Vec<&'static str>,
}

impl Explain for Foreign {
    fn hint(&self) -> Option<String> {
        Some("name a new or empty folder with `--dir`: `down` removes what is in these places".into())
    }
}

/// There is no cluster in the folder.
#[derive(Debug, thiserror::Error)]
#[error("there is no cluster in {}", .0.display())]
pub(crate) struct NoCluster(pub(super) PathBuf);

impl Explain for NoCluster {
    fn hint(&self) -> Option<String> {
        let folder = self.0.display();
        Some(format!(
            "start one there:\ncargo xtask up --dir {folder}\nor name the folder of the one that is meant with `--dir`"
        ))
    }
}

/// Another run of the toolkit is at work in the folder.
#[derive(Debug, thiserror::Error)]
#[error("another `cargo xtask up` or `down` is at work in {}", .0.display())]
pub(crate) struct Busy(pub(super) PathBuf);

impl Explain for Busy {
    fn hint(&self) -> Option<String> {
        Some("wait until it has ended".into())
    }
}

fn shown(tail: &[String]) -> String {
    if tail.is_empty() { String::new() } else { format!("; its last words:\n{}", tail.join("\n")) }
}

/// The last lines that a process logged since `from` (bytes into the file).
pub(crate) fn log_tail(log: &Path, from: u64) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = fs_err::File::open(log)?;
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(LOG_END))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    // The log only explains another error: that it can't be read must not hide that one.
    let text = read().unwrap_or_default();
    let lines: Vec<String> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].to_vec()
}
