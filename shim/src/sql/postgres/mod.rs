//! PostgreSQL: a server, and one process at a time that serves its database.

mod audit;
mod batch;
mod commit;
mod connect;
mod convert;
mod defragment;
mod depart;
mod error;
mod find;
mod graph;
mod link;
mod meet;
mod note;
mod pair;
mod partition;
mod planner;
mod pooler;
mod probe;
mod read;
mod row;
mod schema;
#[cfg(test)]
#[path = "../../../tests/servers/postgres.rs"]
mod server;
mod session;
mod set;
mod start;
mod task;
#[cfg(test)]
pub(super) mod tests;
mod tls;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(in crate::sql) use session::Session;

use self::connect::Database;
use self::link::{Link, PATIENCE};
use crate::clock::{StoreClock, StoreTime, Ticker};
use crate::endpoint::{Address, Layout};
use crate::engine::instance::Instance;
use crate::engine::metrics::Metrics;
use crate::engine::store::{Nature, Reader, Replica, Store, Writer};
use crate::engine::{Error, Result};
use crate::sql::instances::Looking;
use crate::sql::layout::{Divided, Stored};
use crate::sql::reader::SqlReader;
use crate::sql::remote::{self, MOVED, TURN};
use crate::sql::writer::SqlWriter;
use crate::sql::{Lookout, Opened, random};

/// How long an array of values may be, with room for those of other requests in the same commit: the server takes no
/// message of a gigabyte.
const LONGEST_ARRAY: usize = 960 << 20;

/// A database on a server.
#[derive(Debug)]
pub(super) struct Postgres {
    database: Arc<Database>,
    /// Servers that hold copies of it.
    replicas: Vec<Arc<Database>>,
    clock: StoreClock,
    /// Until the writer takes it.
    writer: Mutex<Option<Session>>,
}

impl Postgres {
    /// Opens a database. The ticker drives the clock on from what the server's says.
    pub(super) fn open(
        address: &Address,
        metrics: Arc<Metrics>,
        ticker: Arc<dyn Ticker>,
        opened: Opened,
    ) -> Result<Self> {
        let (session, now) = open(address, metrics, Some(PATIENCE), opened)?;
        let database = Arc::clone(&session.database);
        let replicas = address.replicas.iter().map(|replica| database.replica(replica)).collect::<Result<_>>()?;
        Ok(Self { database, replicas, clock: StoreClock::of_server(now, ticker), writer: Mutex::new(Some(session)) })
    }
}

impl Store for Postgres {
    fn nature(&self) -> Nature {
        remote::nature(LONGEST_ARRAY)
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        let taken = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session = taken.ok_or_else(|| Error::Broken("the database has one writer only".into()))?;
        Ok(Box::new(SqlWriter::new(Box::new(session), self.clock.clone(), Arc::clone(&self.database.metrics), TURN)))
    }

    fn clock(&self) -> StoreClock {
        self.clock.clone()
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        let session = Session::new(Arc::clone(&self.database), None);
        let reader = SqlReader::new(Box::new(session), Arc::clone(&self.database.metrics));
        Ok(Box::new(reader.telling(self.clock.clone())))
    }

    fn owner(&self) -> i64 {
        self.database.owner
    }

    fn instances(&self) -> Result<Vec<Instance>> {
        let database = Arc::clone(&self.database);
        Looking::new(move || database.connect()).instances()
    }

    fn replicas(&self) -> Vec<Replica> {
        self.replicas.iter().map(replica).collect()
    }
}

fn replica(database: &Arc<Database>) -> Replica {
    let (name, database) = (database.hosts(), Arc::clone(database));
    let open = move || {
        let session = Session::new(Arc::clone(&database), None);
        Ok(Box::new(SqlReader::of_replica(Box::new(session), Arc::clone(&database.metrics))) as Box<dyn Reader>)
    };
    Replica { name, open: Box::new(open) }
}

