//! The certificate and key that all processes on the database share.

use super::link::{Ask, Link, get};
use super::schema::LOCK;
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};

/// Keeps a pair, unless there is one already; returns the one that is kept. The table is no part of the store: only
/// processes that ask for it make it.
pub(super) fn keep(link: &mut Link, fresh: &str) -> Result<String> {
    let table = "CREATE TABLE IF NOT EXISTS peer (id smallint PRIMARY KEY CHECK (id = 1), pair text NOT NULL)";
    link.all(&[
        Ask::plain("begin", "BEGIN"),
        Ask::plain("lock", LOCK),
        Ask::plain("make the table of the pair", table),
    ])?;
    let params = vec![(&fresh as _, tokio_postgres::types::Type::TEXT)];
    let answers = link.all(&[
        Ask::new("keep the pair", "INSERT INTO peer VALUES (1, $1) ON CONFLICT (id) DO NOTHING", params),
        Ask::new("the pair", "SELECT pair FROM peer WHERE id = 1", vec![]),
        Ask::commit(),
    ])?;
    let kept = answers.iter().flat_map(|answer| &answer.rows).next_back();
    let kept = kept.ok_or_else(|| Failure::Final(Error::Damaged("the table peer is empty".into())))?;
    get(kept, 0)
}
