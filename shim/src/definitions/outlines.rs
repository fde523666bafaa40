//! The outlines in this store.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use bytes::Bytes;

use super::{definitions, name};
use crate::engine::{
    Compare, CompareResult, CompareTarget, DeleteRange, Engine, KeyRange, KeyValue, Op, OpResult, Put, RangeQuery, Txn,
};
use crate::object::crd;

/// What this store says of definitions.
pub(super) struct Outlines {
    engine: Engine,
}

impl Outlines {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// The key of a definition that is no outline.
    pub(super) async fn foreign(&self) -> Result<Option<Bytes>> {
        let stored = self.stored(definitions()).await?.into_iter();
        Ok(stored.filter(|kv| !crd::is_outline(&kv.value)).map(|kv| kv.key).next())
    }

    /// Makes them the outlines of all definitions of the main store.
    pub(super) async fn become_those_of(&self, main: &BTreeMap<Bytes, Bytes>) -> Result<()> {
        for (key, value) in main {
            self.put(key, Some(value)).await?;
        }
        for gone in self.stored(definitions()).await?.into_iter().filter(|kv| !main.contains_key(&kv.key)) {
            self.put(&gone.key, None).await?;
        }
        Ok(())
    }

    /// Makes one the outline of a definition; there is none of a definition that is deleted or can't be read.
    pub(super) async fn put(&self, key: &Bytes, definition: Option<&[u8]>) -> Result<()> {
        let outline = name(key).zip(definition).and_then(|(name, value)| crd::outline(name, value)).map(Bytes::from);
        let stored = self.stored(KeyRange::single(key.clone())).await?.into_iter().next();
        if stored.as_ref().map(|kv| &kv.value) == outline.as_ref() {
            return Ok(());
        }
        if stored.as_ref().is_some_and(|kv| !crd::is_outline(&kv.value)) {
            bail!("{} is a definition of this store's own", key.escape_ascii());
        }
        let op = match outline {
            Some(value) => Op::Put(Put { key: key.clone(), value, ..Put::default() }),
            None => Op::Delete(DeleteRange { range: KeyRange::single(key.clone()), prev_kv: false }),
        };
        // Whatever an apiserver writes meanwhile is its own.
        let unchanged = Compare {
            range: KeyRange::single(key.clone()),
            result: CompareResult::Equal,
            target: CompareTarget::Mod(stored.map_or(0, |kv| kv.mod_revision)),
        };
        let txn = Txn { compares: vec![unchanged], success: vec![op], failure: Vec::new() };
        match self.engine.write(Op::Txn(txn)).await? {
            (_, OpResult::Txn(result)) if result.succeeded => Ok(()),
            _ => bail!("somebody else writes {}", key.escape_ascii()),
        }
    }

    async fn stored(&self, range: KeyRange) -> Result<Vec<KeyValue>> {
        Ok(self.engine.range(RangeQuery { range, ..RangeQuery::default() }).await?.kvs)
    }
}
