//! A connection to a database, as the logic that all databases share sees it.
//!
//! A database is its tables, its statements, its connection and its errors: an implementation of these traits, and
//! nothing that decides anything. Calls take and return sets, so that a database at the end of a network is asked once
//! for all that is needed at a time.
//!
//! [`Read`], [`Probe`] and [`Graph`] read; what they see is the snapshot of [`Read::snapshot`], or the transaction of
//! [`Commit::begin`] with what it has written so far. [`Commit`] changes. [`Depart`] is for a store that moves.
//! [`Audit`] reads everything, for checks, and [`Rebuild`] writes derived data anew that a check found to be wrong.

mod audit;
mod commit;
mod depart;
mod graph;
mod probe;
mod read;

pub(in crate::sql) use audit::{Audit, Live, Posting, Rebuild, Span, StoredEdge};
pub(in crate::sql) use commit::{Begun, Commit, Delta, EdgeRow, IndexChange, NewHead, PostingRow, Started, StoredRow};
pub(in crate::sql) use depart::Depart;
pub(in crate::sql) use graph::{Graph, Heard, Which};
pub(in crate::sql) use probe::{Field, IndexState, Odd, Postings, Probe, Source, StoredIndex};
pub(in crate::sql) use read::{Change, Find, Head, Log, RECENT, Read, RowRef, Take};

/// A connection that reads.
pub(in crate::sql) trait Reading: Read + Probe + Graph + Depart {}

impl<T: Read + Probe + Graph + Depart> Reading for T {}
