//! Indexes of fields that custom resources choose.

pub(in crate::sql) mod backfill;
pub(in crate::sql) mod declare;
pub(in crate::sql) mod names;
