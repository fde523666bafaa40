//! Every rule, and that many signals at once mean what they mean one after another.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::started::{asked, started, unusual};
use crate::engine::Revision;
use crate::gc::{Coordinates, Edge, Signal, TaskKind, TaskState, Uid, What};
use crate::sql::session::{Heard, Started};

/// Tombstones, tasks that go, tasks that come, and UIDs that are woken.
type Plain =
    (Vec<(String, Revision)>, Vec<(String, TaskKind)>, Vec<(String, TaskKind, String, bool, Revision)>, Vec<String>);

fn uid(name: &str) -> Uid {
    Uid::parse(name).unwrap()
}

fn signal(revision: Revision, name: &str, hidden: bool, what: What) -> Signal {
    Signal { uid: uid(name), key: format!("/{name}/{revision}").into(), revision, hidden, what }
}

fn removed(begun: bool) -> What {
    What::Removed { namespaced: true, begun }
}

fn refers(namespace: &str, owners: &[(&str, &str)]) -> What {
    let edge = |(owner, name): &(&str, &str)| Edge { owner: uid(owner), name: (*name).into(), block: false };
    What::Refers { namespace: namespace.into(), owners: owners.iter().map(edge).collect() }
}

fn plain(started: &Started<'_>) -> Plain {
    let tombstones = started.tombstones.iter().map(|(uid, _, _, revision)| (uid.to_string(), *revision));
    let dropped = started.dropped.iter().map(|(uid, kind)| (uid.to_string(), *kind));
    let tasks = started.tasks.iter().map(|(uid, kind, key, hidden, revision)| {
        (uid.to_string(), *kind, String::from_utf8_lossy(key).into_owned(), *hidden, *revision)
    });
    let woken = started.woken.iter().map(ToString::to_string);
    (tombstones.collect(), dropped.collect(), tasks.collect(), woken.collect())
}

/// What is known: dependents without and with the label, tasks, keys of owners, tombstones.
#[derive(Default)]
struct Facts<'a> {
    dependents: &'a [(&'a str, bool, bool)],
    tasks: &'a [(&'a str, TaskKind, TaskState)],
    keys: &'a [(&'a str, &'a str)],
    tombstones: &'a [&'a str],
    /// UID, namespace and name of owners whose keys do not tell.
    places: &'a [(&'a str, &'a str, &'a str)],
}

impl Facts<'_> {
    fn heard(&self) -> Heard {
        let mut heard = Heard::default();
        heard.dependents.extend(self.dependents.iter().map(|(name, without, with)| (uid(name), (*without, *with))));
        heard.tombstones.extend(self.tombstones.iter().map(|name| uid(name)));
        for (name, kind, state) in self.tasks {
            heard.tasks.entry(uid(name)).or_default().insert(*kind, *state);
        }
        for (name, key) in self.keys {
            heard.keys.entry(uid(name)).or_default().push(Bytes::copy_from_slice(key.as_bytes()));
        }
        heard
    }

    fn places(&self) -> BTreeMap<Uid, Vec<Coordinates>> {
        let mut places: BTreeMap<Uid, Vec<Coordinates>> = BTreeMap::new();
        for (owner, namespace, name) in self.places {
            let (group, version, kind) = ("g".to_owned(), "v1".to_owned(), "Kind".to_owned());
            let (name, namespace) = ((*name).to_owned(), (*namespace).to_owned());
            places.entry(uid(owner)).or_default().push(Coordinates {
                group,
                version,
                kind,
                name,
                namespace,
                waits: false,
            });
        }
        places
    }

    fn started(&self, signals: &[Signal]) -> Plain {
        plain(&started(signals, self.heard(), &self.places()))
    }
}

/// The kinds and UIDs of the tasks that come of one signal about the object `o`.
fn tasks_of(facts: &Facts<'_>, hidden: bool, what: What) -> Vec<TaskKind> {
    facts.started(&[signal(7, "o", hidden, what)]).2.into_iter().map(|(_, kind, ..)| kind).collect()
}

