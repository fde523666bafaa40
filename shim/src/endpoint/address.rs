//! Databases that are reached over the network.

use std::fmt;
use std::net::Ipv6Addr;

use super::layout::Layout;
use super::options::Options;
use super::passwords::Passwords;
use super::percent;
use super::pgpass::Login;
use super::secret::Secret;
use crate::config::error::ConfigError;

/// What protocol a database speaks, as its URL says. Which database it is is asked of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// PostgreSQL's.
    Postgres,
    /// MySQL's, which MariaDB speaks as well.
    MySql,
}

impl Family {
    fn port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::MySql => 3306,
        }
    }
}

/// The scheme of URLs.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
        })
    }
}

/// Where one server of a database listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// A name or an address; an IPv6 address without brackets.
    pub name: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

/// A database, where it is, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// What it speaks.
    pub family: Family,
    /// Where its servers are, at least one, in the order in which to try them.
    pub hosts: Vec<Host>,
    /// Who connects.
    pub user: Option<String>,
    /// Where the password is.
    pub passwords: Passwords,
    /// The database on these servers.
    pub database: String,
    /// How to connect.
    pub options: Options,
    /// Whether the server may be set so that a crash of it takes back what was acknowledged.
    pub accepts_loss: bool,
    /// Where others reach this process while it serves the database, if it stands by while another process serves it.
    pub standby: Option<String>,
    /// How its tables are to be divided; `None`: as they are, or not at all if they are made.
    pub layout: Option<Layout>,
    /// Servers that hold copies of it and may answer reads, of the same kind.
    pub replicas: Vec<Self>,
}

impl Address {
    /// The password for a new connection to one of the hosts. Files are read now, so a password that was changed in its
    /// file holds from the next connection on.
    ///
    /// # Errors
    /// When the file with the password can't be read.
    pub fn password(&self, host: &Host) -> Result<Option<Secret>, ConfigError> {
        let user = self.user.as_deref().unwrap_or_default();
        let login = Login { host: &host.name, port: host.port, database: &self.database, user };
        self.passwords.find(&login)
    }

