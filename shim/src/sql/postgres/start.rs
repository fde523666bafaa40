//! What is looked at before a database is served.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::link::{Ask, Link, get};
use super::note;
use crate::clock::StoreTime;
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};
use crate::sql::remote::{MOVED, SILENCE};

/// The oldest version that is known to do, as PostgreSQL numbers them.
const OLDEST: i32 = 130_000;
/// Whether the connection is there that served the store last. A server that was started anew gives its number to
/// others: one that began since is another. Nobody but its user may see when a connection began.
pub(super) const CONNECTED: &str = "EXISTS (SELECT 1 FROM pg_stat_activity
    WHERE pid = backend AND datname = current_database()
    AND coalesce(backend_start <= to_timestamp(seen_at / 1000.0), true))";
/// How long to wait before another look at whether a silent process is there.
const LOOK: Duration = Duration::from_millis(250);

/// Refuses a server whose version or settings will not do. `unsafe_too`: not for settings by which what was
/// acknowledged can be lost.
pub(super) fn check(link: &mut Link, unsafe_too: bool) -> Result<()> {
    // By the function at the end a pooler sees that no standby is to answer.
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
        current_setting('default_transaction_read_only'), current_setting('synchronous_commit'),
        current_setting('fsync'), current_setting('full_page_writes'), current_setting('autovacuum'),
        pg_is_in_recovery()";
    let answer = link.one(Ask::new("settings", sql, vec![]))?;
    let Some(row) = answer.rows.first() else { return Ok(()) };
    let setting = |column| get::<&str>(row, column);
    if get::<i32>(row, 0)? < OLDEST {
        return refused(format!("the database is PostgreSQL {}; it must be 13 or newer", setting(1)?));
    }
    if setting(2)? == "on" {
        return refused(
            "the database is read-only: set default_transaction_read_only = off for it and its user".into(),
        );
    }
    for (name, column) in [("synchronous_commit", 3), ("fsync", 4), ("full_page_writes", 5)] {
        if setting(column)? == "off" {
            let loss = format!("with {name} = off the database loses acknowledged writes when it crashes");
            if !unsafe_too {
                return refused(format!("{loss}; set {name} = on, or accept that with --allow-unsafe-database"));
            }
            tracing::warn!("{loss}");
        }
    }
    if setting(6)? == "off" {
        tracing::warn!("the database does not vacuum its tables, which grow without end: set autovacuum = on");
    }
    Ok(())
}

fn refused(what: String) -> Result<()> {
    Err(Failure::Final(Error::Broken(what)))
}

/// Makes this process the one that serves the store; returns how late it is on the server's clock. A process that
/// served it before must be gone: it said so, its connection ended, or nothing was heard of it for a while. Through a
/// pooler no connection tells anything.
pub(super) fn claim(link: &mut Link, owner: i64) -> Result<StoreTime> {
    // Behind a pooler nobody can tell whose process of the server that is.
    let sql = format!(
        "SELECT owner, seen_at, address, (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
            backend = 0 OR {CONNECTED} FROM meta WHERE id = 1 FOR UPDATE"
    );
    let (address, is_pooled) = (place(), link.is_pooled());
    let mut before: Option<i64> = None;
    loop {
        let answers = link.all(&[Ask::plain("begin", "BEGIN"), Ask::new("owner", &sql, vec![])])?;
        let row = answers.iter().flat_map(|answer| &answer.rows).next();
        let Some(row) = row else { return Err(Failure::Final(Error::Damaged("the table meta is empty".into()))) };
        let (of, seen_at, now): (i64, i64, i64) = (get(row, 0)?, get(row, 1)?, get(row, 3)?);
        let connected: bool = get(row, 4)?;
        if of == MOVED && owner == MOVED {
            link.one(Ask::plain("rollback", "ROLLBACK"))?;
            return Ok(StoreTime::from_millis(now));
        }
        if of == MOVED {
            return Err(note::refusal(link));
        }
        if of == 0 || of == owner || !connected || now.saturating_sub(seen_at) >= SILENCE {
            let sql = "UPDATE meta SET owner = $1, batch = 0, seen_at = $2, address = $3,
                backend = CASE WHEN $4 THEN 0 ELSE pg_backend_pid() END WHERE id = 1";
            let params: Vec<super::link::Param<'_>> =
                vec![(&owner, Type::INT8), (&now, Type::INT8), (&address, Type::TEXT), (&is_pooled, Type::BOOL)];
            link.all(&[Ask::new("claim", sql, params), Ask::commit()])?;
            return Ok(StoreTime::from_millis(now));
        }
        if before.is_some_and(|before| seen_at > before) {
            let other: &str = get(row, 2)?;
            return Err(Failure::Final(Error::Broken(format!(
                "another sluice-shim serves this database: {other}; one serves it at a time, so stop that one or name \
                 another database"
            ))));
        }
        before = before.or(Some(seen_at));
        link.one(Ask::plain("rollback", "ROLLBACK"))?;
        std::thread::sleep(LOOK);
    }
}

/// Where this process is.
fn place() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("process {} on {}", std::process::id(), host.trim())
}
