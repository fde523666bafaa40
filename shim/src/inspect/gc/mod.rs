//! Looking at the garbage collector's work.

mod explain;
mod status;

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::{Context as _, Result};
use clap::builder::NonEmptyStringValueParser;

use crate::clock::StoreTime;
use crate::config::{DatabaseFlags, group, ignored_kind};
use crate::endpoint::Endpoint;
use crate::gc::{Rules, Task, TaskState};
use crate::sql;

/// Looks at the garbage collector's work.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Gc {
    /// Say what is to be collected, and what can't be.
    Status(Status),
    /// Say what the collector thinks of an object: who sees it, what becomes of each owner reference, what would happen
    /// now.
    Explain(Explain),
}

/// The flags of `gc status`.
#[derive(Debug, Clone, clap::Args)]
pub struct Status {
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseFlags,
}

/// The flags of `gc explain`.
#[derive(Debug, Clone, clap::Args)]
pub struct Explain {
    /// The object's key, such as /registry/stable.example.com/shirts/shop/blue.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub key: String,

    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseFlags,

    /// As the server was given it: groups whose objects the controller manager sees in spite of the label.
    #[arg(long, env = "SLUICE_GC_TYPED_GROUPS", value_delimiter = ',', value_parser = group, value_name = "GROUPS")]
    pub gc_typed_groups: Option<Vec<String>>,

    /// As the server was given it: kinds that own nothing and are owned by nothing, as group/Kind.
    #[arg(long, env = "SLUICE_GC_IGNORED", value_delimiter = ',', value_parser = ignored_kind, value_name = "KINDS")]
    pub gc_ignored: Option<Vec<String>>,
}

impl Gc {
    /// Looks, and prints what there is.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        match self {
            Self::Status(flags) => {
                let endpoint = existing(&flags.database)?;
                let overview = sql::gc_overview(&endpoint).with_context(|| format!("--endpoint: read {endpoint}"))?;
                status::print(out, &overview)?;
            }
            Self::Explain(flags) => {
                let endpoint = existing(&flags.database)?;
                let view = sql::gc_view(&endpoint, flags.key.as_bytes())
                    .with_context(|| format!("--endpoint: read {endpoint}"))?;
                explain::print(out, &flags.key, &view, &flags.rules())?;
            }
        }
        Ok(())
    }
}

impl Explain {
    fn rules(&self) -> Rules {
        let set = |given: &Option<Vec<String>>, usual: BTreeSet<String>| {
            given.as_ref().map_or(usual, |given| given.iter().cloned().collect())
        };
        let usual = Rules::default();
        Rules {
            typed_groups: set(&self.gc_typed_groups, usual.typed_groups),
            ignored: set(&self.gc_ignored, usual.ignored),
            ..usual
        }
    }
}

fn existing(database: &DatabaseFlags) -> Result<Endpoint> {
    let endpoint = database.endpoint()?;
    endpoint.must_exist()?;
    Ok(endpoint)
}

/// A task in one line.
fn line(task: &Task, now: StoreTime) -> String {
    let age = now.since(task.created_at).as_secs();
    let progress = &task.progress;
    let detail = match progress.state {
        TaskState::Ready if progress.cursor.is_some() => ", under way".to_owned(),
        TaskState::Ready => String::new(),
        TaskState::Waiting => " for a dependent that blocks".to_owned(),
        TaskState::Parked => format!(", tried {} times: {}", progress.attempts, progress.reason),
    };
    let (kind, state, key) = (task.kind.name(), progress.state.name(), task.key.escape_ascii());
    format!("{kind} of {key}, revision {}, {age} s old: {state}{detail}", task.cause_revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gc::{Place, Progress, TaskKind, Uid};

    #[test]
    fn a_task_tells_why_it_does_not_go_on() {
        let key = bytes::Bytes::from_static(b"/registry/example.com/shirts/a/b");
        let task = |progress| Task {
            id: 1,
            kind: TaskKind::Foreground,
            uid: Uid::parse("u").expect("a UID"),
            key: key.clone(),
            hidden: true,
            cause_revision: 7,
            created_at: StoreTime::from_millis(-500),
            progress,
        };
        let start = "foreground of /registry/example.com/shirts/a/b, revision 7, 77 s old: ";
        let at =
            |state| Progress { state, attempts: 3, reason: "x can't be changed".to_owned(), ..Progress::default() };
        let cursor = Some(Place { labelled: true, key: key.clone() });
        for (progress, end) in [
            (at(TaskState::Ready), "ready"),
            (Progress { cursor, ..at(TaskState::Ready) }, "ready, under way"),
            (at(TaskState::Waiting), "waiting for a dependent that blocks"),
            (at(TaskState::Parked), "parked, tried 3 times: x can't be changed"),
        ] {
            assert_eq!(line(&task(progress), StoreTime::from_millis(77_000)), format!("{start}{end}"));
        }
    }
}
