//! A connection to a SQLite file, as the logic that all databases share sees it.

use std::ops::Deref;
use std::sync::Arc;

use rusqlite::Connection;

use crate::engine::metrics::Metrics;

/// A connection with its tables: `Box<Connection>` to read, [`super::commit::Changing`] to change.
pub(in crate::sql) struct Tables<C> {
    pub(super) connection: C,
    pub(super) metrics: Arc<Metrics>,
}

impl<C: Deref<Target = Connection>> Tables<C> {
    /// Of a connection that is set up.
    pub(super) fn new(connection: C, metrics: Arc<Metrics>) -> Self {
        Self { connection, metrics }
    }
}
