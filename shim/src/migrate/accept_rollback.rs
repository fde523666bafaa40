//! `sluice-shim accept-rollback`: goes on with a database that lacks what clients have seen.

use std::fmt;

use anyhow::{Context as _, Result, bail};

use crate::config::{DatabaseFlags, whole};
use crate::engine::Revision;
use crate::engine::rollback::{Raised, raise_revision};
use crate::sql;

/// Go on with a database that went back, which no server serves: one that was restored from a backup, or a standby that
/// was promoted without all that was acknowledged. What it lacks is lost. Its revision is raised, and all that was is
/// marked as compacted, so that clients list again instead of taking new revisions for ones that they saw.
#[derive(Debug, Clone, clap::Args)]
pub struct AcceptRollback {
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseFlags,

    /// How much to raise the revision. Take more than was written since the state that the database went back to.
    #[arg(long, default_value_t = 1_000_000_000, value_parser = whole::<i64>(1..=i64::MAX as u64),
          allow_hyphen_values = true, value_name = "N")]
    pub bump_revision: Revision,
}

/// What was done.
#[derive(Debug)]
pub struct Accepted(Raised);

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Raised { from, to } = self.0;
        write!(f, "revision {from}, which is raised to {to}; compacted at {to}: clients list again")
    }
}

impl AcceptRollback {
    /// Raises the revision.
    ///
    /// # Errors
    /// When there is no database, or another process serves it.
    pub fn run(&self) -> Result<Accepted> {
        let endpoint = self.database.endpoint()?;
        endpoint.must_exist()?;
        // To open a database makes tables in it.
        if sql::probe(&endpoint).with_context(|| format!("--endpoint: look at {endpoint}"))?.1.is_none() {
            bail!("--endpoint: there is no store in {endpoint}; nothing was changed");
        }
        let store = super::open(&endpoint)?;
        let raised = raise_revision(store.as_ref(), self.bump_revision);
        Ok(Accepted(raised.with_context(|| format!("--endpoint: raise the revision of {endpoint}"))?))
    }
}
