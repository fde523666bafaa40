//! The engine on a real database.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lease;
mod model;
mod range;
mod select;
mod support;
mod watch;
