//! The certificates of one local cluster.
//!
//! Two authorities: one that the apiserver trusts for its users, one that the store trusts for the apiserver. With a
//! single one, any user of the cluster could read the store behind the apiserver's back.

use std::path::{Path, PathBuf};

use fs_err as fs;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use sluice_shell::error::{Attempt as _, Result};

/// The first address of [`super::apiserver::SERVICE_RANGE`]: what pods would call the apiserver by.
const SERVICE_ADDRESS: &str = "10.96.0.1";

/// A certificate and its key as files.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// The private key, PKCS#8 PEM.
    pub key: PathBuf,
}

/// The folder that holds the certificates of a cluster.
#[derive(Debug, Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Opens the folder, and fills it if it does not exist. It is filled under another name and then renamed, so that a
    /// crash never leaves a folder with some of the files.
    ///
    /// # Errors
    /// When a file can't be written.
    pub(crate) fn ensure(folder: &Path) -> Result<Self> {
        if !folder.exists() {
            let unfinished = folder.with_extension("unfinished");
            if unfinished.exists() {
                fs::remove_dir_all(&unfinished)?;
            }
            fs::create_dir_all(&unfinished)?;
            write_all(&unfinished).attempting(|| "cannot create the cluster's certificates")?;
            fs::rename(&unfinished, folder)?;
        }
        Ok(Self::at(folder))
    }

    /// Those in the folder, which may not be there.
    pub(crate) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The authority of the cluster's users and of the apiserver's serving certificate.
    pub fn authority(&self) -> Pair {
        self.pair("ca")
    }

    /// What the apiserver and the controller manager serve with.
    pub fn serving(&self) -> Pair {
        self.pair("apiserver")
    }

    /// The user that may do everything (group `system:masters`).
    pub(crate) fn admin(&self) -> Pair {
        self.pair("admin")
    }

    /// The user `system:kube-controller-manager`.
    pub(crate) fn controller_manager(&self) -> Pair {
        self.pair("controller-manager")
    }

    /// The key that signs service account tokens.
    pub(crate) fn service_account_key(&self) -> PathBuf {
        self.folder.join("service-account.key")
    }

    /// The key that checks them.
    pub(crate) fn service_account_public_key(&self) -> PathBuf {
        self.folder.join("service-account.pub")
    }

    /// The authority of the store and of its clients.
    pub fn store_authority(&self) -> Pair {
        self.pair("store-ca")
    }

    /// What the store serves with.
    pub(crate) fn store_serving(&self) -> Pair {
        self.pair("store")
    }

    /// What the apiserver shows to the store.
    pub fn store_client(&self) -> Pair {
        self.pair("store-client")
    }

    fn pair(&self, name: &str) -> Pair {
        Pair { cert: self.folder.join(format!("{name}.crt")), key: self.folder.join(format!("{name}.key")) }
    }
}

/// A certificate of an authority that signed no other one.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate of the authority, `ca.crt`, PEM.
    pub authority: PathBuf,
    /// What was issued, `tls.crt` and `tls.key`.
    pub pair: Pair,
}

impl Issued {
    /// Issues one to a server with these names and addresses, which may show the certificate as a client too.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn new(folder: &Path, hosts: &[&str]) -> Result<Self> {
        let issuer = authority(folder, "ca", "sluice-issuer")?;
        leaf(folder, &issuer, "tls", &Subject::server("server", hosts))?;
        Ok(Self::at(folder))
    }

    /// The one in the folder, which may not be there.
    pub(super) fn at(folder: &Path) -> Self {
        let files = Certificates::at(folder);
        Self { authority: files.authority().cert, pair: files.pair("tls") }
    }
}