#[test]
fn tasks_come_for_dependents_that_are_the_collectors() {
    use TaskKind::{Cascade, Foreground, Orphan, Recheck};
    let none: &[(&str, bool, bool)] = &[];
    let (without, with, both) = (&[("o", true, false)][..], &[("o", false, true)][..], &[("o", true, true)][..]);
    type Case<'a> = (What, bool, &'a [(&'a str, bool, bool)], &'a [TaskKind]);
    let table: [Case<'_>; 23] = [
        (removed(false), true, none, &[]),
        (removed(false), true, without, &[Cascade]),
        (removed(true), true, with, &[Cascade]),
        (removed(false), false, none, &[]),
        // A visible owner's visible dependents are the controller manager's.
        (removed(false), false, without, &[]),
        (removed(false), false, with, &[Cascade]),
        (removed(false), false, both, &[Cascade]),
        // A hidden object's finalizer is the collector's in any case.
        (What::Orphaning, true, none, &[Orphan]),
        (What::Orphaning, true, both, &[Orphan]),
        (What::Orphaning, false, none, &[]),
        (What::Orphaning, false, without, &[]),
        (What::Orphaning, false, with, &[Orphan]),
        (What::Foreground, true, none, &[Foreground]),
        (What::Foreground, true, without, &[Foreground]),
        (What::Foreground, false, none, &[]),
        (What::Foreground, false, without, &[]),
        (What::Foreground, false, both, &[Foreground]),
        (What::Held, false, none, &[Foreground]),
        (What::Policy, true, both, &[]),
        (What::Policy, false, both, &[]),
        (What::Hidden, true, none, &[Recheck]),
        (What::Hidden, true, without, &[Recheck, Cascade]),
        (What::Hidden, true, with, &[Recheck, Cascade]),
    ];
    for (what, hidden, dependents, expected) in table {
        let facts = Facts { dependents, ..Facts::default() };
        assert_eq!(tasks_of(&facts, hidden, what.clone()), expected, "{what:?} {hidden} {dependents:?}");
    }
}

#[test]
fn an_owner_is_doubtful_if_it_is_gone_or_elsewhere() {
    let tombstones = &["gone"][..];
    let keys =
        &[("here", "/r/g/as/ns/n"), ("wide", "/r/g/bs/n"), ("far", "/r/g/as/other/n"), ("copied", "/r/g/as/x/n")];
    let keys = [&keys[..], &[("copied", "/r/g/as/ns/n")]].concat();
    let places = &[("wide", "", "n"), ("far", "other", "n"), ("here", "ns", "n")];
    let facts = Facts { tombstones, keys: &keys, places, ..Facts::default() };
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);
    let table: [Case<'_>; 13] = [
        ("ns", &[], false),
        ("ns", &[("unknown", "n")], false),
        ("ns", &[("gone", "n")], true),
        ("ns", &[("here", "n")], false),
        ("ns", &[("here", "m")], true),
        ("s", &[("here", "n")], true),
        // An owner in no namespace may be named from any; one in another namespace may not.
        ("ns", &[("wide", "n")], false),
        ("", &[("wide", "n")], false),
        ("ns", &[("wide", "m")], true),
        ("ns", &[("far", "n")], true),
        ("", &[("far", "n")], true),
        ("ns", &[("copied", "n")], false),
        ("ns", &[("here", "n"), ("unknown", "n"), ("gone", "n")], true),
    ];
    for (namespace, owners, doubtful) in table {
        let expected: &[TaskKind] = if doubtful { &[TaskKind::Recheck] } else { &[] };
        assert_eq!(tasks_of(&facts, true, refers(namespace, owners)), expected, "{namespace:?} {owners:?}");
        assert_eq!(tasks_of(&facts, false, refers(namespace, owners)), [], "{namespace:?} {owners:?}");
    }
}

#[test]
fn only_what_matters_is_asked() {
    let signals = [
        signal(1, "a", true, removed(false)),
        signal(2, "a", true, What::Policy),
        signal(3, "b", true, refers("ns", &[("x", "n"), ("y", "n"), ("z", "n")])),
        signal(4, "c", false, What::Foreground),
        signal(5, "d", true, refers("", &[("x", "n")])),
    ];
    let (uids, owners) = asked(&signals);
    assert_eq!((uids, owners), (vec![&uid("a"), &uid("c")], vec![&uid("x"), &uid("y"), &uid("z")]));
    let keys = &[("x", "/r/g/as/ns/n"), ("y", "/r/g/as/other/n")];
    let heard = Facts { keys, ..Facts::default() }.heard();
    assert_eq!(unusual(&signals[..4], &heard), [&uid("y")]);
    // A reference from no namespace needs the value always.
    assert_eq!(unusual(&signals, &heard), [&uid("x"), &uid("y")]);
}

