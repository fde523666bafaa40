//! What is read is what was written, now and in the past.

use std::ops::ControlFlow;

use super::model::{Logged, Model, Numbers, Op};
use super::*;
use crate::engine::{KeyRange, KeyValue, RangeEnd, Revision};
use crate::sql::session::{Audit as _, Commit as _, Find, Log, Postings, Probe as _, RowRef, Source};

const KEYS: [&str; 8] = ["/r/a/1", "/r/a/2", "/r/a/3", "/r/b/1", "/r/b/2", "/s/1", "/s/2", "/s/\u{ff}"];

fn everything() -> KeyRange {
    KeyRange { start: vec![0].into(), end: RangeEnd::Unbounded }
}

fn tree(prefix: &'static str) -> KeyRange {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    KeyRange { start: prefix.into(), end: RangeEnd::Before(end.into()) }
}

/// Up to `limit` of the rows that a read hands out.
fn found(limit: usize, read: impl FnOnce(&mut crate::sql::session::Take<'_>)) -> Vec<KeyValue> {
    let mut kvs = Vec::new();
    read(&mut |row: RowRef<'_>| {
        kvs.push(row.to_key_value());
        if kvs.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    kvs
}

/// All keys of a range at a revision, as a reader puts them together.
fn at(session: &mut Session, range: &KeyRange, revision: Revision, behind: Revision) -> Vec<KeyValue> {
    let find = Find { range, source: &Source::Scan, probes: &[], until: revision, values: true, wanted: 2 };
    let mut kvs = found(usize::MAX, |take| session.find(&find, take).unwrap());
    kvs.extend(found(usize::MAX, |take| session.superseded(range, revision, behind, take).unwrap()));
    kvs.sort_by(|a, b| a.key.cmp(&b.key));
    kvs
}

fn logged(session: &mut Session, after: Revision, until: Revision, above: Revision) -> Vec<Logged> {
    let mut log = Vec::new();
    let mut place = (after, i64::MAX);
    loop {
        let page = session.log(&Log { range: None, after: place, until, above, limit: 3, previous: true }).unwrap();
        let Some(last) = page.last() else { return log };
        place = last.at;
        log.extend(page.into_iter().map(|change| {
            let value = (!change.deleted).then_some(change.kv.value);
            (change.at.0, change.at.1, change.kv.key, value, change.previous.map(|kv| kv.value))
        }));
    }
}

fn random(numbers: &mut Numbers) -> Vec<Vec<Op>> {
    let op = |numbers: &mut Numbers, key: &'static str| {
        let value =
            format!("{}{}", ["h", "v", "w"][numbers.below(3) as usize], "x".repeat(numbers.below(3000) as usize));
        if numbers.below(3) == 0 { Op::Delete(key) } else { Op::Put(key, value, numbers.below(3) as i64) }
    };
    let transaction = |numbers: &mut Numbers| {
        let first = numbers.below(KEYS.len() as u64) as usize;
        let keys = KEYS.iter().cycle().skip(first).take(1 + numbers.below(3) as usize);
        keys.map(|key| op(numbers, key)).collect()
    };
    (0..1 + numbers.below(4)).map(|_| transaction(numbers)).collect()
}

fn compare(session: &mut Session, model: &Model, numbers: &mut Numbers) {
    let head = session.snapshot().unwrap();
    assert_eq!(
        (head.revision, head.compact_revision, head.batch),
        (model.revision, model.compact_revision, model.batch)
    );
    let live = model.at(model.revision);
    let oldest = model.compact_revision.max(1);
    for range in [everything(), tree("/r/"), tree("/r/a/"), KeyRange::single("/s/1")] {
        let within = |kvs: &[KeyValue]| kvs.iter().filter(|kv| range.contains(&kv.key)).cloned().collect::<Vec<_>>();
        assert_eq!(session.count(&range).unwrap(), within(&live).len() as i64, "{range:?}");
        for behind in [0, numbers.below((model.revision - oldest + 1) as u64) as i64] {
            let revision = model.revision - behind;
            let then = within(&model.at(revision));
            assert_eq!(at(session, &range, revision, behind), then, "{range:?} at {revision}");
            assert_eq!(at(session, &range, revision, i64::MAX), then, "{range:?} at {revision}, by key");
            let difference = session.count_difference(&range, revision).unwrap();
            assert_eq!(difference, then.len() as i64 - within(&live).len() as i64, "{range:?} at {revision}");
        }
    }
    let from = oldest + numbers.below((model.revision - oldest + 1) as u64) as i64;
    assert_eq!(logged(session, from, model.revision, from), model.log(from, from), "behind {from}");
    let name = session.label("first").unwrap().unwrap();
    for value in ["h", "v", "w"] {
        let expected: Vec<_> = live.iter().filter(|kv| kv.value.starts_with(value.as_bytes())).cloned().collect();
        let source = Source::Postings(vec![Postings { name, value: value.into() }]);
        let range = everything();
        let find = Find { range: &range, source: &source, probes: &[], until: i64::MAX, values: true, wanted: 1 };
        assert_eq!(found(usize::MAX, |take| session.find(&find, take).unwrap()), expected);
    }
    for lease in 1..3 {
        let attached = live.iter().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone());
        assert_eq!(session.lease_keys(lease).unwrap(), attached.collect::<Vec<_>>());
    }
    session.integrity(&mut |damage| panic!("{damage:?}")).unwrap();
    session.end();
}