/// The servers that hold the store which another process serves as `owner`.
pub(super) fn copies(address: &Address, owner: i64) -> Result<Vec<Replica>> {
    let database = Database::new(address, owner, Arc::default(), Some(PATIENCE))?;
    database.is_divided(partition::stored(&mut database.connect()?)?.is_divided());
    let all = std::iter::once(address).chain(&address.replicas);
    all.map(|server| Ok(replica(&database.replica(server)?))).collect()
}

/// A connection that only reads, maybe beside a server.
pub(super) fn beside_server(address: &Address) -> Result<Session> {
    let database = Database::new(address, 0, Arc::default(), Some(PATIENCE))?;
    let mut link = database.connect()?;
    if !schema::look(&mut link)? {
        let none = "the database has no tables of sluice-shim; check --endpoint; nothing was created";
        return Err(Error::Broken(none.into()));
    }
    Ok(Session::new(database, Some(link)))
}

/// Somebody who looks who serves a database.
pub(super) fn lookout(address: &Address) -> Result<impl Lookout + use<>> {
    let database = Database::new(address, 0, Arc::default(), Some(PATIENCE))?;
    Ok(Looking::new(move || database.connect()))
}

/// Keeps the pair that all processes on the database share, in a database that can be served.
pub(super) fn keep_pair(address: &Address, fresh: &str) -> Result<String> {
    let mut link = Database::new(address, 0, Arc::default(), Some(PATIENCE))?.connect()?;
    prepare(&mut link, address)?;
    Ok(pair::keep(&mut link, fresh)?)
}

/// A connection that checks all that is stored, however long the server takes for a table, also if the store has moved.
pub(super) fn audit(address: &Address) -> Result<Session> {
    Ok(open(address, Arc::default(), None, Opened::ToRead)?.0)
}

/// Divides the tables of a store that nobody serves.
pub(super) fn divide(address: &Address, layout: &Layout) -> Result<Divided> {
    let (mut session, _) = open(address, Arc::default(), None, Opened::ToServe)?;
    Ok(convert::divide(&mut session, layout)?)
}

/// What a database is like, and whether there is a store in it that could be served. Nothing is made there.
pub(super) fn probe(address: &Address) -> Result<(bool, Nature)> {
    let mut link = Database::new(address, 0, Arc::default(), Some(PATIENCE))?.connect()?;
    start::check(&mut link, address.accepts_loss)?;
    let there = schema::look(&mut link)?;
    if there && let Some(note) = note::note(&mut link)? {
        return Err(note.error());
    }
    Ok((there, remote::nature(LONGEST_ARRAY)))
}

/// Refuses a database that can't be served, and makes its tables if it has none; returns how these are divided.
fn prepare(link: &mut Link, address: &Address) -> Result<Stored> {
    start::check(link, address.accepts_loss)?;
    let layout = address.layout.clone().unwrap_or_default();
    partition::check(link, &layout)?;
    schema::prepare(link, random(), &layout)?;
    let stored = partition::stored(link)?;
    stored.fits(address.layout.as_ref())?;
    Ok(stored)
}

/// Connects to a database, makes its tables if it has none, and makes this process the one that serves it, until the
/// connection that writes is dropped; but for a store that has moved, which is only to be read. Returns that
/// connection, and how late it is on the server's clock. `patience`: how long the server may take for an answer.
fn open(
    address: &Address,
    metrics: Arc<Metrics>,
    patience: Option<Duration>,
    opened: Opened,
) -> Result<(Session, StoreTime)> {
    let mut database = Database::new(address, random(), Arc::clone(&metrics), patience)?;
    let mut link = database.connect()?;
    let divided = prepare(&mut link, address)?.is_divided();
    database.is_divided(divided);
    if opened == Opened::ToRead && note::note(&mut link)?.is_some() {
        database = Database::new(address, MOVED, metrics, patience)?;
        database.is_divided(divided);
        let now = start::claim(&mut link, MOVED, None)?;
        return Ok((Session::new(database, Some(link)), now));
    }
    let now = start::claim(&mut link, database.owner, address.standby.as_deref())?;
    Ok((Session::serving(database, link), now))
}
