//! Whether a connection leads through a pooler that may give each transaction another process of the server.
//!
//! A server greets a connection with the number of the process that serves it, by which a statement can be cancelled. A
//! pooler greets with a number of its own making. The driver tells that number to whoever cancels a statement; here
//! nobody is at the other end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::{Ready, ready};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};
use tokio_postgres::CancelToken;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// What a client asks that wants an encrypted connection.
const ENCRYPT: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The number of the process that greeted the connection, if the driver tells it.
pub(super) async fn greeted_by(token: CancelToken) -> Option<i32> {
    let (near, mut far) = tokio::io::duplex(64);
    let heard = async move {
        let mut begin = [0; 8];
        far.read_exact(&mut begin).await.ok()?;
        if begin == ENCRYPT {
            far.write_all(b"S").await.ok()?;
            far.read_exact(&mut begin).await.ok()?;
        }
        far.read_i32().await.ok()
    };
    tokio::join!(token.cancel_query_raw(near, Plain), heard).1
}

/// Encrypts nothing, for what does not leave the process.
struct Plain;

struct Inside(DuplexStream);

impl TlsConnect<DuplexStream> for Plain {
    type Stream = Inside;
    type Error = io::Error;
    type Future = Ready<io::Result<Inside>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(Inside(stream)))
    }
}

impl TlsStream for Inside {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Inside {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Inside {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
