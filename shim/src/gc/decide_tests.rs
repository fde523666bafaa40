use std::borrow::Cow;
use std::collections::BTreeMap;

use super::*;
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

/// An object with owners that are named by their verdicts: `s`olid, `w`aiting, `d`ead, `o`rphaned, `u`nknown, un`r`esolvable; a capital is another of that kind.
fn decided(owners: &'static str, finalizers: &[&'static str], deleting: bool, below: Below) -> Action {
    let known: BTreeMap<&str, Known> = [
        ("s", at("a", "o", false)),
        ("w", at("a", "o", true)),
        ("d", gone(true, false)),
        ("D", at("b", "o", false)),
        ("o", gone(true, true)),
        ("u", Known::default()),
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
    let table: [(&str, &[&str], bool, Below, Action); 22] = [
        ("", &[], false, none, keep(Why::NoOwners)),
        ("s", &[], false, none, keep(Why::Owned)),
        ("u", &[], false, none, keep(Why::Owned)),
        ("dr", &[], false, none, keep(Why::Unresolvable)),
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
