//! A database on a server.

use std::sync::{Arc, Mutex, PoisonError};

use super::serving::NOW;
use super::{Heeds, Tables, lookout};
use crate::clock::{StoreClock, StoreTime, Ticker};
use crate::endpoint::Address;
use crate::engine::instance::Instance;
use crate::engine::metrics::Metrics;
use crate::engine::store::{Nature, Reader, Replica, Store, Writer};
use crate::engine::{Error, Result};
use crate::sql::reader::SqlReader;
use crate::sql::remote::{self, Seen, TURN};
use crate::sql::writer::SqlWriter;
use crate::sql::{Lookout as _, Opened};

/// A database, which this process serves.
pub(in crate::sql) struct MySql {
    address: Arc<Address>,
    opened: Opened,
    /// The number of this process.
    owner: i64,
    /// The newest revision that this process has seen.
    seen: Arc<Seen>,
    metrics: Arc<Metrics>,
    clock: StoreClock,
    /// The longest value that a statement can hold.
    longest: usize,
    /// Until the writer takes it.
    writer: Mutex<Option<Tables>>,
}

impl MySql {
    /// Opens a database, and makes its tables if it has none. The ticker drives the clock on from what the server's
    /// says.
    pub(in crate::sql) fn open(
        address: &Address,
        metrics: Arc<Metrics>,
        ticker: Arc<dyn Ticker>,
        opened: Opened,
    ) -> Result<Self> {
        let address = Arc::new(address.clone());
        let mut tables = Tables::open(Arc::clone(&address), Arc::clone(&metrics), opened)?;
        let now = StoreTime::from_millis(tables.connection.number("time", format_args!("SELECT {NOW}"))?);
        let longest = tables.connection.longest_value()?;
        let (seen, clock) = (Arc::clone(&tables.connection.seen), StoreClock::of_server(now, ticker));
        let owner = tables.owner;
        Ok(Self { address, opened, owner, seen, metrics, clock, longest, writer: Mutex::new(Some(tables)) })
    }
}

impl Store for MySql {
    fn nature(&self) -> Nature {
        remote::nature(self.longest)
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        let taken = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let tables = taken.ok_or_else(|| Error::Broken("the database has one writer only".into()))?;
        Ok(Box::new(SqlWriter::new(Box::new(tables), self.clock.clone(), Arc::clone(&self.metrics), TURN)))
    }

    fn clock(&self) -> StoreClock {
        self.clock.clone()
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        let mut tables = Tables::read(Arc::clone(&self.address), Arc::clone(&self.metrics))?;
        tables.connection.seen = Arc::clone(&self.seen);
        if self.opened == Opened::ToServe {
            tables.heeds = Heeds::Move;
        }
        let reader = SqlReader::new(Box::new(tables), Arc::clone(&self.metrics));
        Ok(Box::new(reader.telling(self.clock.clone())))
    }

    fn owner(&self) -> i64 {
        self.owner
    }

    fn instances(&self) -> Result<Vec<Instance>> {
        lookout(&self.address).instances()
    }

    fn replicas(&self) -> Vec<Replica> {
        self.address.replicas.iter().map(|address| replica(address, self.owner, &self.metrics)).collect()
    }
}

/// A server that holds a copy of the store that a process serves as `owner`.
pub(super) fn replica(address: &Address, owner: i64, metrics: &Arc<Metrics>) -> Replica {
    let (name, address, metrics) = (address.hosts(), Arc::new(remote::of_copy(address)), Arc::clone(metrics));
    let open = move || {
        let tables = Tables::replica(Arc::clone(&address), Arc::clone(&metrics), owner)?;
        Ok(Box::new(SqlReader::of_replica(Box::new(tables), Arc::clone(&metrics))) as Box<dyn Reader>)
    };
    Replica { name, open: Box::new(open) }
}
