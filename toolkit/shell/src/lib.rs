//! What the verbs of `cargo xtask` stand on: where things are and how to talk ([`context`]), the only place that starts
//! programs ([`process`]), exit codes and hints ([`error`]), what the machine lacks ([`doctor`]), what is built for
//! ([`platform`]) and by which compiler ([`rust`]), and which program does which verb ([`verbs`]).
//!
//! `cargo xtask doctor` is this crate and little more, so what is added here is compiled before it can answer.

pub mod context;
pub mod doctor;
pub mod error;
pub mod interrupt;
pub mod minor;
pub mod output;
pub mod paths;
pub mod platform;
pub mod process;
pub mod rust;
pub mod verbs;

use std::process::ExitCode;

use context::Context;
use error::Result;

/// The `main` of each program: reads the command line, runs, reports. Returns the exit code.
pub fn main<C: clap::Parser>(run: impl FnOnce(C, &Context) -> Result<()>) -> ExitCode {
    let command = match C::try_parse() {
        Ok(command) => command,
        Err(usage) => return error::usage(&usage),
    };
    match Context::from_env().and_then(|shell| run(command, &shell)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
