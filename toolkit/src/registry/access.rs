//! How a registry is reached: TLS and its authorities, proxies, and the exception for tests.

use std::{env, net::Ipv4Addr, path::PathBuf, time::Duration};

use fs_err as fs;
use oci_client::{
    Client,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
};

use super::error::Error;

/// For a connection to be there.
const CONNECT: Duration = Duration::from_secs(30);

/// Flags of verbs that speak with a registry.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Access {
    /// Trust the authorities in this PEM file too: for a registry with a certificate of your own authority
    #[arg(long, value_name = "FILE")]
    pub(crate) registry_ca: Option<PathBuf>,
    /// Speak plain HTTP with a registry on this machine's loopback address; for tests alone
    #[arg(long)]
    pub(crate) insecure_loopback: bool,
}

impl Access {
    /// Refuses the flags where no registry is spoken with, which is so without `what`.
    pub(crate) fn only_with(&self, what: &str) -> Result<(), Error> {
        match self.registry_ca.is_some() || self.insecure_loopback {
            true => Err(Error::Unasked(what.to_owned())),
            false => Ok(()),
        }
    }

    /// A client for the registry (a host, and a port if it is not TLS's own).
    pub(super) fn client(&self, registry: &str) -> Result<Client, Error> {
        let loopback = is_loopback(registry);
        if self.insecure_loopback && !loopback {
            return Err(Error::NotLoopback(registry.to_owned()));
        }
        // Fails if it has been chosen before, which can only have been by us.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Each client makes one with the defaults as well, and panics if that can't be.
        Client::try_from(ClientConfig::default()).map_err(|error| Error::NoAuthorities(innermost(&error)))?;
        let made = Client::try_from(self.config(registry)?).map_err(|error| match &self.registry_ca {
            Some(path) => Error::Authority { path: path.clone(), reason: innermost(&error) },
            None => Error::NoAuthorities(innermost(&error)),
        })?;
        let proxy = variable(["HTTPS_PROXY", "https_proxy"]).filter(|_| !loopback);
        if proxy.is_none() {
            return Ok(made);
        }
        let no_proxy = variable(["NO_PROXY", "no_proxy"]);
        let config = ClientConfig { https_proxy: proxy, no_proxy, ..self.config(registry)? };
        Client::try_from(config).map_err(|error| Error::Proxy(innermost(&error)))
    }

    fn config(&self, registry: &str) -> Result<ClientConfig, Error> {
        let insecure = self.insecure_loopback.then(|| registry.to_owned());
        Ok(ClientConfig {
            protocol: ClientProtocol::HttpsExcept(insecure.into_iter().collect()),
            use_monolithic_push: true,
            connect_timeout: Some(CONNECT),
            extra_root_certificates: self.authorities()?,
            user_agent: concat!("sluice/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        })
    }

    fn authorities(&self) -> Result<Vec<Certificate>, Error> {
        let Some(path) = &self.registry_ca else { return Ok(vec![]) };
        let fail = |reason: String| Error::Authority { path: path.clone(), reason };
        let blocks = pem::parse_many(fs::read(path)?).map_err(|error| fail(error.to_string()))?;
        let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
        let certificates = certificates
            .map(|block| Certificate { encoding: CertificateEncoding::Der, data: block.into_contents() })
            .collect::<Vec<_>>();
        if certificates.is_empty() { Err(fail("no PEM block CERTIFICATE".to_owned())) } else { Ok(certificates) }
    }
}

/// What is at the bottom of an error: those above only say that a request failed.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn variable(names: [&str; 2]) -> Option<String> {
    names.into_iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

/// Whether a registry is on this machine by its name alone, whatever name servers say.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_refused_for_any_address_that_is_not_loopback() {
        let access = Access { insecure_loopback: true, ..Access::default() };
        for registry in ["localhost:5000", "localhost", "127.0.0.1:5000", "127.9.8.7"] {
            assert!(access.client(registry).is_ok(), "{registry}");
        }
        for registry in ["ghcr.io", "10.0.0.1:5000", "localhost.example.com", "127.0.0.1.nip.io:80", "0.0.0.0:5000"] {
            let refused = access.client(registry);
            assert!(matches!(refused, Err(Error::NotLoopback(_))), "{registry}");
        }
    }

    #[test]
    fn a_file_without_a_usable_authority_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        for text in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            fs::write(&path, text).unwrap();
            let access = Access { registry_ca: Some(path.clone()), ..Access::default() };
            let refused = access.client("registry.example.com").err().map(|error| error.to_string());
            assert!(refused.as_ref().is_some_and(|text| text.contains("ca.pem holds no certificate")), "{refused:?}");
        }
    }
}
