//! Indexes of fields that custom resources choose.

pub(in crate::sql) mod names;
