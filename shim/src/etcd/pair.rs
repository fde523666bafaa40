//! The certificate and key that processes on one database share, so that nobody needs to give them any.
//!
//! The pair is in the database. Who can read it there can read all that is stored; with the pair also write, if they
//! reach the port. So it is to be kept as the password of the database is, in backups as well.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::NamedTempFile;

/// The name in the certificate; the same for all processes, whatever their addresses.
pub(super) const NAME: &str = "sluice-shim";
/// The others: where clients beside a process connect to.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

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
        let names = [NAME].into_iter().chain(HERE).map(str::to_owned).collect::<Vec<_>>();
        let fresh = rcgen::generate_simple_self_signed(names).context("make a certificate for peers")?;
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

    /// Writes `ca.crt`, `tls.crt` and `tls.key`, for this user alone. Who reads a file meanwhile sees the old one or
    /// the new one.
    ///
    /// # Errors
    /// Those of files.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let key = self.0.find("-----BEGIN PRIVATE KEY").context("the pair has no key")?;
        let (certificate, key) = self.0.split_at(key);
        std::fs::create_dir_all(folder)?;
        for (name, text) in [("ca.crt", certificate), ("tls.crt", certificate), ("tls.key", key)] {
            let mut file = NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.persist(folder.join(name))?;
        }
        Ok(())
    }

    pub(super) fn pem(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
