use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::server::{Client, DEADLINE, TestServer};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sluice_shim::pb::etcdserverpb::MemberListRequest;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Endpoint, Uri};

pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    pub(crate) fn write_server_pair(&self, dir: &Path, names: &[&str]) {
        let (cert, key) = self.issue(names, ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    }

    /// A client that trusts this authority and shows a certificate of the other, if there is one.
    pub(crate) fn client(&self, signed_by: Option<&Authority>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match signed_by {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                // Without names, as kubeadm makes them for the apiserver.
                let (cert, key) = authority.issue(&[], ExtendedKeyUsagePurpose::ClientAuth);
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![cert.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

async fn handshake(connector: &TlsConnector, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, TcpStream::connect(address).await?).await
}

pub(crate) async fn connect(connector: &TlsConnector, address: SocketAddr) -> Result<Client, tonic::transport::Error> {
    let connector = connector.clone();
    let open = move |_: Uri| {
        let connector = connector.clone();
        async move { handshake(&connector, address).await.map(TokioIo::new) }
    };
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(tower::service_fn(open)).await?;
    Ok(Client::new(channel))
}

pub(crate) async fn start(dir: &Path, more: &[&str]) -> TestServer {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let files = ["--cert-file", cert.to_str().unwrap(), "--key-file", key.to_str().unwrap()];
    TestServer::start(&[&["--listen-client-urls", "https://127.0.0.1:0"], &files[..], more].concat()).await
}

#[tokio::test]
async fn clients_need_a_certificate_of_the_authority() {
    let (dir, ca, stranger) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    ca.write_server_pair(dir.path(), &["localhost"]);
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, ca.0.pem()).unwrap();
    let server = start(dir.path(), &["--trusted-ca-file", ca_file.to_str().unwrap(), "--client-cert-auth"]).await;

    let mut client = connect(&ca.client(Some(&ca)), server.address()).await.unwrap();
    assert_eq!(client.put("a", "1").await, 2);
    for refused in [ca.client(None), ca.client(Some(&stranger))] {
        // With TLS 1.3 the client learns of the refusal with its first request.
        if let Ok(mut client) = connect(&refused, server.address()).await {
            client.range(super::server::range_of("a")).await.unwrap_err();
        }
    }
    assert!(connect(&stranger.client(Some(&ca)), server.address()).await.is_err(), "the client trusts another");
    let plain = tonic::transport::Channel::from_shared(format!("http://{}", server.address())).unwrap();
    if let Ok(channel) = plain.connect().await {
        Client::new(channel).range(super::server::range_of("a")).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    ca.write_server_pair(dir.path(), &["localhost"]);
    let server = start(dir.path(), &[]).await;
    let connector = ca.client(None);
    let shown = |stream: &TlsStream<TcpStream>| -> CertificateDer<'static> {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let old = shown(&handshake(&connector, server.address()).await.unwrap());
    let mut client = connect(&connector, server.address()).await.unwrap();
    assert_eq!(client.put("a", "1").await, 2);

    ca.write_server_pair(dir.path(), &["localhost", "another.example.com"]);
    let renewed = async { while shown(&handshake(&connector, server.address()).await.unwrap()) == old {} };
    tokio::time::timeout(DEADLINE, renewed).await.unwrap();
    assert_eq!(client.put("a", "2").await, 3, "connections that were open stay so");
}

/// TLS over a Unix socket, as etcd has it.
#[tokio::test]
async fn unixs() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    ca.write_server_pair(dir.path(), &["localhost"]);
    let (socket, cert, key) = (dir.path().join("s"), dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let url = format!("unixs://{}", socket.display());
    let files = ["--cert-file", cert.to_str().unwrap(), "--key-file", key.to_str().unwrap()];
    let server = TestServer::start(&[&["--listen-client-urls", &url[..]], &files[..]].concat()).await;
    let (connector, path) = (ca.client(None), socket.clone());
    let open = move |_: Uri| {
        let (connector, path) = (connector.clone(), path.clone());
        async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.map(TokioIo::new)
        }
    };
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(tower::service_fn(open)).await;
    let mut client = Client::new(channel.unwrap());
    assert_eq!(client.put("a", "1").await, 2);
    drop(client);
    server.server.shutdown().await;
    assert!(!socket.exists());
}

/// The command of the pod that kubeadm makes, with a place for the address of the node.
const KUBEADM: &str = include_str!("../../../images/manifests/kubeadm/patches/etcd+strategic.yaml");

/// kubeadm asks the member that it finds at the advertised address for the addresses of all members, and goes on with
/// those (cmd/kubeadm/app/util/etcd: `NewFromCluster`); the API server connects at the loopback address.
#[tokio::test]
async fn kubeadms_pod_listens_where_kubeadm_and_the_apiserver_look() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    ca.write_server_pair(dir.path(), &["localhost"]);
    std::fs::write(dir.path().join("ca.pem"), ca.0.pem()).unwrap();
    let port = crate::port::free().to_string();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let here = |word: &str| {
        [
            ("$(NODE_ADDRESS)", "127.0.0.2"),
            (":2379", &format!(":{port}")),
            (":2381", ":0"),
            ("/etc/kubernetes/pki/etcd/server.crt", &file("cert.pem")),
            ("/etc/kubernetes/pki/etcd/server.key", &file("key.pem")),
            ("/etc/kubernetes/pki/etcd/ca.crt", &file("ca.pem")),
        ]
        .iter()
        .fold(word.to_owned(), |word, (from, to)| word.replace(from, to))
    };
    let flags = KUBEADM.lines().filter_map(|line| line.trim().strip_prefix("- ")).filter(|word| word.starts_with("--"));
    // The database is the test's.
    let flags: Vec<String> = flags.filter(|flag| !flag.starts_with("--endpoint=")).map(here).collect();
    // A flag and its value apart, as the server of the tests looks for them.
    let flags: Vec<&str> = flags.iter().flat_map(|flag| flag.splitn(2, '=')).collect();
    assert!(flags.contains(&"--client-cert-auth") && !flags.iter().any(|flag| flag.contains("$(")), "{flags:?}");
    let server = TestServer::start(&flags).await;

    let connector = ca.client(Some(&ca));
    let addresses = server.server.client_addresses().to_vec();
    let hosts: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    assert_eq!(hosts, ["127.0.0.1", "127.0.0.2"]);
    let mut revision = 1;
    for address in addresses {
        let mut client = connect(&connector, address).await.unwrap();
        revision += 1;
        assert_eq!(client.put("a", "1").await, revision);
        let members = client.cluster.member_list(MemberListRequest::default()).await.unwrap().into_inner().members;
        assert_eq!(members.len(), 1);
        assert_eq!(members[0].client_ur_ls, [format!("https://127.0.0.2:{port}")]);
    }
}
