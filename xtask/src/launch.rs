//! Builds the program of a verb, unless it is up to date, and becomes it.

use std::env;
use std::path::{Path, PathBuf};

use sluice_shell::context::Context;
use sluice_shell::error::{Error, Explain, Fault, Result};
use sluice_shell::output::{Progress, plain_text};
use sluice_shell::process::{Failed, Run};
use sluice_shell::verbs::Program;

/// The toolkit's own code is wrong, or cargo can't get what the code is built from.
#[derive(Debug, thiserror::Error)]
#[error("cargo can't build {0}; what it says is above")]
struct NotBuilt(&'static str);

impl Explain for NotBuilt {
    fn fault(&self) -> Fault {
        Fault::Ours
    }

    fn hint(&self) -> Option<String> {
        Some("`cargo xtask doctor` says whether something is missing on this machine".into())
    }
}

/// Cargo was content, and made no such program.
#[derive(Debug, thiserror::Error)]
#[error("cargo names no program {0}")]
struct NoProgram(&'static str);

impl Explain for NoProgram {
    fn fault(&self) -> Fault {
        Fault::Ours
    }
}

/// Builds `program` and becomes it, with the arguments that we got ourselves.
///
/// # Errors
/// [`NotBuilt`], or when the program can't be started.
pub(crate) fn launch(shell: &Context, program: Program) -> Result<()> {
    let here = env::current_dir()?;
    let file = build(shell, program, &here)?;
    Err(Run::new(file, here).args(env::args_os().skip(1)).replace())
}

/// Has cargo build the program; says where it is. Prints nothing if it is up to date.
fn build(shell: &Context, program: Program, here: &Path) -> Result<PathBuf> {
    let package = program.package();
    let colours = if shell.out.has_colours() { "always" } else { "never" };
    let cargo = Run::cargo(here)
        .args(["build", "--package", package, "--message-format", "json-render-diagnostics", "--manifest-path"])
        .arg(shell.paths.root().join("Cargo.toml"))
        .env("CARGO_TERM_COLOR", colours)
        .env("CARGO_TERM_PROGRESS_WHEN", "never");
    let (mut step, mut crates) = (None::<Progress<'_>>, 0);
    let messages = cargo.read_with(|line| match status(&plain_text(line)) {
        // Cargo says this in any case.
        Some(("Finished", _)) => {}
        Some((word, what)) => {
            crates += usize::from(word == "Compiling");
            let step = step.get_or_insert_with(|| shell.out.spinner(title(program)));
            step.now(format!("{} {what} ({crates})", word.to_lowercase()));
        }
        None => shell.out.note(line),
    });
    let messages = messages.map_err(|error| match error.downcast_ref::<Failed>() {
        Some(_) => Error::from(NotBuilt(package)),
        None => error,
    })?;
    if let Some(step) = step {
        step.done(if crates == 1 { "1 crate".to_owned() } else { format!("{crates} crates") });
    }
    executable(&messages, package)
}

/// What is compiled, and how long that takes when nothing of it is there.
fn title(program: Program) -> String {
    let what = match program {
        Program::Tests => "compile the toolkit and the tests",
        Program::Toolkit | Program::Xtask => "compile the toolkit",
    };
    // Nearly all of either program is the toolkit.
    let beside =
        |program: Program| env::current_exe().is_ok_and(|file| file.with_file_name(program.package()).exists());
    let built_before = [Program::Toolkit, Program::Tests].into_iter().any(beside);
    if built_before { what.to_owned() } else { format!("{what}, once a minute or two") }
}

/// `("Compiling", "clap v4.6.9")` of `   Compiling clap v4.6.9`: cargo ends its words at column 12.
fn status(line: &str) -> Option<(&str, &str)> {
    let (word, what) = line.split_at_checked(12)?;
    let word = word.strip_prefix(' ')?.trim_start();
    let sound = word.starts_with(char::is_uppercase) && word.chars().all(char::is_alphabetic);
    if sound { Some((word, what.strip_prefix(' ')?)) } else { None }
}

/// The program among cargo's messages, one JSON object a line.
fn executable(messages: &str, package: &'static str) -> Result<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut programs = messages.filter_map(|message| {
        let ours = message["target"]["name"] == package;
        message["executable"].as_str().filter(|_| ours).map(PathBuf::from)
    });
    Ok(programs.next().ok_or(NoProgram(package))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_from_what_the_compiler_says() {
        for (line, expected) in [
            ("   Compiling clap v4.6.9", Some(("Compiling", "clap v4.6.9"))),
            (
                "    Blocking waiting for file lock on build directory",
                Some(("Blocking", "waiting for file lock on build directory")),
            ),
            (
                "    Finished `dev` profile [unoptimized] target(s) in 0.1s",
                Some(("Finished", "`dev` profile [unoptimized] target(s) in 0.1s")),
            ),
            ("error[E0432]: unresolved import", None),
            ("  --> toolkit/src/lib.rs:1:1", None),
            ("12 |     pub mod x;", None),
            ("            |", None),
            ("warning: unused", None),
            ("", None),
            ("äääääääääääää", None),
        ] {
            assert_eq!(status(line), expected, "{line}");
        }
    }
}
