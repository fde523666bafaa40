//! A store that leaves this database for another one.
//!
//! Every commit locks the head and looks at who serves the store. So who leaves locks the head, and the note that
//! stands there afterwards is in the way of all others.

use super::link::Ask;
use super::note::note;
use super::row::int;
use super::session::Session;
use crate::sql::failure::Result;
use crate::sql::remote::MOVED;
use crate::sql::session::{Depart, Head};

impl Depart for Session {
    fn note(&mut self) -> Result<Option<String>> {
        Ok(self.on(note)?.map(|note| note.to_string()))
    }

    fn hold(&mut self) -> Result<Head> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '20s'; \
            SET LOCAL idle_in_transaction_session_timeout = '60s'";
        Ok(self.lock_head(begin, vec![])?.0.head)
    }

    fn leave(&mut self, note: &str) -> Result<()> {
        let sql = "UPDATE meta SET owner = $1, address = $2 WHERE id = 1";
        let note = (&note as _, tokio_postgres::types::Type::TEXT);
        self.all(&[Ask::new("note", sql, vec![int(&MOVED), note]), Ask::commit()])?;
        self.committed();
        Ok(())
    }
}
