//! What a change of an object means to the collector.
//!
//! The changes themselves are kept beside the objects: which owners an object has, which objects are gone. A signal
//! says what work may have come up; the database, which knows the dependents, decides whether it did, in the
//! transaction of the change.

use bytes::Bytes;

use super::{Edge, Node, Rules, Uid};

/// A change that the collector must hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The object.
    pub uid: Uid,
    /// Its key.
    pub key: Bytes,
    /// The revision of the change.
    pub revision: i64,
    /// Whether the controller manager does not see the object.
    pub hidden: bool,
    /// What happened.
    pub what: What,
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It is gone. Its dependents may have to go.
    Removed {
        /// Whether it was in a namespace.
        namespaced: bool,
        /// Whether its deletion had begun before, so that there may be work under way for it.
        begun: bool,
    },
    /// Its deletion began, and waits until its dependents have lost their references.
    Orphaning,
    /// Its deletion began, and waits until its dependents are gone.
    Foreground,
    /// It is held, and only a task lets go of it again.
    Held,
    /// Its finalizers changed while it is being deleted: work that waits may go on, or be of no use any more.
    Policy,
    /// It is hidden, and was created or given other owners, one of which may be gone or never have been where the
    /// reference says.
    Refers {
        /// Its namespace.
        namespace: Box<str>,
        /// Its owners.
        owners: Vec<Edge>,
    },
    /// It was visible and is hidden now: whatever the controller manager did for it is the collector's.
    Hidden,
}

/// An object before or after a change.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The object.
    pub node: &'a Node,
    /// Whether it has the label.
    pub labelled: bool,
}

impl Seen<'_> {
    fn hidden(self, rules: &Rules) -> bool {
        rules.hides(&self.node.group, self.labelled)
    }
}