#[test]
fn what_is_read_is_what_was_written_now_and_in_the_past() {
    for seed in 1..=3 {
        let mut numbers = Numbers(seed * 0x9e37_79b9);
        let name = Server::get().database();
        let (mut session, _) = opened(&address(&name)).unwrap();
        let mut reader = Session::new(std::sync::Arc::clone(&session.database), None);
        let mut model = Model::new();
        for _ in 0..40 {
            let compact = (numbers.below(6) == 0).then(|| {
                model.compact_revision + numbers.below((model.revision - model.compact_revision + 1) as u64) as i64
            });
            model.commit(&mut session, &random(&mut numbers), compact);
            compare(&mut reader, &model, &mut numbers);
            if numbers.below(3) == 0 {
                session.compact(2).unwrap();
                compare(&mut reader, &model, &mut numbers);
            }
        }
        while session.compact(5).unwrap() == 5 {}
        compare(&mut reader, &model, &mut numbers);
        let left = Server::get()
            .psql(&name, "SELECT count(*) FROM history h, meta m WHERE h.end_revision < m.compact_revision");
        assert_eq!(left.unwrap(), "0", "compacted history stays");
        let deletions = "SELECT count(*) FROM change y, meta m WHERE y.deleted AND y.revision < m.compact_revision";
        assert_eq!(Server::get().psql(&name, deletions).unwrap(), "0", "compacted deletions stay");
    }
}

#[test]
fn a_commit_that_failed_leaves_nothing() {
    let name = Server::get().database();
    let (mut session, _) = opened(&address(&name)).unwrap();
    let mut model = Model::new();
    model.commit(&mut session, &[vec![Op::Put("/a/1", "v".into(), 0)]], None);
    // Whoever writes beside the lock: the key is there, though the transaction saw none.
    let sneak = "INSERT INTO current VALUES ('/a/2', 2, 2, 7, 1, 0, NULL, NULL, '')";
    let begun = session.begin(&crate::engine::store::Footprint::default()).unwrap();
    Server::get().psql(&name, sneak).unwrap();
    let kv = KeyValue { key: "/a/2".into(), create_revision: 3, mod_revision: 3, version: 1, ..KeyValue::default() };
    let row = crate::engine::store::Row { kv, sub: 0 };
    let stored = crate::sql::session::StoredRow { row: &row, hidden: None, uid: None, new_uid: false, old_lease: 0 };
    let delta = crate::sql::session::Delta { created: vec![stored], ..Default::default() };
    let head = crate::sql::session::NewHead { revision: 3, compact_revision: 0, now: begun.head.now, batch: 2 };
    let failure = session.apply(&delta, Some(&head)).unwrap_err();
    assert!(matches!(failure, crate::sql::failure::Failure::Again(_)), "{failure:?}");
    session.rollback();
    let begun = session.begin(&crate::engine::store::Footprint::default()).unwrap();
    assert_eq!((begun.head.revision, begun.head.batch), (2, 1));
    let changes = Server::get().psql(&name, "SELECT count(*) FROM change").unwrap();
    assert_eq!(changes, "1");
}

#[test]
fn a_process_that_another_took_over_from_writes_no_more() {
    let name = Server::get().database();
    let (mut first, _) = opened(&address(&name)).unwrap();
    Server::get().psql(&name, "UPDATE meta SET seen_at = 0").unwrap();
    let (mut second, _) = opened(&address(&name)).unwrap();
    let failure = first.begin(&crate::engine::store::Footprint::default()).unwrap_err();
    let crate::sql::failure::Failure::Final(error) = failure else { panic!("{failure:?}") };
    assert!(error.to_string().contains("another sluice-shim serves this database now"), "{error}");
    first.rollback();
    // Nor does it say whose connection serves: a third process would take the second one for gone.
    let said = || Server::get().psql(&name, "SELECT backend, seen_at FROM meta").unwrap();
    let before = said();
    first.try_commit().unwrap_err();
    assert_eq!(said(), before);
    Model::new().commit(&mut second, &[vec![Op::Put("/a/1", "v".into(), 0)]], None);
}

#[test]
fn what_became_of_a_commit_is_told_by_its_number() {
    let name = Server::get().database();
    let (mut session, _) = opened(&address(&name)).unwrap();
    let mut model = Model::new();
    model.commit(&mut session, &[vec![Op::Put("/a/1", "v".into(), 0)]], None);
    session.begin(&crate::engine::store::Footprint::default()).unwrap();
    let end = format!(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'
        AND pid <> pg_backend_pid()"
    );
    Server::get().psql(&name, &end).unwrap();
    let head = crate::sql::session::NewHead { revision: 2, compact_revision: 0, now: Default::default(), batch: 2 };
    let failure = session.apply(&Default::default(), Some(&head)).unwrap_err();
    assert!(
        matches!(failure, crate::sql::failure::Failure::Unknown(_) | crate::sql::failure::Failure::Lost(_)),
        "{failure:?}"
    );
    session.reconnect().unwrap();
    let begun = session.begin(&crate::engine::store::Footprint::default()).unwrap();
    assert_eq!(begun.head.batch, 1, "it did not happen");
    session.apply(&Default::default(), Some(&head)).unwrap();
    assert_eq!(session.begin(&crate::engine::store::Footprint::default()).unwrap().head.batch, 2);
}

#[test]
fn a_database_that_went_back_is_not_served() {
    let name = Server::get().database();
    let (mut session, _) = opened(&address(&name)).unwrap();
    Model::new().commit(&mut session, &[vec![Op::Put("/a/1", "v".into(), 0)]], None);
    session.snapshot().unwrap();
    Server::get().psql(&name, "UPDATE meta SET revision = 1").unwrap();
    let error = crate::engine::Error::from(session.snapshot().unwrap_err());
    assert!(error.to_string().starts_with("the database is at revision 1, but it was at 2 before"), "{error}");
}
