//! The processes that share the database.

use tokio_postgres::types::Type;

use super::link::{Ask, Link, Param, get};
use super::schema::LOCK;
use super::start;
use crate::sql::failure::Result;
use crate::sql::instances::{Entry, Meeting, Presence};
use crate::sql::remote::{FORGOTTEN, Serving};

/// The server's clock, in milliseconds.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

impl Meeting for Link {
    fn look(&mut self) -> Result<Serving> {
        start::look(self)
    }

    /// The table is no part of the store: the first process with `--standby` makes it.
    fn announce(&mut self, who: &Presence, serves: bool, version: &str) -> Result<()> {
        if say(self, who, serves, version).is_ok() {
            return Ok(());
        }
        let table = "CREATE TABLE IF NOT EXISTS instance
            (url text PRIMARY KEY, place text NOT NULL, name text NOT NULL, version text NOT NULL, served boolean NOT NULL,
            seen_at bigint NOT NULL)";
        self.all(&[
            Ask::plain("begin", "BEGIN"),
            Ask::plain("lock", LOCK),
            Ask::plain("make the table of instances", table),
            Ask::commit(),
        ])?;
        say(self, who, serves, version)
    }

    fn leave(&mut self, who: &Presence) -> Result<()> {
        let params: Vec<Param<'_>> = vec![(&who.place, Type::TEXT)];
        self.one(Ask::new("leave", "DELETE FROM instance WHERE place = $1", params)).map(drop)
    }

    fn entries(&mut self) -> Result<Vec<Entry>> {
        let there = Ask::new("is there a table", "SELECT to_regclass('instance') IS NOT NULL", vec![]);
        let there = self.one(there)?.rows.first().map_or(Ok(false), |row| get(row, 0))?;
        if !there {
            return Ok(Vec::new());
        }
        let sql = "SELECT place, name, version, seen_at, served FROM instance";
        let rows = self.one(Ask::new("instances", sql, vec![]))?.rows;
        let entry = |row| {
            let (place, name, version) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
            Ok(Entry { place, name, version, seen_at: get(row, 3)?, served: get(row, 4)? })
        };
        rows.iter().map(entry).collect()
    }
}

fn say(link: &mut Link, who: &Presence, serves: bool, version: &str) -> Result<()> {
    // There is one that serves: the one before is gone.
    let forget =
        format!("DELETE FROM instance WHERE served AND {serves} OR NOT served AND seen_at < {NOW} - {FORGOTTEN}");
    link.one(Ask::new("forget instances", &forget, vec![]))?;
    let insert = format!(
        "INSERT INTO instance VALUES ($1, $2, $3, $4, $5, {NOW}) ON CONFLICT (url) DO UPDATE SET place = excluded.place,
         name = excluded.name, version = excluded.version, served = excluded.served, seen_at = excluded.seen_at"
    );
    let mut params: Vec<Param<'_>> = vec![(&who.url, Type::TEXT), (&who.place, Type::TEXT), (&who.name, Type::TEXT)];
    params.extend([(&version as _, Type::TEXT), (&serves as _, Type::BOOL)]);
    link.one(Ask::new("announce", &insert, params)).map(drop)
}
