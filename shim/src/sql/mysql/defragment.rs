//! Gives the file system back what the tables do not need any more.

use super::connection::Connection;
use super::tables;
use super::text::Packet;
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};

/// Builds the tables anew, one after the other, and has the server count their pages. Others read and write them
/// meanwhile, but for a moment at the beginning and the end. Replicas are not told to do the same.
pub(super) fn defragment(connection: &mut Connection) -> Result<()> {
    // Whoever comes behind this waits too, for the transactions that use the table now.
    connection.run(&Packet::of("patience", "SET SESSION lock_wait_timeout = 5"))?;
    for table in tables::names() {
        let said = connection.all("build anew", format_args!("OPTIMIZE LOCAL TABLE {table}"), |cells| {
            let (_table, _operation) = (cells.text()?, cells.text()?);
            Ok((cells.text()?, cells.text()?))
        })?;
        // An error is a row of the answer.
        if let Some((_, text)) = said.into_iter().find(|(kind, _)| kind.eq_ignore_ascii_case("error")) {
            let text = format!("the database could not build the table {table} anew: {text}");
            return Err(Failure::Again(Error::Unavailable(text)));
        }
    }
    Ok(())
}
