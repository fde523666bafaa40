//! What a store should hold after each commit, kept in memory.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::engine::store::{Footprint, Row, Superseded};
use crate::engine::{KeyValue, LeaseId, Revision};
use crate::sql::postgres::Session;
use crate::sql::session::{Begun, Commit as _, Delta, NewHead, PostingRow, StoredRow};

/// Numbers that look random, the same in each run.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A change of one key.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Put(&'static str, String, LeaseId),
    Delete(&'static str),
}

/// A value and the time in which it was the newest of its key.
#[derive(Debug, Clone)]
struct Life {
    row: Row,
    end: Option<(Revision, i64, bool)>,
}

/// A store.
pub(super) struct Model {
    pub(super) revision: Revision,
    pub(super) compact_revision: Revision,
    pub(super) batch: i64,
    lives: Vec<Life>,
}

/// What the log has of a change: place, key, value unless it is a deletion, and the value before.
pub(super) type Logged = (Revision, i64, Bytes, Option<Bytes>, Option<Bytes>);

impl Model {
    pub(super) fn new() -> Self {
        Self { revision: 1, compact_revision: 0, batch: 0, lives: Vec::new() }
    }

    fn live(&self) -> BTreeMap<Bytes, Row> {
        let live = self.lives.iter().filter(|life| life.end.is_none());
        live.map(|life| (life.row.kv.key.clone(), life.row.clone())).collect()
    }

    pub(super) fn at(&self, revision: Revision) -> Vec<KeyValue> {
        let then =
            |life: &&Life| life.row.kv.mod_revision <= revision && life.end.is_none_or(|(end, ..)| end > revision);
        let mut kvs: Vec<_> = self.lives.iter().filter(then).map(|life| life.row.kv.clone()).collect();
        kvs.sort_by(|a, b| a.key.cmp(&b.key));
        kvs
    }

    /// The changes behind a revision, but for puts that were superseded, and deletions, up to `above`.
    pub(super) fn log(&self, after: Revision, above: Revision) -> Vec<Logged> {
        let mut log = Vec::new();
        for life in &self.lives {
            let Row { kv, sub } = &life.row;
            let before = self
                .lives
                .iter()
                .find(|before| before.row.kv.key == kv.key && before.end == Some((kv.mod_revision, *sub, false)));
            let before = before.map(|before| before.row.kv.value.clone());
            if kv.mod_revision > after && life.end.is_none_or(|(end, ..)| end > above) {
                log.push((kv.mod_revision, *sub, kv.key.clone(), Some(kv.value.clone()), before));
            }
            if let Some((end, end_sub, true)) = life.end
                && end > after.max(above)
            {
                log.push((end, end_sub, kv.key.clone(), None, Some(kv.value.clone())));
            }
        }
        log.sort();
        log
    }

    /// Does each list of changes in a revision of its own, and all in one commit. Compacts, if so asked.
    pub(super) fn commit(&mut self, session: &mut Session, transactions: &[Vec<Op>], compact: Option<Revision>) {
        let keys = transactions
            .iter()
            .flatten()
            .map(|(Op::Put(key, ..) | Op::Delete(key))| Bytes::from_static(key.as_bytes()));
        let footprint = Footprint { keys: keys.clone().collect(), ..Footprint::default() };
        let Begun { head, rows, .. } = session.begin(&footprint).unwrap();
        assert_eq!(
            (head.revision, head.compact_revision, head.batch),
            (self.revision, self.compact_revision, self.batch)
        );
        let before = self.live();
        let expected = before.iter().filter(|(key, _)| footprint.keys.contains(*key));
        assert_eq!(rows, expected.map(|(key, row)| (key.clone(), row.clone())).collect());
        let history = self.change(transactions);
        let after = self.live();
        let touched: BTreeSet<Bytes> = keys.collect();
        let mut delta = Delta { history: &history, ..Delta::default() };
        let mut postings = Vec::new();
        for key in &touched {
            if before.get(key) == after.get(key) {
                continue;
            }
            let directory = &key[..=key.iter().rposition(|byte| *byte == b'/').unwrap()];
            let count = delta.directories.entry(directory).or_default();
            let old_lease = before.get(key).map_or(0, |row| row.kv.lease);
            match (before.get(key), after.get(key)) {
                (None, None) => {}
                (Some(_), None) => {
                    count[0] -= 1;
                    delta.removed.push((key, old_lease));
                }
                (old, Some(row)) => {
                    let stored = StoredRow {
                        row,
                        hidden: Some(row.kv.value.starts_with(b"h")),
                        uid: None,
                        new_uid: false,
                        old_lease,
                    };
                    count[0] += i64::from(old.is_none());
                    if old.is_none() { delta.created.push(stored) } else { delta.updated.push(stored) }
                }
            }
            for (row, list) in [(before.get(key), 0), (after.get(key), 1)] {
                if let Some(row) = row {
                    postings.push((list, first(row), key));
                }
            }
        }
        let name = session.labels(&["first"]).unwrap()[0];
        for (list, value, key) in &postings {
            let row = PostingRow { name, value, key };
            if *list == 0 { delta.postings_gone.push(row) } else { delta.postings_new.push(row) }
        }
        self.batch += 1;
        self.compact_revision = compact.unwrap_or(self.compact_revision);
        let head = NewHead {
            revision: self.revision,
            compact_revision: self.compact_revision,
            now: head.now,
            batch: self.batch,
        };
        session.apply(&delta, Some(&head)).unwrap();
    }

    fn change(&mut self, transactions: &[Vec<Op>]) -> Vec<Superseded> {
        let mut history = Vec::new();
        for transaction in transactions {
            let mut sub = 0;
            for op in transaction {
                let (Op::Put(key, ..) | Op::Delete(key)) = op;
                let live = self.lives.iter_mut().find(|life| life.end.is_none() && life.row.kv.key == *key.as_bytes());
                let (revision, deleted) = (self.revision + 1, matches!(op, Op::Delete(_)));
                let old = live.map(|life| {
                    life.end = Some((revision, sub, deleted));
                    life.row.clone()
                });
                if deleted && old.is_none() {
                    continue;
                }
                if let Op::Put(_, value, lease) = op {
                    let (create_revision, version) =
                        old.as_ref().map_or((revision, 1), |old| (old.kv.create_revision, old.kv.version + 1));
                    let kv = KeyValue {
                        key: Bytes::from_static(key.as_bytes()),
                        value: value.clone().into(),
                        create_revision,
                        mod_revision: revision,
                        version,
                        lease: *lease,
                    };
                    self.lives.push(Life { row: Row { kv, sub }, end: None });
                }
                history.extend(old.map(|row| Superseded { row, end_revision: revision, end_sub: sub, deleted }));
                sub += 1;
            }
            self.revision += i64::from(sub > 0);
        }
        history
    }
}

/// What a row is labelled with.
fn first(row: &Row) -> String {
    String::from_utf8_lossy(&row.kv.value[..1]).into_owned()
}
