//! A database in memory whose calls fail when a test wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::StoreTime;
use crate::engine::store::{Footprint, Lease, Queue, Row};
use crate::engine::{Error, KeyRange, LeaseId, Revision, StoreStatus};
use crate::gc::{Below, Dependent, Status, Task, Tombstone, Uid};
use crate::sql::failure::{Failure, Result};
use crate::sql::session::*;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Again,
    Lost,
    /// As [`Way::Lost`] unless it commits: then whether it happened all the same.
    Unknown(bool),
    Final,
}

impl Way {
    pub(super) const ALL: [Self; 5] = [Self::Again, Self::Lost, Self::Unknown(true), Self::Unknown(false), Self::Final];
}

/// What a commit stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) revision: Revision,
    /// The keys of its rows.
    pub(super) rows: Vec<Bytes>,
    /// Entries of the index.
    pub(super) postings: Vec<(i64, Bytes)>,
    /// How many objects the collector heard are gone.
    pub(super) gone: usize,
}

/// What is stored, and what goes wrong.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) revision: Revision,
    pub(super) batch: i64,
    pub(super) commits: Vec<Stored>,
    pub(super) numbers: BTreeMap<String, i64>,
    /// Which calls fail, by number, and how.
    pub(super) faults: BTreeMap<usize, Way>,
    /// How the next call fails that commits, and how all calls do.
    pub(super) commit_fails: Option<Way>,
    pub(super) all_fail: Option<Way>,
    /// How many calls there were, and which.
    pub(super) calls: Vec<&'static str>,
}

/// What the transaction under way has written.
#[derive(Debug, Clone, Default)]
struct Written {
    rows: Vec<Bytes>,
    postings: Vec<(i64, Bytes)>,
    numbers: BTreeMap<String, i64>,
}

/// A connection to it.
#[derive(Debug)]
pub(super) struct Double {
    server: Arc<Mutex<Server>>,
    lost: bool,
    transaction: Option<Written>,
}

impl Double {
    pub(super) fn new(server: &Arc<Mutex<Server>>) -> Self {
        Self { server: Arc::clone(server), lost: false, transaction: None }
    }

    /// Notes a call; fails if it is to. `head`: it commits.
    fn call(&mut self, name: &'static str, head: Option<(&NewHead, usize)>) -> Result<()> {
        let mut server = self.server.lock().unwrap();
        server.calls.push(name);
        let number = server.calls.len() - 1;
        let error = || Error::Unavailable(format!("{name} failed"));
        if self.lost && name != "reconnect" {
            return Err(Failure::Lost(error()));
        }
        let way = server.faults.get(&number).copied().or(server.all_fail);
        let way = way.or_else(|| if head.is_some() { server.commit_fails.take() } else { None });
        if let (Some((head, gone)), None | Some(Way::Unknown(true))) = (head, way) {
            let Written { rows, postings, numbers } = self.transaction.take().expect("a transaction");
            (server.revision, server.batch) = (head.revision, head.batch);
            server.commits.push(Stored { revision: head.revision, rows, postings, gone });
            server.numbers.extend(numbers);
        }
        let Some(way) = way else { return Ok(()) };
        self.lost = matches!(way, Way::Lost | Way::Unknown(_));
        if self.lost {
            // The server ends it.
            self.transaction = None;
        }
        Err(match way {
            Way::Again => Failure::Again(error()),
            Way::Final => Failure::Final(error()),
            Way::Unknown(_) if head.is_some() => Failure::Unknown(error()),
            Way::Lost | Way::Unknown(_) => Failure::Lost(error()),
        })
    }
}

impl Commit for Double {
    fn begin(&mut self, _: &Footprint) -> Result<Begun> {
        assert!(self.transaction.is_none(), "a transaction is under way");
        self.call("begin", None)?;
        self.transaction = Some(Written::default());
        let server = self.server.lock().unwrap();
        let head =
            Head { revision: server.revision, compact_revision: 0, now: StoreTime::default(), batch: server.batch };
        Ok(Begun { head, ..Begun::default() })
    }

    fn labels(&mut self, names: &[&str]) -> Result<Vec<i64>> {
        self.call("labels", None)?;
        let known = self.server.lock().unwrap().numbers.clone();
        let written = self.transaction.as_mut().expect("a transaction");
        let mut number = |name: &&str| {
            // Other numbers after a rollback, as a database may give them.
            let next = i64::try_from(100 * self.server.lock().unwrap().calls.len() + written.numbers.len()).unwrap();
            let given = known.get(*name).copied();
            given.unwrap_or_else(|| *written.numbers.entry((*name).to_owned()).or_insert(next))
        };
        Ok(names.iter().map(&mut number).collect())
    }

