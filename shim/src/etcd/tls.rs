//! Certificates, read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

use super::pair::Pair;
use crate::metrics::Metrics;

/// Files are looked at when a client connects, but not more often than this.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The files of a TLS listener.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate with those between it and the authority.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that sign client certificates. With it a client needs one.
    pub trusted_ca: Option<PathBuf>,
}

/// The certificates in use.
#[derive(Debug)]
pub struct Tls {
    /// `None`: what is in use never changes.
    files: Option<TlsFiles>,
    metrics: Metrics,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    state: State,
    checked: Instant,
}

/// What tells whether a file changed: its time and size. An error counts as a state too, so it is told once.
type State = Vec<Option<(SystemTime, u64)>>;

impl Tls {
    /// Reads the files.
    pub fn new(files: TlsFiles, metrics: Metrics) -> Result<Self> {
        let state = files.state();
        let config = Arc::new(files.load()?);
        let current = Current { config, state, checked: Instant::now() };
        Ok(Self { files: Some(files), metrics, current: Mutex::new(current) })
    }

    /// Takes what the processes on a database share: both ends must have it.
    pub(super) fn shared(pair: &Pair, metrics: Metrics) -> Result<Self> {
        let (certs, key, roots) = pair.read()?;
        let config = Arc::new(server_config(certs, key, Some(roots))?);
        let current = Current { config, state: State::new(), checked: Instant::now() };
        Ok(Self { files: None, metrics, current: Mutex::new(current) })
    }

    /// The configuration for a new connection. Reads the files if they changed; goes on with the old ones if the new
    /// ones can't be used, since half of them may be written yet. Blocks for as long as the disk does.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config_at(Instant::now())
    }

    fn config_at(&self, now: Instant) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(files) = &self.files else { return current.config.clone() };
        if now.saturating_duration_since(current.checked) < CHECK_EVERY {
            return current.config.clone();
        }
        current.checked = now;
        let state = files.state();
        if state != current.state {
            match files.load() {
                Ok(config) => {
                    tracing::info!(cert = %files.cert.display(), "certificates were read again");
                    current.config = Arc::new(config);
                    // A failure is tried again at the next check.
                    current.state = state;
                    self.metrics.tls_reload(true);
                }
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "new certificates can't be used, the old ones stay");
                    self.metrics.tls_reload(false);
                }
            }
        }
        current.config.clone()
    }
}

impl TlsFiles {
    fn state(&self) -> State {
        let files = [Some(&self.cert), Some(&self.key), self.trusted_ca.as_ref()];
        let state = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        files.into_iter().flatten().map(state).collect()
    }

    fn load(&self) -> Result<ServerConfig> {
        let certs = certificates(&self.cert)?;
        let key = private_key(&self.key)?;
        let roots = self.trusted_ca.as_deref().map(authorities).transpose()?;
        server_config(certs, key, roots)
            .with_context(|| format!("use {} with {}", self.cert.display(), self.key.display()))
    }
}

/// `roots`: who signs the certificates of clients, if they need one.
fn server_config(
    certs: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Option<RootCertStore>,
) -> Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(certs, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The authorities in a file.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        roots.add(authority).with_context(|| format!("trust the authority in {}", path.display()))?;
    }
    Ok(roots)
}

/// The key in a file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).with_context(|| format!("read the private key {}", path.display()))
}

/// The certificates in a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certs: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("read the certificates in {}", path.display()))?;
    if certs.is_empty() {
        bail!("there is no certificate in {}", path.display());
    }
    Ok(certs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    fn write_pair(files: &TlsFiles, name: &str) {
        let pair = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(&files.cert, pair.cert.pem()).unwrap();
        std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn changed_files_are_read_again_and_bad_ones_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { cert: dir.path().join("c"), key: dir.path().join("k"), trusted_ca: None };
        write_pair(&files, "localhost");
        let tls = Tls::new(files.clone(), Metrics::new(&mut Registry::default())).unwrap();
        let begin = Instant::now();
        let first = tls.config_at(begin);
        assert!(Arc::ptr_eq(&first, &tls.config_at(begin + CHECK_EVERY * 2)), "nothing changed");

        std::fs::write(&files.cert, "no certificate").unwrap();
        assert!(Arc::ptr_eq(&first, &tls.config_at(begin + CHECK_EVERY * 4)), "a bad file is not used");

        // Another length, so that the change shows within the resolution of the file's time.
        write_pair(&files, "a-much-longer-name.example.com");
        let second = tls.config_at(begin + CHECK_EVERY * 6);
        assert!(!Arc::ptr_eq(&first, &second), "a good one is");
        assert!(Arc::ptr_eq(&second, &tls.config_at(begin + CHECK_EVERY * 8)));
    }

    #[test]
    fn errors_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { cert: dir.path().join("c.pem"), key: dir.path().join("k.pem"), trusted_ca: None };
        let error = |files: &TlsFiles| format!("{:#}", files.load().unwrap_err());
        assert!(error(&files).contains("c.pem"));
        std::fs::write(&files.cert, "").unwrap();
        assert!(error(&files).contains("there is no certificate in"));
        write_pair(&files, "localhost");
        std::fs::write(&files.key, "").unwrap();
        assert!(error(&files).contains("k.pem"));
        write_pair(&files, "localhost");
        let without_ca = TlsFiles { trusted_ca: Some(dir.path().join("ca.pem")), ..files };
        assert!(error(&without_ca).contains("ca.pem"));
    }
}
