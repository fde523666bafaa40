//! `sluice-shim fsck`: whether a database is sound.

use std::io::Write;

use anyhow::{Context as _, Result};

use crate::config::DatabaseFlags;
use crate::sql::{self, Checked, Damage};

/// Checks a database that no server has open: the file, the revisions, the history, and all that is derived from the
/// live values. Exit code 1 if there is damage.
#[derive(Debug, Clone, clap::Args)]
pub struct Fsck {
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseFlags,

    /// Build anew what is derived from other data, if it is wrong: directory counts, the indexes of labels and fields,
    /// the skip-label column.
    #[arg(long)]
    pub repair: bool,

    /// Go on without the log (the file that ends in -wal) if it is lost or another one than the database needs. What
    /// was written to it is gone, and revisions go back: clients that saw later ones must list anew.
    #[arg(long)]
    pub accept_lost_log: bool,
}

impl Fsck {
    /// Checks, and prints a line for each thing that is wrong. Returns whether nothing is, any more.
    ///
    /// # Errors
    /// When the database can't be read at all.
    pub fn run(&self, out: &mut dyn Write) -> Result<bool> {
        let endpoint = self.database.endpoint()?;
        endpoint.must_exist()?;
        if self.accept_lost_log {
            match sql::accept_lost_log(&endpoint)? {
                Some(what) => writeln!(out, "accepted: {what}")?,
                None => writeln!(out, "no log is lost: nothing was accepted")?,
            }
        }
        let mut printed = Ok(());
        let mut print = |Damage { what, derived }: Damage| {
            let kind = if derived { "derived" } else { "damage" };
            if printed.is_ok() {
                printed = writeln!(out, "{kind}: {what}");
            }
        };
        let Checked { keys, damaged, derived, repaired } =
            sql::check(&endpoint, self.repair, &mut print).with_context(|| format!("--endpoint: check {endpoint}"))?;
        printed?;
        let sound = damaged == 0 && derived == repaired;
        match (sound, derived) {
            (true, 0) => writeln!(out, "sound: {keys} keys")?,
            (true, _) => writeln!(out, "repaired: {derived} of derived data; {keys} keys")?,
            (false, 0) => writeln!(out, "damaged: {damaged} of data; restore a backup")?,
            (false, _) => {
                let advice = if damaged > 0 { "restore a backup" } else { "--repair builds derived data anew" };
                writeln!(out, "damaged: {damaged} of data, {} of derived data; {advice}", derived - repaired)?;
            }
        }
        Ok(sound)
    }
}
