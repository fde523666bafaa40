//! The flags that say how the tables of a store are divided.

use clap::ValueEnum;

use super::{ConfigError, whole};
use crate::endpoint::{Endpoint, Layout};

/// Into how many parts tables are divided by key, if nothing says so.
const PARTS: u16 = 8;

/// By what the tables of a store are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Not at all.
    None,
    /// Each resource that --partition names has partitions of its own.
    Resource,
    /// By a hash of the key, into as many partitions as --partitions says.
    Key,
}

/// How the tables of a store are divided.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PartitionFlags {
    /// How the tables that hold keys are partitioned, in PostgreSQL and MariaDB: when the store is made, and by
    /// `sluice-shim partition`. A store that is partitioned otherwise is not served. Without the flag a store is made
    /// without partitions, and served as it is.
    #[arg(long, env = "SLUICE_PARTITION_BY", value_enum, value_name = "HOW")]
    pub partition_by: Option<By>,

    /// A resource that gets partitions of its own, as what its keys begin with:
    /// /registry/stable.example.com/shirts/. May be given several times; in the variable they are separated by spaces.
    #[arg(long, env = "SLUICE_PARTITION", value_delimiter = ' ', value_name = "PREFIX")]
    pub partition: Vec<String>,

    /// How many partitions each table has that is divided by key. The default is 8.
    #[arg(
        long,
        env = "SLUICE_PARTITIONS",
        value_parser = whole::<u16>(2..=64),
        allow_hyphen_values = true,
        value_name = "N"
    )]
    pub partitions: Option<u16>,
}

impl PartitionFlags {
    /// What they ask for; `None` if they ask for nothing.
    ///
    /// # Errors
    /// When they contradict each other.
    pub fn layout(&self) -> Result<Option<Layout>, ConfigError> {
        let by = self.partition_by;
        if !self.partition.is_empty() && by != Some(By::Resource) {
            let hint = "use it with --partition-by resource, or remove it";
            return Err(ConfigError::new("--partition: nothing is divided by resource", hint));
        }
        if self.partitions.is_some() && by != Some(By::Key) {
            let hint = "use it with --partition-by key, or remove it";
            return Err(ConfigError::new("--partitions: nothing is divided by key", hint));
        }
        Ok(match by {
            None => None,
            Some(By::None) => Some(Layout::Whole),
            Some(By::Key) => Some(Layout::Hashed(self.partitions.unwrap_or(PARTS))),
            Some(By::Resource) => Some(Layout::of_prefixes(&self.partition)?),
        })
    }

    /// The endpoint with what they ask for.
    ///
    /// # Errors
    /// The same, and when there are no partitions there.
    pub fn of(&self, mut endpoint: Endpoint) -> Result<Endpoint, ConfigError> {
        let layout = self.layout()?;
        match &mut endpoint {
            Endpoint::Sqlite(_) if layout.as_ref().is_some_and(|layout| *layout != Layout::Whole) => {
                let hint = "use a database on a server (postgres:// or mysql://), or remove the flag";
                let flags = if self.partition.is_empty() { "--partition-by" } else { "--partition-by, --partition" };
                return Err(ConfigError::new(format!("{flags}: a SQLite file has no partitions"), hint));
            }
            Endpoint::Sqlite(_) => {}
            Endpoint::Network(address) => address.layout = layout,
        }
        Ok(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_go_together() {
        let flags = |partition_by, partition: &[&str], partitions| {
            let partition = partition.iter().map(|&prefix| prefix.to_owned()).collect();
            PartitionFlags { partition_by, partition, partitions }.layout().map_err(|error| error.what)
        };
        let pods = || Layout::of_prefixes(&["/registry/pods/".to_owned()]).unwrap();
        assert_eq!(flags(None, &[], None), Ok(None));
        assert_eq!(flags(Some(By::None), &[], None), Ok(Some(Layout::Whole)));
        assert_eq!(flags(Some(By::Key), &[], None), Ok(Some(Layout::Hashed(PARTS))));
        assert_eq!(flags(Some(By::Key), &[], Some(3)), Ok(Some(Layout::Hashed(3))));
        assert_eq!(flags(Some(By::Resource), &["/registry/pods/"], None), Ok(Some(pods())));
        let by_resource = "--partition: nothing is divided by resource";
        assert_eq!(flags(None, &["/registry/pods/"], None).unwrap_err(), by_resource);
        assert_eq!(flags(Some(By::Key), &["/registry/pods/"], None).unwrap_err(), by_resource);
        let by_key = "--partitions: nothing is divided by key";
        assert_eq!(flags(Some(By::Resource), &["/registry/pods/"], Some(8)).unwrap_err(), by_key);
    }
}
