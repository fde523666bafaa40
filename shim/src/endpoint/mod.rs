//! Where the data is: what `--endpoint` says, read once.

mod address;
mod layout;
mod options;
mod passwords;
mod percent;
mod pgpass;
mod secret;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use address::{Address, Family, Host};
pub use layout::Layout;
pub use options::{Options, Tls, TlsMode};
pub use passwords::{PASSWORD_FILE, Passwords};
pub use secret::Secret;

use crate::config::error::ConfigError;

/// What to write instead of something that is no endpoint.
const EXAMPLE: &str = "use --endpoint sqlite:///var/lib/sluice/state.db";

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A database that is reached over the network.
    Network(Box<Address>),
}

impl Endpoint {
    /// Fails if it is sure that there is no such database. Whether a network has one is only seen by opening it.
    ///
    /// # Errors
    /// When a file is missing.
    pub fn must_exist(&self) -> Result<(), ConfigError> {
        match self {
            Self::Sqlite(path) if !path.is_file() => {
                let what = format!("there is no database {}", path.display());
                Err(ConfigError::here(what, "check --endpoint; nothing was created"))
            }
            Self::Sqlite(_) | Self::Network(_) => Ok(()),
        }
    }

    /// The folder for large files that are needed for a while: on the database's disk if that is one of this machine.
    pub fn folder(&self) -> PathBuf {
        match self {
            Self::Sqlite(path) => {
                let beside = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                beside.unwrap_or(Path::new(".")).to_owned()
            }
            Self::Network(_) => std::env::temp_dir(),
        }
    }

    /// Whether the URL has a password in it.
    pub fn has_password(&self) -> bool {
        matches!(self, Self::Network(address) if address.passwords.url.is_some())
    }
}

/// Without a password.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Network(address) => address.fmt(f),
        }
    }
}

impl FromStr for Endpoint {
    type Err = ConfigError;

    /// Errors never show more of the URL than its scheme, since there may be a password in it.
    fn from_str(url: &str) -> Result<Self, ConfigError> {
        if url.is_empty() {
            let hint = format!("{EXAMPLE} (or the variable SLUICE_ENDPOINT)");
            return Err(ConfigError::new("no database is given", hint));
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(ConfigError::new("the endpoint is not a URL", EXAMPLE));
        };
        match scheme {
            "sqlite" => file(rest).map(Self::Sqlite),
            "postgres" | "postgresql" => Ok(Self::Network(Box::new(Address::parse(Family::Postgres, rest)?))),
            "mysql" | "mariadb" => Ok(Self::Network(Box::new(Address::parse(Family::MySql, rest)?))),
            "http" | "https" => Err(ConfigError::new(
                "the endpoint is a database, not an etcd",
                format!("to listen at a URL use --listen-client-urls; for the data {EXAMPLE}"),
            )),
            _ => Err(ConfigError::new(format!("there is no database of the kind {scheme:?}"), EXAMPLE)),
        }
    }
}

fn file(path: &str) -> Result<PathBuf, ConfigError> {
    if path.contains('?') {
        let hint = "remove from --endpoint what comes after the ?";
        return Err(ConfigError::new("a sqlite endpoint has no options", hint));
    }
    if path == ":memory:" {
        let what = "a database in memory is lost with the process, so there is none";
        return Err(ConfigError::new(what, EXAMPLE));
    }
    if path.is_empty() || path.ends_with('/') {
        return Err(ConfigError::new("the sqlite endpoint names no file", EXAMPLE));
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let refusals = [
            ("", "no database is given"),
            ("state.db", "the endpoint is not a URL"),
            ("sqlite://", "the sqlite endpoint names no file"),
            ("sqlite:///a/", "the sqlite endpoint names no file"),
            ("sqlite:///a?mode=ro", "a sqlite endpoint has no options"),
            ("sqlite://:memory:", "a database in memory is lost with the process, so there is none"),
            ("http://127.0.0.1:2379", "the endpoint is a database, not an etcd"),
            ("oracle://me:secret@x", "there is no database of the kind \"oracle\""),
        ];
        for (url, expected) in refusals {
            let error = url.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.what, expected);
            assert!(!error.hint.is_empty() && !format!("{error:?}").contains("secret"));
        }
    }

    #[test]
    fn what_is_shown_of_an_endpoint_is_an_endpoint() {
        let table = [
            ("sqlite:///a/b.db", "sqlite:///a/b.db"),
            ("sqlite://b.db", "sqlite://b.db"),
            ("postgresql://db/sluice", "postgres://db:5432/sluice"),
            ("mariadb://me@db/sluice", "mysql://me@db:3306/sluice"),
            ("postgres://a,[::1]:1/x?sslmode=prefer&prepare=on", "postgres://a:5432,[::1]:1/x?prepare=on"),
            (
                "postgres://m%40e:se%2Fcret@a:1/x%20y?application_name=a%26b&connect_timeout=3&prepare=off",
                "postgres://m%40e@a:1/x%20y?connect_timeout=3&application_name=a%26b&prepare=off",
            ),
            ("mysql://a/x?sslrootcert=/ca.pem", "mysql://a:3306/x?sslmode=verify-full&sslrootcert=%2Fca.pem"),
        ];
        for (url, expected) in table {
            let endpoint: Endpoint = url.parse().unwrap();
            assert_eq!(endpoint.to_string(), expected);
            assert_eq!(expected.parse::<Endpoint>().unwrap().to_string(), expected);
            assert_eq!(endpoint.has_password(), url.contains("cret@"));
        }
    }
}
