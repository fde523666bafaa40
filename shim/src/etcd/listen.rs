//! Accepts connections: plain, TLS, or from a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::connection::{Connection, Door, TLS_HANDSHAKE};
use super::context::stopped;
use super::refused::{Cause, Refused};
use super::tls::Tls;
use crate::config::ListenUrl;

/// A client that has not finished the TLS handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The pause after a failure to accept, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// An open socket.
#[derive(Debug)]
pub struct Listener {
    url: ListenUrl,
    socket: Socket,
    tls: Option<Arc<Tls>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "it is there to be dropped")] SocketFile),
}

/// The file of a Unix socket, which is removed with it. Another instance removes it as well when it starts.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Opens the socket.
    pub async fn bind(url: &ListenUrl, tls: Option<&Arc<Tls>>) -> Result<Self> {
        let tls = if url.is_tls() { Some(tls.context("there is no certificate")?.clone()) } else { None };
        match url {
            ListenUrl::Plain(address) => {
                let (listener, address) = bind_tcp(address).await?;
                Ok(Self { url: ListenUrl::Plain(address), socket: Socket::Tcp(listener), tls })
            }
            ListenUrl::Tls(address) => {
                let (listener, address) = bind_tcp(address).await?;
                Ok(Self { url: ListenUrl::Tls(address), socket: Socket::Tcp(listener), tls })
            }
            ListenUrl::Unix(path) | ListenUrl::UnixTls(path) => {
                Ok(Self { url: url.clone(), socket: bind_unix(path)?, tls })
            }
        }
    }

    /// The address, if it has one; with the real port if the URL said 0.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// The URL at which it can be reached: the one that it was opened with, but with the real port.
    pub fn url(&self) -> &ListenUrl {
        &self.url
    }

    /// Hands on connections until the server ends.
    pub(super) async fn accept(
        self,
        door: Arc<Door>,
        connections: mpsc::Sender<io::Result<Connection>>,
        mut stop: watch::Receiver<bool>,
    ) {
        tokio::select! {
            () = stopped(&mut stop) => {}
            () = self.accept_all(&door, &connections) => {}
        }
    }

    async fn accept_all(&self, door: &Arc<Door>, connections: &mpsc::Sender<io::Result<Connection>>) {
        loop {
            let accepted = match (&self.socket, &self.tls) {
                (Socket::Tcp(listener), Some(tls)) => match listener.accept().await {
                    Ok((stream, _)) => {
                        let peer = stream.peer_addr().ok();
                        let secured = secure_tcp(at_once(stream), tls.clone());
                        tokio::spawn(handshake(peer, secured, Connection::tls, door.clone(), connections.clone()));
                        continue;
                    }
                    Err(error) => Err(error),
                },
                (Socket::Unix(listener, _), Some(tls)) => match listener.accept().await {
                    Ok((stream, _)) => {
                        let secured = secure(stream, tls.clone());
                        tokio::spawn(handshake(None, secured, Connection::unix_tls, door.clone(), connections.clone()));
                        continue;
                    }
                    Err(error) => Err(error),
                },
                (Socket::Tcp(listener), None) => {
                    listener.accept().await.map(|(stream, _)| Connection::tcp(at_once(stream), door.clone()))
                }
                (Socket::Unix(listener, _), None) => {
                    listener.accept().await.map(|(stream, _)| Connection::unix(stream, door.clone()))
                }
            };
            match accepted {
                Ok(connection) => {
                    if connections.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// What is written is sent at once.
fn at_once(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    stream
}

/// Opens the socket; returns the address with the real port if it said 0.
async fn bind_tcp(address: &str) -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind(address).await.map_err(explained)?;
    let real = match address.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", listener.local_addr()?.port()),
        None => address.to_owned(),
    };
    Ok((listener, real))
}

fn bind_unix(path: &Path) -> Result<Socket> {
    remove_stale_socket(path)?;
    let is_other = std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket());
    if is_other {
        bail!("{} is there already, and is no socket; name another file", path.display());
    }
    let listener = UnixListener::bind(path).map_err(explained)?;
    Ok(Socket::Unix(listener, SocketFile(path.to_owned())))
}

/// With what to do about it.
fn explained(error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; stop it, or choose another address",
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; 0.0.0.0 or [::] stands for all that it has"
        }
        io::ErrorKind::PermissionDenied => "this user may not; choose a port from 1024 on, or another folder",
        io::ErrorKind::NotFound => "the folder of the socket must exist",
        _ => return error.into(),
    };
    anyhow::anyhow!("{error}; {advice}")
}

async fn handshake<S>(
    peer: Option<SocketAddr>,
    secured: impl Future<Output = Result<Option<TlsStream<S>>, Refused>>,
    connected: fn(TlsStream<S>, Arc<Door>) -> Connection,
    door: Arc<Door>,
    connections: mpsc::Sender<io::Result<Connection>>,
) {
    match tokio::time::timeout(HANDSHAKE, secured).await {
        Ok(Ok(Some(stream))) => {
            // A server that ends takes no more connections.
            let _ = connections.send(Ok(connected(stream, door))).await;
        }
        Ok(Ok(None)) => tracing::debug!(?peer, "a connection was closed before it began"),
        Ok(Err(refused)) => door.refusals.tell(peer, &refused),
        Err(_) => door.refusals.tell(peer, &Refused::new(Cause::Timeout)),
    }
}

/// Makes the handshake; `None` if the client went away without a word, as a port scan or a load balancer does.
async fn secure_tcp(mut stream: TcpStream, tls: Arc<Tls>) -> Result<Option<TlsStream<TcpStream>>, Refused> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) => return Ok(None),
        Ok(_) if first == [TLS_HANDSHAKE] => {}
        Ok(_) => {
            explain(&mut stream).await;
            return Err(Refused::new(Cause::PlainToTls));
        }
        Err(error) => return Err(Refused::failed(error, None)),
    }
    secure(stream, tls).await
}

/// Makes the handshake with a client of which nothing is known.
async fn secure<S: AsyncRead + AsyncWrite + Unpin>(stream: S, tls: Arc<Tls>) -> Result<Option<TlsStream<S>>, Refused> {
    let failed = |error| Refused::failed(error, None);
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(failed)?;
    let server_name = start.client_hello().server_name().map(str::to_owned);
    // Reads files when they changed.
    let config = tokio::task::spawn_blocking(move || tls.config()).await.map_err(|error| failed(error.into()))?;
    start.into_stream(config).await.map(Some).map_err(|error| Refused::failed(error, server_name))
}

/// Tells a client that speaks HTTP without TLS; another does not mind. It is refused whether it hears of it or not.
async fn explain(stream: &mut TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
        This port speaks TLS: use https://\n";
    // What is not read would break the connection before the answer arrives.
    if stream.read(&mut [0; 4096]).await.is_ok() {
        let _ = stream.write_all(ANSWER).await;
    }
}

/// Removes the socket that an instance which was killed left behind; never anything else, nor one in use.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
            _ => Ok(()),
        },
        Ok(_) | Err(_) => Ok(()),
    }
}
