use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::object::crd::Served;
use crate::object::{ObjectMeta, OwnerReference};

const GROUP: &str = "example.com";

fn reference(uid: &'static str) -> OwnerReference<'static> {
    OwnerReference {
        api_version: Cow::Borrowed("example.com/v1"),
        kind: Cow::Borrowed("Shirt"),
        name: Cow::Borrowed("o"),
        uid: Cow::Borrowed(uid),
        block_owner_deletion: true,
        controller: false,
    }
}

fn at(namespace: &str, name: &str, waits: bool) -> Known {
    let live = vec![Coordinates {
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        kind: "Shirt".to_owned(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        waits,
    }];
    Known { live, ..Known::default() }
}

fn gone(namespaced: bool, orphaning: bool) -> Known {
    Known { tombstone: Some(namespaced), orphaning, ..Known::default() }
}

#[test]
fn what_a_reference_points_to() {
    let other_version = OwnerReference { api_version: Cow::Borrowed("example.com/v2"), ..reference("u") };
    let other_group = OwnerReference { api_version: Cow::Borrowed("v1"), ..reference("u") };
    let other_kind = OwnerReference { kind: Cow::Borrowed("Skirt"), ..reference("u") };
    let usual = reference("u");
    let two = Known { live: [at("b", "o", false).live, at("a", "o", true).live].concat(), ..Known::default() };
    let table = [
        ("a", &usual, Known::default(), Verdict::Unknown),
        ("a", &usual, at("a", "o", false), Verdict::Solid),
        ("a", &usual, at("a", "o", true), Verdict::Waiting),
        ("a", &usual, at("", "o", false), Verdict::Solid),
        ("", &usual, at("", "o", false), Verdict::Solid),
        ("a", &usual, at("b", "o", false), Verdict::Dead),
        ("a", &usual, at("a", "p", false), Verdict::Dead),
        ("a", &usual, two, Verdict::Waiting),
        ("", &usual, at("a", "o", false), Verdict::Unresolvable),
        ("", &usual, at("a", "p", false), Verdict::Unresolvable),
        ("a", &other_version, at("a", "o", false), Verdict::Solid),
        ("a", &other_group, at("a", "o", false), Verdict::Unknown),
        ("a", &other_kind, at("a", "o", false), Verdict::Unknown),
        ("a", &usual, gone(true, false), Verdict::Dead),
        ("a", &usual, gone(true, true), Verdict::Orphaned),
        ("", &usual, gone(true, false), Verdict::Unresolvable),
        ("", &usual, gone(false, false), Verdict::Dead),
        // That it was gone once does not matter when it is there.
        ("a", &usual, Known { tombstone: Some(true), ..at("a", "o", false) }, Verdict::Solid),
    ];
    for (namespace, reference, known, expected) in table {
        assert_eq!(verdict(namespace, reference, &known), expected, "{namespace:?} {reference:?} {known:?}");
    }
}

/// Of an owner named in a version that nobody serves, or may not serve, upstream gets an error and does nothing with
/// the object.
#[test]
fn a_version_that_is_not_served_is_not_judged() {
    let in_version =
        |api_version: &'static str| OwnerReference { api_version: Cow::Borrowed(api_version), ..reference("u") };
    let defined = |known: Known, kind: &str| {
        let versions = vec!["v1".to_owned(), "v2".to_owned()];
        let served = Served { group: GROUP.to_owned(), kind: kind.to_owned(), versions };
        Known { definition: Some(Arc::new(served)), ..known }
    };
    let built_in = |version: &str| {
        let mut known = at("a", "o", false);
        for at in &mut known.live {
            (at.group, at.version) = ("autoscaling".to_owned(), version.to_owned());
        }
        known
    };
    let table = [
        ("example.com/v1", defined(gone(true, false), "Shirt"), Verdict::Dead),
        ("example.com/v2", defined(gone(true, false), "Shirt"), Verdict::Dead),
        ("example.com/v3", defined(gone(true, false), "Shirt"), Verdict::Unserved),
        ("example.com/v3", defined(gone(true, true), "Shirt"), Verdict::Orphaned),
        ("example.com/v3", defined(at("a", "o", false), "Shirt"), Verdict::Unserved),
        ("example.com/v3", defined(at("a", "o", true), "Shirt"), Verdict::Unserved),
        ("example.com/v3", defined(at("b", "o", false), "Shirt"), Verdict::Unserved),
        ("example.com/v2", defined(at("a", "o", false), "Shirt"), Verdict::Solid),
        ("example.com/v1", defined(gone(true, false), "Skirt"), Verdict::Unknown),
        ("other.com/v1", defined(gone(true, false), "Shirt"), Verdict::Unknown),
        // No definition: an aggregated API server's, or the definition is gone.
        ("example.com/v3", gone(true, false), Verdict::Dead),
        ("example.com/v3", at("a", "o", false), Verdict::Solid),
        // Kubernetes' own.
        ("apps/v1", gone(true, false), Verdict::Dead),
        ("apps/v9", gone(true, false), Verdict::Unserved),
        ("v1", gone(true, false), Verdict::Dead),
        ("v2", gone(true, false), Verdict::Unserved),
        ("resource.k8s.io/v1beta1", gone(true, false), Verdict::Unserved),
        ("apiextensions.k8s.io/v1", gone(false, false), Verdict::Dead),
        ("apiextensions.k8s.io/v1beta1", gone(false, false), Verdict::Unserved),
        ("autoscaling/v1", built_in("v2"), Verdict::Solid),
        ("autoscaling/v2beta2", built_in("v2"), Verdict::Unserved),
        ("autoscaling/v2beta2", built_in("v2beta2"), Verdict::Solid),
    ];
    for (api_version, known, expected) in table {
        assert_eq!(verdict("a", &in_version(api_version), &known), expected, "{api_version} {known:?}");
    }
}

fn unserved() -> Known {
    let served = Served { group: GROUP.to_owned(), kind: "Shirt".to_owned(), versions: Vec::new() };
    Known { definition: Some(Arc::new(served)), ..gone(true, false) }
}

/// An object with owners that are named by their verdicts: `s`olid, `w`aiting, `d`ead, `o`rphaned, `u`nknown,
/// un`r`esolvable, not ser`v`ed; a capital is another of that kind.
fn decided(owners: &'static str, finalizers: &[&'static str], deleting: bool, below: Below) -> Action {
    let known: BTreeMap<&str, Known> = [
        ("s", at("a", "o", false)),
        ("w", at("a", "o", true)),
        ("d", gone(true, false)),
        ("D", at("b", "o", false)),
        ("o", gone(true, true)),
        ("u", Known::default()),
        ("v", unserved()),
    ]
    .into();
    let meta = ObjectMeta {
        namespace: Cow::Borrowed(if owners.contains('r') { "" } else { "a" }),
        deletion_timestamp: deleting.then_some(1),
        finalizers: finalizers.iter().map(|finalizer| Cow::Borrowed(*finalizer)).collect(),
        owner_references: (0..owners.len()).map(|at| reference(&owners[at..=at])).collect(),
        ..ObjectMeta::default()
    };
    let unresolvable = gone(true, false);
    decide(&meta, below, |reference| known.get(&*reference.uid).or((reference.uid == "r").then_some(&unresolvable)))
}

#[test]
fn what_becomes_of_an_object() {
    let none = Below::default();
    let some = Below { any: true, ..none };
    let ring = Below { waits: true, ..some };
    let drop = |owners: &str| Action::Drop(owners.chars().map(String::from).collect());
    let foreground = |owners: &str| Action::Foreground(owners.chars().map(String::from).collect());
    let keep = Action::Keep;
    let x: &[&str] = &["example.com/x"];
    let table: [(&str, &[&str], bool, Below, Action); 24] = [
        ("", &[], false, none, keep(Why::NoOwners)),
        ("s", &[], false, none, keep(Why::Owned)),
        ("u", &[], false, none, keep(Why::Owned)),
        ("dr", &[], false, none, keep(Why::Unresolvable)),
        ("v", &[], false, none, keep(Why::Unserved)),
        ("dv", x, false, none, keep(Why::Unserved)),
        ("d", &[], true, none, keep(Why::Deleting)),
        ("d", &[], false, none, Action::Delete),
        ("D", &[], false, none, Action::Delete),
        ("dD", &[], false, none, Action::Delete),
        ("d", x, false, none, Action::Mark),
        ("d", &[ORPHAN], false, some, Action::Mark),
        ("ds", &[], false, none, drop("d")),
        ("wu", &[], false, some, drop("w")),
        ("dwsd", x, false, none, drop("dw")),
        ("w", &[], false, none, Action::Delete),
        ("w", &[], false, some, foreground("")),
        ("wd", x, false, ring, foreground("wd")),
        ("w", x, false, none, Action::Mark),
        ("o", &[], false, some, drop("o")),
        ("oo", x, false, none, drop("o")),
        ("od", &[], false, none, Action::Delete),
        ("os", &[], false, none, drop("o")),
        ("ow", &[], false, some, foreground("")),
    ];
    for (owners, finalizers, deleting, below, expected) in table {
        assert_eq!(
            decided(owners, finalizers, deleting, below),
            expected,
            "{owners:?} {finalizers:?} {deleting} {below:?}"
        );
    }
}

#[test]
fn an_object_under_deletion_goes_with_its_last_finalizer() {
    type Case = (Option<i64>, Option<i64>, &'static [&'static str], &'static [&'static str], bool);
    let table: [Case; 7] = [
        (Some(1), Some(0), &[FOREGROUND], &[FOREGROUND], true),
        (Some(1), None, &[FOREGROUND], &[FOREGROUND], true),
        (Some(1), Some(0), &[FOREGROUND, HOLD], &[FOREGROUND, HOLD], true),
        (Some(1), Some(0), &[FOREGROUND, HOLD], &[FOREGROUND], false),
        (Some(1), Some(0), &["example.com/x"], &[FOREGROUND], false),
        (Some(1), Some(30), &[FOREGROUND], &[FOREGROUND], false),
        (None, None, &[FOREGROUND], &[FOREGROUND], false),
    ];
    for (deletion_timestamp, deletion_grace_period_seconds, finalizers, lost, expected) in table {
        let finalizers = finalizers.iter().map(|finalizer| Cow::Borrowed(*finalizer)).collect();
        let meta =
            ObjectMeta { deletion_timestamp, deletion_grace_period_seconds, finalizers, ..ObjectMeta::default() };
        assert_eq!(ends(&meta, lost), expected, "{meta:?} {lost:?}");
    }
}
