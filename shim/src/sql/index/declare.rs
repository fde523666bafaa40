//! Which indexes of fields there are to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::catalog::{Catalog, Declaration};
use crate::engine::metrics::{self, Metrics};
use crate::sql::failure::Result;
use crate::sql::select::directories::end_of;
use crate::sql::session::{IndexChange, IndexState, Probe, StoredIndex};

/// The indexes that writes have to maintain.
pub(in crate::sql) fn catalog(indexes: &[StoredIndex]) -> Arc<Catalog> {
    let live = indexes.iter().filter(|stored| stored.state != IndexState::Dropping);
    Arc::new(Catalog::new(live.map(|stored| stored.index.clone()).collect()))
}

/// Those of the prefixes that will hold keys after a commit, which changes the counts of directories as given.
pub(in crate::sql) fn held(
    probe: &mut dyn Probe,
    declared: &[Declaration],
    directories: &BTreeMap<&[u8], [i64; 3]>,
) -> Result<Vec<bool>> {
    let mut held = Vec::with_capacity(declared.len());
    for Declaration { prefix, fields, .. } in declared {
        let end = end_of(prefix);
        let changed: i64 = directories.range(&prefix[..]..&end[..]).map(|(_, [live, ..])| live).sum();
        held.push(!fields.is_empty() && probe.live(prefix)? + changed > 0);
    }
    Ok(held)
}

/// Makes the indexes of prefixes those that are declared, of which some are to hold keys. Of two declarations of one
/// prefix the last one counts. An index of a prefix without keys has nothing to build.
pub(in crate::sql) fn changes(indexes: &[StoredIndex], declared: &[Declaration], held: &[bool]) -> Vec<IndexChange> {
    let mut changes = Vec::new();
    for (at, (declaration, held)) in declared.iter().zip(held).enumerate() {
        let Declaration { prefix, api_version, fields } = declaration;
        if declared[at + 1..].iter().any(|later| later.prefix == prefix) {
            continue;
        }
        let known: Vec<&StoredIndex> = indexes
            .iter()
            .filter(|known| known.index.prefix == prefix && known.state != IndexState::Dropping)
            .collect();
        let is_meant =
            |known: &StoredIndex| known.index.api_version == *api_version && fields.contains(&known.index.field);
        for gone in known.iter().filter(|known| !is_meant(known)) {
            let StoredIndex { index, cursor, objects, .. } = gone;
            changes.push(IndexChange::Set {
                id: index.id,
                state: IndexState::Dropping,
                cursor: cursor.clone(),
                objects: *objects,
            });
        }
        let state = if *held { IndexState::Building } else { IndexState::Ready };
        let is_known = |field: &str| known.iter().any(|known| is_meant(known) && known.index.field == field);
        for field in fields.iter().filter(|field| !is_known(field)) {
            changes.push(IndexChange::Add {
                prefix: prefix.clone(),
                api_version: api_version.clone(),
                field: field.clone(),
                state,
            });
        }
    }
    changes
}

/// Says in the log what was declared.
pub(in crate::sql) fn log(indexes: &[StoredIndex], changes: &[IndexChange]) {
    for change in changes {
        match change {
            IndexChange::Add { prefix, api_version, field, state } => {
                let (prefix, ready) = (prefix.escape_ascii(), *state == IndexState::Ready);
                tracing::info!(%prefix, api_version, field, ready, "an index of a field is added");
            }
            IndexChange::Set { id, state: IndexState::Dropping, .. } => {
                if let Some(stored) = indexes.iter().find(|stored| stored.index.id == *id) {
                    let (prefix, index) = (stored.index.prefix.escape_ascii(), &stored.index);
                    let (api_version, field) = (&index.api_version, &index.field);
                    tracing::info!(%prefix, api_version, field, "an index of a field is removed");
                }
            }
            IndexChange::Set { .. } => {}
        }
    }
}

