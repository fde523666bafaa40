//! The note that says where a store has moved to, in the place of the process that serves it.

use super::link::{Ask, Link, get};
use crate::engine::{Error, Forwarding};
use crate::sql::failure::{Failure, Result};
use crate::sql::remote::MOVED;

/// Who serves the store, and from where; or the note. By the function a pooler sees that no standby is to answer.
const WHO: &str = "SELECT owner, address, pg_is_in_recovery() FROM meta WHERE id = 1";

/// The note, if the store has moved.
pub(super) fn note(link: &mut Link) -> Result<Option<Forwarding>> {
    let answer = link.one(Ask::new("who serves", WHO, vec![]))?;
    let Some(row) = answer.rows.first() else { return Ok(None) };
    let (owner, address): (i64, &str) = (get(row, 0)?, get(row, 1)?);
    Ok(if owner == MOVED { Some(address.parse()?) } else { None })
}

/// Why a store that has moved is not served.
pub(super) fn refusal(link: &mut Link) -> Failure {
    match note(link) {
        Ok(Some(note)) => Failure::Final(note.error()),
        Ok(None) => Failure::Final(Error::Unavailable("the database has just been changed".into())),
        Err(failure) => failure,
    }
}
