//! Moving data in and out, and checking it, with no other program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod check;
#[path = "../database/mod.rs"]
mod database;
mod import;
mod moving;
mod pages;
mod restore;
mod rollback;
mod support;
mod upgrade;
