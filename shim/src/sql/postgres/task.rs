//! Rows of the collector's tasks.

use ::bytes::Bytes;
use tokio_postgres::Row;

use super::link::get;
use super::row::{bytes, text};
use crate::clock::StoreTime;
use crate::engine::Error;
use crate::gc::{Place, Progress, Task, TaskKind, TaskState, Uid};
use crate::sql::codes;
use crate::sql::failure::{Failure, Result};

/// The columns that [`task`] reads.
pub(super) const TASK: &str = "id, kind, uid, key, hidden, cause_revision, created_at, state, not_before, swept,
    cursor_labelled, cursor_key, failures, attempts, reason";

/// The kind that a number in a column is.
pub(super) fn kind(row: &Row, column: usize) -> Result<TaskKind> {
    let number: i64 = get(row, column)?;
    codes::kind(number).ok_or_else(|| unreadable("kind", number))
}

/// The state that a number in a column is.
pub(super) fn state(row: &Row, column: usize) -> Result<TaskState> {
    let number: i64 = get(row, column)?;
    codes::state(number).ok_or_else(|| unreadable("state", number))
}

/// The UID in a column.
pub(super) fn uid(row: &Row, column: usize) -> Result<Uid> {
    let unreadable = || Failure::Final(Error::Damaged("a UID in the database can't be read".into()));
    Uid::from_blob(get(row, column)?).ok_or_else(unreadable)
}

fn unreadable(what: &str, number: i64) -> Failure {
    Failure::Final(Error::Damaged(format!("a task of the collector has the {what} {number}")))
}

/// Reads a row of the columns [`TASK`].
pub(super) fn task(row: &Row) -> Result<Task> {
    let labelled: Option<bool> = get(row, 10)?;
    let key: Option<&[u8]> = get(row, 11)?;
    let cursor = key.zip(labelled);
    Ok(Task {
        id: get(row, 0)?,
        kind: kind(row, 1)?,
        uid: uid(row, 2)?,
        key: bytes(row, 3)?,
        hidden: get(row, 4)?,
        cause_revision: get(row, 5)?,
        created_at: StoreTime::from_millis(get(row, 6)?),
        progress: Progress {
            state: state(row, 7)?,
            swept: get(row, 9)?,
            cursor: cursor.map(|(key, labelled)| Place { labelled, key: Bytes::copy_from_slice(key) }),
            failures: get(row, 12)?,
            attempts: get(row, 13)?,
            not_before: StoreTime::from_millis(get(row, 8)?),
            reason: text(row, 14)?,
        },
    })
}
