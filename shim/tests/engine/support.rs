//! An engine on a database of its own.

use std::sync::Arc;

use bytes::Bytes;
use sluice_shim::clock::{Steady, Ticker};
use sluice_shim::engine::metrics::Metrics;
use sluice_shim::engine::store::Store;
use sluice_shim::engine::*;
use sluice_shim::sql;

use crate::database::Database;

/// Opens the engine on a database.
pub(crate) async fn open(database: &Database) -> (Engine, Arc<Metrics>) {
    open_by(database, Arc::new(Steady::default())).await
}

/// The same with a clock of the test's own.
pub(crate) async fn open_by(database: &Database, ticker: Arc<dyn Ticker>) -> (Engine, Arc<Metrics>) {
    open_on(database, ticker, |store| store).await
}

/// The same with a store of the test's own around the database.
pub(crate) async fn open_on(
    database: &Database,
    ticker: Arc<dyn Ticker>,
    wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
) -> (Engine, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let store = wrap(sql::open_by(database.endpoint(), Arc::clone(&metrics), ticker).unwrap());
    let engine = Engine::start(store, ReaderThreads { small: 1, large: 2 }, Arc::clone(&metrics)).await.unwrap();
    (engine, metrics)
}

/// Puts a key; returns the revision.
pub(crate) async fn put(engine: &Engine, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Revision {
    let put = Put { key: key.into(), value: value.into(), ..Put::default() };
    engine.write(Op::Put(put)).await.unwrap().0
}

/// The range of all keys with a prefix that ends in a slash.
pub(crate) fn prefix(prefix: &str) -> KeyRange {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    KeyRange::from_wire(Bytes::copy_from_slice(prefix.as_bytes()), end.into())
}
