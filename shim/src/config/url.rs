//! URLs to listen at, and to be told to clients.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenUrl {
    /// http://host:port
    Plain(String),
    /// https://host:port
    Tls(String),
    /// unix:///path
    Unix(PathBuf),
    /// unixs:///path: TLS over a Unix socket.
    UnixTls(PathBuf),
}

impl ListenUrl {
    /// Whether clients begin with a TLS handshake.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_) | Self::UnixTls(_))
    }

    /// Whether two sockets can be opened at it, because the system chooses a port for each.
    pub fn is_repeatable(&self) -> bool {
        match self {
            Self::Plain(address) | Self::Tls(address) => address.ends_with(":0"),
            Self::Unix(_) | Self::UnixTls(_) => false,
        }
    }

    /// What there can be one socket at: an address, or a path.
    pub fn place(&self) -> String {
        match self {
            Self::Plain(address) | Self::Tls(address) => address.clone(),
            Self::Unix(path) | Self::UnixTls(path) => path.display().to_string(),
        }
    }
}

impl FromStr for ListenUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let Some((scheme, address)) = url.split_once("://") else {
            return Err("not a URL: it begins with http://, https://, unix:// or unixs://".to_owned());
        };
        match scheme {
            "unix" | "unixs" if address.is_empty() || address.ends_with('/') => {
                Err(format!("names no file, as in {scheme}:///run/sluice.sock"))
            }
            "unix" => Ok(Self::Unix(address.into())),
            "unixs" => Ok(Self::UnixTls(address.into())),
            "http" => host_and_port(address).map(Self::Plain),
            "https" => host_and_port(address).map(Self::Tls),
            _ => Err(format!("the scheme {scheme:?} is none of http, https, unix, unixs")),
        }
    }
}

/// Takes no path, as etcd, except for an empty one.
fn host_and_port(address: &str) -> Result<String, String> {
    let address = address.strip_suffix('/').unwrap_or(address);
    if let Some(odd) = address.find(['/', '@', '?', '#']) {
        return Err(match &address[odd..=odd] {
            "@" => "has a user in it; clients show who they are with certificates".to_owned(),
            _ => "has something behind the port; it is only host and port, as in http://127.0.0.1:2379".to_owned(),
        });
    }
    let form = || "needs a host and a port, as in http://127.0.0.1:2379".to_owned();
    let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if host.is_empty() && is_port {
        return Err("names no host; for all addresses write 0.0.0.0 or [::]".to_owned());
    }
    if let Some(inside) = host.strip_prefix('[') {
        let inside = inside.strip_suffix(']').ok_or_else(form)?;
        inside.parse::<Ipv6Addr>().map_err(|_| format!("{inside:?} is no IPv6 address"))?;
    } else if host.contains(':') {
        return Err("an IPv6 address stands in brackets, as in http://[::1]:2379".to_owned());
    }
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if !is_port || host.is_empty() || host.contains(odd) { Err(form()) } else { Ok(address.to_owned()) }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(address) => write!(f, "http://{address}"),
            Self::Tls(address) => write!(f, "https://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::UnixTls(path) => write!(f, "unixs://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let table = [
            ("http://127.0.0.1:0", ListenUrl::Plain("127.0.0.1:0".into())),
            ("http://localhost:2379", ListenUrl::Plain("localhost:2379".into())),
            ("https://[::1]:2379", ListenUrl::Tls("[::1]:2379".into())),
            ("unix:///run/s.sock", ListenUrl::Unix("/run/s.sock".into())),
            ("unixs:///run/s.sock", ListenUrl::UnixTls("/run/s.sock".into())),
        ];
        for (url, expected) in table {
            assert_eq!(url.parse(), Ok(expected.clone()));
            assert_eq!(expected.to_string(), url);
        }
        assert_eq!("http://a:1/".parse(), Ok(ListenUrl::Plain("a:1".into())));
    }

    #[test]
    fn what_is_none_says_why() {
        let table = [
            ("", "not a URL"),
            ("127.0.0.1:2379", "not a URL"),
            ("ftp://a:1", "the scheme \"ftp\" is none of"),
            ("http://127.0.0.1", "needs a host and a port"),
            ("http://a:b", "needs a host and a port"),
            ("http://a:65536", "needs a host and a port"),
            ("http://a:+1", "needs a host and a port"),
            ("http://a b:1", "needs a host and a port"),
            ("http://", "needs a host and a port"),
            ("http://:1", "names no host"),
            ("http://::1:1", "an IPv6 address stands in brackets"),
            ("http://[::g]:1", "\"::g\" is no IPv6 address"),
            ("http://[::1:1", "needs a host and a port"),
            ("http://a:1/path", "has something behind the port"),
            ("http://a:1?x", "has something behind the port"),
            ("http://me:secret@a:1", "has a user in it"),
            ("unix://", "names no file"),
            ("unixs:///run/", "names no file"),
        ];
        for (url, expected) in table {
            let error = url.parse::<ListenUrl>().unwrap_err();
            assert!(error.starts_with(expected), "{url}: {error}");
        }
    }
}
