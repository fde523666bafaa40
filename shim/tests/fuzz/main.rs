//! Everything that reads foreign bytes, fed with damaged ones: objects, selectors, request headers, configuration,
//! snapshot files.
//!
//! A target is a function of bytes. It must come to an end without a panic, within bounds of memory and time that grow
//! with the input alone ([`bounds`]), and what it finds must agree with itself. The inputs are mutations of good ones
//! ([`mutate`]); one that makes a target answer in a new way is kept and mutated further ([`driver`]).
//!
//! `SLUICE_FUZZ_SECONDS` says for how long, all targets together. Every failure found goes into `corpus/<target>/`,
//! which is always run.

#![expect(clippy::unwrap_used, reason = "a test fails where it can't go on")]

#[path = "../vectors/base64.rs"]
mod base64;
mod bounds;
mod configuration;
mod deep;
mod driver;
mod headers;
mod mutate;
mod objects;
#[path = "../linearizability/random.rs"]
mod random;
mod restore;
mod selectors;
mod snapshots;
