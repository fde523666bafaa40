//! What a person may want to know of the collector's work, read beside a running server: in one snapshot, without
//! locks.

use std::collections::BTreeSet;

use super::known::known;
use super::load::LOOKED_AT;
use crate::gc::{Dependent, Overview, Uid, View};
use crate::object;
use crate::sql::failure::Result;
use crate::sql::session::{Reading, Which};

/// How many tasks or dependents are named one by one.
const NAMED: usize = 20;

/// What the collector has to do.
pub(in crate::sql) fn overview(session: &mut dyn Reading) -> Result<Overview> {
    let head = session.snapshot()?;
    let (unknown_owners, unknown_references) = session.unknown_owners()?;
    let overview = Overview {
        revision: head.revision,
        now: head.now,
        status: session.queue()?,
        parked: session.tasks(Which::Parked, NAMED)?,
        unknown_owners,
        unknown_references,
    };
    session.end();
    Ok(overview)
}

/// What is known around a key.
pub(in crate::sql) fn view(session: &mut dyn Reading, key: &[u8]) -> Result<View> {
    let head = session.snapshot()?;
    let mut view = View { revision: head.revision, now: head.now, ..View::default() };
    let live = session.rows(&[key])?.pop();
    view.live = live.map(|row| (row.kv.value, row.kv.mod_revision));
    let uid = match &view.live {
        Some((value, _)) => {
            let meta = object::decode(value);
            let references = meta.iter().flat_map(|meta| &meta.owner_references);
            let owners: Vec<Uid> = references.filter_map(|reference| Uid::parse(&reference.uid)).collect();
            let known = known(session, &owners.iter().cloned().collect::<BTreeSet<_>>())?;
            view.owners = owners.into_iter().filter_map(|uid| known.get(&uid).cloned().map(|of| (uid, of))).collect();
            meta.and_then(|meta| Uid::parse(&meta.uid))
        }
        None => {
            view.deleted = session.deleted(key)?;
            view.deleted.as_ref().map(|(uid, _)| uid.clone())
        }
    };
    if let Some(uid) = uid {
        around(session, &uid, &mut view)?;
    }
    session.end();
    Ok(view)
}

/// Adds the dependents of an object and the tasks about it.
fn around(session: &mut dyn Reading, uid: &Uid, view: &mut View) -> Result<()> {
    view.below = session.below(&[uid], LOOKED_AT)?.remove(uid).unwrap_or_default();
    view.dependents = session.dependents_count(uid)?;
    view.first_dependents = first_dependents(session, uid)?;
    view.tasks = session.tasks(Which::Of(uid), crate::gc::TaskKind::ALL.len())?;
    Ok(())
}

/// The first dependents with the label, and then, as far as there is room, those without.
fn first_dependents(session: &mut dyn Reading, uid: &Uid) -> Result<Vec<Dependent>> {
    let mut first = session.dependents(uid, (true, b""), NAMED)?;
    if first.len() < NAMED {
        let others = session.dependents(uid, (false, b""), NAMED - first.len())?;
        first.extend(others.into_iter().take_while(|dependent| !dependent.place.labelled));
    }
    Ok(first)
}
