//! What a database holds of the collector's business, for people.

use bytes::Bytes;

use super::{Below, Dependent, Known, Status, Task, Uid};
use crate::clock::StoreTime;

/// The queue and what is around it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overview {
    /// The revision that was looked at.
    pub revision: i64,
    /// How late it was on the store's clock when that was last kept.
    pub now: StoreTime,
    /// Numbers of tasks, tombstones and unreadable values.
    pub status: Status,
    /// The parked tasks that came up first.
    pub parked: Vec<Task>,
    /// How many UIDs labelled objects name as their owners that are not and were not lately in the database.
    pub unknown_owners: i64,
    /// How many references of labelled objects name one of those.
    pub unknown_references: i64,
}

/// What is known around one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The revision that was looked at.
    pub revision: i64,
    /// How late it was on the store's clock when that was last kept.
    pub now: StoreTime,
    /// The value and its revision; `None` if the key is not there.
    pub live: Option<(Bytes, i64)>,
    /// The UID that the key's last object had, with the revision that deleted it, if that is remembered.
    pub deleted: Option<(Uid, i64)>,
    /// What is known of each UID that the object names as an owner.
    pub owners: Vec<(Uid, Known)>,
    /// What is known of its dependents.
    pub below: Below,
    /// How many dependents it has without the label, and with it.
    pub dependents: (i64, i64),
    /// The first of them.
    pub first_dependents: Vec<Dependent>,
    /// The tasks about it.
    pub tasks: Vec<Task>,
}
