//! A store that leaves this database for another one.
//!
//! Every commit locks the head and looks at who serves the store. So who leaves locks the head, and the note that
//! stands there afterwards is in the way of all others.

use super::Tables;
use super::engine::Engine;
use super::note::note;
use super::read::read_head;
use super::serving::NOW;
use super::text::{Bytes, Packet};
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};
use crate::sql::remote::MOVED;
use crate::sql::session::{Depart, Head};

impl Depart for Tables {
    fn note(&mut self) -> Result<Option<String>> {
        self.ready()?;
        Ok(note(&mut self.connection)?.map(|note| note.to_string()))
    }

    /// The snapshot begins with the first read behind the lock.
    fn hold(&mut self) -> Result<Head> {
        self.ready()?;
        let mut packet = Packet::default();
        if self.connection.server()?.engine == Engine::MariaDb {
            packet.add("patience", "SET SESSION idle_transaction_timeout=60");
        }
        let first = packet.names().len() + 2;
        packet.add("isolation", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
        packet.add("begin", "BEGIN");
        packet.add(
            "lock",
            format_args!("SELECT revision, compact_revision, {NOW}, batch FROM meta WHERE id = 1 FOR UPDATE"),
        );
        packet.add("seen", "SELECT revision FROM meta WHERE id = 1");
        let (mut head, mut seen) = (Head::default(), 0);
        self.open = true;
        self.connection.each(&packet, &mut |nth, mut cells| {
            if nth == first {
                head = read_head(&mut cells)?;
            } else {
                seen = cells.int()?;
            }
            Ok(())
        })?;
        if seen != head.revision {
            let text = "the database shows another revision than the one it has locked";
            return Err(Failure::Again(Error::Unavailable(text.into())));
        }
        Ok(head)
    }

    fn leave(&mut self, note: &str) -> Result<()> {
        let note = Bytes(note.as_bytes());
        let mut packet =
            Packet::of("note", format_args!("UPDATE meta SET owner = {MOVED}, address = {note} WHERE id = 1"));
        packet.commit();
        self.connection.run(&packet)?;
        self.open = false;
        Ok(())
    }
}
