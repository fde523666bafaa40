//! What a store can't hold.

use super::store::Nature;
use super::types::{Error, KeyValue, Op, Result};

/// Checks that a store can hold what a write may put.
pub(super) fn check(op: &Op, nature: &Nature) -> Result<()> {
    keys(op, nature)?;
    check_values(values(op), nature)
}

/// Checks that a store can hold a value.
pub(super) fn check_value(kv: &KeyValue, nature: &Nature) -> Result<()> {
    match nature.values_limit {
        Some(limit) if kv.value.len() > limit => Err(Error::Broken(format!(
            "the value of {:?} has {} bytes; this database takes {limit} at most",
            String::from_utf8_lossy(&kv.key),
            kv.value.len()
        ))),
        _ => Ok(()),
    }
}

/// Checks that a store can hold a key.
pub(super) fn check_key(key: &[u8], nature: &Nature) -> Result<()> {
    match nature.key_limit {
        Some(limit) if key.len() > limit => Err(Error::KeyTooLong { length: key.len(), limit }),
        _ => Ok(()),
    }
}

/// Checks that a store can take so many bytes of values at once.
pub(super) fn check_values(length: usize, nature: &Nature) -> Result<()> {
    match nature.values_limit {
        Some(limit) if length > limit => Err(Error::RequestTooLarge { length, limit }),
        _ => Ok(()),
    }
}

fn keys(op: &Op, nature: &Nature) -> Result<()> {
    match op {
        Op::Put(put) => check_key(&put.key, nature),
        Op::Txn(txn) => txn.success.iter().chain(&txn.failure).try_for_each(|op| keys(op, nature)),
        Op::Range(_) | Op::Delete(_) => Ok(()),
    }
}

/// How many bytes of values a write may put, whichever way it takes.
fn values(op: &Op) -> usize {
    match op {
        Op::Put(put) => put.value.len(),
        Op::Txn(txn) => {
            let way = |ops: &[Op]| ops.iter().map(values).sum::<usize>();
            way(&txn.success).max(way(&txn.failure))
        }
        Op::Range(_) | Op::Delete(_) => 0,
    }
}
