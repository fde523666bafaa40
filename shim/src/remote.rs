//! How another server of etcd's API is reached: the flags that say it, and what they must be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::config::ConfigError;

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// The names of the flags.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flags {
    pub(crate) url: &'static str,
    pub(crate) cacert: &'static str,
    pub(crate) cert: &'static str,
    pub(crate) key: &'static str,
}

/// Their values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote<'a> {
    pub(crate) flags: Flags,
    /// The server.
    pub(crate) url: &'a str,
    /// The authorities that sign its certificate (PEM).
    pub(crate) cacert: Option<&'a PathBuf>,
    /// The certificate that it asks clients for (PEM).
    pub(crate) cert: Option<&'a PathBuf>,
    /// The key of that (PEM).
    pub(crate) key: Option<&'a PathBuf>,
}

impl Remote<'_> {
    /// What to connect to.
    ///
    /// # Errors
    /// When the flags can't be right, or a file can't be read.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let Flags { url: flag, cacert, cert, key } = self.flags;
        let hint = format!("write it as http://127.0.0.1:2379, or as https:// with {cacert}");
        let refuse = |what: &str| Err(ConfigError::new(format!("{flag} {} {what}", self.url), hint.clone()).into());
        let endpoint = || {
            let parsed = Endpoint::from_shared(self.url.to_owned());
            parsed.with_context(|| format!("{flag} {}", self.url)).map(|endpoint| endpoint.connect_timeout(CONNECT))
        };
        match (self.url.split_once("://"), self.cacert) {
            (Some(("http", _)), None) if self.cert.is_none() => endpoint(),
            (Some(("http", _)), _) => refuse(&format!("is without TLS: {cacert}, {cert} and {key} are for https://")),
            (Some(("https", _)), Some(authorities)) => {
                let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(cacert, authorities)?));
                if let (Some(own), Some(own_key)) = (self.cert, self.key) {
                    tls = tls.identity(Identity::from_pem(read(cert, own)?, read(key, own_key)?));
                }
                Ok(endpoint()?.tls_config(tls)?)
            }
            (Some(("https", _)), None) => refuse(&format!(
                "can't be verified: https needs {cacert}, the authority that signed the server's certificate"
            )),
            _ => refuse("begins neither with http:// nor with https://"),
        }
    }
}

/// The content of a PEM file.
fn read(flag: &str, path: &Path) -> Result<Vec<u8>> {
    let text = std::fs::read(path).with_context(|| format!("{flag}: read {}", path.display()))?;
    if !text.windows(10).any(|window| window == b"-----BEGIN") {
        bail!("{flag}: there is nothing in {} that is PEM", path.display());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let flags = Flags { url: "--from-etcd", cacert: "--cacert", cert: "--cert", key: "--key" };
        let endpoint = |url: &str, cacert: Option<&str>| {
            let cacert = cacert.map(PathBuf::from);
            let remote = Remote { flags, url, cacert: cacert.as_ref(), cert: None, key: None };
            remote.endpoint().map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(endpoint("http://127.0.0.1:2379", None), Ok(()));
        let table = [
            ("https://127.0.0.1:2379", None, "https needs --cacert"),
            ("https://127.0.0.1:2379", Some("/nowhere/ca.pem"), "read /nowhere/ca.pem"),
            ("http://127.0.0.1:2379", Some("/nowhere/ca.pem"), "is without TLS"),
            ("127.0.0.1:2379", None, "begins neither with http://"),
            ("unix://a", None, "begins neither with http://"),
        ];
        for (url, cacert, expected) in table {
            let error = endpoint(url, cacert).unwrap_err();
            assert!(error.contains(expected), "{url}: {error}");
        }
    }
}
