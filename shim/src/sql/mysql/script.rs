//! Statements of a length that nobody knows before: a server takes packets up to a length alone.

use std::fmt::{self, Write as _};

use super::connection::Connection;
use super::row::Cells;
use super::text::Packet;
use crate::sql::failure::Result;

/// As many packets as statements need, nearly always one.
pub(super) struct Script {
    /// How long the text of a packet may be.
    limit: usize,
    packets: Vec<Packet>,
}

impl Script {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, packets: vec![Packet::default()] }
    }

    /// Adds a statement.
    pub(super) fn add(&mut self, name: &'static str, statement: impl fmt::Display) {
        if let Some(statement) = self.packets.last_mut().and_then(|last| last.try_add(name, statement, self.limit)) {
            self.packets.push(Packet::of(name, statement));
        }
    }

    /// Adds a statement with a list of rows, or several if there are many; none if there are no rows.
    pub(super) fn rows<T: fmt::Display>(
        &mut self,
        name: &'static str,
        before: &str,
        rows: impl IntoIterator<Item = T>,
        after: &str,
    ) {
        let mut text = String::new();
        for row in rows {
            let end = text.len();
            // Nothing that is written into memory fails.
            let _ = write!(text, "{}{row}", if text.is_empty() { before } else { "," });
            if end > 0 && text.len() + after.len() > self.limit {
                let last = text.split_off(end);
                self.add(name, format_args!("{text}{after}"));
                text = format!("{before}{}", last.trim_start_matches(','));
            }
        }
        if !text.is_empty() {
            self.add(name, format_args!("{text}{after}"));
        }
    }

    pub(super) fn commit(&mut self) {
        if let Some(last) = self.packets.last_mut() {
            last.commit();
        }
    }

    /// The places of the statements with a name.
    pub(super) fn of(&self, name: &str) -> Vec<usize> {
        let names = self.packets.iter().flat_map(Packet::names);
        names.enumerate().filter(|(_, of)| **of == name).map(|(nth, _)| nth).collect()
    }

    /// Carries all out, as [`Connection::each`] does.
    pub(super) fn each(
        &self,
        connection: &mut Connection,
        row: &mut dyn FnMut(usize, Cells) -> Result<()>,
    ) -> Result<Vec<u64>> {
        let mut changed = Vec::new();
        for packet in &self.packets {
            let before = changed.len();
            changed.append(&mut connection.each(packet, &mut |nth, cells| row(before + nth, cells))?);
        }
        Ok(changed)
    }
}
