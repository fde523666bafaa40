//! The certificate and key that all processes on the database share.

use super::connection::Connection;
use super::row::Cells;
use super::text::{Bytes, Packet};
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};

/// Keeps a pair, unless there is one already; returns the one that is kept. The table is no part of the store: only
/// processes that ask for it make it.
pub(super) fn keep(connection: &mut Connection, fresh: &str) -> Result<String> {
    let mut packet = Packet::of(
        "make the table of the pair",
        "CREATE TABLE IF NOT EXISTS peer (id SMALLINT PRIMARY KEY, pair VARBINARY(8000) NOT NULL) ENGINE=InnoDB",
    );
    let fresh = Bytes(fresh.as_bytes());
    packet.add("keep the pair", format_args!("INSERT INTO peer VALUES (1, {fresh}) ON DUPLICATE KEY UPDATE id = id"));
    connection.run(&packet)?;
    let kept = connection.first("the pair", "SELECT pair FROM peer WHERE id = 1", Cells::text)?;
    kept.ok_or_else(|| Failure::Final(Error::Damaged("the table peer is empty".into())))
}
