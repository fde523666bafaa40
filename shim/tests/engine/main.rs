//! The engine on a real database.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod explain;
mod fields;
mod lease;
mod model;
mod range;
mod select;
mod selected;
mod support;
mod watch;
