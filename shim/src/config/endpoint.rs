//! Where the data is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::ConfigError;

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A SQLite file.
    Sqlite(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Sqlite(path) = self;
        write!(f, "sqlite://{}", path.display())
    }
}

impl FromStr for Endpoint {
    type Err = ConfigError;

    /// Errors never show more of the URL than its scheme, since there may be a password in it.
    fn from_str(url: &str) -> Result<Self, ConfigError> {
        let example = "use --endpoint sqlite:///var/lib/sluice/state.db";
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(ConfigError::new("the endpoint is not a URL", example));
        };
        match scheme {
            "sqlite" if rest.contains('?') => Err(ConfigError::new(
                "a sqlite endpoint has no options",
                "remove from --endpoint what comes after the ?",
            )),
            "sqlite" if rest == ":memory:" => {
                Err(ConfigError::new("a database in memory is lost with the process, so there is none", example))
            }
            "sqlite" if rest.is_empty() || rest.ends_with('/') => {
                Err(ConfigError::new("the sqlite endpoint names no file", example))
            }
            "sqlite" => Ok(Self::Sqlite(PathBuf::from(rest))),
            "postgres" | "postgresql" | "mysql" => {
                Err(ConfigError::new(format!("{scheme} is not in this build"), format!("it has sqlite; {example}")))
            }
            "http" | "https" => Err(ConfigError::new(
                "the endpoint is a database, not an etcd",
                format!("to listen at a URL use --listen-client-urls; for the data {example}"),
            )),
            _ => Err(ConfigError::new(format!("there is no database of the kind {scheme:?}"), example)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let refusals = [
            ("state.db", "the endpoint is not a URL"),
            ("sqlite://", "the sqlite endpoint names no file"),
            ("sqlite:///a/", "the sqlite endpoint names no file"),
            ("sqlite:///a?mode=ro", "a sqlite endpoint has no options"),
            ("sqlite://:memory:", "a database in memory is lost with the process, so there is none"),
            ("postgres://me:secret@db/x", "postgres is not in this build"),
            ("mysql://me:secret@db/x", "mysql is not in this build"),
            ("http://127.0.0.1:2379", "the endpoint is a database, not an etcd"),
            ("oracle://x", "there is no database of the kind \"oracle\""),
        ];
        for (url, expected) in refusals {
            let error = url.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.what, expected);
            assert!(!error.hint.is_empty() && !format!("{error:?}").contains("secret"));
        }
    }
}
