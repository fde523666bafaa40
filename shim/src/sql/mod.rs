//! The databases behind the engine's [`Store`] trait. Only this module knows a dialect.

pub mod sqlite;

use std::sync::Arc;

use crate::engine::metrics::Metrics;
use crate::engine::store::Store;
use crate::engine::{Error, Result};

/// Opens the database that a connection string names, and creates or migrates its tables.
///
/// `sqlite:///path/to.db` is a file; a relative path has two slashes (`sqlite://state.db`).
pub fn open(endpoint: &str, metrics: Arc<Metrics>) -> Result<Arc<dyn Store>> {
    let Some((scheme, rest)) = endpoint.split_once("://") else {
        return Err(Error::Broken(format!(
            "the endpoint {endpoint:?} has no scheme; write it as sqlite:///path/to.db"
        )));
    };
    match scheme {
        "sqlite" if rest.is_empty() => {
            Err(Error::Broken("the endpoint sqlite:// names no file; write it as sqlite:///path/to.db".into()))
        }
        "sqlite" => Ok(Arc::new(sqlite::Sqlite::open(rest.as_ref(), metrics)?)),
        other => Err(Error::Broken(format!("this build has no database {other:?}; it knows sqlite://"))),
    }
}

/// The part of a key up to and with its last slash: the unit in which keys are counted.
pub(crate) fn directory(key: &[u8]) -> &[u8] {
    let end = key.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    &key[..end]
}
