//! The sets that a commit writes, case by case and beside a simple model.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::engine::KeyValue;
use crate::engine::catalog::FieldEntry;
use crate::engine::store::{Facets, Row};
use crate::gc::{Deletion, Node, Uid};

/// What a test says of an object: its labels, its entries in field indexes, its UID, its lease, and whether it is
/// opaque, misplaced and hidden.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Object {
    labels: BTreeMap<String, String>,
    fields: BTreeMap<i64, Option<String>>,
    uid: Option<u8>,
    lease: LeaseId,
    flags: (bool, bool, bool),
}

impl Object {
    fn facets(&self) -> Facets {
        let node = self.uid.map(|uid| Node {
            uid: Uid::Uuid([uid; 16]),
            group: "".into(),
            kind: "Thing".into(),
            namespace: "".into(),
            deletion: Deletion::default(),
            owners: Vec::new(),
        });
        let label = |(name, value): (&String, &String)| (name.as_str().into(), value.as_str().into());
        let entry = |(index, value): (&i64, &Option<String>)| FieldEntry {
            index: *index,
            value: value.as_deref().map(Into::into),
        };
        let (opaque, misplaced, hidden) = self.flags;
        let (labels, fields) = (self.labels.iter().map(label).collect(), self.fields.iter().map(entry).collect());
        Facets { opaque, misplaced, hidden, labels, node, fields }
    }

    fn change(key: &str, before: Option<&Self>, after: Option<&Self>) -> RowChange {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let kv = |of: &Self| KeyValue { key: key.clone(), lease: of.lease, ..KeyValue::default() };
        let row = |of: &Self| (Row { kv: kv(of), sub: 0 }, of.facets());
        RowChange { before: before.map(Self::facets), after: after.map(row), key: key.clone() }
    }
}

fn object(labels: &[(&str, &str)]) -> Object {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Object { labels, ..Object::default() }
}

/// The number of a name, for tests.
fn number(name: &str) -> i64 {
    name.bytes().map(i64::from).sum()
}

fn of<'a>(changes: &'a Changes, attached: &BTreeMap<Bytes, LeaseId>) -> Delta<'a> {
    let labels = label_changes(&changes.rows);
    let numbers: Vec<i64> = labels.iter().map(|label| number(label.name)).collect();
    delta(changes, &labels, &numbers, attached)
}