/// Adds what a change of a key means.
///
/// A deletion that waits starts where the new object waits and the old one did not
/// (pkg/controller/garbagecollector/graph_builder.go, `deletionStartsWithFinalizer`).
pub fn signals(
    rules: &Rules,
    (key, revision): (&Bytes, i64),
    old: Option<Seen<'_>>,
    new: Option<Seen<'_>>,
    signals: &mut Vec<Signal>,
) {
    let mut add = |seen: Seen<'_>, what: What| {
        let hidden = seen.hidden(rules);
        signals.push(Signal { uid: seen.node.uid.clone(), key: key.clone(), revision, hidden, what });
    };
    let same = |other: Option<Seen<'_>>, seen: Seen<'_>| other.is_some_and(|other| other.node.uid == seen.node.uid);
    if let Some(old) = old.filter(|old| !same(new, *old) && !rules.ignores(old.node)) {
        add(old, What::Removed { namespaced: !old.node.namespace.is_empty(), begun: old.node.deletion.begun });
    }
    let Some(new) = new.filter(|new| !rules.ignores(new.node)) else { return };
    let old = old.filter(|old| same(Some(new), *old));
    let hidden = new.hidden(rules);
    let newly_hidden = hidden && old.is_some_and(|old| !old.hidden(rules));
    let before = old.filter(|_| !newly_hidden).map(|old| old.node.deletion).unwrap_or_default();
    let now = new.node.deletion;
    if newly_hidden {
        add(new, What::Hidden);
    } else if hidden && !new.node.owners.is_empty() && old.is_none_or(|old| old.node.owners != new.node.owners) {
        add(new, What::Refers { namespace: new.node.namespace.clone(), owners: new.node.owners.clone() });
    }
    // Both at once can't come from an API server; then the dependents stay.
    if now.orphan && !before.orphan {
        add(new, What::Orphaning);
    } else if now.foreground && !before.foreground {
        add(new, What::Foreground);
    } else if before.begun && before != now {
        add(new, What::Policy);
    }
    if now.held && !before.held && !now.orphan {
        add(new, What::Held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gc::Deletion;

    const CR: &str = "example.com";

    fn node(group: &str, uid: &str, owners: &[&str]) -> Node {
        let edge = |owner: &&str| Edge { owner: Uid::parse(owner).unwrap(), name: "".into(), block: false };
        Node {
            uid: Uid::parse(uid).unwrap(),
            group: group.into(),
            kind: "Thing".into(),
            namespace: "a".into(),
            deletion: Deletion::default(),
            owners: owners.iter().map(edge).collect(),
        }
    }

    fn deleting(mut node: Node, orphan: bool, foreground: bool) -> Node {
        node.deletion = Deletion { begun: true, orphan, foreground, held: false };
        node
    }

    fn heard(old: Option<(&Node, bool)>, new: Option<(&Node, bool)>) -> Vec<(String, bool, String)> {
        let seen = |(node, labelled)| Seen { node, labelled };
        let mut out = Vec::new();
        signals(&Rules::default(), (&Bytes::from_static(b"/k"), 7), old.map(seen), new.map(seen), &mut out);
        let name = |what: &What| format!("{what:?}").split([' ', '(']).next().unwrap_or_default().to_owned();
        out.iter().map(|signal| (signal.uid.to_string(), signal.hidden, name(&signal.what))).collect()
    }

    #[test]
    fn what_a_change_means() {
        let plain = node(CR, "a", &[]);
        let owned = node(CR, "a", &["o"]);
        let other = node(CR, "b", &[]);
        let (orphan, foreground) = (deleting(plain.clone(), true, false), deleting(plain.clone(), false, true));
        let begun = deleting(plain.clone(), false, false);
        let held = |mut node: Node| {
            node.deletion.held = true;
            node
        };
        let (waiting, only_held) = (held(foreground.clone()), held(begun.clone()));
        let typed = node("apps", "a", &["o"]);
        let mut event = node("", "e", &["o"]);
        event.kind = "Event".into();
        type Case<'a> = (Option<(&'a Node, bool)>, Option<(&'a Node, bool)>, &'a [(&'a str, bool, &'a str)]);
        let table: [Case<'_>; 24] = [
            (None, Some((&plain, true)), &[]),
            (None, Some((&owned, false)), &[]),
            (None, Some((&owned, true)), &[("a", true, "Refers")]),
            (Some((&plain, true)), Some((&owned, true)), &[("a", true, "Refers")]),
            (Some((&owned, true)), Some((&owned, true)), &[]),
            (Some((&owned, true)), Some((&plain, true)), &[]),
            (Some((&plain, true)), None, &[("a", true, "Removed")]),
            (Some((&plain, false)), None, &[("a", false, "Removed")]),
            (Some((&plain, true)), Some((&other, false)), &[("a", true, "Removed")]),
            // A typed group is visible whatever its labels.
            (None, Some((&typed, true)), &[]),
            (Some((&typed, true)), None, &[("a", false, "Removed")]),
            // Deletions that wait.
            (Some((&plain, false)), Some((&orphan, false)), &[("a", false, "Orphaning")]),
            (Some((&begun, true)), Some((&foreground, true)), &[("a", true, "Foreground")]),
            (Some((&orphan, true)), Some((&foreground, true)), &[("a", true, "Foreground")]),
            (Some((&foreground, true)), Some((&foreground, true)), &[]),
            (Some((&foreground, true)), Some((&begun, true)), &[("a", true, "Policy")]),
            (None, Some((&orphan, true)), &[("a", true, "Orphaning")]),
            // Only a task takes the finalizer away again.
            (Some((&foreground, false)), Some((&waiting, false)), &[("a", false, "Policy"), ("a", false, "Held")]),
            (Some((&waiting, false)), Some((&only_held, false)), &[("a", false, "Policy")]),
            (None, Some((&only_held, false)), &[("a", false, "Held")]),
            (Some((&only_held, false)), Some((&orphan, false)), &[("a", false, "Orphaning")]),
            // The label comes and goes.
            (
                Some((&foreground, false)),
                Some((&foreground, true)),
                &[("a", true, "Hidden"), ("a", true, "Foreground")],
            ),
            (Some((&owned, true)), Some((&owned, false)), &[]),
            (Some((&event, true)), None, &[]),
        ];
        for (old, new, expected) in table {
            let expected: Vec<_> =
                expected.iter().map(|(uid, hidden, what)| (uid.to_string(), *hidden, what.to_string())).collect();
            assert_eq!(heard(old, new), expected, "{old:?} -> {new:?}");
        }
    }
}
