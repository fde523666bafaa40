//! How a change of an object changes the graph of owners.

use std::collections::HashMap;

use crate::engine::store::{Facets, RowChange};
use crate::gc::{Edge, Uid};
use crate::sql::session::{Delta, EdgeRow};

/// Adds what changed rows mean for the graph of owners, and for tasks about these owners.
pub(in crate::sql) fn edges<'a>(rows: &'a [RowChange], delta: &mut Delta<'a>) {
    for RowChange { key, before, after } in rows {
        let (old, new) = (Rows::of(before.as_ref()), Rows::of(after.as_ref().map(|(_, facets)| facets)));
        // Nearly always: most objects have no owners, and those that have keep them.
        if old != new {
            gone(key, &old, &new, delta);
            come(key, &old, &new, delta);
        }
    }
    for owners in [&mut delta.wake_foreground, &mut delta.restart] {
        owners.sort_unstable();
        owners.dedup();
    }
}

/// The rows that an object has in the table of owners.
#[derive(PartialEq, Eq)]
struct Rows<'a> {
    edges: &'a [Edge],
    labelled: bool,
    waits: bool,
}

impl<'a> Rows<'a> {
    fn of(facets: Option<&'a Facets>) -> Self {
        match facets.and_then(|facets| facets.node.as_ref().map(|node| (facets, node))) {
            Some((facets, node)) if !node.owners.is_empty() => {
                Self { edges: &node.owners, labelled: facets.hidden, waits: node.deletion.waits() }
            }
            _ => Self { edges: &[], labelled: false, waits: false },
        }
    }

    fn row(&self, key: &'a [u8], edge: &'a Edge) -> EdgeRow<'a> {
        let Edge { owner, block, .. } = edge;
        EdgeRow { owner, labelled: self.labelled, key, block: *block, waits: self.waits }
    }

    /// The edges to owners whose rows are at the same places in the table as those of an object with the label or
    /// without.
    fn at(&self, labelled: bool) -> HashMap<&'a Uid, &'a Edge> {
        let edges = if self.labelled == labelled { self.edges } else { &[] };
        edges.iter().map(|edge| (&edge.owner, edge)).collect()
    }
}

fn gone<'a>(key: &'a [u8], old: &Rows<'a>, new: &Rows<'a>, delta: &mut Delta<'a>) {
    let all_kept = new.at(old.labelled);
    for edge in old.edges {
        let kept = all_kept.get(&edge.owner);
        if kept.is_none() {
            delta.edges_gone.push(old.row(key, edge));
        }
        if edge.block && kept.is_none_or(|kept| !kept.block) {
            // Whoever waited for it may go on.
            delta.wake_foreground.push(&edge.owner);
        }
    }
}

