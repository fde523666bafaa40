//! The error of a message that is larger than the server takes.
//!
//! It comes from the gRPC library, before any of our code sees the message: tonic says `OutOfRange` with a text of its
//! own. Clients know it as Go's gRPC library says it (google.golang.org/grpc: rpc_util.go, `recvAndDecompress`): so
//! does etcd, in each service, and as the end of a stream whose client sends such a message.

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use tonic::{Code, Status};

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// Puts Go's code and text in place of tonic's; leaves every other answer as it is. For requests of one message, which
/// the library answers.
pub(super) fn rename(mut response: Response) -> Response {
    if let Some(message) = go_header(response.headers()) {
        response.headers_mut().insert(STATUS, HeaderValue::from(Code::ResourceExhausted as i32));
        response.headers_mut().insert(MESSAGE, message);
    }
    response
}

/// The same for the error of a stream of requests, which its service gets and has to pass on.
pub(super) fn renamed(error: Status) -> Status {
    match go_text(error.code(), error.message()) {
        Some(text) => Status::resource_exhausted(text),
        None => error,
    }
}

/// A header's text is percent-encoded; in this one only the spaces are.
fn go_header(headers: &HeaderMap) -> Option<HeaderValue> {
    let code = Code::from_bytes(headers.get(STATUS)?.as_bytes());
    let text = headers.get(MESSAGE)?.to_str().ok()?.replace("%20", " ");
    HeaderValue::try_from(go_text(code, &text)?).ok()
}

/// tonic: codec/decode.rs, `decode_chunk`.
fn go_text(code: Code, text: &str) -> Option<String> {
    let text =
        text.strip_prefix("Error, decoded message length too large: found ").filter(|_| code == Code::OutOfRange)?;
    let (found, limit) = text.strip_suffix(" bytes")?.split_once(" bytes, the limit is: ")?;
    Some(format!("grpc: received message larger than max ({found} vs. {limit})"))
}