#[test]
fn signals_mean_what_they_mean_one_after_another() {
    use TaskKind::{Cascade, Foreground, Orphan, Recheck};
    use TaskState::{Parked, Ready, Waiting};
    let dependents = &[("o", true, true)][..];
    let task = |kind, key: &str, revision| ("o".to_owned(), kind, key.to_owned(), true, revision);
    let tombstone = |revision| ("o".to_owned(), revision);
    let o = || "o".to_owned();
    let at = |revision, what| signal(revision, "o", true, what);
    type Case<'a> = (&'a str, &'a [(&'a str, TaskKind, TaskState)], Vec<Signal>, Plain);
    let table: Vec<Case<'_>> = vec![
        (
            "dependents that are being orphaned stay",
            &[("o", Orphan, Waiting)],
            vec![at(1, removed(true))],
            (vec![tombstone(1)], vec![], vec![], vec![o()]),
        ),
        (
            "the task to orphan came with the same commit",
            &[],
            vec![at(1, What::Orphaning), at(2, removed(true))],
            (vec![tombstone(2)], vec![], vec![task(Orphan, "/o/1", 1)], vec![]),
        ),
        (
            "and not before the object was gone",
            &[],
            vec![at(1, removed(false)), at(2, What::Orphaning)],
            (vec![tombstone(1)], vec![], vec![task(Cascade, "/o/1", 1), task(Orphan, "/o/2", 2)], vec![]),
        ),
        (
            "a removal that had not begun wakes nothing",
            &[("o", Foreground, Waiting)],
            vec![at(1, removed(false))],
            (vec![tombstone(1)], vec![], vec![task(Cascade, "/o/1", 1)], vec![]),
        ),
        (
            "what is ready need not be woken",
            &[("o", Foreground, Ready)],
            vec![at(1, What::Policy)],
            (vec![], vec![], vec![], vec![]),
        ),
        (
            "what is parked goes on, once",
            &[("o", Foreground, Parked), ("o", Recheck, Waiting)],
            vec![at(1, What::Policy), at(2, What::Policy)],
            (vec![], vec![], vec![], vec![o()]),
        ),
        (
            "a task that begins again is awake, the others are not",
            &[("o", Foreground, Waiting), ("o", Cascade, Parked)],
            vec![at(1, What::Foreground), at(2, What::Policy)],
            (vec![], vec![], vec![task(Foreground, "/o/1", 1)], vec![o()]),
        ),
        (
            "another way of deletion takes the place of the first",
            &[("o", Foreground, Waiting)],
            vec![at(1, What::Orphaning)],
            (vec![], vec![(o(), Foreground)], vec![task(Orphan, "/o/1", 1)], vec![]),
        ),
        (
            "back and forth in one commit",
            &[("o", Foreground, Waiting)],
            vec![at(1, What::Orphaning), at(2, What::Foreground), at(3, What::Policy)],
            (vec![], vec![(o(), Orphan), (o(), Foreground)], vec![task(Foreground, "/o/2", 2)], vec![]),
        ),
        (
            "a task keeps what caused it, and has the newest key",
            &[],
            vec![at(1, What::Hidden), at(2, removed(false))],
            (vec![tombstone(2)], vec![], vec![task(Recheck, "/o/1", 1), task(Cascade, "/o/2", 1)], vec![]),
        ),
        (
            "two objects with one UID",
            &[],
            vec![at(1, removed(false)), at(2, removed(false))],
            (vec![tombstone(1), tombstone(2)], vec![], vec![task(Cascade, "/o/2", 1)], vec![]),
        ),
    ];
    for (case, tasks, signals, expected) in table {
        let facts = Facts { dependents, tasks, ..Facts::default() };
        assert_eq!(facts.started(&signals), expected, "{case}");
    }
}

#[test]
fn an_owner_that_goes_in_the_same_commit_is_doubtful_afterwards() {
    let dependent = |revision| signal(revision, "d", true, refers("ns", &[("o", "n")]));
    let gone = |revision| signal(revision, "o", false, removed(false));
    let tasks = |signals: &[Signal]| Facts::default().started(signals).2.len();
    assert_eq!((tasks(&[gone(1), dependent(2)]), tasks(&[dependent(1), gone(2)])), (1, 0));
}
