//! The engine on a real database.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod clock;
#[path = "../database/mod.rs"]
mod database;
mod defragment;
mod explain;
mod fields;
#[path = "../hand/mod.rs"]
mod hand;
mod lease;
mod log;
mod longest;
mod model;
mod outcome;
mod range;
mod select;
mod selected;
mod stop;
mod support;
mod watch;
