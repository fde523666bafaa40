//! Lists that a process answers which stands by.
//!
//! The process reads the database itself, as of what the process that serves says ([`Place`]). All requests that wait
//! at the same time share one question. A request that can't be answered so is handed on, as it came.

use std::future::ready;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::{Buf as _, Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;

use super::super::context::Identity;
use super::super::place::Place;
use super::super::{selection, translate, validate};
use super::leader::Leader;
use crate::engine::aside::Aside;
use crate::engine::{Error, RangeQuery, Stand};
use crate::metrics::Metrics;
use crate::pb::etcdserverpb as pb;

const RANGE: &str = "/etcdserverpb.KV/Range";
const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";

/// How many bytes a request has at most that is looked into: keys and selectors are short.
const LONGEST: usize = 64 << 10;
/// What stands before a message: whether it is compressed, and how long it is (gRPC over HTTP/2:
/// Length-Prefixed-Message).
const PREFIX: usize = 5;

/// Who asks for a [`Place`]; `None` is said when the process can't be asked.
type Asking = oneshot::Sender<Option<Place>>;

/// Answers lists.
#[derive(Debug)]
pub(super) struct Near {
    aside: Aside,
    /// Of the answers.
    identity: Identity,
    owner: i64,
    asks: mpsc::UnboundedSender<Asking>,
    metrics: Metrics,
}

impl Near {
    /// Reads beside the process that serves, which said that of itself. `url`: where this process is.
    pub(super) fn start(leader: Leader, at: Place, url: &str, aside: Aside, metrics: Metrics) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        tokio::spawn(tell(leader, asked));
        Self { aside, identity: Identity::new(at.cluster_id, url), owner: at.owner, asks, metrics }
    }

    /// Answers a list; gives back whatever is to be handed on.
    pub(super) async fn answer(&self, request: Request) -> Result<Response, Request> {
        let streams = match request.uri().path() {
            RANGE => false,
            RANGE_STREAM => true,
            _ => return Err(request),
        };
        let (parts, body) = request.into_parts();
        let body = match read(body.into_data_stream()).await {
            Ok(body) => body,
            Err(unread) => return Err(Request::from_parts(parts, unread)),
        };
        let again = |parts| Request::from_parts(parts, Body::from(body.clone()));
        let Some(query) = self.query(&parts, &body, streams) else { return Err(again(parts)) };
        let Some(stand) = self.stand().await else { return Err(again(parts)) };
        let identity = self.identity;
        if !streams {
            let Some(read) = self.aside.range(stand, query).await else { return Err(again(parts)) };
            let answer = read.map_err(Status::from).map(|result| {
                let header = identity.header(result.revision);
                tonic::Response::new(translate::range_response(Some(header), result))
            });
            let mut answer = Some(answer);
            let service = tower::service_fn(|_: tonic::Request<pb::RangeRequest>| {
                ready(answer.take().unwrap_or_else(|| Err(Status::internal("a request was answered twice"))))
            });
            return Ok(grpc::<pb::RangeResponse>().unary(service, again(parts)).await.map(Body::new));
        }
        let mut chunks = self.aside.range_stream(stand, query);
        let first = match chunks.recv().await {
            None | Some(Err(Error::Unavailable(_))) => return Err(again(parts)),
            Some(first) => first,
        };
        let chunks = stream::once(ready(first)).chain(ReceiverStream::new(chunks));
        let chunks = chunks.map(move |chunk| Ok(translate::chunk(identity, chunk?).0));
        let mut answer = Some(chunks.boxed());
        let service = tower::service_fn(|_: tonic::Request<pb::RangeRequest>| {
            let chunks: BoxStream<'static, _> = answer.take().unwrap_or_else(|| stream::empty().boxed());
            ready(Ok::<_, Status>(tonic::Response::new(chunks)))
        });
        Ok(grpc::<pb::RangeStreamResponse>().server_streaming(service, again(parts)).await.map(Body::new))
    }

    /// What is asked for, if it is a list that can be read here.
    fn query(&self, parts: &Parts, body: &Bytes, streams: bool) -> Option<RangeQuery> {
        let request = message(body)?;
        validate::range(&request).ok()?;
        if streams {
            validate::range_stream(&request).ok()?;
        }
        let metadata = MetadataMap::from_headers(parts.headers.clone());
        // What is handed on is counted where it is answered.
        if !Aside::takes(&translate::range_query(request.clone(), None)) {
            return None;
        }
        let selection = selection::of_range(&metadata, &request, &self.metrics);
        Some(translate::range_query(request, selection))
    }

    /// How far the database is now, or a moment later.
    async fn stand(&self) -> Option<Stand> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(reply).ok()?;
        let place = answer.await.ok()??;
        (place.owner == self.owner).then_some(place.stand)
    }
}

