//! What the clients saw.

use std::collections::HashMap;

use bytes::Bytes;
use sluice_shim::pb::mvccpb::{Event, KeyValue};

/// All that happened in one round.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
    /// Every event of the store with its previous value, watched from revision 1 on. Nothing is compacted that this
    /// watch has not heard of.
    pub(crate) events: Vec<Event>,
    /// When each revision was heard of, in milliseconds of [`Operation::sent`]'s clock.
    pub(crate) heard: HashMap<i64, u64>,
    pub(crate) watches: Vec<WatchRecord>,
}

/// One request with its outcome. The times are ticks of one counter, so they are all different.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    #[expect(dead_code, reason = "shown when something is wrong")]
    pub(crate) client: usize,
    /// Before it was sent.
    pub(crate) began: u64,
    /// After the outcome was known.
    pub(crate) ended: u64,
    /// The same two in milliseconds since the round began.
    pub(crate) sent: u64,
    pub(crate) done: u64,
    pub(crate) call: Call,
    pub(crate) outcome: Outcome,
}

/// The half-open range of keys as etcd has it: without an end it is one key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Keys {
    pub(crate) from: Bytes,
    pub(crate) end: Bytes,
}

impl Keys {
    pub(crate) fn one(key: Bytes) -> Self {
        Self { from: key, end: Bytes::new() }
    }

    pub(crate) fn contains(&self, key: &Bytes) -> bool {
        if self.end.is_empty() { *key == self.from } else { *key >= self.from && *key < self.end }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Call {
    /// At a revision, or at the newest if that is 0.
    Range {
        keys: Keys,
        revision: i64,
    },
    /// Every value is written once only. The previous one is asked for.
    /// Attached to the lease, if that is not 0.
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Delete {
        keys: Keys,
    },
    /// Writes if the key's mod revision is the expected one, otherwise reads the key.
    Cas {
        key: Bytes,
        expected: i64,
        writes: Vec<Write>,
    },
    /// Begins a watch from now on; the header says after which revision.
    Watch {
        keys: Keys,
    },
    /// Begins a watch of all keys at a revision that has been, for the events of that revision.
    Replay {
        revision: i64,
    },
    /// Each lease is granted once. The time is in seconds.
    Grant {
        lease: i64,
        ttl: u64,
    },
    /// Deletes the keys that are attached to it.
    Revoke {
        lease: i64,
    },
    Compact {
        revision: i64,
    },
}

/// A write within a transaction; one a key.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Put(Bytes, Bytes),
    Delete(Bytes),
}

impl Write {
    pub(crate) fn key(&self) -> &Bytes {
        let (Self::Put(key, _) | Self::Delete(key)) = self;
        key
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    /// With the header's revision.
    Answered(i64, Answer),
    /// The connection broke because the server was killed, or the database's server was killed and the error says that
    /// nothing is known: it happened or it did not.
    Unknown,
    /// An error that the call may get.
    Refused(Refusal),
    /// An error that no kill explains.
    Failed(String),
}

/// What etcd refuses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Refusal {
    /// The revision is compacted.
    Compacted,
    /// There is no such lease.
    NoLease,
    /// The database's server does not answer, and nothing was done.
    NoDatabase,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Range {
        kvs: Vec<KeyValue>,
        count: i64,
    },
    Put(Option<KeyValue>),
    /// What was deleted.
    Delete(Vec<KeyValue>),
    /// The comparison was true; what was before each write.
    Succeeded(Vec<Option<KeyValue>>),
    /// The comparison was false; the key as it was.
    NotEqual(Option<KeyValue>),
    Watching,
    /// The events of the revision, without previous values.
    Replayed(Vec<Event>),
    Granted,
    Revoked,
    Compacted,
}

/// A watch with all that it got, across the server's deaths.
#[derive(Debug, Clone)]
pub(crate) struct WatchRecord {
    pub(crate) keys: Keys,
    /// Whether previous values were asked for.
    pub(crate) prev_kv: bool,
    /// The first revision of which it was to hear.
    pub(crate) from: i64,
    pub(crate) messages: Vec<Message>,
    /// An error that no kill explains.
    pub(crate) failed: Option<String>,
}

/// What a watch got.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// With the header's revision.
    Events(i64, Vec<Event>),
    /// All events up to this revision have been sent.
    Progress(i64),
    /// All up to this revision is compacted; the watch went on after it.
    Gap(i64),
}
