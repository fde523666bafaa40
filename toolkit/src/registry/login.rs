//! Credentials, and where they came from.

use std::{fmt, path::PathBuf};

use oci_client::secrets::RegistryAuth;

/// The credentials for one registry.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) auth: RegistryAuth,
    pub(super) origin: Origin,
}

/// Where credentials came from: what a person must know to change them.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A file holds them.
    File { user: String, path: PathBuf },
    /// A program gave them.
    Helper { user: String, helper: String, path: PathBuf },
    /// Nobody knows any. The files that were looked at, there or not.
    Nowhere(Vec<PathBuf>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { user, path } => write!(f, "user {user:?}, from {}", path.display()),
            Self::Helper { user, helper, path } => {
                write!(f, "user {user:?}, from {helper}, which {} names", path.display())
            }
            Self::Nowhere(looked) if looked.is_empty() => f.write_str("no user: neither HOME nor DOCKER_CONFIG is set"),
            Self::Nowhere(looked) => {
                let looked: Vec<_> = looked.iter().map(|path| path.display().to_string()).collect();
                write!(f, "no user: no credentials for it in {}", looked.join(", "))
            }
        }
    }
}
