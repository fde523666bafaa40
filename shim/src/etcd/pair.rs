//! The certificate and key that processes on one database share, so that nobody needs to give them any.
//!
//! The pair is in the database. Who can read it there can read all that is stored, so the pair tells nobody more.

use anyhow::{Context as _, Result};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The name in the certificate; the same for all processes, whatever their addresses.
pub(super) const NAME: &str = "sluice-shim";

/// A certificate that is its own authority, and its key, both in PEM, one after the other.
#[derive(Clone)]
pub struct Pair(String);

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair")
    }
}

impl Pair {
    /// One that nobody else has, as text.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn fresh() -> Result<String> {
        let fresh = rcgen::generate_simple_self_signed([NAME.to_owned()]).context("make a certificate for peers")?;
        Ok(fresh.cert.pem() + &fresh.signing_key.serialize_pem())
    }

    /// The one that processes share.
    pub fn kept(text: String) -> Self {
        Self(text)
    }

    /// What a process shows others, with whom it accepts.
    ///
    /// # Errors
    /// When the pair is none.
    pub(super) fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, RootCertStore)> {
        let read = || -> Result<_> {
            let certificate = CertificateDer::from_pem_slice(self.pem())?;
            let mut roots = RootCertStore::empty();
            roots.add(certificate.clone())?;
            Ok((vec![certificate], PrivateKeyDer::from_pem_slice(self.pem())?, roots))
        };
        read().context("the table peer of the database holds no certificate with its key; delete its row")
    }

    pub(super) fn pem(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
