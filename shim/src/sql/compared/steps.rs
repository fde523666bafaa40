//! What happens to the databases, by chance.

use std::sync::OnceLock;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::contract::SKIP_METADATA_CACHING_LABEL;
use crate::engine::{
    Asked, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, LeaseId, Op, Put, RangeQuery, Revision, Txn,
};
use crate::gc::{FOREGROUND, ORPHAN, Quota, Uid};

/// The numbers of leases.
pub(super) const LEASES: [LeaseId; 3] = [1, 2, i64::MAX];

/// The definition of the shirts.
const DEFINITION: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/shirts.stable.example.com";
const FIELDS: [&str; 2] = ["spec.color", "spec.size"];

/// Where objects are: kind, namespace and name. The last are always visible.
const OBJECTS: [(&str, &str, &str); 9] = [
    ("Shirt", "ns0", "s0"),
    ("Shirt", "ns0", "s1"),
    ("Shirt", "ns0", "s2"),
    ("Shirt", "ns1", "s3"),
    ("Shirt", "ns1", "s4"),
    ("Shirt", "ns1", "s5"),
    ("Shirt", "ns2", "s6"),
    ("ConfigMap", "ns0", "c0"),
    ("ConfigMap", "ns1", "c1"),
];

/// Names and values of labels, with what a database or a dialect of SQL may take for something else.
const LABELS: [(&str, &str); 7] = [
    ("team", "a"),
    ("team", "b"),
    ("Team", "a"),
    ("it's", "\\'\" %_\u{0}--"),
    ("n\u{e4}me", "\u{fc}\u{1f680}"),
    ("empty", ""),
    (SKIP_METADATA_CACHING_LABEL, "true"),
];

/// Keys of values that are no objects.
fn odd_keys() -> &'static [Bytes] {
    static KEYS: OnceLock<Vec<Bytes>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let long = [b"/long/".to_vec(), vec![b'k'; 1530]].concat();
        let mut keys: Vec<Bytes> = vec![long.into(), Bytes::from_static(b"/bytes/\0\xff'\\\"%")];
        keys.extend(["plain", "/a/1", "/A/1", "/a/1 ", "/\u{e4}/1"].map(Bytes::from));
        keys
    })
}

fn key_of(object: usize) -> Bytes {
    let (kind, namespace, name) = OBJECTS[object];
    let resource = if kind == "Shirt" { "stable.example.com/shirts" } else { "configmaps" };
    format!("/registry/{resource}/{namespace}/{name}").into()
}

/// All keys that there may be.
pub(super) fn keys() -> Vec<Bytes> {
    let objects = (0..OBJECTS.len()).map(key_of);
    objects.chain([Bytes::from(DEFINITION)]).chain(odd_keys().iter().cloned()).collect()
}

/// The UID of an object; each may be made anew with another.
fn uid(object: usize, renewed: bool) -> String {
    match object % 3 {
        0 => format!("00000000-0000-4000-8000-{object:011}{}", u8::from(renewed)),
        1 => format!("sixteen-bytes-{object}{}", u8::from(renewed)),
        _ => format!("UID'{object}\\{}", u8::from(renewed)),
    }
}

/// All UIDs that there may be.
pub(super) fn uids() -> Vec<Uid> {
    let texts = (0..OBJECTS.len()).flat_map(|object| [uid(object, false), uid(object, true)]);
    texts.filter_map(|text| Uid::parse(&text)).collect()
}

/// All names of labels that there may be.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    LABELS.iter().map(|(name, _)| *name)
}

/// An object to put.
#[derive(Debug, Clone)]
pub(super) struct Object {
    place: usize,
    renewed: bool,
    labels: Vec<usize>,
    /// A label that no index holds.
    long: bool,
    /// Owners: which, whether renewed, whether they wait for it, and whether the reference names another object.
    owners: Vec<(usize, bool, bool, bool)>,
    finalizers: Vec<usize>,
    deleting: bool,
    version: u8,
    color: Option<usize>,
    size: Option<i64>,
    /// Whether its key says its name.
    misplaced: bool,
}

impl Object {
    fn put(&self, lease: LeaseId) -> Put {
        Put { key: key_of(self.place), value: self.value().into(), lease, ..Put::default() }
    }

