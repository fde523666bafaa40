//! The databases behind the engine's [`Store`] trait. Only this module knows a dialect.

pub mod explain;
pub mod sqlite;

use std::path::Path;
use std::sync::Arc;

use crate::clock::{Steady, Ticker};
use crate::engine::metrics::Metrics;
use crate::engine::store::Store;
use crate::engine::{Error, RangeQuery, Result};
use crate::gc::{Overview, View};
use explain::Explanation;

/// Opens the database that a connection string names, and creates or migrates its tables.
///
/// `sqlite:///path/to.db` is a file; a relative path has two slashes (`sqlite://state.db`).
pub fn open(endpoint: &str, metrics: Arc<Metrics>) -> Result<Arc<dyn Store>> {
    open_by(endpoint, metrics, Arc::new(Steady::default()))
}

/// The same with something of one's own to drive the clock, where the database has none.
pub fn open_by(endpoint: &str, metrics: Arc<Metrics>, ticker: Arc<dyn Ticker>) -> Result<Arc<dyn Store>> {
    let Some((scheme, rest)) = endpoint.split_once("://") else {
        return Err(Error::Broken(format!(
            "the endpoint {endpoint:?} has no scheme; write it as sqlite:///path/to.db"
        )));
    };
    match scheme {
        "sqlite" if rest.is_empty() => {
            Err(Error::Broken("the endpoint sqlite:// names no file; write it as sqlite:///path/to.db".into()))
        }
        "sqlite" => Ok(Arc::new(sqlite::Sqlite::open(rest.as_ref(), metrics, ticker)?)),
        other => Err(Error::Broken(format!("this build has no database {other:?}; it knows sqlite://"))),
    }
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
pub fn check(endpoint: &str, repair: bool, report: &mut dyn FnMut(Damage)) -> Result<Checked> {
    match endpoint.split_once("://") {
        Some(("sqlite", path)) => sqlite::check(path.as_ref(), repair, report),
        _ => Err(Error::Broken("only sqlite:// databases can be checked".into())),
    }
}

/// Goes on without the log that a database needs, which nobody has open: what was written to the log is lost. Says what
/// was done; `None` if nothing is wrong with the log.
pub fn accept_lost_log(endpoint: &str) -> Result<Option<String>> {
    sqlite::accept_lost_log(file(endpoint)?)
}

/// Says how a query with a selection is read, which also reads it. A server may have the database open meanwhile.
pub fn explain(endpoint: &str, query: &RangeQuery) -> Result<Explanation> {
    sqlite::explain(file(endpoint)?, query)
}

/// What the collector has to do in a database that a server may have open.
pub fn gc_overview(endpoint: &str) -> Result<Overview> {
    sqlite::overview(file(endpoint)?)
}

/// What the collector knows around a key of a database that a server may have open.
pub fn gc_view(endpoint: &str, key: &[u8]) -> Result<View> {
    sqlite::view(file(endpoint)?, key)
}

fn file(endpoint: &str) -> Result<&Path> {
    match endpoint.split_once("://") {
        Some(("sqlite", path)) => Ok(path.as_ref()),
        _ => Err(Error::Broken("only sqlite:// databases can be looked at".into())),
    }
}

/// The part of a key up to and with its last slash: the unit in which keys are counted.
pub(crate) fn directory(key: &[u8]) -> &[u8] {
    let end = key.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    &key[..end]
}
