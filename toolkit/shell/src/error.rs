//! What a failed verb prints, and its exit code.
//!
//! ```text
//! error: cannot compose kubernetes v1.37.2
//!   Caused by: k8s.io/api@v0.37.2 has checksum h1:xyz, pinned is h1:abc
//!   hint: …
//! ```
//!
//! Errors that a person can cause or cure are types of their own that implement [`Explain`]. Everything else converts
//! from the library's error, has no hint, and is our fault.

use std::fmt::{self, Display, Write as _};
use std::process::ExitCode;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose mistake an error is; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Exit code 1: the input is wrong (a flag, a patch, a pin, the machine, a failing test).
    Input,
    /// Exit code 2: the toolkit is wrong, or met something it does not know.
    Ours,
}

/// An error type that knows whose fault it is and what to do about it. Derive `thiserror::Error` and implement this.
pub trait Explain: std::error::Error + Send + Sync + 'static {
    /// Whose mistake it is.
    fn fault(&self) -> Fault {
        Fault::Input
    }

    /// What to do next, as one or more plain sentences. A command goes on a line of its own.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// An error on its way to the person: the chain of what was attempted, whose fault it is, the hint of its innermost
/// type.
pub struct Error {
    chain: anyhow::Error,
    fault: Fault,
    hint: Option<String>,
}

impl Error {
    /// An error that only says what is wrong with the input. Prefer a type with a hint.
    pub fn input(message: impl Display) -> Self {
        Self { chain: anyhow::Error::msg(message.to_string()), fault: Fault::Input, hint: None }
    }

    /// Puts "what was attempted" on top of the chain.
    pub fn attempting(self, what: impl Display) -> Self {
        Self { chain: self.chain.context(what.to_string()), ..self }
    }

    /// Whose mistake it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The innermost or any outer error as its own type.
    pub fn downcast_ref<E: Display + fmt::Debug + Send + Sync + 'static>(&self) -> Option<&E> {
        self.chain.downcast_ref()
    }

    /// Prints the error to stderr; returns the exit code.
    pub fn report(&self) -> ExitCode {
        let stderr = console::Term::stderr();
        // A closed stderr must not hide the exit code.
        let _ = stderr.write_line(&self.render());
        ExitCode::from(match self.fault {
            Fault::Input => 1,
            Fault::Ours => 2,
        })
    }

    fn render(&self) -> String {
        let label = |text: &str, style: console::Style| style.for_stderr().bold().apply_to(text).to_string();
        let mut text = format!("{}: {}", label("error", console::Style::new().red()), self.chain);
        for cause in self.chain.chain().skip(1) {
            let _ =
                write!(text, "\n  {}: {}", label("Caused by", console::Style::new()), indent(&cause.to_string(), 4));
        }
        if let Some(hint) = &self.hint {
            let _ = write!(text, "\n  {}: {}", label("hint", console::Style::new().cyan()), indent(hint, 4));
        }
        text
    }
}

fn indent(text: &str, columns: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:columns$}", ""))
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.chain)
    }
}

impl<E: Explain> From<E> for Error {
    fn from(error: E) -> Self {
        Self { fault: error.fault(), hint: error.hint(), chain: error.into() }
    }
}

/// Errors of libraries: no hint, and our fault unless the file system or the network says otherwise.
macro_rules! foreign {
    ($($fault:ident: $($error:ty),+;)+) => {
        $($(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                let hint = of_the_disk(&error.to_string());
                Self { chain: error.into(), fault: Fault::$fault, hint }
            }
        })+)+
    };
}

/// What to do about an error of the file system that any write can meet, told by the text that the C library has for
/// it: some libraries keep only that.
fn of_the_disk(message: &str) -> Option<String> {
    let hint = match message {
        full if full.contains("No space left on device") || full.contains("Disk quota exceeded") => {
            "make room (`df -h` shows where), and run the command again: it goes on where this one was"
        }
        locked if locked.contains("Read-only file system") => {
            "the toolkit writes below `.sluice` in the workspace, or to $SLUICE_CACHE"
        }
        _ => return None,
    };
    Some(hint.into())
}

foreign! {
    Input: std::io::Error, toml::de::Error, serde_json::Error;
    Ours: anyhow::Error, std::fmt::Error, std::string::FromUtf8Error;
}

#[cfg(feature = "git2")]
foreign! { Ours: git2::Error; }

#[cfg(feature = "walkdir")]
foreign! { Ours: walkdir::Error; }

/// Adds what was attempted to an error, like `anyhow::Context`, but keeps the fault and the hint.
pub trait Attempt<T> {
    /// `what` completes "cannot …", for example `"cannot compose v1.37"`; evaluated on failure only.
    fn attempting<D: Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: Into<Error>> Attempt<T> for std::result::Result<T, E> {
    fn attempting<D: Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|error| error.into().attempting(what()))
    }
}

/// Prints what clap has to say: help and version to stdout with code 0, a wrong command line to stderr with code 1.
pub fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("checksum differs")]
    struct Tampered;

    impl Explain for Tampered {
        fn hint(&self) -> Option<String> {
            Some("run\ncargo xtask source".into())
        }
    }

    #[test]
    fn the_chain_keeps_fault_and_hint() {
        let error: Error = Err::<(), _>(Tampered).attempting(|| "cannot compose v1.37").unwrap_err();
        assert_eq!(error.fault(), Fault::Input);
        assert_eq!(
            console::strip_ansi_codes(&error.render()),
            "error: cannot compose v1.37\n  Caused by: checksum differs\n  hint: run\n    cargo xtask source"
        );
        assert_eq!(Error::from(anyhow::anyhow!("bug")).fault(), Fault::Ours);
    }

    #[test]
    fn a_full_disk_says_what_to_do_whoever_met_it() {
        let full = || std::io::Error::from_raw_os_error(28);
        #[cfg(feature = "git2")]
        let of_git = Error::from(git2::Error::from_str(&format!("failed to write chunk: {}", full())));
        #[cfg(feature = "git2")]
        assert!(format!("{of_git:?}").contains("hint: make room"), "{of_git:?}");
        let ours = Error::from(full());
        assert!(format!("{ours:?}").contains("hint: make room"), "{ours:?}");
    }
}