/// Tells the metrics of all indexes, as changes leave them.
pub(in crate::sql) fn measure(indexes: &[StoredIndex], changes: &[IndexChange], metrics: &Metrics) {
    let (mut states, mut objects) = ([0; 3], 0);
    let mut count = |state: IndexState, done: i64| {
        states[state as usize] += 1;
        objects += if state == IndexState::Building { done } else { 0 };
    };
    for stored in indexes {
        let of_this = |change: &&IndexChange| match change {
            IndexChange::Set { id, .. } => *id == stored.index.id,
            IndexChange::Add { .. } => false,
        };
        match changes.iter().rfind(of_this) {
            Some(IndexChange::Set { state, objects, .. }) => count(*state, *objects),
            _ => count(stored.state, stored.objects),
        }
    }
    for change in changes {
        if let IndexChange::Add { state, .. } = change {
            count(*state, 0);
        }
    }
    let [building, ready, dropping] = states;
    metrics.field_indexes(metrics::IndexState::Building).set(building);
    metrics.field_indexes(metrics::IndexState::Ready).set(ready);
    metrics.field_indexes(metrics::IndexState::Dropping).set(dropping);
    metrics.field_index_objects.set(objects);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::catalog::FieldIndex;

    fn stored(id: i64, prefix: &'static str, version: &str, field: &str, state: IndexState) -> StoredIndex {
        let index = FieldIndex { id, prefix: prefix.into(), api_version: version.into(), field: field.into() };
        StoredIndex { index, state, cursor: b"/c".to_vec(), objects: 7 }
    }

    fn declaration(prefix: &'static str, version: &str, fields: &[&str]) -> Declaration {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        Declaration { prefix: prefix.into(), api_version: version.into(), fields }
    }

    fn add(prefix: &'static str, version: &str, field: &str, state: IndexState) -> IndexChange {
        IndexChange::Add { prefix: prefix.into(), api_version: version.into(), field: field.into(), state }
    }

    fn dropped(id: i64) -> IndexChange {
        IndexChange::Set { id, state: IndexState::Dropping, cursor: b"/c".to_vec(), objects: 7 }
    }

    #[test]
    fn indexes_become_those_that_are_declared() {
        use IndexState::{Building, Dropping, Ready};
        let indexes = [
            stored(1, "/a/", "v1", "x", Ready),
            stored(2, "/a/", "v1", "y", Building),
            stored(3, "/a/", "v1", "z", Dropping),
            stored(4, "/b/", "v1", "x", Ready),
        ];
        let table: [(&str, &[Declaration], bool, Vec<IndexChange>); 7] = [
            ("as it is", &[declaration("/a/", "v1", &["x", "y"])], true, vec![]),
            ("a new field", &[declaration("/a/", "v1", &["w", "x", "y"])], true, vec![add("/a/", "v1", "w", Building)]),
            (
                "one that is being dropped is built anew",
                &[declaration("/a/", "v1", &["x", "y", "z"])],
                true,
                vec![add("/a/", "v1", "z", Building)],
            ),
            ("a field goes", &[declaration("/a/", "v1", &["y"])], true, vec![dropped(1)]),
            (
                "another version",
                &[declaration("/b/", "v2", &["x"])],
                true,
                vec![dropped(4), add("/b/", "v2", "x", Building)],
            ),
            ("nothing to build", &[declaration("/c/", "v1", &["x"])], false, vec![add("/c/", "v1", "x", Ready)]),
            (
                "the last one counts",
                &[
                    declaration("/b/", "v1", &[]),
                    declaration("/a/", "v1", &["x", "y"]),
                    declaration("/b/", "v1", &["x"]),
                ],
                true,
                vec![],
            ),
        ];
        for (name, declared, held, expected) in table {
            assert_eq!(changes(&indexes, declared, &vec![held; declared.len()]), expected, "{name}");
        }
    }

    #[test]
    fn the_metrics_are_those_after_the_changes() {
        use IndexState::{Building, Dropping, Ready};
        let indexes = [
            stored(1, "/a/", "v1", "x", Building),
            stored(2, "/a/", "v1", "y", Building),
            stored(3, "/a/", "v1", "z", Dropping),
        ];
        let changes =
            [IndexChange::Set { id: 1, state: Ready, cursor: Vec::new(), objects: 9 }, add("/b/", "v1", "x", Ready)];
        let metrics = Metrics::default();
        measure(&indexes, &changes, &metrics);
        let counts = [metrics::IndexState::Building, metrics::IndexState::Ready, metrics::IndexState::Dropping]
            .map(|state| metrics.field_indexes(state).get());
        assert_eq!((counts, metrics.field_index_objects.get()), ([1, 2, 1], 7));
    }
}
