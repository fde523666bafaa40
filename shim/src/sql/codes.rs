//! Kinds and states as numbers, the same in all databases.

use super::session::IndexState;
use crate::gc::{TaskKind, TaskState};

/// The numbers that statements name.
pub(super) const CASCADE: i64 = of_kind(TaskKind::Cascade);
pub(super) const ORPHAN: i64 = of_kind(TaskKind::Orphan);
pub(super) const FOREGROUND: i64 = of_kind(TaskKind::Foreground);
pub(super) const RECHECK: i64 = of_kind(TaskKind::Recheck);
pub(super) const READY: i64 = of_state(TaskState::Ready);
pub(super) const WAITING: i64 = of_state(TaskState::Waiting);
pub(super) const PARKED: i64 = of_state(TaskState::Parked);
pub(super) const DROPPING: i64 = of_index(IndexState::Dropping);

/// How the kind of a task is stored.
pub(super) const fn of_kind(kind: TaskKind) -> i64 {
    match kind {
        TaskKind::Cascade => 1,
        TaskKind::Orphan => 2,
        TaskKind::Foreground => 3,
        TaskKind::Recheck => 4,
    }
}

/// The kind of a task that is stored so.
pub(super) fn kind(number: i64) -> Option<TaskKind> {
    TaskKind::ALL.into_iter().find(|kind| of_kind(*kind) == number)
}

/// How the state of a task is stored.
pub(super) const fn of_state(state: TaskState) -> i64 {
    match state {
        TaskState::Ready => 0,
        TaskState::Waiting => 1,
        TaskState::Parked => 2,
    }
}

/// The state of a task that is stored so.
pub(super) fn state(number: i64) -> Option<TaskState> {
    TaskState::ALL.into_iter().find(|state| of_state(*state) == number)
}

/// How the state of a field index is stored. All that are not being removed come before [`DROPPING`].
pub(super) const fn of_index(state: IndexState) -> i64 {
    match state {
        IndexState::Building => 0,
        IndexState::Ready => 1,
        IndexState::Dropping => 2,
    }
}

/// The state of a field index that is stored so.
pub(super) fn index(number: i64) -> Option<IndexState> {
    IndexState::ALL.into_iter().find(|state| of_index(*state) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Databases that exist hold these numbers, and so do the conditions of their indexes.
    #[test]
    fn numbers_stay() {
        assert_eq!(TaskKind::ALL.map(of_kind), [1, 2, 3, 4]);
        assert_eq!(TaskState::ALL.map(of_state), [0, 1, 2]);
        assert_eq!(IndexState::ALL.map(of_index), [0, 1, 2]);
        assert_eq!((0..6).filter_map(kind).collect::<Vec<_>>(), TaskKind::ALL);
        assert_eq!((-1..5).filter_map(state).collect::<Vec<_>>(), TaskState::ALL);
        assert_eq!((-1..5).filter_map(index).collect::<Vec<_>>(), IndexState::ALL);
    }
}
