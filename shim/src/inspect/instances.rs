//! `sluice-shim instances`: which processes share a database.

use std::io::Write;

use anyhow::{Context as _, Result};

use crate::config::DatabaseFlags;
use crate::engine::instance::{Instance, Part};
use crate::sql;

/// Show which processes have the database: the one that serves, those that stand by, and those that were not heard of
/// for ten seconds.
#[derive(Debug, Clone, clap::Args)]
pub struct Instances {
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseFlags,
}

impl Instances {
    /// Prints a line for each.
    ///
    /// # Errors
    /// When the database can't be read.
    pub fn run(&self, out: &mut dyn Write) -> Result<()> {
        let endpoint = self.database.endpoint()?;
        endpoint.must_exist()?;
        let all = sql::instances(&endpoint).with_context(|| format!("--endpoint: read {endpoint}"))?;
        if all.is_empty() {
            writeln!(out, "no process has the database")?;
        }
        for instance in &all {
            writeln!(out, "{}", line(instance))?;
        }
        Ok(())
    }
}

fn line(Instance { place, name, version, part, silent }: &Instance) -> String {
    let part = match part {
        Part::Serves => "serves",
        Part::StandsBy => "stands by",
        Part::Silent => "silent",
    };
    let name = name.as_deref().map(|name| format!(", name {name}")).unwrap_or_default();
    let version = version.as_deref().map(|version| format!(", version {version}")).unwrap_or_default();
    format!("{part:<9}  {place}{name}{version}, seen {:.1} s ago", silent.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_says_what_is_known() {
        let serves = Instance {
            place: "https://10.0.0.1:2379 (process 7 on node-1)".into(),
            name: Some("one".into()),
            version: Some("0.1.0".into()),
            part: Part::Serves,
            silent: Duration::from_millis(420),
        };
        let full = "serves     https://10.0.0.1:2379 (process 7 on node-1), name one, version 0.1.0, seen 0.4 s ago";
        assert_eq!(line(&serves), full);
        let bare = Instance { name: None, version: None, place: "process 7 on node-1".into(), ..serves };
        assert_eq!(line(&bare), "serves     process 7 on node-1, seen 0.4 s ago");
    }
}