    fn apply(&mut self, delta: &Delta<'_>, head: Option<&NewHead>) -> Result<bool> {
        let written = self.transaction.as_mut();
        if let Some(written) = written {
            written.rows.extend(delta.created.iter().map(|created| created.row.kv.key.clone()));
            let posting = |posting: &PostingRow<'_>| (posting.name, Bytes::copy_from_slice(posting.key));
            written.postings.extend(delta.postings_new.iter().map(posting));
        }
        self.call("apply", head.map(|head| (head, 0))).map(|()| false)
    }

    fn tell(&mut self, started: &Started<'_>, _: StoreTime, head: Option<&NewHead>) -> Result<()> {
        self.call("tell", head.map(|head| (head, started.tombstones.len())))
    }

    fn rollback(&mut self) {
        self.transaction = None;
    }

    fn reconnect(&mut self) -> Result<()> {
        self.lost = false;
        self.call("reconnect", None)
    }

    fn try_commit(&mut self) -> Result<()> {
        self.call("try_commit", None)
    }

    fn compact(&mut self, limit: usize) -> Result<usize> {
        self.call("compact", None).map(|()| limit)
    }

    fn remove_index(&mut self, _: i64, _: usize) -> Result<()> {
        self.call("remove_index", None)
    }

    fn forget(&mut self, _: StoreTime, after: i64, _: usize) -> Result<Option<i64>> {
        self.call("forget", None).map(|()| Some(after + 7))
    }

    fn extend_leases(&mut self, _: StoreTime, _: Duration) -> Result<usize> {
        self.call("extend_leases", None).map(|()| 3)
    }

    fn save_clock(&mut self, _: StoreTime) -> Result<()> {
        self.call("save_clock", None)
    }

    fn tidy(&mut self, _: bool) -> Result<bool> {
        self.call("tidy", None).map(|()| true)
    }

    fn defragment(&mut self) -> Result<()> {
        self.call("defragment", None)
    }

    fn adopt(&mut self, _: i64) -> Result<()> {
        self.call("adopt", None)
    }

    fn take_queue(&mut self, _: &Queue) -> Result<()> {
        self.call("take_queue", None)
    }
}

impl Depart for Double {
    fn note(&mut self) -> Result<Option<String>> {
        self.call("note", None).map(|()| None)
    }

    fn hold(&mut self) -> Result<Head> {
        self.call("hold", None).map(|()| Head::default())
    }

    fn leave(&mut self, _: &str) -> Result<()> {
        self.call("leave", None)
    }
}

impl Probe for Double {
    fn odd(&mut self, _: &KeyRange, _: &[&[u8]], _: Odd) -> Result<i64> {
        self.call("odd", None).map(|()| 0)
    }

    fn directories(&mut self, _: &KeyRange, _: usize) -> Result<Vec<Vec<u8>>> {
        self.call("directories", None).map(|()| Vec::new())
    }

    fn live(&mut self, _: &[u8]) -> Result<i64> {
        self.call("live", None).map(|()| 0)
    }

    fn label(&mut self, _: &str) -> Result<Option<i64>> {
        self.call("label", None).map(|()| None)
    }

    fn counts(&mut self, _: &KeyRange, _: &[(&Source, i64)]) -> Result<Vec<i64>> {
        self.call("counts", None).map(|()| Vec::new())
    }

    fn values(&mut self, _: i64, _: usize) -> Result<Option<Vec<String>>> {
        self.call("values", None).map(|()| None)
    }

    fn entries(&mut self, _: i64, _: usize, _: &mut dyn FnMut(&str, &[u8])) -> Result<bool> {
        self.call("entries", None).map(|()| true)
    }

    fn entries_count(&mut self, _: i64) -> Result<i64> {
        self.call("entries_count", None).map(|()| 0)
    }

    fn index(&mut self, _: &[&[u8]], _: Field<'_>) -> Result<Option<StoredIndex>> {
        self.call("index", None).map(|()| None)
    }

    fn indexes(&mut self) -> Result<Vec<StoredIndex>> {
        self.call("indexes", None).map(|()| Vec::new())
    }

