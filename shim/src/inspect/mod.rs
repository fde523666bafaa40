//! Commands that look into a database, also while a server has it open.

pub mod explain;
pub mod gc;
pub mod instances;
