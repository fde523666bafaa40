//! What servers take of the machine.

use std::ops::Add;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Processor time and what was written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Processor time.
    pub(crate) cpu: Duration,
    /// Bytes for the disk: whole pages, once each time that they go there.
    pub(crate) written: u64,
}

impl Cost {
    fn since(self, before: Self) -> Self {
        let cpu = self.cpu.saturating_sub(before.cpu);
        Self { cpu, written: self.written.saturating_sub(before.written) }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, written: self.written + other.written }
    }
}

/// What a server and its database took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costs {
    /// The process.
    pub(crate) own: Cost,
    /// The database server, if there is one.
    pub(crate) database: Option<Cost>,
}

impl Costs {
    /// What was used since.
    pub(crate) fn since(self, before: Self) -> Self {
        let database = self.database.zip(before.database).map(|(now, then)| now.since(then));
        Self { own: self.own.since(before.own), database }
    }

    /// What both wrote.
    pub(crate) fn written(&self) -> u64 {
        self.own.written + self.database.map_or(0, |database| database.written)
    }
}

/// What a process took. The processor time is that of its children that have ended, too.
pub(crate) fn cost_of(pid: u32) -> Result<Cost> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("read {path}"));
    let stat = read(&format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; utime, stime, cutime and cstime are fields 14 to 17, in hundredths
    // of a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = (11..15).filter_map(|at| fields.get(at)?.parse::<u64>().ok()).sum();
    let io = read(&format!("/proc/{pid}/io"))?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or_default();
    Ok(Cost { cpu: Duration::from_millis(ticks * 10), written })
}
