//! The note that says where a store has moved to, in the place of the process that serves it.

use super::connection::Connection;
use crate::engine::Forwarding;
use crate::sql::failure::{Failure, Result};
use crate::sql::remote::MOVED;

/// The note, if the store has moved.
pub(super) fn note(connection: &mut Connection) -> Result<Option<Forwarding>> {
    let sql = "SELECT owner, address FROM meta WHERE id = 1";
    let who = connection.first("who serves", sql, |cells| Ok((cells.int()?, cells.text()?)))?;
    Ok(match who {
        Some((MOVED, note)) => Some(note.parse()?),
        _ => None,
    })
}

/// Why a store that has moved is not served.
pub(super) fn refusal(note: &str) -> Failure {
    Failure::Final(note.parse::<Forwarding>().map_or_else(|unread| unread, |note| note.error()))
}
