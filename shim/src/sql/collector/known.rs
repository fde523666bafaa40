//! What the store knows of owners.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::definitions::Definitions;
use super::portion::Portion;
use crate::gc::{Coordinates, Known, Uid};
use crate::object;
use crate::sql::failure::Result;
use crate::sql::session::{Graph, Reading};

/// What the store knows of each of these UIDs.
pub(super) fn known(session: &mut dyn Reading, uids: &BTreeSet<Uid>) -> Result<BTreeMap<Uid, Known>> {
    let mut known: BTreeMap<Uid, Known> = uids.iter().map(|uid| (uid.clone(), Known::default())).collect();
    // The keys that tell the definitions.
    let mut keys: BTreeMap<Uid, Bytes> = BTreeMap::new();
    let all: Vec<&Uid> = uids.iter().collect();
    living(session, &all, &mut |uid, key, coordinates| {
        if let (Some(known), Some(coordinates)) = (known.get_mut(&uid), coordinates) {
            known.live.push(coordinates);
        }
        keys.insert(uid, key);
    })?;
    let gone: Vec<&Uid> =
        all.into_iter().filter(|uid| known.get(*uid).is_some_and(|known| known.live.is_empty())).collect();
    if !gone.is_empty() {
        let (tombstones, orphaning) = (session.tombstones(&gone)?, session.orphaning(&gone)?);
        for (uid, (namespaced, key)) in tombstones {
            if let Some(known) = known.get_mut(&uid) {
                known.tombstone = Some(namespaced);
            }
            keys.insert(uid, key);
        }
        for uid in orphaning {
            if let Some(known) = known.get_mut(&uid) {
                known.orphaning = true;
            }
        }
    }
    let definitions = Definitions::read(session, keys.values().map(|key| &key[..]))?;
    for (uid, key) in &keys {
        if let Some(known) = known.get_mut(uid) {
            known.definition = definitions.of(key);
        }
    }
    Ok(known)
}

/// Looks at the live objects with these UIDs: UID, key, and coordinates if the value can be read. Values are not kept.
pub(super) fn living<S: Graph + ?Sized>(
    session: &mut S,
    uids: &[&Uid],
    found: &mut dyn FnMut(Uid, Bytes, Option<Coordinates>),
) -> Result<()> {
    let (mut list, mut portion) = (uids, Portion::new());
    while !list.is_empty() {
        let rows = session.with_uids(portion.of(&mut list))?;
        portion.had(rows.len(), rows.iter().map(|(_, row)| row.kv.value.len()).sum());
        for (uid, row) in rows {
            let coordinates = object::decode(&row.kv.value).as_ref().map(Coordinates::of);
            found(uid, row.kv.key, coordinates);
        }
    }
    Ok(())
}
