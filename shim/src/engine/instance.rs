//! The processes that share a database.

use std::time::Duration;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// It serves the database.
    Serves,
    /// It hands requests on, and waits for the place.
    StandsBy,
    /// Nothing was heard of it for so long that it is taken to be gone.
    Silent,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its URL, if others are to reach it, and its number: `https://10.0.0.1:2379 (process 7 on node-1)`.
    pub place: String,
    /// Its `--name`; `None` if it was started without `--standby`.
    pub name: Option<String>,
    /// The release that it is of; `None` likewise.
    pub version: Option<String>,
    /// What it does.
    pub part: Part,
    /// How long ago it said that it is there.
    pub silent: Duration,
}

impl Instance {
    /// Where others reach it.
    pub fn url(&self) -> Option<&str> {
        url(&self.place)
    }
}

/// The URL in a [place](Instance::place).
pub fn url(place: &str) -> Option<&str> {
    place.split(' ').next().filter(|url| url.contains("://"))
}
