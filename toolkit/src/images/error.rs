//! What can go wrong while an image is described, written or checked.

use std::{io, path::PathBuf};

use sluice_shell::error::{Explain, Fault};
use sluice_shell::platform::Platform;

/// An error of the image library. Its text says what was attempted on what; [`Error::hint`] says what to do next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file could not be read or written. Errors of `fs-err` carry the operation and the path already.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file could not be written, told by a writer that does not know its path.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder being written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A definition is not valid TOML or has unknown fields.
    #[error("cannot read the image definition {}", path.display())]
    Syntax {
        /// The definition.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A definition is well-formed, but its content makes no sense.
    #[error("image definition {}: {reason}", path.display())]
    Definition {
        /// The definition.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A path inside an image is not absolute and normal, or is used twice.
    #[error("{path}: {reason}")]
    Tree {
        /// The path inside the image.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A name on the command line is no image.
    #[error("there is no image {name}; there are {known}")]
    UnknownImage {
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A file that goes into an image is missing on this machine.
    #[error("{} is missing: the image {image} needs it", path.display())]
    MissingFile {
        /// The image that needs the file.
        image: String,
        /// The file on this machine.
        path: PathBuf,
        /// The Debian package that holds it.
        package: String,
        /// Of which platform.
        platform: Platform,
    },
    /// A binary can't run in the image.
    #[error("{} cannot go into an image: {reason}", path.display())]
    Binary {
        /// The file on this machine.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No platform was chosen.
    #[error("there are no programs to make images of")]
    NoPlatform,
    /// A file changed while it was being packed.
    #[error("a file changed while the layer with {what} was being written")]
    Changed {
        /// What the layer holds.
        what: String,
    },
    /// An image name, tag or variable is not valid.
    #[error("{what} {value:?} is not valid: {reason}")]
    Name {
        /// What kind of name.
        what: &'static str,
        /// The name.
        value: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A manifest lacks a field.
    #[error("cannot write an image document")]
    Document(#[from] oci_spec::OciSpecError),
    /// Serialising a document failed.
    #[error("cannot serialise an image document")]
    Json(#[from] serde_json::Error),
    /// A finished image does not pass its own check.
    #[error("{} is damaged:\n{}", path.display(), list(problems))]
    Invalid {
        /// The OCI layout or archive.
        path: PathBuf,
        /// Everything that does not fit.
        problems: Vec<super::validate::Problem>,
    },
}

impl Explain for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Document(_) | Self::Json(_) | Self::NoPlatform => Fault::Ours,
            _ => Fault::Input,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Io(source) | Self::Write { source, .. } => hint_for(source),
            Self::MissingFile { package, platform, .. } if platform.is_host() => {
                Some(format!("apt-get install {package}"))
            }
            Self::MissingFile { platform, .. } => {
                Some(format!("cargo xtask doctor --for images --platform {platform} --install"))
            }
            Self::Changed { .. } => Some("run the command again when no build is writing these files".to_owned()),
            Self::Invalid { path, .. } => {
                Some(format!("remove {} and run `cargo xtask build-images` again", path.display()))
            }
            _ => None,
        }
    }
}

fn hint_for(error: &io::Error) -> Option<String> {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: free some space, or choose another folder with --out"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a folder that you may write to with --out"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn list(problems: &[super::validate::Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_errors_say_what_to_do() {
        for (kind, expected) in [
            (io::ErrorKind::StorageFull, Some("the disk is full")),
            (io::ErrorKind::PermissionDenied, Some("--out")),
            (io::ErrorKind::ReadOnlyFilesystem, Some("--out")),
            (io::ErrorKind::Interrupted, None),
        ] {
            let error = Error::Write { path: "/out".into(), source: kind.into() };
            match (error.hint(), expected) {
                (None, None) => {}
                (Some(hint), Some(expected)) => assert!(hint.contains(expected), "{hint}"),
                other => panic!("{kind:?}: {other:?}"),
            }
        }
    }
}
