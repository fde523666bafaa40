//! How a server is set, and what its user may do.

use std::time::Duration;

use super::connection::Connection;
use super::engine::number;
use super::text::Packet;
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};
use crate::sql::retry::Retry;

/// The least `max_allowed_packet`: twice the longest value that etcd takes, as digits.
const PACKET: usize = 4 << 20;

/// How long to try what other processes may get into the way of.
const PATIENCE: Duration = Duration::from_secs(10);

/// Refuses what can't serve a store.
pub(super) fn check(connection: &mut Connection, allow_unsafe: bool) -> Result<()> {
    let server = connection.server()?.clone();
    if let Some(oldest) = server.engine.oldest()
        && number(&server.version).is_none_or(|version| version < oldest)
    {
        return refuse(format!(
            "the database is {server}: {:?} {}.{} is the oldest that has all that is needed; update it",
            server.engine, oldest.0, oldest.1
        ));
    }
    if server.max_allowed_packet < PACKET {
        return refuse(format!(
            "the database's max_allowed_packet is {} bytes: a value of etcd's size does not fit; SET GLOBAL \
             max_allowed_packet={} and write it in the [mysqld] part of its configuration",
            server.max_allowed_packet,
            16 << 20
        ));
    }
    if !server.engine.is_innodb() {
        return Ok(());
    }
    let sql = "SELECT @@global.innodb_flush_log_at_trx_commit, @@global.log_bin, @@global.sync_binlog";
    let set = connection.first("settings", sql, |cells| Ok((cells.int()?, cells.flag()?, cells.int()?)))?;
    let (flush, log_bin, sync_binlog) = set.unwrap_or_default();
    if flush != 1 && !allow_unsafe {
        return refuse(format!(
            "the database's innodb_flush_log_at_trx_commit is {flush}: a crash loses what was acknowledged; SET GLOBAL \
             innodb_flush_log_at_trx_commit=1 and write it in the [mysqld] part of its configuration, or pass \
             --allow-unsafe-database"
        ));
    }
    if !log_bin || sync_binlog != 1 {
        tracing::warn!(
            log_bin,
            sync_binlog,
            "readers may see a commit in the moment before it is durable; log_bin=ON and sync_binlog=1 prevent that"
        );
    }
    Ok(())
}

/// Refuses a user that may not change rows. Nothing is left of what it tries. The trial may meet that of another
/// process that starts, or the commits of one that serves.
pub(super) fn check_privileges(connection: &mut Connection) -> Result<()> {
    let mut packet = Packet::of("begin", "BEGIN");
    packet.add("may insert", "INSERT INTO sweep (id, revision, sub, compacted) VALUES (-1, 0, 0, 0)");
    packet.add("may update", "UPDATE sweep SET sub = 1 WHERE id = -1");
    packet.add("may delete", "DELETE FROM sweep WHERE id = -1");
    packet.add("rollback", "ROLLBACK");
    let mut retry = Retry::new(PATIENCE, std::thread::sleep);
    loop {
        match connection.run(&packet) {
            Err(Failure::Again(_)) if retry.wait() => {
                connection.run(&Packet::of("rollback", "ROLLBACK"))?;
            }
            tried => return tried.map(drop),
        }
    }
}

fn refuse<T>(text: String) -> Result<T> {
    Err(Failure::Final(Error::Broken(text)))
}
