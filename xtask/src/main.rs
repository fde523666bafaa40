//! Sluice's toolkit.
fn main() {}
