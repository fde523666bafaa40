//! The garbage collector's side of a database: what each database must find and write, decided once for all of them.
//!
//! In a commit, [`edges`] says how the graph of owners changes, and [`hear`] which tasks come up. [`load`] reads a
//! portion of the queue with all that is needed to do it. [`overview`] and [`view`] are for people.

mod definitions;
mod edges;
mod known;
mod load;
mod portion;
mod started;
#[cfg(test)]
mod started_tests;
mod view;

pub(in crate::sql) use edges::edges;
pub(in crate::sql) use load::{LOOKED_AT, load};
pub(in crate::sql) use started::hear;
pub(in crate::sql) use view::{overview, view};
