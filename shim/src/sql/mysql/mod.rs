//! MariaDB, and with the same statements MySQL, TiDB and OceanBase.
//!
//! Differences to SQLite's tables, and why: `change` has a row for each value and each deletion, and stands for the
//! indexes on revisions; `attached` stands for the index of keys with a lease, since there are no partial indexes;
//! `sweep` is how far a compaction got. DDL commits implicitly, so all indexes are there from the beginning.

mod apply;
mod audit;
mod commit;
mod connection;
mod defragment;
mod depart;
mod engine;
mod error;
mod find;
mod graph;
mod meet;
mod note;
mod pair;
pub(in crate::sql) mod partition;
mod probe;
mod read;
mod row;
mod script;
mod serving;
mod settings;
mod store;
mod sweep;
mod tables;
mod text;

#[cfg(test)]
#[path = "../../../tests/servers/mariadb.rs"]
mod server;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::endpoint::Address;
use crate::engine::Revision;
use crate::engine::metrics::Metrics;
use crate::engine::store::{Nature, Replica};
use connection::Connection;
pub(super) use store::MySql;

use super::failure::Result;
use super::instances::Looking;
use super::remote::{self, MOVED};
use super::{Lookout, Opened};

/// A connection with its tables.
pub(super) struct Tables {
    connection: Connection,
    /// The number of this process, if it serves the store; else 0.
    owner: i64,
    /// Whether there is a snapshot or a transaction.
    open: bool,
    /// Numbers of labels' names. They never change.
    names: HashMap<Box<str>, i64>,
    transaction: Transaction,
    heeds: Heeds,
    /// When this process last said that it is there.
    said: Instant,
    /// Where commits are counted.
    metrics: Arc<Metrics>,
}

/// When a connection reads no more.
#[derive(Debug, Clone, Copy)]
enum Heeds {
    Nothing,
    /// It reads for the process that serves the store: when the store has moved.
    Move,
    /// It reads a copy for the process that serves the store as this owner: when the copy names another one.
    Owner(i64),
}

/// The transaction that changes the store.
#[derive(Debug, Default)]
struct Transaction {
    /// Whether there is one.
    changes: bool,
    /// The revision before it.
    revision: Revision,
    /// The next number that nothing has.
    next_id: i64,
    /// The names of labels that it adds.
    names: Vec<(Box<str>, i64)>,
    /// How many of them are written.
    written: usize,
}

impl Tables {
    fn new(connection: Connection, owner: i64, metrics: Arc<Metrics>) -> Self {
        let (names, transaction, said) = (HashMap::new(), Transaction::default(), Instant::now());
        Self { connection, owner, open: false, names, transaction, heeds: Heeds::Nothing, said, metrics }
    }

    /// The connection that changes the store, which this process serves from now on; but for one that has moved, which
    /// is only to be read.
    pub(super) fn open(address: Arc<Address>, metrics: Arc<Metrics>, opened: Opened) -> Result<Self> {
        let accepts_loss = address.accepts_loss;
        Self::open_by(Connection::open(address, Arc::clone(&metrics))?, metrics, accepts_loss, opened)
    }

    /// The same to check all that is stored, however long the server takes for a table, also if the store has moved.
    pub(super) fn audit(address: Arc<Address>) -> Result<Self> {
        let (accepts_loss, metrics) = (address.accepts_loss, Arc::default());
        let connection = Connection::open_with(address, Arc::clone(&metrics), None)?;
        Self::open_by(connection, metrics, accepts_loss, Opened::ToRead)
    }

    fn open_by(mut connection: Connection, metrics: Arc<Metrics>, accepts_loss: bool, opened: Opened) -> Result<Self> {
        prepare(&mut connection, accepts_loss)?;
        if opened == Opened::ToRead && note::note(&mut connection)?.is_some() {
            return Ok(Self::new(connection, MOVED, metrics));
        }
        let owner = super::random();
        serving::begin(&mut connection, owner)?;
        tracing::info!(server = %connection.server()?, "the database is served");
        Ok(Self::new(connection, owner, metrics))
    }

    /// A connection that only reads, maybe beside a server.
    pub(super) fn read(address: Arc<Address>, metrics: Arc<Metrics>) -> Result<Self> {
        let mut connection = Connection::open(address, Arc::clone(&metrics))?;
        tables::check(&mut connection)?;
        Ok(Self::new(connection, 0, metrics))
    }

    /// A connection that reads a copy of the store that this process serves as `owner`.
    fn replica(address: Arc<Address>, metrics: Arc<Metrics>, owner: i64) -> Result<Self> {
        let connection = Connection::to_replica(address, Arc::clone(&metrics))?;
        let mut tables = Self::new(connection, 0, metrics);
        tables.heeds = Heeds::Owner(owner);
        Ok(tables)
    }
}

/// Refuses a database that can't be served, and makes its tables if it has none.
fn prepare(connection: &mut Connection, accepts_loss: bool) -> Result<()> {
    settings::check(connection, accepts_loss)?;
    partition::check(connection)?;
    tables::prepare(connection)?;
    partition::stored(connection)?.fits(connection.layout())?;
    settings::check_privileges(connection)
}

/// Somebody who looks who serves a database.
pub(super) fn lookout(address: &Address) -> impl Lookout + use<> {
    let address = Arc::new(address.clone());
    Looking::new(move || Connection::open(Arc::clone(&address), Arc::default()))
}

/// The servers that hold the store which another process serves as `owner`.
pub(super) fn copies(address: &Address, owner: i64) -> Vec<Replica> {
    let all = std::iter::once(address).chain(&address.replicas);
    all.map(|server| store::replica(server, owner, &Arc::default())).collect()
}

/// Keeps the pair that all processes on the database share, in a database that can be served.
pub(super) fn keep_pair(address: &Address, fresh: &str) -> crate::engine::Result<String> {
    let mut connection = Connection::open(Arc::new(address.clone()), Arc::default())?;
    prepare(&mut connection, address.accepts_loss)?;
    Ok(pair::keep(&mut connection, fresh)?)
}

/// What a database is like, and whether there is a store in it that could be served. Nothing is made there.
pub(super) fn probe(address: &Address) -> crate::engine::Result<(bool, Nature)> {
    let mut connection = Connection::open(Arc::new(address.clone()), Arc::default())?;
    settings::check(&mut connection, address.accepts_loss)?;
    let there = tables::is_there(&mut connection)?;
    if there {
        settings::check_privileges(&mut connection)?;
        if let Some(note) = note::note(&mut connection)? {
            return Err(note.error());
        }
    }
    Ok((there, remote::nature(connection.longest_value()?)))
}

impl Drop for Tables {
    /// The next process need not wait.
    fn drop(&mut self) {
        if self.owner > 0 && self.connection.is_open() {
            let mut packet = text::Packet::of("rollback", "ROLLBACK");
            packet.add("end", serving::end(self.owner));
            if let Err(error) = self.connection.run(&packet) {
                tracing::warn!(?error, "the database could not be told that it is no longer served");
            }
        }
    }
}
