//! Hands a request on over HTTP/2, with all that streams in both directions.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Uri, Version, header};
use axum::response::Response;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::{Notify, watch};
use tonic::transport::Channel;
use tonic::{Status, TimeoutExpired};
use tower::{Service as _, ServiceExt as _};

use super::super::context::stopped;
use super::super::http::is_grpc;

/// The header of a request that was handed on.
pub(super) const FORWARDED: &str = "sluice-forwarded";

/// etcd's text for a request whose leader went away: it may have been carried out or not (etcd:
/// rpctypes.ErrTimeoutDueToLeaderFail).
const LEADER_FAILED: &str = "etcdserver: request timed out, possibly due to previous leader failure";

/// etcd's text of a server that ends (etcd: rpctypes.ErrStopped).
const STOPPED: &str = "etcdserver: server stopped";

/// What belongs to a connection, not to a request (RFC 9113, 8.2.2).
const OF_CONNECTION: [HeaderName; 3] = [header::CONNECTION, header::HOST, header::UPGRADE];

/// The answer to a gRPC call that nobody carries out.
pub(super) fn refuse(why: &str) -> Response {
    Status::unavailable(why).into_http()
}

/// Hands a request on; `broken` is told if the connection broke, also during the answer.
pub(super) async fn forward(
    mut channel: Channel,
    request: Request,
    stop: watch::Receiver<bool>,
    broken: Arc<Notify>,
) -> Response {
    let (version, is_grpc) = (request.version(), is_grpc(&request));
    let (mut parts, body) = request.into_parts();
    parts.version = Version::HTTP_2;
    // The channel knows which server it leads to.
    let path = parts.uri.path_and_query().cloned();
    parts.uri = path.map_or_else(Uri::default, Uri::from);
    OF_CONNECTION.iter().for_each(|name| drop(parts.headers.remove(name)));
    parts.headers.insert(HeaderName::from_static(FORWARDED), HeaderValue::from_static("1"));
    let request = axum::http::Request::from_parts(parts, tonic::body::Body::new(body));
    let answer = match channel.ready().await {
        Ok(channel) => channel.call(request).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            parts.version = version;
            let stop = Box::pin(async move { stopped(&mut { stop }).await });
            let body = Answer { body: Some(body), is_grpc, stop, broken };
            Response::from_parts(parts, Body::new(body))
        }
        // The client's own time was over: the channel reads `grpc-timeout` as well.
        Err(error) if error.source().is_some_and(<dyn Error>::is::<TimeoutExpired>) => {
            Status::deadline_exceeded("context deadline exceeded").into_http()
        }
        Err(error) => {
            tracing::debug!(?error, "a request could not be handed on");
            broken.notify_one();
            if is_grpc { refuse(LEADER_FAILED) } else { super::unready("the sluice-shim that serves does not answer") }
        }
    }
}

/// What comes from the other process. If its connection breaks, or this process ends, the answer ends with a status.
struct Answer {
    /// Until it has ended.
    body: Option<tonic::body::Body>,
    is_grpc: bool,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    broken: Arc<Notify>,
}

impl Answer {
    /// The end of an answer that is not whole.
    fn cut(&mut self, why: &str) -> Option<Result<Frame<Bytes>, Status>> {
        self.body = None;
        if !self.is_grpc {
            return Some(Err(Status::unavailable(why)));
        }
        let mut trailers = axum::http::HeaderMap::new();
        Some(Status::unavailable(why).add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "an answer of the sluice-shim that serves was cut off");
                self.broken.notify_one();
                Poll::Ready(self.cut(LEADER_FAILED))
            }
            Poll::Pending if self.stop.as_mut().poll(cx).is_ready() => Poll::Ready(self.cut(STOPPED)),
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.as_ref().map_or_else(|| http_body::SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