    fn value(&self) -> String {
        let (kind, namespace, name) = OBJECTS[self.place];
        let name = if self.misplaced { "elsewhere" } else { name };
        let mut labels = serde_json::Map::new();
        for label in &self.labels {
            labels.insert(LABELS[*label].0.to_owned(), LABELS[*label].1.into());
        }
        if self.long {
            labels.insert("long".to_owned(), "l".repeat(1025).into());
        }
        let reference = |(owner, renewed, block, other): &(usize, bool, bool, bool)| {
            let (kind, _, name) = OBJECTS[*owner];
            let name = if *other { "another" } else { name };
            serde_json::json!({"apiVersion": self.api_version(kind), "kind": kind, "name": name,
                "uid": uid(*owner, *renewed), "blockOwnerDeletion": block})
        };
        let finalizers: Vec<&str> =
            self.finalizers.iter().map(|which| [FOREGROUND, ORPHAN, "x/held"][*which]).collect();
        let mut meta = serde_json::json!({"name": name, "namespace": namespace, "uid": uid(self.place, self.renewed),
            "labels": labels, "ownerReferences": self.owners.iter().map(reference).collect::<Vec<_>>(),
            "finalizers": finalizers});
        if self.deleting {
            meta["deletionTimestamp"] = "2026-01-02T03:04:05Z".into();
        }
        let mut spec = serde_json::Map::new();
        spec.extend(self.color.map(|color| ("color".to_owned(), ["green", "b'l\\ue", "Green"][color].into())));
        spec.extend(self.size.map(|size| ("size".to_owned(), size.into())));
        let spec = serde_json::Value::from(spec);
        format!(r#"{{"kind":"{kind}","apiVersion":"{}","metadata":{meta},"spec":{spec}}}"#, self.api_version(kind))
    }

    fn api_version(&self, kind: &str) -> String {
        if kind == "Shirt" { format!("stable.example.com/v{}", self.version) } else { "v1".to_owned() }
    }
}

fn object() -> impl Strategy<Value = Object> {
    let owner = (0..OBJECTS.len(), prop::bool::weighted(0.2), any::<bool>(), prop::bool::weighted(0.1));
    let what = (vec(0..LABELS.len(), 0..4), prop::bool::weighted(0.05), vec(owner, 0..3), vec(0..3_usize, 0..2));
    let spec = (prop::option::of(0..3_usize), prop::option::of(0..3_i64), 1..3_u8, prop::bool::weighted(0.1));
    let state = (prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    (0..OBJECTS.len(), what, spec, state).prop_map(|(place, what, spec, (renewed, deleting))| {
        let (labels, long, owners, finalizers) = what;
        let (color, size, version, misplaced) = spec;
        Object { place, renewed, labels, long, owners, finalizers, deleting, version, color, size, misplaced }
    })
}

/// What a client asks for.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Put(Object, LeaseId),
    /// Bytes that are no object, at any key.
    Raw(usize, Vec<u8>, LeaseId),
    /// Keeps the value, or the lease.
    Touch(usize, bool),
    /// The version and the fields of the definition.
    Define(u8, Vec<usize>),
    Delete(Place),
    /// So many revisions ago, if it is not now.
    Get(Place, Option<Revision>),
    /// Puts the object if its key has none, else deletes what it is about and reads.
    Txn(Object, Place),
    Grant(LeaseId, i64),
    Revoke(LeaseId),
    KeepAlive(LeaseId),
    Expire,
    /// Up to so many revisions ago.
    Compact(Revision),
}

/// Some keys.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Key(usize),
    Between(usize, usize),
    Tree(&'static str),
    Everything,
}

impl Place {
    fn range(&self) -> KeyRange {
        let keys = keys();
        match self {
            Self::Key(key) => KeyRange::single(keys[*key].clone()),
            Self::Between(one, other) => {
                let (one, other) = (&keys[*one], &keys[*other]);
                KeyRange::from_wire(one.min(other).clone(), one.max(other).clone())
            }
            Self::Tree(path) => KeyRange::tree(path.as_bytes()),
            Self::Everything => KeyRange::from_wire(Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        }
    }
}

fn place() -> impl Strategy<Value = Place> {
    let key = 0..keys().len();
    prop_oneof![
        6 => key.clone().prop_map(Place::Key),
        2 => (key.clone(), key).prop_map(|(one, other)| Place::Between(one, other)),
        2 => prop::sample::select(vec!["/registry/", "/registry/stable.example.com/shirts/ns0/", "/a/"])
            .prop_map(Place::Tree),
        1 => Just(Place::Everything),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let lease = || prop_oneof![2 => Just(0), 1 => prop::sample::select(LEASES.to_vec())];
    let any_lease = || prop::sample::select(LEASES.to_vec());
    let key = || 0..keys().len();
    prop_oneof![
        12 => (object(), lease()).prop_map(|(object, lease)| Ask::Put(object, lease)),
        4 => (key(), vec(any::<u8>(), 0..20), lease()).prop_map(|(key, bytes, lease)| Ask::Raw(key, bytes, lease)),
        1 => (key(), any::<bool>()).prop_map(|(key, value)| Ask::Touch(key, value)),
        2 => (1..3_u8, vec(0..FIELDS.len(), 0..3)).prop_map(|(version, fields)| Ask::Define(version, fields)),
        3 => place().prop_map(Ask::Delete),
        2 => (place(), prop::option::of(0..12_i64)).prop_map(|(place, ago)| Ask::Get(place, ago)),
        2 => (object(), place()).prop_map(|(object, place)| Ask::Txn(object, place)),
        2 => (any_lease(), 1..60_i64).prop_map(|(lease, ttl)| Ask::Grant(lease, ttl)),
        1 => any_lease().prop_map(Ask::Revoke),
        1 => any_lease().prop_map(Ask::KeepAlive),
        1 => Just(Ask::Expire),
        1 => (0..15_i64).prop_map(Ask::Compact),
    ]
}

impl Ask {
    /// As the writer is asked, of a store at a revision.
    pub(super) fn request(&self, newest: Revision) -> Asked {
        match self {
            Self::Put(object, lease) => Asked::Write(Op::Put(Put { prev_kv: true, ..object.put(*lease) })),
            Self::Raw(key, value, lease) => {
                let (key, value) = (keys()[*key].clone(), value.clone().into());
                Asked::Write(Op::Put(Put { key, value, lease: *lease, ..Put::default() }))
            }
            Self::Touch(key, ignore_value) => {
                let (key, value) = (keys()[*key].clone(), Bytes::from_static(b"touched"));
                let (ignore_value, ignore_lease) = (*ignore_value, !ignore_value);
                Asked::Write(Op::Put(Put { key, value, ignore_value, ignore_lease, ..Put::default() }))
            }
            Self::Define(version, fields) => {
                let put = Put { key: DEFINITION.into(), value: definition(*version, fields).into(), ..Put::default() };
                Asked::Write(Op::Put(put))
            }
            Self::Delete(place) => Asked::Write(Op::Delete(DeleteRange { range: place.range(), prev_kv: true })),
            Self::Get(place, ago) => Asked::Write(Op::Range(get(place, ago.map_or(0, |ago| (newest - ago).max(1))))),
            Self::Txn(object, place) => {
                let range = KeyRange::single(key_of(object.place));
                let (result, target) = (CompareResult::Equal, CompareTarget::Create(0));
                let delete = Op::Delete(DeleteRange { range: place.range(), prev_kv: false });
                Asked::Write(Op::Txn(Txn {
                    compares: vec![Compare { range, result, target }],
                    success: vec![Op::Put(object.put(0))],
                    failure: vec![delete, Op::Range(get(place, 0))],
                }))
            }
            Self::Grant(lease, ttl) => Asked::Grant(*lease, *ttl),
            Self::Revoke(lease) => Asked::Revoke(*lease),
            Self::KeepAlive(lease) => Asked::KeepAlive(*lease),
            Self::Expire => Asked::Expire(LEASES.to_vec()),
            Self::Compact(ago) => Asked::Compact(newest - ago),
        }
    }
}

fn get(place: &Place, revision: Revision) -> RangeQuery {
    RangeQuery { range: place.range(), revision, ..RangeQuery::default() }
}

fn definition(version: u8, fields: &[usize]) -> String {
    let fields: Vec<_> = fields.iter().map(|field| format!(r#"{{"jsonPath":".{}"}}"#, FIELDS[*field])).collect();
    format!(
        r#"{{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1beta1","metadata":{{"name":
            "shirts.stable.example.com","uid":"d"}},"spec":{{"group":"stable.example.com","version":"v{version}",
            "names":{{"plural":"shirts","kind":"Shirt"}},"scope":"Namespaced","versions":[{{"name":"v{version}",
            "served":true,"storage":true}}],"selectableFields":[{}]}}}}"#,
        fields.join(",")
    )
}

/// A step of all databases.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Requests in one commit.
    Commit(Vec<Ask>),
    /// A portion of the collector's work, of so many objects.
    Collect(usize),
    /// A step of a compaction: so many rows.
    Sweep(usize),
    /// A step over the field indexes: so many objects or entries.
    Index(usize),
    /// So many seconds pass.
    Pass(u64),
    /// Forgets objects that were deleted more than so many seconds ago.
    Forget(u64),
    /// Gives the leases so many seconds at least.
    Extend(u64),
    /// The process that serves the store ends, and another begins.
    Restart,
}

/// The steps of a run.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => vec(ask(), 1..6).prop_map(Step::Commit),
        5 => (1..6_usize).prop_map(Step::Collect),
        2 => (1..6_usize).prop_map(Step::Sweep),
        3 => (1..4_usize).prop_map(Step::Index),
        2 => (1..40_u64).prop_map(Step::Pass),
        1 => (0..60_u64).prop_map(Step::Forget),
        1 => (1..30_u64).prop_map(Step::Extend),
        1 => Just(Step::Restart),
    ];
    // What much else needs.
    let first = Step::Commit(vec![Ask::Grant(LEASES[0], 600), Ask::Grant(LEASES[2], 20), Ask::Define(1, vec![0, 1])]);
    vec(step, 1..30).prop_map(move |steps| [vec![first.clone()], steps].concat())
}

/// A portion of the collector's work.
pub(super) fn work(objects: usize) -> Asked {
    Asked::Collect(Quota { objects, bytes: 1 << 20, foreground_after: None })
}
