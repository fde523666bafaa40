//! Commands that look into a database, beside a server that serves it.

pub mod explain;