fn come<'a>(key: &'a [u8], old: &Rows<'a>, new: &Rows<'a>, delta: &mut Delta<'a>) {
    let all_kept = old.at(new.labelled);
    for edge in new.edges {
        let kept = all_kept.get(&edge.owner);
        if kept.is_some_and(|kept| kept.block == edge.block) && old.waits == new.waits {
            continue;
        }
        delta.edges_new.push(new.row(key, edge));
        if kept.is_none_or(|kept| edge.block && !kept.block) {
            // Whoever looked at its dependents already must look again.
            delta.restart.push(&edge.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::store::Row;
    use crate::gc::{Deletion, Node};

    /// An object with the label or without, that waits for its dependents or not, and its owners: those that it blocks
    /// are in capitals.
    type Object<'a> = (bool, bool, &'a str);

    fn facets((hidden, waits, owners): Object<'_>) -> Facets {
        let owner = |of: char| Uid::parse(&of.to_ascii_lowercase().to_string()).unwrap();
        let edge = |of: char| Edge { owner: owner(of), name: "".into(), block: of.is_ascii_uppercase() };
        let node = Node {
            uid: Uid::parse("self").unwrap(),
            group: "".into(),
            kind: "".into(),
            namespace: "".into(),
            deletion: Deletion { foreground: waits, ..Deletion::default() },
            owners: owners.chars().map(edge).collect(),
        };
        Facets { hidden, node: Some(node), ..Facets::default() }
    }

    fn change(key: &'static str, before: Option<Object<'_>>, after: Option<Object<'_>>) -> RowChange {
        let after = after.map(|object| (Row::default(), facets(object)));
        RowChange { key: Bytes::from_static(key.as_bytes()), before: before.map(facets), after }
    }

    /// Rows that go, rows that come with their flags, owners to wake, owners to begin again with.
    fn changed(rows: &[RowChange]) -> [String; 4] {
        let mut delta = Delta::default();
        edges(rows, &mut delta);
        let place = |row: &EdgeRow<'_>| format!("{}{}{}", row.key.escape_ascii(), row.owner, u8::from(row.labelled));
        let flags = |row: &EdgeRow<'_>| format!("{}={}{}", place(row), u8::from(row.block), u8::from(row.waits));
        let uids = |uids: &[&Uid]| uids.iter().map(ToString::to_string).collect::<String>();
        let gone: Vec<_> = delta.edges_gone.iter().map(place).collect();
        let new: Vec<_> = delta.edges_new.iter().map(flags).collect();
        [gone.join(" "), new.join(" "), uids(&delta.wake_foreground), uids(&delta.restart)]
    }

    #[test]
    fn rows_follow_an_objects_owners_and_wake_whoever_waits() {
        let (seen, hidden) = (|owners| Some((false, false, owners)), |owners| Some((true, false, owners)));
        type Case<'a> = (Option<Object<'a>>, Option<Object<'a>>, [&'a str; 4]);
        let table: [Case<'_>; 15] = [
            (None, seen(""), ["", "", "", ""]),
            (None, seen("aB"), ["", "/a0=00 /b0=10", "", "ab"]),
            (None, hidden("a"), ["", "/a1=00", "", "a"]),
            (seen("aB"), None, ["/a0 /b0", "", "b", ""]),
            (seen("aB"), seen("aB"), ["", "", "", ""]),
            (seen("aB"), seen("Ba"), ["", "", "", ""]),
            // Whoever waits no longer waits for it.
            (seen("A"), seen("a"), ["", "/a0=00", "a", ""]),
            // Whoever looked at it takes it for one that does not block.
            (seen("a"), seen("A"), ["", "/a0=10", "", "a"]),
            (seen("ab"), seen("bc"), ["/a0", "/c0=00", "", "c"]),
            (seen("A"), seen(""), ["/a0", "", "a", ""]),
            // The label gives it another place among the dependents.
            (seen("a"), hidden("a"), ["/a0", "/a1=00", "", "a"]),
            (hidden("A"), seen("A"), ["/a1", "/a0=10", "a", "a"]),
            // It waits for its own dependents from now on.
            (seen("aB"), Some((false, true, "aB")), ["", "/a0=01 /b0=11", "", ""]),
            (Some((true, true, "a")), hidden("a"), ["", "/a1=00", "", ""]),
            (Some((true, true, "")), hidden(""), ["", "", "", ""]),
        ];
        for (before, after, expected) in table {
            assert_eq!(changed(&[change("/", before, after)]), expected, "{before:?} -> {after:?}");
        }
    }

    #[test]
    fn owners_of_many_are_woken_once() {
        let gone = |key| change(key, Some((true, false, "BA")), None);
        let come = |key| change(key, None, Some((true, false, "a")));
        let rows = [gone("/1"), come("/2"), gone("/3"), come("/4")];
        let places = "/1b1 /1a1 /3b1 /3a1";
        assert_eq!(changed(&rows), [places, "/2a1=00 /4a1=00", "ab", "a"].map(str::to_owned));
    }

    #[test]
    fn what_is_no_object_has_no_owners() {
        let opaque = Facets { opaque: true, ..Facets::default() };
        let row = RowChange {
            key: "/".into(),
            before: Some(opaque),
            after: Some((Row::default(), facets((false, false, "a")))),
        };
        assert_eq!(changed(&[row]), ["", "/a0=00", "", "a"].map(str::to_owned));
    }
}
