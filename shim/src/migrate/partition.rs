//! `sluice-shim partition`: divides the tables of a store anew.

use anyhow::{Context as _, Result, bail};

use crate::config::{ConfigError, DatabaseFlags, PartitionFlags};
use crate::endpoint::Endpoint;
use crate::sql::{self, Divided};

/// Partition the tables of a store that no server serves, or make them whole again. The database does it: PostgreSQL in
/// one transaction, MariaDB one table after the other. It needs room for the tables a second time. What was cut off is
/// done by the same command again. Rows are counted before and after.
#[derive(Debug, Clone, clap::Args)]
pub struct Partition {
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseFlags,

    /// How to divide it.
    #[command(flatten)]
    pub partitions: PartitionFlags,
}

impl Partition {
    /// Divides the tables.
    ///
    /// # Errors
    /// When there is no store, another process serves it, or the database can't do it.
    pub fn run(&self) -> Result<Divided> {
        let Some(layout) = self.partitions.layout()? else {
            let hint = "say how: --partition-by resource, key or none";
            return Err(ConfigError::new("--partition-by is missing", hint).into());
        };
        let mut endpoint = self.partitions.of(self.database.endpoint()?)?;
        if let Endpoint::Network(address) = &mut endpoint {
            // It is divided otherwise now.
            address.layout = None;
        }
        endpoint.must_exist()?;
        // To open a database makes tables in it.
        if sql::probe(&endpoint).with_context(|| format!("--endpoint: look at {endpoint}"))?.1.is_none() {
            bail!("--endpoint: there is no store in {endpoint}; nothing was changed");
        }
        sql::divide(&endpoint, &layout).with_context(|| format!("--endpoint: partition {endpoint}"))
    }
}