fn write_all(folder: &Path) -> Result<()> {
    let serving = ["localhost", "127.0.0.1", SERVICE_ADDRESS, "kubernetes", "kubernetes.default.svc"];

    let users = authority(folder, "ca", "sluice-local")?;
    leaf(folder, &users, "apiserver", &Subject::server("kube-apiserver", &serving))?;
    leaf(folder, &users, "admin", &Subject::client("sluice-admin", Some("system:masters")))?;
    leaf(folder, &users, "controller-manager", &Subject::client("system:kube-controller-manager", None))?;

    let store = authority(folder, "store-ca", "sluice-local-store")?;
    leaf(folder, &store, "store", &Subject::server("store", &["localhost", "127.0.0.1"]))?;
    leaf(folder, &store, "store-client", &Subject::client("kube-apiserver-store-client", None))?;

    let tokens = new_key()?;
    fs::write(folder.join("service-account.pub"), tokens.public_key_pem())?;
    write_key(&folder.join("service-account.key"), &tokens)
}

struct Subject<'a> {
    name: &'a str,
    group: Option<&'a str>,
    hosts: &'a [&'a str],
    usages: &'static [ExtendedKeyUsagePurpose],
}

impl<'a> Subject<'a> {
    /// A serving certificate. It may be shown as a client too: etcd's own gateway calls etcd with it.
    fn server(name: &'a str, hosts: &'a [&'a str]) -> Self {
        Self {
            name,
            group: None,
            hosts,
            usages: &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        }
    }

    fn client(name: &'a str, group: Option<&'a str>) -> Self {
        Self { name, group, hosts: &[], usages: &[ExtendedKeyUsagePurpose::ClientAuth] }
    }
}

// The validity is rcgen's default, which never ends in practice: the folder is what ends the cluster.
fn authority(folder: &Path, file: &str, name: &str) -> Result<Issuer<'static, KeyPair>> {
    let key = new_key()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let cert = params.self_signed(&key).map_err(anyhow::Error::from)?;
    fs::write(folder.join(format!("{file}.crt")), cert.pem())?;
    write_key(&folder.join(format!("{file}.key")), &key)?;
    Ok(Issuer::new(params, key))
}

fn leaf(folder: &Path, issuer: &Issuer<'_, KeyPair>, file: &str, subject: &Subject<'_>) -> Result<()> {
    let key = new_key()?;
    let hosts: Vec<String> = subject.hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).map_err(anyhow::Error::from)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(group) = subject.group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name.push(DnType::CommonName, subject.name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = subject.usages.to_vec();
    params.use_authority_key_identifier_extension = true;
    let cert = params.signed_by(&key, issuer).map_err(anyhow::Error::from)?;
    fs::write(folder.join(format!("{file}.crt")), cert.pem())?;
    write_key(&folder.join(format!("{file}.key")), &key)
}

fn new_key() -> Result<KeyPair> {
    Ok(KeyPair::generate().map_err(anyhow::Error::from)?)
}

fn write_key(path: &Path, key: &KeyPair) -> Result<()> {
    super::private::write(path, key.serialize_pem().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_second_call_keeps_the_files_and_keys_are_private() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("pki");
        let first = Certificates::ensure(&folder).unwrap();
        let before = fs::read(first.admin().cert).unwrap();
        let second = Certificates::ensure(&folder).unwrap();
        assert_eq!(before, fs::read(second.admin().cert).unwrap());
        for pair in [first.authority(), first.serving(), first.store_authority(), first.store_client()] {
            assert_eq!(fs::metadata(&pair.key).unwrap().permissions().mode() & 0o777, 0o600, "{pair:?}");
        }
    }

    #[test]
    fn what_a_crash_left_behind_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("pki.unfinished")).unwrap();
        fs::write(temp.path().join("pki.unfinished/ca.crt"), "half").unwrap();
        let certificates = Certificates::ensure(&temp.path().join("pki")).unwrap();
        assert!(fs::read_to_string(certificates.authority().cert).unwrap().starts_with("-----BEGIN"));
        assert!(!temp.path().join("pki.unfinished").exists());
    }
}
