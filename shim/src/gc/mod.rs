//! Garbage collection of the objects that the controller manager does not see.

pub mod rewrite;
