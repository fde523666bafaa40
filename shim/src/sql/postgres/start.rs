//! What is looked at before a database is served.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::link::{Ask, Link, get};
use super::note;
use crate::clock::StoreTime;
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};
use crate::sql::remote::{self, MOVED, Serving};

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

/// What the database says of the process that serves it; a statement without a lock. By the function a pooler sees that
/// no standby is to answer. Behind a pooler nobody can tell whose process of the server that is.
fn who_serves() -> String {
    format!(
        "SELECT owner, seen_at, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, address,
            backend = 0 OR {CONNECTED}, pg_is_in_recovery() FROM meta WHERE id = 1"
    )
}

fn serving(row: Option<&tokio_postgres::Row>) -> Result<Serving> {
    let Some(row) = row else { return Err(Failure::Final(Error::Damaged("the table meta is empty".into()))) };
    let (owner, seen_at, now, connected) = (get(row, 0)?, get(row, 1)?, get(row, 2)?, get(row, 4)?);
    Ok(Serving { owner, seen_at, now, place: get(row, 3)?, connected })
}

/// Looks who serves the store.
pub(super) fn look(link: &mut Link) -> Result<Serving> {
    serving(link.one(Ask::new("who serves", &who_serves(), vec![]))?.rows.first())
}

/// Makes this process the one that serves the store; returns how late it is on the server's clock. A process that
/// served it before must be gone: it said so, its connection ended, or nothing was heard of it for a while. Through a
/// pooler no connection tells anything. `standby`: the URL of this process if it waits for no other one.
pub(super) fn claim(link: &mut Link, owner: i64, standby: Option<&str>) -> Result<StoreTime> {
    let sql = format!("{} FOR UPDATE", who_serves());
    let (place, is_pooled) = (remote::place(standby), link.is_pooled());
    let mut before: Option<i64> = None;
    loop {
        let answers = link.all(&[Ask::plain("begin", "BEGIN"), Ask::new("owner", &sql, vec![])])?;
        let other = serving(answers.iter().flat_map(|answer| &answer.rows).next())?;
        if other.owner == MOVED && owner == MOVED {
            link.one(Ask::plain("rollback", "ROLLBACK"))?;
            return Ok(StoreTime::from_millis(other.now));
        }
        if other.owner == MOVED {
            return Err(note::refusal(link));
        }
        if !other.is_there() || other.owner == owner {
            let sql = "UPDATE meta SET owner = $1, batch = 0, seen_at = $2, address = $3,
                backend = CASE WHEN $4 THEN 0 ELSE pg_backend_pid() END WHERE id = 1";
            let params: Vec<super::link::Param<'_>> =
                vec![(&owner, Type::INT8), (&other.now, Type::INT8), (&place, Type::TEXT), (&is_pooled, Type::BOOL)];
            link.all(&[Ask::new("claim", sql, params), Ask::commit()])?;
            return Ok(StoreTime::from_millis(other.now));
        }
        if standby.is_some() || before.is_some_and(|before| other.seen_at > before) {
            return Err(Failure::Final(Error::Served(other.place)));
        }
        before = before.or(Some(other.seen_at));
        link.one(Ask::plain("rollback", "ROLLBACK"))?;
        std::thread::sleep(LOOK);
    }
}
