//! Encrypted connections, as `sslmode` says.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;
use crate::endpoint::TlsMode;
use crate::sql::failure::Failure;

/// An authority that signs the server's certificate, which is for `localhost`; the certificates of both, and the key.
fn signed() -> [String; 3] {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    [authority, params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem()]
}

/// Writes a file that belongs to whom its folder belongs to, and to nobody else.
fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let owner = folder.metadata().unwrap();
    std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[test]
fn a_server_is_who_it_should_be_as_far_as_that_is_asked_for() {
    let server = Server::get();
    let ([authority, certificate, key], [other, ..]) = (signed(), signed());
    write(&server.folder, "server.crt", &certificate);
    write(&server.folder, "server.key", &key);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "authority", &authority);
    write(folder.path(), "other", &other);
    let at = server.folder.display();
    let files = format!(
        "ALTER SYSTEM SET ssl_cert_file = '{at}/server.crt'; ALTER SYSTEM SET ssl_key_file = '{at}/server.key'"
    );
    server.psql("postgres", &format!("{files}; ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf()")).unwrap();
    let name = server.database();
    let connect = |mode, host: &str, authority: Option<&str>| -> crate::sql::failure::Result<bool> {
        let mut address = address(&name);
        host.clone_into(&mut address.hosts[0].name);
        address.options.tls.mode = mode;
        address.options.tls.authorities = authority.map(|name| folder.path().join(name));
        let mut link = Database::new(&address, 1, Arc::default(), None)?.connect()?;
        assert!(!link.is_pooled(), "{mode:?} {host}");
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        link::get(&link.one(link::Ask::new("ssl", sql, vec![]))?.rows[0], 0)
    };
    let started = std::time::Instant::now();
    while !connect(TlsMode::Prefer, "localhost", None).unwrap() {
        assert!(started.elapsed().as_secs() < 30, "the server does not encrypt");
    }
    let table = [
        (TlsMode::Disable, "localhost", None, Some(false)),
        (TlsMode::Require, "127.0.0.1", None, Some(true)),
        (TlsMode::VerifyCa, "127.0.0.1", Some("authority"), Some(true)),
        (TlsMode::VerifyCa, "localhost", Some("other"), None),
        (TlsMode::VerifyFull, "localhost", Some("authority"), Some(true)),
        (TlsMode::VerifyFull, "127.0.0.1", Some("authority"), None),
        (TlsMode::VerifyFull, "localhost", Some("other"), None),
    ];
    for (mode, host, authority, expected) in table {
        let connected = connect(mode, host, authority);
        match (&connected, expected) {
            (Ok(encrypted), Some(expected)) => assert_eq!(*encrypted, expected, "{mode:?} {host} {authority:?}"),
            (Err(Failure::Lost(error)), None) => {
                assert!(error.to_string().contains("certificate"), "{mode:?} {host} {authority:?}: {error}");
            }
            _ => panic!("{mode:?} {host} {authority:?}: {connected:?}"),
        }
    }
}
