//! The `sluice-shim` binary.
fn main() {}
