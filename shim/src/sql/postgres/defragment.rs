//! Gives the file system back what the tables do not need any more.

use std::time::{Duration, Instant};

use tokio_postgres::types::Type;

use super::connect::Database;
use super::link::{Ask, Link, get};
use super::schema::NAMES;
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};

/// How long to wait for the transactions of others.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// Builds the tables anew, one after the other. Nobody reads or writes the one whose turn it is, and only who owns it
/// may do that.
pub(super) fn defragment(database: &Database) -> Result<()> {
    let mut link = database.connect()?;
    must_own(&mut link)?;
    // Whoever comes behind this waits too, for those who read the table now. A pooler would give the setting to others.
    if !link.is_pooled() {
        link.long("patience", "SET lock_timeout = '5s'")?;
    }
    settle(&mut link)?;
    for table in NAMES {
        link.long("build anew", &format!("VACUUM (FULL) {table}"))?;
        // Of a table that was built anew it is not known for which pages an index alone can answer.
        link.long("vacuum", &format!("VACUUM {table}"))?;
    }
    Ok(())
}

/// Refuses a user who may not build the tables anew.
pub(super) fn must_own(link: &mut Link) -> Result<()> {
    let foreign = "SELECT current_user::text FROM pg_class WHERE relkind IN ('r', 'p') AND relname = ANY($1)
        AND relnamespace = current_schema()::regnamespace AND NOT pg_has_role(relowner, 'USAGE') LIMIT 1";
    let names = NAMES.to_vec();
    let found = link.one(Ask::new("owner", foreign, vec![(&names, Type::TEXT_ARRAY)]))?.rows;
    if let Some(user) = found.first().map(|row| get::<&str>(row, 0)).transpose()? {
        return Err(Failure::Final(Error::Broken(format!(
            "the user {user:?} may not build the database's tables anew: their owner may"
        ))));
    }
    Ok(())
}

/// Waits for the transactions that write somewhere on the server, if they end soon: a table that is built anew keeps
/// all rows that were removed since the first of them began.
fn settle(link: &mut Link) -> Result<()> {
    let mut number =
        |sql| link.one(Ask::new("transactions", sql, vec![]))?.rows.first().map_or(Ok(0), |row| get(row, 0));
    let now: i64 = number("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")?;
    let begun = Instant::now();
    while number("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")? < now && begun.elapsed() < PATIENCE {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