#[test]
fn a_row_becomes_what_is_to_be_written() {
    let (web, db) = (object(&[("app", "web"), ("tier", "1")]), object(&[("app", "db"), ("tier", "1")]));
    let with_uid = |uid, of: &Object| Object { uid: Some(uid), ..of.clone() };
    let indexed = |value: Option<&str>| Object { fields: [(3, value.map(str::to_owned))].into(), ..Object::default() };
    let (first, second) = (with_uid(1, &web), with_uid(2, &web));
    let (red, foreign) = (indexed(Some("red")), indexed(None));
    let hidden = Object { flags: (false, false, true), ..Object::default() };
    let opaque = Object { flags: (true, false, false), ..Object::default() };
    let (app, tier) = (number("app"), number("tier"));
    // Before, after: created, updated, removed; gone and new entries; counts; whether the UID is new; whether it hides.
    type Expected<'a> = ([usize; 3], &'a [(i64, &'a str)], &'a [(i64, &'a str)], Option<[i64; 3]>, bool, bool);
    let table: [(&str, Option<&Object>, Option<&Object>, Expected<'_>); 10] = [
        ("nothing", None, None, ([0; 3], &[], &[], None, false, false)),
        ("created", None, Some(&web), ([1, 0, 0], &[], &[(app, "web"), (tier, "1")], Some([1, 0, 0]), false, false)),
        ("unchanged", Some(&web), Some(&web), ([0, 1, 0], &[], &[], None, false, false)),
        ("another label", Some(&web), Some(&db), ([0, 1, 0], &[(app, "web")], &[(app, "db")], None, false, false)),
        ("removed", Some(&web), None, ([0, 0, 1], &[(app, "web"), (tier, "1")], &[], Some([-1, 0, 0]), false, false)),
        ("another UID", Some(&first), Some(&second), ([0, 1, 0], &[], &[], None, true, false)),
        ("the same UID", Some(&first), Some(&first), ([0, 1, 0], &[], &[], None, false, false)),
        (
            "a field that can't be known",
            Some(&red),
            Some(&foreign),
            ([0, 1, 0], &[(-6, "red")], &[(-7, "")], None, false, false),
        ),
        ("hidden", None, Some(&hidden), ([1, 0, 0], &[], &[], Some([1, 0, 0]), false, true)),
        ("opaque", Some(&hidden), Some(&opaque), ([0, 1, 0], &[], &[], Some([0, 1, 0]), false, false)),
    ];
    for (name, before, after, (rows, gone, new, counts, new_uid, hides)) in table {
        let changes = Changes { rows: vec![Object::change("/d/k", before, after)], ..Changes::default() };
        let delta = of(&changes, &BTreeMap::new());
        let postings = |of: &[PostingRow<'_>]| {
            assert!(of.iter().all(|posting| posting.key == b"/d/k"), "{name}");
            of.iter().map(|posting| (posting.name, posting.value.to_owned())).collect::<Vec<_>>()
        };
        let owned =
            |of: &[(i64, &str)]| of.iter().map(|(name, value)| (*name, (*value).to_owned())).collect::<Vec<_>>();
        assert_eq!([delta.created.len(), delta.updated.len(), delta.removed.len()], rows, "{name}");
        assert_eq!(postings(&delta.postings_gone), owned(gone), "{name}");
        assert_eq!(postings(&delta.postings_new), owned(new), "{name}");
        assert_eq!(delta.directories.get(&b"/d/"[..]).copied(), counts, "{name}");
        assert_eq!(delta.created.iter().chain(&delta.updated).any(|row| row.new_uid), new_uid, "{name}");
        assert_eq!(delta.hides, hides, "{name}");
    }
}

/// What a database has of objects.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tables {
    /// UID, lease, `hidden`.
    rows: BTreeMap<Bytes, (Option<Uid>, LeaseId, Option<bool>)>,
    postings: BTreeSet<(i64, String, Bytes)>,
    directories: BTreeMap<Bytes, [i64; 3]>,
    attached: BTreeSet<(LeaseId, Bytes)>,
}

impl Tables {
    /// What there must be of some objects.
    fn of(objects: &BTreeMap<String, Object>) -> Self {
        let mut tables = Self::default();
        for (key, object) in objects {
            let (facets, key) = (object.facets(), Bytes::copy_from_slice(key.as_bytes()));
            let hidden = (!facets.opaque).then_some(facets.hidden);
            tables.rows.insert(key.clone(), (facets.node.map(|node| node.uid), object.lease, hidden));
            for (name, value) in &object.labels {
                tables.postings.insert((number(name), value.clone(), key.clone()));
            }
            for entry in &facets.fields {
                let (name, value) = attribute(entry);
                tables.postings.insert((name, value.to_owned(), key.clone()));
            }
            let counts = tables.directories.entry(Bytes::copy_from_slice(directory(&key))).or_default();
            let (opaque, misplaced, _) = object.flags;
            *counts = [counts[0] + 1, counts[1] + i64::from(opaque), counts[2] + i64::from(misplaced)];
            if object.lease != 0 {
                tables.attached.insert((object.lease, key));
            }
        }
        tables
    }

    /// Writes a delta as a database does, which refuses what is not as the delta says.
    fn apply(&mut self, delta: &Delta<'_>) {
        for (key, lease) in &delta.removed {
            assert!(self.rows.remove(*key).is_some_and(|(_, had, _)| had == *lease));
            self.detach(*lease, key);
        }
        for (rows, created) in [(&delta.created, true), (&delta.updated, false)] {
            for stored in rows {
                let key = stored.row.kv.key.clone();
                let after = (stored.uid.cloned(), stored.row.kv.lease, stored.hidden);
                let before = self.rows.insert(key.clone(), after);
                assert_eq!(before.is_none(), created);
                let (uid, lease) = before.map_or((None, 0), |(uid, lease, _)| (uid, lease));
                assert_eq!((stored.new_uid, stored.old_lease), (uid.as_ref() != stored.uid, lease));
                self.detach(lease, &key);
                if stored.row.kv.lease != 0 {
                    assert!(self.attached.insert((stored.row.kv.lease, key)));
                }
            }
        }
        let owned = |row: &PostingRow<'_>| (row.name, row.value.to_owned(), Bytes::copy_from_slice(row.key));
        for gone in &delta.postings_gone {
            assert!(self.postings.remove(&owned(gone)));
        }
        for new in &delta.postings_new {
            assert!(self.postings.insert(owned(new)));
        }
        for (path, change) in &delta.directories {
            assert_ne!(*change, [0; 3]);
            let counts = self.directories.entry(Bytes::copy_from_slice(path)).or_default();
            *counts = std::array::from_fn(|at| counts[at] + change[at]);
            if counts[0] == 0 {
                assert_eq!(self.directories.remove(*path), Some([0; 3]));
            }
        }
    }

    fn detach(&mut self, lease: LeaseId, key: &[u8]) {
        assert_eq!(self.attached.remove(&(lease, Bytes::copy_from_slice(key))), lease != 0);
    }
}

fn objects() -> impl Strategy<Value = Option<Object>> {
    let labels = proptest::collection::btree_map("[ab]", "[xy]", 0..3);
    let fields = proptest::collection::btree_map(1..3_i64, proptest::option::of("[xy]"), 0..3);
    let object = (labels, fields, proptest::option::of(0..2_u8), 0..3_i64, any::<(bool, bool, bool)>());
    proptest::option::weighted(
        0.8,
        object.prop_map(|(labels, fields, uid, lease, flags)| Object { labels, fields, uid, lease, flags }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// After each batch the tables are those that its objects one by one would make.
    #[test]
    fn tables_are_those_of_the_objects(
        batches in proptest::collection::vec(proptest::collection::btree_map("/[de]/[klm]", objects(), 1..5), 1..8)
    ) {
        let (mut stored, mut tables) = (BTreeMap::<String, Object>::new(), Tables::default());
        for batch in batches {
            let change = |(key, after): (&String, &Option<Object>)| {
                Object::change(key, stored.get(key), after.as_ref())
            };
            let changes = Changes { rows: batch.iter().map(change).collect(), ..Changes::default() };
            let leased = stored.iter().filter(|(_, object)| object.lease != 0);
            let attached = leased.map(|(key, object)| (Bytes::copy_from_slice(key.as_bytes()), object.lease)).collect();
            tables.apply(&of(&changes, &attached));
            for (key, after) in batch {
                match after {
                    Some(object) => drop(stored.insert(key, object)),
                    None => drop(stored.remove(&key)),
                }
            }
            prop_assert_eq!(&tables, &Tables::of(&stored));
        }
    }
}
