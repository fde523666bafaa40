//! A portion of the queue, with all that is needed to do it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Below, Known, Place, Progress, Task, Uid};
use crate::clock::StoreTime;

/// How much work to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// At most so many dependents.
    pub objects: usize,
    /// About so many bytes of values.
    pub bytes: usize,
    /// Instead of what is due: foreground tasks with a greater number than this, without dependents.
    pub foreground_after: Option<i64>,
}

/// A portion of the queue, read in the transaction that does it.
#[derive(Debug, Default)]
pub struct Work {
    /// What is to be done, in order.
    pub steps: Vec<Step>,
    /// What the store knows of the owners of all dependents.
    pub known: BTreeMap<Uid, Known>,
    /// What it knows of the dependents of those dependents that may have to be deleted in the foreground.
    pub below: BTreeMap<Uid, Below>,
    /// When there is more to do; `None` if the queue is empty or waits.
    pub due: Option<StoreTime>,
}

/// A piece of a task.
#[derive(Debug)]
pub struct Step {
    /// The task.
    pub task: Task,
    /// The key of the live object that has the task's UID.
    pub owner: Option<Bytes>,
    /// The next dependents; for a recheck the object itself.
    pub dependents: Vec<Dependent>,
    /// Whether these are the last.
    pub last: bool,
}

/// A dependent of an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependent {
    /// Its place among them.
    pub place: Place,
    /// Whether it blocks a foreground deletion of the owner.
    pub block: bool,
}

/// What became of a task.
#[derive(Debug)]
pub struct TaskChange {
    /// The task.
    pub id: i64,
    /// How far it is; `None` if it is done.
    pub progress: Option<Progress>,
}
