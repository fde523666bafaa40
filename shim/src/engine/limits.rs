//! What a store can't hold.

use super::types::{Error, Op, Result};

/// Checks that a store can hold the keys that a write may put.
pub(super) fn check(op: &Op, key_limit: Option<usize>) -> Result<()> {
    match op {
        Op::Put(put) => check_key(&put.key, key_limit),
        Op::Txn(txn) => txn.success.iter().chain(&txn.failure).try_for_each(|op| check(op, key_limit)),
        Op::Range(_) | Op::Delete(_) => Ok(()),
    }
}

/// Checks that a store can hold a key.
pub(super) fn check_key(key: &[u8], limit: Option<usize>) -> Result<()> {
    match limit {
        Some(limit) if key.len() > limit => Err(Error::KeyTooLong { length: key.len(), limit }),
        _ => Ok(()),
    }
}
