//! A database for tests of those who read one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::store::{Lease, Nature, Page, Portion, Reader, Store, Writer};
use super::types::{Error, Event, KeyRange, KeyValue, LeaseId, RangeQuery, Record, Result, Revision, StoreStatus};
use crate::clock::{Steady, StoreClock, StoreTime};

/// A database that holds nothing but how far it is.
#[derive(Clone, Default)]
pub(super) struct Bare {
    pub(super) revision: Arc<AtomicI64>,
    pub(super) compact_revision: Revision,
    pub(super) batch: i64,
}

impl Store for Bare {
    fn nature(&self) -> Nature {
        let portion = Portion { least: 1, hold: Duration::ZERO };
        Nature { free_readers: 1, gather: Duration::ZERO, portion, key_limit: None, values_limit: None }
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        none()
    }

    fn clock(&self) -> StoreClock {
        StoreClock::from(StoreTime::default(), Arc::new(Steady::default()))
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        Ok(Box::new(self.clone()))
    }
}

impl Reader for Bare {
    fn begin(&mut self) -> Result<(Revision, Revision)> {
        Ok((self.revision.load(Ordering::SeqCst), self.compact_revision))
    }

    fn end(&mut self) {}

    fn batch(&self) -> i64 {
        self.batch
    }

    fn newest(&mut self, keys: &[&[u8]]) -> Result<(Revision, Vec<KeyValue>)> {
        let revision = self.revision.fetch_add(1, Ordering::SeqCst);
        let kv = |key: &&[u8]| KeyValue { key: Bytes::copy_from_slice(key), ..KeyValue::default() };
        Ok((revision, keys.iter().filter(|key| !key.is_empty()).map(kv).collect()))
    }

    fn page(&mut self, _: &RangeQuery, _: Revision, _: usize) -> Result<Page> {
        Ok(Page { kvs: Vec::<KeyValue>::new(), more: false })
    }

    fn count(&mut self, _: &KeyRange, _: Revision) -> Result<i64> {
        Ok(0)
    }

    fn events(&mut self, _: &KeyRange, _: Revision, _: usize) -> Result<(Vec<Event>, Revision)> {
        none()
    }

    fn records(&mut self, _: (Revision, i64), _: Revision, _: Option<Revision>, _: usize) -> Result<Vec<Record>> {
        Ok(Vec::new())
    }

    fn lease(&mut self, _: LeaseId) -> Result<Option<Lease>> {
        Ok(None)
    }

    fn lease_keys(&mut self, _: LeaseId) -> Result<Vec<bytes::Bytes>> {
        Ok(Vec::new())
    }

    fn leases(&mut self, _: usize) -> Result<Vec<Lease>> {
        Ok(Vec::new())
    }

    fn status(&mut self) -> Result<StoreStatus> {
        none()
    }

    fn collector(&mut self) -> Result<crate::gc::Status> {
        none()
    }

    fn opaque_directories(&mut self) -> Result<Vec<Vec<u8>>> {
        none()
    }

    fn opaque_key(&mut self, _: &KeyRange, _: &[u8]) -> Result<Option<bytes::Bytes>> {
        none()
    }

    fn tasks(&mut self, _: i64, _: usize) -> Result<Vec<crate::gc::Task>> {
        none()
    }

    fn tombstones(&mut self, _: i64, _: usize) -> Result<Vec<crate::gc::Tombstone>> {
        none()
    }
}

fn none<T>() -> Result<T> {
    Err(Error::Unavailable("it has none of that".into()))
}
