//! Accepts connections: plain, TLS, or from a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::context::stopped;
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
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Opens the socket.
    pub async fn bind(url: &ListenUrl, tls: Option<&Arc<Tls>>) -> Result<Self> {
        let failed = || format!("listen at {url}");
        match url {
            ListenUrl::Plain(address) => {
                let (listener, address) = bind_tcp(address).await.with_context(failed)?;
                Ok(Self { url: ListenUrl::Plain(address), socket: Socket::Tcp(listener), tls: None })
            }
            ListenUrl::Tls(address) => {
                let tls = Some(tls.context("there is no certificate").with_context(failed)?.clone());
                let (listener, address) = bind_tcp(address).await.with_context(failed)?;
                Ok(Self { url: ListenUrl::Tls(address), socket: Socket::Tcp(listener), tls })
            }
            ListenUrl::Unix(path) => {
                remove_stale_socket(path).with_context(failed)?;
                let socket = Socket::Unix(UnixListener::bind(path).with_context(failed)?, path.clone());
                Ok(Self { url: url.clone(), socket, tls: None })
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
    pub async fn accept(self, connections: mpsc::Sender<io::Result<Connection>>, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = stopped(&mut stop) => {}
            () = self.accept_all(&connections) => {}
        }
        if let Socket::Unix(_, path) = &self.socket {
            // Another instance removes it as well when it starts.
            let _ = std::fs::remove_file(path);
        }
    }

    async fn accept_all(&self, connections: &mpsc::Sender<io::Result<Connection>>) {
        loop {
            let accepted = match &self.socket {
                Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| Connection::tcp(stream)),
                Socket::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Connection::Unix(stream)),
            };
            match (accepted, &self.tls) {
                (Ok(Connection::Tcp(stream)), Some(tls)) => {
                    tokio::spawn(handshake(stream, tls.clone(), connections.clone()));
                }
                (Ok(connection), _) => {
                    if connections.send(Ok(connection)).await.is_err() {
                        return;
                    }
                }
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Opens the socket; returns the address with the real port if it said 0.
async fn bind_tcp(address: &str) -> io::Result<(TcpListener, String)> {
    let listener = TcpListener::bind(address).await?;
    let real = match address.strip_suffix(":0") {
        Some(host) => format!("{host}:{}", listener.local_addr()?.port()),
        None => address.to_owned(),
    };
    Ok((listener, real))
}

async fn handshake(stream: TcpStream, tls: Arc<Tls>, connections: mpsc::Sender<io::Result<Connection>>) {
    let peer = stream.peer_addr();
    // Reads files when they changed.
    let Ok(config) = tokio::task::spawn_blocking(move || tls.config()).await else { return };
    match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => {
            // A server that ends takes no more connections.
            let _ = connections.send(Ok(Connection::Tls(Box::new(stream)))).await;
        }
        Ok(Err(error)) => tracing::debug!(?peer, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(?peer, "a TLS handshake took too long"),
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

/// A client's connection.
#[derive(Debug)]
pub enum Connection {
    /// Plain.
    Tcp(TcpStream),
    /// After the handshake.
    Tls(Box<TlsStream<TcpStream>>),
    /// From a Unix socket.
    Unix(UnixStream),
}

impl Connection {
    fn tcp(stream: TcpStream) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was not set");
        }
        Self::Tcp(stream)
    }
}

impl Connected for Connection {
    type ConnectInfo = Option<SocketAddr>;

    fn connect_info(&self) -> Self::ConnectInfo {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }
}
