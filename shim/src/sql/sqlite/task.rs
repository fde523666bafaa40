//! Rows of the collector's tasks.

use bytes::Bytes;

use crate::gc::{Place, Progress, Task, TaskKind, TaskState, Uid};
use crate::sql::codes;

/// The columns that [`task`] reads.
pub(super) const TASK: &str = "id, kind, uid, key, hidden, cause_revision, created_at, state, not_before, swept,
    cursor_labelled, cursor_key, failures, attempts, reason";

/// The kind and the state that are stored so; `None` if there is no such kind or state.
pub(super) fn of_numbers(kind: i64, state: i64) -> Option<(TaskKind, TaskState)> {
    codes::kind(kind).zip(codes::state(state))
}

/// Reads a row of the columns [`TASK`].
pub(super) fn task(row: &rusqlite::Row<'_>) -> rusqlite::Result<Task> {
    let unreadable = |column: usize| {
        rusqlite::Error::InvalidColumnType(column, "gc_task".to_owned(), rusqlite::types::Type::Integer)
    };
    let (kind, state) = of_numbers(row.get(1)?, row.get(7)?).ok_or_else(|| unreadable(1))?;
    let key = |column: usize| {
        row.get_ref(column)?.as_blob_or_null().map(|key| key.map(Bytes::copy_from_slice)).map_err(Into::into)
    };
    let cursor: rusqlite::Result<Option<Bytes>> = key(11);
    let labelled: Option<bool> = row.get(10)?;
    Ok(Task {
        id: row.get(0)?,
        kind,
        uid: Uid::from_blob(row.get_ref(2)?.as_blob()?).ok_or_else(|| unreadable(2))?,
        key: key(3)?.unwrap_or_default(),
        hidden: row.get(4)?,
        cause_revision: row.get(5)?,
        created_at: row.get(6)?,
        progress: Progress {
            state,
            swept: row.get(9)?,
            cursor: cursor?.zip(labelled).map(|(key, labelled)| Place { labelled, key }),
            failures: row.get(12)?,
            attempts: row.get(13)?,
            not_before: row.get(8)?,
            reason: row.get(14)?,
        },
    })
}
