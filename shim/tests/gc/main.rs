//! The collector on a real database. The numbers are those of the cases in the specification of the collector.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod aggregated;
mod background;
mod crash;
#[path = "../database/mod.rs"]
mod database;
mod encodings;
mod foreground;
mod graph;
#[path = "../hand/mod.rs"]
mod hand;
mod inspect;
mod labels;
mod large;
mod model;
mod orphan;
mod process;
mod queue;
mod references;
mod restored;
mod takeover;
mod world;
