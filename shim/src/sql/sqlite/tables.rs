//! A connection to a SQLite file, as the logic that all databases share sees it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use super::note;
use crate::engine::Result;
use crate::engine::metrics::Metrics;

/// A connection with its tables: `Box<Connection>` to read, [`super::commit::Changing`] to change.
pub(in crate::sql) struct Tables<C> {
    pub(super) connection: C,
    pub(super) metrics: Arc<Metrics>,
    /// The note that says that the store has moved, if the connection serves the store: then it ends with the note.
    note: Option<PathBuf>,
}

impl<C: Deref<Target = Connection>> Tables<C> {
    /// Of a connection that is set up.
    pub(super) fn new(connection: C, metrics: Arc<Metrics>) -> Self {
        Self { connection, metrics, note: None }
    }

    /// The same for a connection that serves the store of a file.
    pub(super) fn serving(connection: C, metrics: Arc<Metrics>, path: &Path) -> Self {
        Self { note: Some(note::of(path)), ..Self::new(connection, metrics) }
    }

    /// Fails if the store has moved. In a transaction that is sure to be so until its end.
    pub(super) fn is_here(&self) -> Result<()> {
        self.note.as_deref().map_or(Ok(()), note::refuse)
    }
}
