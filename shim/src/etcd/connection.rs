//! A client's connection: its bytes are counted, and TLS where none is spoken is noticed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::refused::{Cause, Refusals, Refused};
use crate::metrics::Traffic;

/// What a listener's connections have to do with.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) refusals: Arc<Refusals>,
    /// Where their bytes are counted; those of metrics listeners are not.
    pub(super) traffic: Option<Traffic>,
}

/// The first byte of a TLS connection: the type of a record with a handshake (RFC 8446, 5.1).
pub(super) const TLS_HANDSHAKE: u8 = 0x16;

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    door: Arc<Door>,
    /// Whether the first bytes are still to come, and must not be those of TLS.
    unheard: bool,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    /// After the handshake.
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
    /// From a Unix socket, after the handshake.
    UnixTls(Box<TlsStream<UnixStream>>),
}

impl Connection {
    /// Without TLS.
    pub(super) fn tcp(stream: TcpStream, door: Arc<Door>) -> Self {
        Self { stream: Stream::Tcp(stream), door, unheard: true }
    }

    /// After the handshake.
    pub(super) fn tls(stream: TlsStream<TcpStream>, door: Arc<Door>) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), door, unheard: false }
    }

    /// From a Unix socket.
    pub(super) fn unix(stream: UnixStream, door: Arc<Door>) -> Self {
        Self { stream: Stream::Unix(stream), door, unheard: true }
    }

    /// From a Unix socket, after the handshake.
    pub(super) fn unix_tls(stream: TlsStream<UnixStream>, door: Arc<Door>) -> Self {
        Self { stream: Stream::UnixTls(Box::new(stream)), door, unheard: false }
    }

    fn address(&self) -> Option<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.peer_addr().ok(),
            Stream::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
            Stream::Unix(_) | Stream::UnixTls(_) => None,
        }
    }

    /// Looks at bytes that came.
    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(traffic) = &self.door.traffic {
            traffic.received.inc_by(bytes.len() as u64);
        }
        if let (true, Some(first)) = (self.unheard, bytes.first()) {
            self.unheard = false;
            if *first == TLS_HANDSHAKE {
                let refused = Refused::new(Cause::TlsToPlain);
                self.door.refusals.tell(self.address(), &refused);
                return Err(io::Error::new(io::ErrorKind::InvalidData, Cause::TlsToPlain.text()));
            }
        }
        Ok(())
    }

    fn spoke(&self, written: &Poll<io::Result<usize>>) {
        if let (Some(traffic), Poll::Ready(Ok(bytes))) = (&self.door.traffic, written) {
            traffic.sent.inc_by(*bytes as u64);
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Option<SocketAddr>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.address()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::UnixTls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        match read {
            Poll::Ready(Ok(())) => Poll::Ready(this.hear(buffer.filled().get(before..).unwrap_or_default())),
            other => other,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::UnixTls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        this.spoke(&written);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::UnixTls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::UnixTls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::UnixTls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        this.spoke(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::UnixTls(stream) => stream.is_write_vectored(),
        }
    }
}