    /// Where its servers are, separated by commas.
    pub fn hosts(&self) -> String {
        self.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Reads what stands behind `://`.
    pub(super) fn parse(family: Family, rest: &str) -> Result<Self, ConfigError> {
        let refuse = |what: &str| {
            let port = family.port();
            let hint = format!(
                "use --endpoint {family}://user@host:{port}/database; in a user's name or a password write %25 for %, \
                 %2F for /, %3F for ?, %3A for : and %40 for @"
            );
            ConfigError::new(format!("the {family} endpoint {what}"), hint)
        };
        let decode = |part: &str, text: &str| {
            percent::decode(text).ok_or_else(|| refuse(&format!("has a {part} that is not percent-encoded")))
        };
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if rest.contains('@') {
            // The password is cut in two, and what looks like the rest of the URL is a part of it.
            return Err(refuse("has an @ behind the host"));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let hosts = hosts.split(',').map(|text| host(text, family.port()).map_err(refuse)).collect::<Result<_, _>>()?;
        let user = decode("user", user)?;
        let password = decode("password", password)?;
        let database = path.strip_prefix('/').unwrap_or_default();
        if database.is_empty() || database.contains('/') {
            return Err(refuse(if database.is_empty() {
                "names no database"
            } else {
                "has more than one / behind it"
            }));
        }
        let database = decode("database", database)?;
        let url = (!password.is_empty()).then(|| Secret::from(password));
        Ok(Self {
            family,
            hosts,
            user: (!user.is_empty()).then_some(user),
            passwords: Passwords { url, ..Passwords::default() },
            database,
            options: Options::parse(family == Family::Postgres, query)?,
            accepts_loss: false,
            standby: None,
            layout: None,
            replicas: Vec::new(),
        })
    }
}

/// Reads a host with or without a port.
fn host(text: &str, port: u16) -> Result<Host, &'static str> {
    let (name, port_text) = match text.strip_prefix('[').map(|text| text.split_once(']')) {
        None => match text.split_once(':') {
            None => (text, None),
            Some((_, more)) if more.contains(':') => return Err("has an IPv6 address without brackets"),
            Some((name, port)) => (name, Some(port)),
        },
        Some(Some((name, ""))) => (name, None),
        Some(Some((name, rest))) => (name, Some(rest.strip_prefix(':').ok_or("has something behind a bracket")?)),
        Some(None) => return Err("has a bracket that does not end"),
    };
    if name.is_empty() {
        return Err("names no host");
    }
    let is_right = if text.starts_with('[') {
        name.parse::<Ipv6Addr>().is_ok()
    } else {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    if !is_right {
        return Err("has a host that is neither a name nor an address");
    }
    let is_digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port_text {
        None => Some(port),
        Some(text) => Some(text).filter(is_digits).and_then(|text| text.parse().ok()).filter(|port| *port > 0),
    };
    Ok(Host { name: name.to_owned(), port: port.ok_or("has a port that is no number from 1 to 65535")? })
}

/// Without a password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.family)?;
        if let Some(user) = &self.user {
            write!(f, "{}@", percent::encode(user))?;
        }
        write!(f, "{}/{}{}", self.hosts(), percent::encode(&self.database), self.options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<Address, ConfigError> {
        Address::parse(Family::Postgres, rest)
    }

    #[test]
    fn hosts() {
        let table: [(&str, &[(&str, u16)]); 5] = [
            ("db.example.com/x", &[("db.example.com", 5432)]),
            ("10.0.0.1:1,b_c:65535,d/x", &[("10.0.0.1", 1), ("b_c", 65535), ("d", 5432)]),
            ("[::1]/x", &[("::1", 5432)]),
            ("me@[fd00::1]:5433,a:2/x", &[("fd00::1", 5433), ("a", 2)]),
            ("me:p@ss@db:7/x", &[("db", 7)]),
        ];
        for (rest, expected) in table {
            let hosts = parse(rest).unwrap().hosts;
            let hosts: Vec<_> = hosts.iter().map(|host| (&host.name[..], host.port)).collect();
            assert_eq!(hosts, expected, "{rest}");
        }
        assert_eq!(Address::parse(Family::MySql, "db/x").unwrap().hosts[0].port, 3306);
    }

    #[test]
    fn who_connects_and_where_to() {
        let table = [
            ("db/x", None, None, "x"),
            ("@db/x", None, None, "x"),
            ("me@db/x", Some("me"), None, "x"),
            ("me:@db/x", Some("me"), None, "x"),
            (":secret@db/x", None, Some("secret"), "x"),
            ("me:a:b@db/x", Some("me"), Some("a:b"), "x"),
            ("m%3Ae%40corp:p%40%2F%25%C3%A9@db/x%2Fy", Some("m:e@corp"), Some("p@/%é"), "x/y"),
            ("me@corp:p#+@db/x", Some("me@corp"), Some("p#+"), "x"),
        ];
        for (rest, user, password, database) in table {
            let address = parse(rest).unwrap();
            let url = address.passwords.url.as_ref().map(Secret::reveal);
            assert_eq!((address.user.as_deref(), url, &address.database[..]), (user, password, database), "{rest}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_shows_nothing_of_it() {
        let table = [
            ("", "names no host"),
            ("/x", "names no host"),
            ("secret@/x", "names no host"),
            ("me:secret@a,/x", "names no host"),
            ("me:secret@db", "names no database"),
            ("me:secret@db/", "names no database"),
            ("me:secret@db?sslmode=require", "names no database"),
            ("me:secret@db/secret/x", "has more than one / behind it"),
            ("me:secret@db:secret/x", "has a port that is no number from 1 to 65535"),
            ("db:/x", "has a port that is no number from 1 to 65535"),
            ("db:0/x", "has a port that is no number from 1 to 65535"),
            ("db:65536/x", "has a port that is no number from 1 to 65535"),
            ("db:+1/x", "has a port that is no number from 1 to 65535"),
            ("::1/x", "has an IPv6 address without brackets"),
            ("[secret]/x", "has a host that is neither a name nor an address"),
            ("secret secret/x", "has a host that is neither a name nor an address"),
            ("%2Frun%2Fsecret/x", "has a host that is neither a name nor an address"),
            ("[::1/x", "has a bracket that does not end"),
            ("[::1]secret/x", "has something behind a bracket"),
            ("me:secret%@db/x", "has a password that is not percent-encoded"),
            ("secret%zz@db/x", "has a user that is not percent-encoded"),
            ("db/secret%00", "has a database that is not percent-encoded"),
            // Passwords that are not encoded, and so are cut.
            ("me:1/secret@db/x", "has an @ behind the host"),
            ("me:1/x?secret&more@db/x", "has an @ behind the host"),
            ("me:secret/x@db", "has an @ behind the host"),
        ];
        for (rest, expected) in table {
            let error = parse(rest).unwrap_err();
            assert_eq!(error.what, format!("the postgres endpoint {expected}"), "{rest}");
            assert!(!format!("{error:?}").contains("secret"), "{rest}: {error:?}");
        }
    }

    #[test]
    fn no_form_of_an_address_shows_its_password() {
        let address = parse("me:hunter2@db/x?sslmode=require").unwrap();
        assert!(!format!("{address} {address:?} {address:#?}").contains("hunter2"));
    }
}
