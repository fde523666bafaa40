//! The processor time that servers take.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// CPU time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpu {
    /// Of the process.
    pub(crate) own: Duration,
    /// Of the database server, if there is one.
    pub(crate) database: Option<Duration>,
}

impl Cpu {
    /// What was used since.
    pub(crate) fn since(self, before: Self) -> Self {
        let database = self.database.zip(before.database).map(|(now, then)| now.saturating_sub(then));
        Self { own: self.own.saturating_sub(before.own), database }
    }
}

/// CPU time of a process and of its children that have ended.
pub(crate) fn cpu_of(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The name, in parentheses, may hold anything; utime, stime, cutime and cstime are fields 14 to 17, in hundredths
    // of a second.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = (11..15).filter_map(|at| fields.get(at)?.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
