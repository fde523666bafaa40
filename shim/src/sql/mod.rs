//! The databases behind the engine's [`Store`] trait. Only this module knows a dialect.

mod check;
mod codes;
mod collector;
#[cfg(test)]
mod compared;
mod delta;
pub mod explain;
mod failure;
mod index;
pub mod instances;
mod layout;
mod mysql;
mod numbers;
mod postgres;
mod reader;
mod remote;
mod retry;
mod select;
mod session;
pub mod sqlite;
mod turn;
mod writer;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;

use crate::clock::{Steady, Ticker};
use crate::endpoint::{Endpoint, Family, Layout};
use crate::engine::instance::Instance;
use crate::engine::metrics::Metrics;
use crate::engine::store::{Nature, Reader, Replica, Source, Store};
use crate::engine::{Error, RangeQuery, Result};
use crate::gc::{Overview, View};
use explain::Explanation;
use instances::Presence;
pub use layout::Divided;
use reader::SqlReader;

/// What a database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// For all there is; a store that has moved to another database is refused.
    ToServe,
    /// To look at what is there, also if the store has moved.
    ToRead,
}

/// Opens a database, and creates or migrates its tables.
pub fn open(endpoint: &Endpoint, metrics: Arc<Metrics>) -> Result<Arc<dyn Store>> {
    open_by(endpoint, metrics, Arc::new(Steady::default()))
}

/// The same with something of one's own to drive the clock, where the database has none.
pub fn open_by(endpoint: &Endpoint, metrics: Arc<Metrics>, ticker: Arc<dyn Ticker>) -> Result<Arc<dyn Store>> {
    open_for(endpoint, metrics, ticker, Opened::ToServe)
}

/// Opens a database that no other process has open, to read it, also if its store has moved.
pub fn open_to_read(endpoint: &Endpoint) -> Result<Arc<dyn Store>> {
    open_for(endpoint, Arc::default(), Arc::new(Steady::default()), Opened::ToRead)
}

fn open_for(
    endpoint: &Endpoint,
    metrics: Arc<Metrics>,
    ticker: Arc<dyn Ticker>,
    opened: Opened,
) -> Result<Arc<dyn Store>> {
    match endpoint {
        Endpoint::Sqlite(path) => Ok(Arc::new(sqlite::Sqlite::open(path, metrics, ticker, opened)?)),
        Endpoint::Network(address) => match address.family {
            Family::MySql => Ok(Arc::new(mysql::MySql::open(address, metrics, ticker, opened)?)),
            Family::Postgres => Ok(Arc::new(postgres::Postgres::open(address, metrics, ticker, opened)?)),
        },
    }
}

/// Looks who serves a database.
pub trait Lookout: Send {
    /// Where the process is that serves the database: the URL at which others reach it, if they are to, and its number.
    /// `None` if no process serves the database.
    fn look(&mut self) -> Result<Option<String>>;

    /// Tells the other processes that this one is there; and once, that it serves.
    fn announce(&mut self, who: &Presence, serves: bool) -> Result<()>;

    /// Tells them that this process ends.
    fn leave(&mut self, who: &Presence) -> Result<()>;

    /// The processes that share the database: the one that serves first.
    fn instances(&mut self) -> Result<Vec<Instance>>;
}

/// Somebody who looks who serves a database, of which there are tables. No connection is made before the first look.
/// `None`: the database is no server's, and knows no other process.
pub fn lookout(endpoint: &Endpoint) -> Result<Option<Box<dyn Lookout>>> {
    match endpoint {
        Endpoint::Sqlite(_) => Ok(None),
        Endpoint::Network(address) => match address.family {
            Family::MySql => Ok(Some(Box::new(mysql::lookout(address)))),
            Family::Postgres => Ok(Some(Box::new(postgres::lookout(address)?))),
        },
    }
}

