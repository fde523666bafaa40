//! The processes that share the database.

use super::connection::Connection;
use super::serving::{self, NOW};
use super::text::{Bytes, Packet};
use crate::sql::failure::Result;
use crate::sql::instances::{Entry, Meeting, Presence};
use crate::sql::remote::{FORGOTTEN, Serving};

impl Meeting for Connection {
    fn look(&mut self) -> Result<Serving> {
        serving::look(self)
    }

    /// The table is no part of the store: the first process with `--standby` makes it.
    fn announce(&mut self, who: &Presence, serves: bool, version: &str) -> Result<()> {
        if say(self, who, serves, version).is_ok() {
            return Ok(());
        }
        let columns = "url VARBINARY(512) PRIMARY KEY, place VARBINARY(1024) NOT NULL, name VARBINARY(1024) NOT NULL, \
                       version VARBINARY(64) NOT NULL, served TINYINT NOT NULL, seen_at BIGINT NOT NULL";
        let table = format!("CREATE TABLE IF NOT EXISTS instance ({columns}) ENGINE=InnoDB");
        self.run(&Packet::of("make the table of instances", table))?;
        say(self, who, serves, version)
    }

    fn leave(&mut self, who: &Presence) -> Result<()> {
        let place = Bytes(who.place.as_bytes());
        self.run(&Packet::of("leave", format_args!("DELETE FROM instance WHERE place = {place}"))).map(drop)
    }

    fn entries(&mut self) -> Result<Vec<Entry>> {
        let there = "SELECT COUNT(*) FROM information_schema.tables
            WHERE table_schema = DATABASE() AND table_name = 'instance'";
        if self.number("is there a table", there)? == 0 {
            return Ok(Vec::new());
        }
        self.all("instances", "SELECT place, name, version, seen_at, served FROM instance", |cells| {
            let (place, name, version) = (cells.text()?, cells.text()?, cells.text()?);
            Ok(Entry { place, name, version, seen_at: cells.int()?, served: cells.flag()? })
        })
    }
}

fn say(connection: &mut Connection, who: &Presence, serves: bool, version: &str) -> Result<()> {
    let text = |text: &str| Bytes(text.as_bytes()).to_string();
    let (url, place, name, version) = (text(&who.url), text(&who.place), text(&who.name), text(version));
    // There is one that serves: the one before is gone.
    let mut packet = Packet::of(
        "forget instances",
        format_args!("DELETE FROM instance WHERE served AND {serves} OR NOT served AND seen_at < {NOW} - {FORGOTTEN}"),
    );
    packet.add(
        "announce",
        format_args!(
            "INSERT INTO instance VALUES ({url}, {place}, {name}, {version}, {serves}, {NOW}) ON DUPLICATE KEY UPDATE \
             place = VALUES(place), name = VALUES(name), version = VALUES(version), served = VALUES(served), \
             seen_at = VALUES(seen_at)"
        ),
    );
    connection.run(&packet).map(drop)
}
