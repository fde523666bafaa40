//! Registries for tests: Debian's docker-registry with TLS and a password, and one that answers what a test says.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use base64::Engine as _;
use fs_err as fs;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::cluster::{
    port,
    wait::{LIMIT, until},
};
use crate::registry::{
    access::Access,
    client::{Patience, Registry},
    credentials::Files,
};
use sluice_shell::process::Run;

pub(crate) const USER: &str = "ada";
pub(crate) const PASSWORD: &str = "open sesame";
/// [`PASSWORD`] in bcrypt, the only form that the registry reads.
const HASHED: &str = "$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW";

/// Debian's docker-registry.
pub(crate) struct Server {
    dir: TempDir,
    port: u16,
    process: Mutex<Option<Child>>,
}

impl Server {
    /// Empty, and running.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = port::free().unwrap();
        certify(dir.path());
        fs::write(dir.path().join("htpasswd"), format!("{USER}:{HASHED}\n")).unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = serde_json::json!({
            "version": 0.1,
            "log": { "accesslog": { "disabled": false }, "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": at("storage") } },
            "auth": { "htpasswd": { "realm": "test", "path": at("htpasswd") } },
            "http": {
                "addr": format!("127.0.0.1:{port}"),
                "secret": "the same after a restart",
                "tls": { "certificate": at("server.pem"), "key": at("server.key") },
            },
        });
        // YAML contains JSON.
        fs::write(dir.path().join("config.yml"), config.to_string()).unwrap();
        let server = Self { dir, port, process: Mutex::new(None) };
        server.run();
        server
    }

    /// Starts the process, on the same port and with what is stored.
    pub(crate) fn run(&self) {
        let run = Run::new("docker-registry", self.dir.path()).args(["serve", "config.yml"]);
        let mut process = run.spawn(&self.log()).expect("the Debian package docker-registry");
        until("the registry's start", LIMIT, || {
            assert!(process.try_wait()?.is_none(), "it ended: {}", fs::read_to_string(self.log())?);
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok())
        })
        .unwrap();
        *self.process.lock().unwrap() = Some(process);
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Its name in references.
    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The certificate of its authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A credential file for it, as `docker login` writes one.
    pub(crate) fn credentials(&self, password: &str) -> PathBuf {
        let auth = base64::prelude::BASE64_STANDARD.encode(format!("{USER}:{password}"));
        let path = self.dir.path().join(format!("{}.json", password.replace(' ', "-")));
        fs::write(&path, serde_json::json!({ "auths": { self.name(): { "auth": auth } } }).to_string()).unwrap();
        path
    }

    /// A connection that trusts its certificate, and tries again at once.
    pub(crate) fn open(&self, password: &str) -> Registry {
        let access = Access { registry_ca: Some(self.authority()), ..Access::default() };
        // The server is as slow as the machine: the usual silence.
        let patience = Patience { pauses: vec![Duration::ZERO; 2], ..Patience::default() };
        Registry::with(&self.name(), &access, &Files(vec![self.credentials(password)]), patience).unwrap()
    }

    /// The requests so far that change something, as `PUT /v2/…`.
    pub(crate) fn changes(&self) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap();
        let requests = log.lines().filter_map(|line| line.split('"').find(|part| part.contains(" /v2/")));
        requests
            .filter(|request| !request.starts_with("GET ") && !request.starts_with("HEAD "))
            .map(str::to_owned)
            .collect()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An authority, and a certificate of it for this machine.
fn certify(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    fs::write(folder.join("server.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

/// What the other registry gets.
#[derive(Default)]
pub(super) struct Request {
    /// `METHOD /path`.
    pub(super) line: String,
    /// The header that says for whom it is: the registry's name.
    pub(super) host: String,
    /// The header `Authorization`, or nothing.
    pub(super) authorization: String,
}

/// What it does with a request.
pub(super) enum Reply {
    /// A status, headers, and a body.
    Answer(u16, String, &'static str),
    /// Reads a little of the body and closes the connection.
    Close,
    /// Never answers.
    Silence,
}

impl Reply {
    /// An answer with no more than a status.
    pub(super) fn status(status: u16) -> Self {
        Self::Answer(status, String::new(), "")
    }
}

/// A registry over plain HTTP that answers what a function says of a request.
pub(super) struct Fake {
    port: u16,
    ended: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(super) fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake = Self { port, ended: Arc::default(), seen: Arc::default() };
        let (ended, seen, reply) = (fake.ended.clone(), fake.seen.clone(), Arc::new(reply));
        thread::spawn(move || {
            let mut silent = vec![];
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                silent.extend(serve(stream, &seen, reply.as_ref()));
            }
        });
        fake
    }

    pub(super) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests so far.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

/// The first byte of a TLS connection: a record of type handshake (RFC 8446).
const TLS: u8 = 0x16;

/// One request of a connection. Gives the connection back if it shall hear nothing.
fn serve(stream: TcpStream, seen: &Mutex<Vec<String>>, reply: &dyn Fn(&Request) -> Reply) -> Option<TcpStream> {
    let mut reader = BufReader::new(stream);
    if reader.fill_buf().ok()?.first() == Some(&TLS) {
        // As Go's and other servers.
        reader.get_mut().write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").ok()?;
        return None;
    }
    let (mut first, mut length, mut request) = (String::new(), 0, Request::default());
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':')?;
        let value = value.trim().to_owned();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "host" => request.host = value,
            "authorization" => request.authorization = value,
            _ => {}
        }
    }
    request.line = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    seen.lock().unwrap().push(request.line.clone());
    match reply(&request) {
        Reply::Silence => return Some(reader.into_inner()),
        Reply::Close => {
            reader.read_exact(&mut vec![0; length.min(1000)]).ok()?;
        }
        Reply::Answer(status, headers, body) => {
            reader.read_exact(&mut vec![0; length]).ok()?;
            // A body that nobody reads is not one of HTTP.
            let body = if request.line.starts_with("HEAD ") { "" } else { body };
            let head =
                format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
            reader.get_mut().write_all(format!("{head}{body}").as_bytes()).ok()?;
        }
    }
    None
}
