//! A store that leaves for another database.

use super::Head;
use crate::sql::failure::Result;

/// What is asked of the database that a store leaves, by a connection beside whoever serves it.
pub(in crate::sql) trait Depart {
    /// The note that says where the store has moved to.
    fn note(&mut self) -> Result<Option<String>>;

    /// Begins a transaction that holds the head until [`super::Read::end`], so that no other commits meanwhile. What is
    /// read is as it is then. It waits for the head some seconds at most.
    fn hold(&mut self) -> Result<Head>;

    /// Leaves the note, durably, and ends the hold.
    fn leave(&mut self, note: &str) -> Result<()>;
}
