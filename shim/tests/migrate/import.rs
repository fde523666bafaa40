//! Import from a running server: a second Sluice, which speaks etcd's API.

use crate::database::Database;
use crate::support::*;
use clap::Parser as _;
use prometheus_client::registry::Registry;
use sluice_shim::config::Config;
use sluice_shim::etcd::front::Sockets;
use sluice_shim::etcd::server::Server;

async fn serve(database: &Database, more: &[String]) -> (Server, u16) {
    let mut args = vec!["sluice-shim".to_owned()];
    if more.is_empty() {
        args.push("--listen-client-urls=http://127.0.0.1:0".to_owned());
    }
    args.extend_from_slice(more);
    let config = Config::try_parse_from(args).unwrap();
    let engine = open(database).await.unwrap();
    let mut registry = Registry::default();
    let sockets = Sockets::open(&config, None, &mut registry).await.unwrap();
    let server = Server::start(engine, &config, sockets, database.folder().to_owned(), registry).await.unwrap();
    let port = server.client_addresses()[0].port();
    (server, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_comes_along() {
    let [from, to] = Database::several();
    let before = filled(&from, Some(4)).await;
    let (server, port) = serve(&from, &[]).await;
    let url = format!("http://127.0.0.1:{port}");
    assert_eq!(run(&["import", "--from-etcd", &url, "--endpoint", to.url()]).await, Ok(true));
    let refused = run(&["import", "--from-etcd", &url, "--endpoint", to.url()]).await.unwrap_err();
    assert!(refused.contains("not empty"), "{refused}");
    server.shutdown().await;
    assert_eq!(content_of(&to).await, before);
    assert_eq!(run(&["fsck", "--endpoint", to.url()]).await, Ok(true));
    let left = std::fs::read_dir(to.folder()).unwrap().flatten().map(|entry| entry.file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().contains("import")), "the snapshot is removed");
    let refused = run(&["import", "--from-etcd", &url, "--endpoint", Database::new().url()]).await;
    assert!(refused.unwrap_err().contains("connect to "));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates() {
    let [from, to] = Database::several();
    let before = filled(&from, None).await;
    let path = |name: &str| from.folder().join(name).display().to_string();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    std::fs::write(path("ca.pem"), authority.pem()).unwrap();
    for name in ["server", "client"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(path(&format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(path(&format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }
    let flags = [
        "--listen-client-urls=https://127.0.0.1:0".to_owned(),
        format!("--cert-file={}", path("server.pem")),
        format!("--key-file={}", path("server-key.pem")),
        format!("--trusted-ca-file={}", path("ca.pem")),
    ];
    let (server, port) = serve(&from, &flags).await;
    let (url, ca) = (format!("https://127.0.0.1:{port}"), path("ca.pem"));
    let args = ["import", "--from-etcd", &url, "--endpoint", to.url(), "--cacert", &ca];
    assert!(run(&args).await.is_err(), "without a certificate of its own");
    let (cert, key) = (path("client.pem"), path("client-key.pem"));
    assert_eq!(run(&[&args[..], &["--cert", &cert, "--key", &key]].concat()).await, Ok(true));
    server.shutdown().await;
    assert_eq!(content_of(&to).await, before);
}
