//! Takes away what no index holds any more, to upgrade a file of an older version: labels and UIDs had no longest one.

use rusqlite::Connection;

use super::derived;
use crate::engine::INDEXED;
use crate::gc::Uid;

/// Makes objects with a longer label ones that every query looks at, and forgets longer UIDs.
pub(super) fn remove(connection: &Connection) -> rusqlite::Result<()> {
    let [label, uid] = [INDEXED, Uid::LONGEST].map(|longest| i64::try_from(longest).unwrap_or(i64::MAX));
    let sql = "UPDATE current SET hidden = NULL WHERE hidden IS NOT NULL AND key IN (
        SELECT key FROM attribute WHERE name > 0 AND octet_length(value) > ?1
        UNION
        SELECT key FROM attribute WHERE name IN (SELECT id FROM attribute_name WHERE octet_length(name) > ?1))";
    let opaque = connection.execute(sql, [label])?;
    let sql = "DELETE FROM attribute WHERE name > 0 AND octet_length(value) > ?1
        OR name IN (SELECT id FROM attribute_name WHERE octet_length(name) > ?1)";
    connection.execute(sql, [label])?;
    let sql = "DELETE FROM owner WHERE length(owner_uid) > ?1
        OR key IN (SELECT key FROM current WHERE uid IS NOT NULL AND length(uid) > ?1)";
    connection.execute(sql, [uid])?;
    let sql = "UPDATE current SET uid = NULL WHERE uid IS NOT NULL AND length(uid) > ?1";
    connection.execute(sql, [uid])?;
    if opaque > 0 { derived::recount(connection) } else { Ok(()) }
}
