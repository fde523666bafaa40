//! The error of a message that is larger than the server takes.
//!
//! It comes from the gRPC library, before any of our code sees the request: tonic says `OutOfRange` with a text of its own. Clients know it as
//! Go's gRPC library says it (google.golang.org/grpc: rpc_util.go, `recvAndDecompress`).

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use tonic::Code;

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// Puts Go's code and text in place of tonic's; leaves every other answer as it is.
pub(super) async fn rename(mut response: Response) -> Response {
    if let Some(message) = go_message(response.headers()) {
        response.headers_mut().insert(STATUS, HeaderValue::from(Code::ResourceExhausted as i32));
        response.headers_mut().insert(MESSAGE, message);
    }
    response
}

/// tonic: codec/decode.rs, `decode_chunk`, percent-encoded as in every `grpc-message`.
fn go_message(headers: &HeaderMap) -> Option<HeaderValue> {
    let out_of_range = headers.get(STATUS)?.to_str().ok()? == (Code::OutOfRange as i32).to_string();
    let text = headers.get(MESSAGE).filter(|_| out_of_range)?.to_str().ok()?.replace("%20", " ");
    let numbers = text.strip_prefix("Error, decoded message length too large: found ")?.strip_suffix(" bytes")?;
    let (found, limit) = numbers.split_once(" bytes, the limit is: ")?;
    HeaderValue::try_from(format!("grpc: received message larger than max ({found} vs. {limit})")).ok()
}