/// The servers that hold the store which another process serves as `owner`: the database itself, and those that hold
/// copies of it.
///
/// # Errors
/// When the endpoint can't be used.
pub fn copies(endpoint: &Endpoint, owner: i64) -> Result<Vec<Replica>> {
    match endpoint {
        Endpoint::Sqlite(_) => Ok(Vec::new()),
        Endpoint::Network(address) => match address.family {
            Family::MySql => Ok(mysql::copies(address, owner)),
            Family::Postgres => postgres::copies(address, owner),
        },
    }
}

/// The processes that have a database, which serve it or stand by: the one that serves first.
///
/// # Errors
/// When the database can't be read.
pub fn instances(endpoint: &Endpoint) -> Result<Vec<Instance>> {
    // Refuses what is no store.
    drop(beside_server(endpoint)?);
    match endpoint {
        Endpoint::Sqlite(path) => sqlite::instances(path),
        Endpoint::Network(address) => match address.family {
            Family::MySql => mysql::lookout(address).instances(),
            Family::Postgres => postgres::lookout(address)?.instances(),
        },
    }
}

/// Keeps a certificate with its key (PEM) that all processes on a database share, unless one is kept there already.
/// Returns the one that is kept.
///
/// # Errors
/// When the database can't be used, or is a file.
pub fn keep_pair(endpoint: &Endpoint, fresh: &str) -> Result<String> {
    match endpoint {
        Endpoint::Sqlite(_) => Err(Error::Broken("a SQLite file has one process that serves it".into())),
        Endpoint::Network(address) => match address.family {
            Family::MySql => mysql::keep_pair(address, fresh),
            Family::Postgres => postgres::keep_pair(address, fresh),
        },
    }
}

/// A connection to the database that a store is to leave. A server may have it open.
pub fn source(endpoint: &Endpoint) -> Result<Box<dyn Source>> {
    let session = match endpoint {
        Endpoint::Sqlite(path) => sqlite::source(path)?,
        Endpoint::Network(_) => beside_server(endpoint)?,
    };
    Ok(Box::new(SqlReader::new(session, Arc::default())))
}

/// What a database is like, and a connection that reads the store in it, if there is one. Nothing is made or changed
/// there. Fails if it could not be served.
pub fn probe(endpoint: &Endpoint) -> Result<(Nature, Option<Box<dyn Reader>>)> {
    let (is_there, nature) = match endpoint {
        Endpoint::Sqlite(path) => (sqlite::is_there(path)?, sqlite::nature()),
        Endpoint::Network(address) => match address.family {
            Family::MySql => mysql::probe(address)?,
            Family::Postgres => postgres::probe(address)?,
        },
    };
    if !is_there {
        return Ok((nature, None));
    }
    Ok((nature, Some(Box::new(SqlReader::new(beside_server(endpoint)?, Arc::default())))))
}

/// Something that is wrong with a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What, for a person.
    pub what: String,
    /// Whether it is derived from other data, so that it can be built anew.
    pub derived: bool,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// How many live keys there are.
    pub keys: u64,
    /// How much data is wrong.
    pub damaged: u64,
    /// How much derived data was wrong.
    pub derived: u64,
    /// How much of that is right again.
    pub repaired: u64,
}

/// Checks a database that nobody has open, and tells all that is wrong with it. `repair`: build derived data anew.
pub fn check(endpoint: &Endpoint, repair: bool, report: &mut dyn FnMut(Damage)) -> Result<Checked> {
    match endpoint {
        Endpoint::Sqlite(path) => {
            let mut audit = sqlite::audit(path)?;
            Ok(check::run(&mut *audit, repair, report)?)
        }
        Endpoint::Network(address) => match address.family {
            Family::MySql => Ok(check::run(&mut mysql::Tables::audit(address.clone().into())?, repair, report)?),
            Family::Postgres => Ok(check::run(&mut postgres::audit(address)?, repair, report)?),
        },
    }
}

/// Goes on without the log that a database needs, which nobody has open: what was written to the log is lost. Says what
/// was done; `None` if nothing is wrong with the log.
pub fn accept_lost_log(endpoint: &Endpoint) -> Result<Option<String>> {
    match endpoint {
        Endpoint::Sqlite(path) => sqlite::accept_lost_log(path),
        // A server keeps its log itself.
        Endpoint::Network(_) => Ok(None),
    }
}

