//! What the collector did, one line of JSON each: kube-apiserver does not see it, so this is the only record besides
//! the events.

use std::fs::File;
use std::io::{LineWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::{TaskKind, Uid};
use crate::clock::WallTime;

/// A change that the collector made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its revision.
    pub revision: i64,
    /// The key of the object.
    pub key: Bytes,
    /// The object's UID; empty if it has none.
    pub uid: String,
    /// What was done: `delete`, `mark`, `mark_foreground`, `drop_references`, `orphan`, `finish`, `release`.
    pub action: &'static str,
    /// The work that it was done for.
    pub cause: TaskKind,
    /// The owner that the work is about.
    pub cause_uid: Uid,
    /// The key that the owner has or had.
    pub cause_key: Bytes,
}

/// Where the entries go. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// `None`: to the log.
    file: Option<Arc<Mutex<LineWriter<File>>>>,
}

impl Audit {
    /// Appends to a file, creating it if need be.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn to_file(path: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self { file: Some(Arc::new(Mutex::new(LineWriter::new(file)))) })
    }

    /// Writes entries whose changes are durable. A file that can't be written is told in the log, with the entry.
    pub fn write(&self, entries: &[Entry], now: WallTime) {
        for entry in entries {
            let line = entry.line(now);
            let Some(file) = &self.file else {
                tracing::info!(target: "sluice_shim::gc::audit", "{line}");
                continue;
            };
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = writeln!(file, "{line}") {
                tracing::error!(%error, %line, "the audit log of the collector can't be written");
            }
        }
    }
}

impl Entry {
    fn line(&self, now: WallTime) -> String {
        let policy = match self.cause {
            TaskKind::Cascade | TaskKind::Recheck => "Background",
            TaskKind::Foreground => "Foreground",
            TaskKind::Orphan => "Orphan",
        };
        serde_json::json!({
            "ts": now.millis(),
            "revision": self.revision,
            "key": String::from_utf8_lossy(&self.key),
            "uid": self.uid,
            "action": self.action,
            "cause": self.cause.name(),
            "cause_uid": self.cause_uid.to_string(),
            "cause_key": String::from_utf8_lossy(&self.cause_key),
            "policy": policy,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line_of_json_and_a_file_is_appended_to() {
        let entry = Entry {
            revision: 7,
            key: Bytes::from_static(b"/registry/example.com/shirts/a/\"b\""),
            uid: "u".to_owned(),
            action: "delete",
            cause: TaskKind::Cascade,
            cause_uid: Uid::parse("6ba7b810-9dad-11d1-80b4-00c04fd430c8").unwrap(),
            cause_key: Bytes::from_static(b"/registry/configmaps/a/o"),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        Audit::to_file(&path).unwrap().write(std::slice::from_ref(&entry), WallTime::from_millis(1));
        Audit::to_file(&path).unwrap().write(&[Entry { revision: 8, ..entry }], WallTime::from_millis(2));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["ts"], &lines[1]["revision"]), (&1.into(), &8.into()));
        assert_eq!(lines[0]["key"], "/registry/example.com/shirts/a/\"b\"");
        assert_eq!(lines[0]["cause_uid"], "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
        assert_eq!((&lines[0]["action"], &lines[0]["policy"]), (&"delete".into(), &"Background".into()));
    }
}
