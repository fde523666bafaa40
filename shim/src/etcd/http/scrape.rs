//! /metrics, in the form that the client asks for.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::registry::Registry;

use super::{Served, plain};
use crate::etcd::context::Context;

/// A database that has not answered by then is left out.
const WITHIN: Duration = Duration::from_secs(5);

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Any method, as with etcd.
pub(super) async fn metrics(State(served): State<Served>, headers: HeaderMap) -> Response {
    measure(&served.context).await;
    scraped(&served.registry, &headers)
}

/// What is counted, in the form that the client asks for.
pub(in crate::etcd) fn scraped(registry: &Registry, headers: &HeaderMap) -> Response {
    let mut text = String::new();
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, registry) {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
    }
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
    if accepted.into_iter().any(|kinds| kinds.contains("application/openmetrics-text")) {
        ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
    } else {
        ([(header::CONTENT_TYPE, CLASSIC)], classic(&text)).into_response()
    }
}

/// Sets what is measured only when somebody looks.
async fn measure(context: &Context) {
    context.metrics.standing.set(context.engine.takes_writes(), context.engine.waiting_writes());
    // A database that does not answer is what the other metrics tell of.
    if let Ok(Ok(store)) = tokio::time::timeout(WITHIN, context.engine.status()).await {
        context.metrics.db_size.set(store.db_size);
        context.metrics.db_size_in_use.set(store.db_size_in_use);
    }
}

/// Prometheus' older text form, which each scraper reads: names of counters have their suffix in the descriptions too,
/// and there are fewer types.
fn classic(open: &str) -> String {
    let (mut text, mut help) = (String::with_capacity(open.len()), "");
    for line in open.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            text.push_str(&format!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form_of_metrics() {
        let open = "# HELP a A gauge.\n# TYPE a gauge\n# UNIT a bytes\na 1\n\
                    # HELP b A counter.\n# TYPE b counter\nb_total{x=\"# y\"} 2\n\
                    # HELP c Build.\n# TYPE c info\nc_info{version=\"1\"} 1\n# EOF\n";
        let expected = "# HELP a A gauge.\n# TYPE a gauge\na 1\n\
                        # HELP b_total A counter.\n# TYPE b_total counter\nb_total{x=\"# y\"} 2\n\
                        # HELP c_info Build.\n# TYPE c_info gauge\nc_info{version=\"1\"} 1\n";
        assert_eq!(classic(open), expected);
    }
}