/// Asks the process that serves, once for all that wait then, until nobody can ask any more.
async fn tell(leader: Leader, mut asked: mpsc::UnboundedReceiver<Asking>) {
    let mut waiting = Vec::new();
    while asked.recv_many(&mut waiting, usize::MAX).await > 0 {
        let place = leader.place().await.inspect_err(|error| tracing::debug!(%error, "the stand is not known")).ok();
        for reply in waiting.drain(..) {
            // Whoever does not wait any more does not matter.
            let _ = reply.send(place);
        }
    }
}

/// All of a body; a body with the same bytes if it is long, or does not come to its end.
async fn read(mut body: BodyDataStream) -> Result<Bytes, Body> {
    let mut all = BytesMut::new();
    while let Some(part) = body.next().await {
        match part {
            Ok(part) if all.len() + part.len() <= LONGEST => all.extend_from_slice(&part),
            part => {
                let begin = stream::iter([Ok(all.freeze()), part]);
                return Err(Body::from_stream(begin.chain(body)));
            }
        }
    }
    Ok(all.freeze())
}

/// The one message of a body, if it is not compressed.
fn message(body: &Bytes) -> Option<pb::RangeRequest> {
    let mut prefix = body.get(..PREFIX)?;
    let (compressed, length) = (prefix.get_u8(), prefix.get_u32());
    let message = body.slice(PREFIX..);
    let is_one = compressed == 0 && usize::try_from(length).is_ok_and(|length| length == message.len());
    if is_one { pb::RangeRequest::decode(message).ok() } else { None }
}

fn grpc<T: prost::Message + Default + Send + 'static>() -> Grpc<ProstCodec<T, pb::RangeRequest>> {
    Grpc::new(ProstCodec::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(request: &pb::RangeRequest, compressed: u8) -> Bytes {
        let message = request.encode_to_vec();
        let mut body = vec![compressed];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        body.into()
    }

    #[test]
    fn one_message_is_read() {
        let request = pb::RangeRequest { key: "/a".into(), limit: 5, ..pb::RangeRequest::default() };
        let whole = framed(&request, 0);
        assert_eq!(message(&whole), Some(request.clone()));
        let two = [&whole[..], &whole].concat();
        for other in [Bytes::new(), whole.slice(..3), whole.slice(..7), framed(&request, 1), two.into()] {
            assert_eq!(message(&other), None, "{other:?}");
        }
    }

    /// What is not read to its end is handed on with all that was read.
    #[tokio::test]
    async fn bodies() {
        let stream = |parts: &[usize], breaks: bool| {
            let parts: Vec<_> = parts.iter().map(|length| Ok(Bytes::from(vec![b'x'; *length]))).collect();
            let end = breaks.then(|| Err(std::io::Error::other("broken")));
            Body::from_stream(stream::iter(parts.into_iter().chain(end))).into_data_stream()
        };
        assert_eq!(read(stream(&[3, 4], false)).await.unwrap().len(), 7);
        let long = read(stream(&[LONGEST, 1, 9], false)).await.unwrap_err();
        assert_eq!(axum::body::to_bytes(long, usize::MAX).await.unwrap().len(), LONGEST + 10);
        let mut broken = read(stream(&[3], true)).await.unwrap_err().into_data_stream();
        assert_eq!(broken.next().await.unwrap().unwrap().len(), 3);
        assert!(broken.next().await.unwrap().is_err());
    }
}
