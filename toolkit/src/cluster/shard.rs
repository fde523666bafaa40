//! Groups of custom resources that are in databases of their own, each behind a shim of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use sluice_shell::error::Explain;

/// Custom resources in a database of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    /// The API group.
    pub group: String,
    /// One resource of the group; none for all of them.
    pub resource: Option<String>,
    /// The connection string, which may hold a password; none for an SQLite file in the cluster's folder.
    pub endpoint: Option<String>,
}

/// Where the shim of a shard listens, on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPorts {
    /// The etcd API.
    pub store: u16,
    /// Probes and metrics (plain HTTP).
    pub metrics: u16,
}

/// The value of `--shard` can't be one. Never shows a connection string.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoShard(String);

impl Explain for NoShard {
    fn hint(&self) -> Option<String> {
        Some(
            "for example `--shard stable.example.com`, or `--shard stable.example.com/shirts=postgres://…`; without \
             a connection string the database is in the cluster's folder"
                .into(),
        )
    }
}

impl FromStr for Shard {
    type Err = NoShard;

    /// `GROUP` or `GROUP/RESOURCE`, and behind `=` the connection string.
    fn from_str(text: &str) -> Result<Self, NoShard> {
        let (of, endpoint) = text.split_once('=').map_or((text, None), |(of, endpoint)| (of, Some(endpoint)));
        let (group, resource) = of.split_once('/').map_or((of, "*"), |(group, resource)| (group, resource));
        if !is_name(group, true) || !group.contains('.') {
            return Err(NoShard(format!("`--shard`: {group:?} is no group of custom resources")));
        }
        if resource != "*" && !is_name(resource, false) {
            return Err(NoShard(format!("`--shard`: {resource:?} is no resource of {group}")));
        }
        if endpoint.is_some_and(|endpoint| !endpoint.contains("://")) {
            return Err(NoShard(format!("`--shard`: what {of} is to be in is no connection string")));
        }
        let resource = Some(resource).filter(|&resource| resource != "*").map(str::to_owned);
        Ok(Self { group: group.to_owned(), resource, endpoint: endpoint.map(str::to_owned) })
    }
}

/// As `--shard` takes it, without the connection string.
impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = self.resource.iter().map(|resource| format!("/{resource}")).collect::<String>();
        write!(f, "{}{resource}", self.group)
    }
}

impl Shard {
    /// In the order of their names.
    ///
    /// # Errors
    /// When two are about the same resources, or name the same database.
    pub(crate) fn sorted(mut shards: Vec<Self>) -> Result<Vec<Self>, NoShard> {
        shards.sort();
        for (at, shard) in shards.iter().enumerate() {
            for other in &shards[..at] {
                if (&shard.group, &shard.resource) == (&other.group, &other.resource) {
                    return Err(NoShard(format!("`--shard` names {shard} twice")));
                }
                if shard.endpoint.is_some() && shard.endpoint == other.endpoint {
                    return Err(NoShard(format!(
                        "`--shard` puts {other} and {shard} into one database, with a shim each"
                    )));
                }
            }
        }
        Ok(shards)
    }

    /// Whether both are about the same resources.
    pub(super) fn is_of_same(&self, other: &Self) -> bool {
        (&self.group, &self.resource) == (&other.group, &other.resource)
    }

    /// The name of its SQLite file.
    pub(super) fn file(&self) -> String {
        let resource = self.resource.iter().map(|resource| format!("{resource}.")).collect::<String>();
        format!("shard-{resource}{}.db", self.group)
    }

    /// Its entry in kube-apiserver's `--etcd-servers-overrides`.
    pub(super) fn entry(&self, ports: ShardPorts) -> String {
        let resource = self.resource.as_deref().unwrap_or("*");
        format!("{}/{resource}#https://127.0.0.1:{}", self.group, ports.store)
    }
}

/// Whether it is a name as Kubernetes gives them to groups and resources (RFC 1123, in lowercase).
fn is_name(text: &str, dots: bool) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = |label: &str| !label.is_empty() && label.chars().all(inner) && !label.starts_with('-');
    if dots { text.split('.').all(is_label) } else { is_label(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(text: &str) -> Shard {
        text.parse().expect("a shard")
    }

    #[test]
    fn a_shard_is_a_group_or_a_resource_of_it() {
        let ports = ShardPorts { store: 2379, metrics: 2381 };
        for (text, entry, file, endpoint) in [
            ("stable.example.com", "stable.example.com/*#https://127.0.0.1:2379", "shard-stable.example.com.db", None),
            ("a.b/*", "a.b/*#https://127.0.0.1:2379", "shard-a.b.db", None),
            ("a.b/shirts", "a.b/shirts#https://127.0.0.1:2379", "shard-shirts.a.b.db", None),
            ("a.b=mysql://u:p=w@h/d", "a.b/*#https://127.0.0.1:2379", "shard-a.b.db", Some("mysql://u:p=w@h/d")),
        ] {
            let shard = shard(text);
            assert_eq!((shard.entry(ports).as_str(), shard.file().as_str()), (entry, file), "{text}");
            assert_eq!(shard.endpoint.as_deref(), endpoint, "{text}");
        }
        for wrong in ["", "apps", "a.b/", "a.b/Shirts", "a.b/sh*", "*.b", "a..b", "a.b=", "a.b=data.db", "a.b/c/d"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_database_and_no_resource_is_named_twice() {
        let sorted = |texts: &[&str]| Shard::sorted(texts.iter().map(|text| shard(text)).collect());
        let names = sorted(&["b.b", "a.a/c=x://1", "a.a=x://2"]).expect("three shards");
        assert_eq!(names.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.a", "a.a/c", "b.b"]);
        assert!(sorted(&["a.a", "a.a/*=x://1"]).is_err());
        let error = sorted(&["a.a=x://secret", "b.b=x://secret"]).expect_err("one database").to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