/// Divides the tables of a store anew that nobody serves.
pub fn divide(endpoint: &Endpoint, layout: &Layout) -> Result<Divided> {
    match endpoint {
        Endpoint::Sqlite(_) if *layout == Layout::Whole => Ok(Divided::default()),
        Endpoint::Sqlite(_) => Err(Error::Broken("a SQLite file has no partitions".into())),
        Endpoint::Network(address) => match address.family {
            Family::MySql => Ok(mysql::partition::divide(address, layout)?),
            Family::Postgres => postgres::divide(address, layout),
        },
    }
}

/// Says how a query with a selection is read, which also reads it. A server may have the database open meanwhile.
pub fn explain(endpoint: &Endpoint, query: &RangeQuery) -> Result<Explanation> {
    let mut session = beside_server(endpoint)?;
    Ok(select::explain(&mut *session, query)?)
}

/// What the collector has to do in a database that a server may have open.
pub fn gc_overview(endpoint: &Endpoint) -> Result<Overview> {
    Ok(collector::overview(&mut *beside_server(endpoint)?)?)
}

/// What the collector knows around a key of a database that a server may have open.
pub fn gc_view(endpoint: &Endpoint, key: &[u8]) -> Result<View> {
    Ok(collector::view(&mut *beside_server(endpoint)?, key)?)
}

/// A connection that reads, maybe beside a server.
fn beside_server(endpoint: &Endpoint) -> Result<Box<dyn session::Reading>> {
    match endpoint {
        Endpoint::Sqlite(path) => Ok(Box::new(sqlite::beside_server(path)?)),
        Endpoint::Network(address) => match address.family {
            Family::MySql => Ok(Box::new(mysql::Tables::read(address.clone().into(), Arc::default())?)),
            Family::Postgres => Ok(Box::new(postgres::beside_server(address)?)),
        },
    }
}

/// The connection that changes a database, for a test, and one that reads all of it meanwhile.
#[cfg(test)]
fn both(endpoint: &Endpoint) -> Result<(Box<dyn session::Commit>, Box<dyn compared::Whole>)> {
    Ok(match endpoint {
        Endpoint::Sqlite(path) => (sqlite::audit(path)?, Box::new(sqlite::beside_server(path)?)),
        Endpoint::Network(address) => match address.family {
            Family::MySql => (
                Box::new(mysql::Tables::audit(address.clone().into())?),
                Box::new(mysql::Tables::read(address.clone().into(), Arc::default())?),
            ),
            Family::Postgres => (Box::new(postgres::audit(address)?), Box::new(postgres::beside_server(address)?)),
        },
    })
}

/// An empty database on each server that the tests start, and partitioned ones.
#[cfg(test)]
fn on_servers() -> [Endpoint; 6] {
    // The keys of the tests are in several of these.
    let bounds = ["/a/", "/b/", "/registry/", "/registry/stable.example.com/shirts/ns1/", "plain"];
    let bounds: Vec<Vec<u8>> = bounds.map(Into::into).into_iter().chain([b"\xff\0".to_vec()]).collect();
    let layouts = [Layout::Whole, Layout::Hashed(3), Layout::Ranges(bounds)];
    let both = layouts.map(|layout| {
        let mariadb = Arc::unwrap_or_clone(mysql::testing::database());
        [postgres::tests::database(), mariadb].map(|address| {
            Endpoint::Network(Box::new(crate::endpoint::Address { layout: Some(layout.clone()), ..address }))
        })
    });
    let [[a, b], [c, d], [e, f]] = both;
    [a, b, c, d, e, f]
}

/// A positive random number.
fn random() -> i64 {
    i64::try_from(RandomState::new().build_hasher().finish() >> 1).unwrap_or(1).max(1)
}

/// The part of a key up to and with its last slash: the unit in which keys are counted.
pub(crate) fn directory(key: &[u8]) -> &[u8] {
    let end = key.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    &key[..end]
}
