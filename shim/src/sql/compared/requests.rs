//! All that a server asks a database for.

use std::ops::ControlFlow;

use crate::clock::StoreTime;
use crate::engine::KeyRange;
use crate::engine::store::Footprint;
use crate::gc::Uid;
use crate::sql::session::{Commit, Field, Find, Log, Odd, Postings, Source, Which};

/// Each statement of a request once, but for changes. `labels`: numbers of two names and values of theirs: two values
/// of one name to find, and one of the other to look at.
pub(in crate::sql) fn requests(session: &mut impl Commit, labels: [(i64, &str); 3]) {
    let range = KeyRange::from_wire("/r/".into(), "/r0".into());
    let uid = Uid::Uuid([7; 16]);
    let footprint = Footprint {
        ranges: vec![KeyRange::single("/a/1")],
        past: vec![(KeyRange::single("/a/1"), 1)],
        leases: [1].into(),
        lease_keys: [1].into(),
        blocked: [uid.clone()].into(),
        ..Footprint::default()
    };
    session.begin(&footprint).unwrap();
    session.rollback();
    session.compact(1).unwrap();
    session.forget(StoreTime::default(), 0, 1).unwrap();
    session.extend_leases(StoreTime::default(), std::time::Duration::ZERO).unwrap();
    session.newest(&[&b"/a/1"[..]]).unwrap();
    session.snapshot().unwrap();
    session.rows(&[&b"/a/1"[..]]).unwrap();
    let [one, two, probe] = labels.map(|(name, value)| Postings { name, value: value.into() });
    let probe = [probe];
    let sources = [
        Source::Scan,
        Source::Visible,
        Source::Postings(vec![one.clone()]),
        Source::Postings(vec![one, two]),
        Source::Keys(vec![b"/r/1".to_vec()]),
    ];
    for source in &sources {
        for probes in [&[][..], &[&probe[..]]] {
            let find = Find { range: &range, source, probes, until: i64::MAX, values: true, wanted: 20 };
            session.find(&find, &mut |_| ControlFlow::Break(())).unwrap();
        }
    }
    session.counts(&range, &sources.iter().map(|source| (source, 64)).collect::<Vec<_>>()).unwrap();
    for behind in [1, i64::MAX] {
        session.superseded(&KeyRange::single("/a/1"), 3, behind, &mut |_| ControlFlow::Break(())).unwrap();
    }
    for previous in [false, true] {
        session.log(&Log { range: Some(&range), after: (1, 9), until: 9, above: 1, limit: 9, previous }).unwrap();
    }
    session.count(&range).unwrap();
    session.count(&KeyRange::single("/a/1")).unwrap();
    session.count_difference(&range, 3).unwrap();
    session.lease(1).unwrap();
    session.lease_keys(1).unwrap();
    session.leases(1).unwrap();
    session.odd(&range, &[b"/"], Odd::Opaque).unwrap();
    session.odd(&range, &[b"/"], Odd::Misplaced).unwrap();
    session.directories(&range, 9).unwrap();
    session.live(b"/r/").unwrap();
    session.label("x").unwrap();
    session.values(labels[0].0, 9).unwrap();
    session.entries(labels[0].0, 9, &mut |_, _| ()).unwrap();
    session.index(&[b"/r/"], Field { api_version: "g/v1", field: "a" }).unwrap();
    for which in [Which::Due(StoreTime::default()), Which::ForegroundAfter(1), Which::Of(&uid)] {
        session.tasks(which, 9).unwrap();
    }
    session.next_due().unwrap();
    session.with_uids(&[&uid]).unwrap();
    session.dependents(&uid, (true, b""), 9).unwrap();
    session.tombstones(&[&uid]).unwrap();
    session.orphaning(&[&uid]).unwrap();
    session.below(&[&uid], 9).unwrap();
    session.heard(&[&uid], &[&uid]).unwrap();
    session.end();
}
