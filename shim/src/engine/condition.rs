//! What is known of the database's condition, from what those who use it were told.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::types::{Error, Result};

/// Damage, and whether commits fail.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// What the first that found damage was told. It stays: who met no damage since has read other pages.
    damage: OnceLock<String>,
    /// Why the last commit failed.
    refusal: Mutex<Option<Error>>,
}

impl Condition {
    /// Remembers damage.
    pub(super) fn heed<T>(&self, result: &Result<T>) {
        if let Err(Error::Damaged(detail)) = result
            && self.damage.set(detail.clone()).is_ok()
        {
            tracing::error!(detail, "the database is damaged");
        }
    }

    /// Remembers how a commit ended that was to change something.
    pub(super) fn committed<T>(&self, result: &Result<T>) {
        self.heed(result);
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = result.as_ref().err().cloned();
    }

    /// What was found damaged.
    pub(super) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Why the last commit failed.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