    fn tells_visible(&mut self) -> Result<bool> {
        self.call("tells_visible", None).map(|()| false)
    }
}

impl Graph for Double {
    fn tasks(&mut self, _: Which<'_>, _: usize) -> Result<Vec<Task>> {
        self.call("tasks", None).map(|()| Vec::new())
    }

    fn next_due(&mut self) -> Result<Option<StoreTime>> {
        self.call("next_due", None).map(|()| None)
    }

    fn with_uids(&mut self, _: &[&Uid]) -> Result<Vec<(Uid, Row)>> {
        self.call("with_uids", None).map(|()| Vec::new())
    }

    fn dependents(&mut self, _: &Uid, _: (bool, &[u8]), _: usize) -> Result<Vec<Dependent>> {
        self.call("dependents", None).map(|()| Vec::new())
    }

    fn tombstones(&mut self, _: &[&Uid]) -> Result<BTreeMap<Uid, (bool, Bytes)>> {
        self.call("tombstones", None).map(|()| BTreeMap::new())
    }

    fn tombstones_after(&mut self, _: i64, _: usize) -> Result<Vec<Tombstone>> {
        self.call("tombstones_after", None).map(|()| Vec::new())
    }

    fn orphaning(&mut self, _: &[&Uid]) -> Result<BTreeSet<Uid>> {
        self.call("orphaning", None).map(|()| BTreeSet::new())
    }

    fn below(&mut self, _: &[&Uid], _: i64) -> Result<BTreeMap<Uid, Below>> {
        self.call("below", None).map(|()| BTreeMap::new())
    }

    fn heard(&mut self, _: &[&Uid], _: &[&Uid]) -> Result<Heard> {
        self.call("heard", None).map(|()| Heard::default())
    }

    fn queue(&mut self) -> Result<Status> {
        self.call("queue", None).map(|()| Status::default())
    }

    fn unknown_owners(&mut self) -> Result<(i64, i64)> {
        self.call("unknown_owners", None).map(|()| (0, 0))
    }

    fn dependents_count(&mut self, _: &Uid) -> Result<(i64, i64)> {
        self.call("dependents_count", None).map(|()| (0, 0))
    }

    fn deleted(&mut self, _: &[u8]) -> Result<Option<(Uid, i64)>> {
        self.call("deleted", None).map(|()| None)
    }

    fn opaque_directories(&mut self) -> Result<Vec<Vec<u8>>> {
        self.call("opaque_directories", None).map(|()| Vec::new())
    }

    fn opaque_key(&mut self, _: &KeyRange, _: &[u8]) -> Result<Option<Bytes>> {
        self.call("opaque_key", None).map(|()| None)
    }
}

impl Read for Double {
    fn snapshot(&mut self) -> Result<Head> {
        self.call("snapshot", None).map(|()| Head::default())
    }

    fn end(&mut self) {}

    fn rows(&mut self, _: &[&[u8]]) -> Result<Vec<Row>> {
        self.call("rows", None).map(|()| Vec::new())
    }

    fn find(&mut self, _: &Find<'_>, _: &mut Take<'_>) -> Result<()> {
        self.call("find", None)
    }

    fn superseded(&mut self, _: &KeyRange, _: Revision, _: Revision, _: &mut Take<'_>) -> Result<()> {
        self.call("superseded", None)
    }

    fn log(&mut self, _: &Log<'_>) -> Result<Vec<Change>> {
        self.call("log", None).map(|()| Vec::new())
    }

    fn count(&mut self, _: &KeyRange) -> Result<i64> {
        self.call("count", None).map(|()| 0)
    }

    fn count_difference(&mut self, _: &KeyRange, _: Revision) -> Result<i64> {
        self.call("count_difference", None).map(|()| 0)
    }

    fn lease(&mut self, _: LeaseId) -> Result<Option<Lease>> {
        self.call("lease", None).map(|()| None)
    }

    fn lease_keys(&mut self, _: LeaseId) -> Result<Vec<Bytes>> {
        self.call("lease_keys", None).map(|()| Vec::new())
    }

    fn leases(&mut self, _: usize) -> Result<Vec<Lease>> {
        self.call("leases", None).map(|()| Vec::new())
    }

    fn status(&mut self, _: Head) -> Result<StoreStatus> {
        self.call("status", None)?;
        Err(Failure::Final(Error::Unavailable("not told".into())))
    }
}
