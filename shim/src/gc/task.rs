//! The collector's work: a queue in the database.

use std::time::Duration;

use bytes::Bytes;

use super::Uid;
use crate::clock::StoreTime;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskKind {
    /// Look at each dependent of an object that is gone, or whose dependents are the collector's from now on.
    Cascade,
    /// Take an object's references away from its dependents, then let it go.
    Orphan,
    /// Delete an object's dependents, then let it go when those that block it are gone.
    Foreground,
    /// Look at one object.
    Recheck,
}

impl TaskKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cascade, Self::Orphan, Self::Foreground, Self::Recheck];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cascade => "cascade",
            Self::Orphan => "orphan",
            Self::Foreground => "foreground",
            Self::Recheck => "recheck",
        }
    }
}

/// Whether a task can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskState {
    /// It can.
    Ready,
    /// A dependent blocks it; when that changes it is ready.
    Waiting,
    /// Some dependent could not be changed. It is tried again, ever less often.
    Parked,
}

impl TaskState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Waiting, Self::Parked];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
        }
    }
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its number.
    pub id: i64,
    /// What is to be done.
    pub kind: TaskKind,
    /// The owner; for a recheck the object itself.
    pub uid: Uid,
    /// The key that the object has or had.
    pub key: Bytes,
    /// Whether it was hidden when the task came up.
    pub hidden: bool,
    /// The revision that caused it.
    pub cause_revision: i64,
    /// When it came up.
    pub created_at: StoreTime,
    /// How far it is.
    pub progress: Progress,
}

/// An object that was deleted not long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Its number.
    pub id: i64,
    /// What the object was called.
    pub uid: Uid,
    /// The key that it had.
    pub key: Bytes,
    /// Whether it was in a namespace.
    pub namespaced: bool,
    /// The revision that deleted it.
    pub revision: i64,
    /// When that was.
    pub at: StoreTime,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Whether it can go on.
    pub state: TaskState,
    /// Whether all dependents were looked at once, so that only those that block are left to wait for.
    pub swept: bool,
    /// The last dependent that was looked at.
    pub cursor: Option<Place>,
    /// How many dependents could not be changed since the beginning.
    pub failures: i64,
    /// How often it was parked.
    pub attempts: i64,
    /// Not to be done before this moment.
    pub not_before: StoreTime,
    /// Why it is parked.
    pub reason: String,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            state: TaskState::Ready,
            swept: false,
            cursor: None,
            failures: 0,
            attempts: 0,
            not_before: StoreTime::default(),
            reason: String::new(),
        }
    }
}

/// The place of a dependent among those of its owner: first those without the label, then those with it, in order of
/// key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whether it has the label.
    pub labelled: bool,
    /// Its key.
    pub key: Bytes,
}

/// The first pause of a task that was parked.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one, but for what spreads them.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

impl Progress {
    /// It goes on behind a dependent, when others had their turn.
    pub fn go_on(&mut self, cursor: Option<Place>, now: StoreTime) {
        self.state = TaskState::Ready;
        self.cursor = cursor;
        self.not_before = now;
    }

    /// It begins again after a pause that grows. `jitter`: any number; it spreads tasks that were parked together.
    pub fn park(&mut self, now: StoreTime, jitter: i64) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.attempts.clamp(0, 16)).min(LONGEST_PAUSE);
        let spread = Duration::from_millis(jitter.unsigned_abs() % (pause.as_millis() as u64 / 4));
        self.state = TaskState::Parked;
        self.swept = false;
        self.cursor = None;
        self.failures = 0;
        self.attempts += 1;
        self.not_before = now.after(pause + spread);
    }
}

/// What the collector has to do, for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// How many tasks there are, by kind and state; those of which there are any.
    pub tasks: Vec<(TaskKind, TaskState, i64)>,
    /// When the oldest task came up.
    pub oldest: Option<StoreTime>,
    /// How many deleted objects are remembered.
    pub tombstones: i64,
    /// How many values can't be read.
    pub opaque: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_five_minutes() {
        let mut progress = Progress::default();
        let mut pauses = Vec::new();
        for jitter in 0..12 {
            let now = StoreTime::from_millis(1_000_000);
            progress.park(now, jitter * -77_777);
            pauses.push(progress.not_before.since(now).as_millis());
        }
        let expected = |nth: u32| 1000 * 2_u128.pow(nth).min(300);
        for (nth, pause) in (0..).zip(&pauses) {
            assert!((expected(nth)..expected(nth) * 5 / 4).contains(pause), "{nth}: {pause}");
        }
        assert_eq!((progress.state, progress.attempts), (TaskState::Parked, 12));
        progress.go_on(None, StoreTime::from_millis(5));
        assert_eq!((progress.state, progress.not_before), (TaskState::Ready, StoreTime::from_millis(5)));
    }
}
