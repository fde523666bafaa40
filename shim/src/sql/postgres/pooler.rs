//! Whether a connection leads through a pooler that may give each transaction another process of the server.
//!
//! A server greets a connection with the number of the process that serves it, by which a statement can be cancelled. A
//! pooler greets with a number of its own making. The driver tells that number to whoever cancels a statement; here
//! nobody is at the other end.

use std::io;

use futures::future::{Ready, ready};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_postgres::CancelToken;
use tokio_postgres::tls::TlsConnect;

use super::tls::Stream;

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

impl TlsConnect<DuplexStream> for Plain {
    type Stream = Stream<DuplexStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Stream>>;

    fn connect(self, stream: DuplexStream) -> Self::Future {
        ready(Ok(Stream(stream)))
    }
}
