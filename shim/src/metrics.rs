//! What is counted, under etcd's names where etcd has one.

mod process;
mod standing;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
pub use standing::{HealthChecks, StandbyMetrics, Standing, Traffic};
use tonic::{Code, Status};

/// A request that takes longer is logged.
const SLOW: Duration = Duration::from_secs(1);

/// Success, and the failures that etcd's alerts count (etcd: contrib/mixin, `etcdHighNumberOfFailedGRPCRequests`).
const EXPECTED: [&str; 8] = [
    "OK",
    "Unknown",
    "FailedPrecondition",
    "ResourceExhausted",
    "Internal",
    "Unavailable",
    "DataLoss",
    "DeadlineExceeded",
];

/// A gRPC method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Method {
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_type: &'static str,
}

impl Method {
    /// A method with one request and one response.
    pub const fn unary(grpc_service: &'static str, grpc_method: &'static str) -> Self {
        Self { grpc_service, grpc_method, grpc_type: "unary" }
    }

    /// A method with one request and a stream of responses.
    pub const fn stream(grpc_service: &'static str, grpc_method: &'static str) -> Self {
        Self { grpc_service, grpc_method, grpc_type: "server_stream" }
    }

    /// A method with streams in both directions.
    pub const fn two_streams(grpc_service: &'static str, grpc_method: &'static str) -> Self {
        Self { grpc_service, grpc_method, grpc_type: "bidi_stream" }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_service: &'static str,
    grpc_method: &'static str,
    grpc_type: &'static str,
    grpc_code: &'static str,
}

/// Why a selector is not used to filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The sender speaks another version of the contract, or does not say which.
    Version,
    /// It exceeds the limit of the contract.
    TooLong,
    /// It is no selector.
    Unparsable,
    /// A field whose value the storage can't know; the rest of the selector is used.
    UnknownField,
    /// No object can be left out because of it.
    Nothing,
}

/// What a selector filters by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Used {
    /// Labels alone.
    Labels,
    /// Fields alone.
    Fields,
    /// Labels and fields.
    Both,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UsedLabel {
    by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SuccessLabel {
    success: &'static str,
}

/// The counters of the gRPC layer. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    started: Family<Method, Counter>,
    handled: Family<Handled, Counter>,
    seconds: Family<Method, Histogram, fn() -> Histogram>,
    slow: Counter,
    range_seconds: Family<SuccessLabel, Histogram, fn() -> Histogram>,
    refused_selectors: Family<RefusalLabel, Counter>,
    used_selectors: Family<UsedLabel, Counter>,
    tls_reloads: Family<ResultLabel, Counter>,
    refused_connections: Family<CauseLabel, Counter>,
    /// The place that an etcd has in a cluster.
    pub standing: Standing,
    /// Watch streams that are open.
    pub watch_streams: Gauge,
    /// Watchers on them.
    pub watchers: Gauge,
    /// Bytes of the database, as last read for whoever asked for the metrics.
    pub db_size: Gauge,
    /// The same without what is free.
    pub db_size_in_use: Gauge,
    /// Events sent to watchers.
    pub watch_events: Counter,
}

/// From 0.1 ms to 13 s.
fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 18))
}

/// From 0.1 ms to 52 s (etcd: server/etcdserver/txn/metrics.go, `rangeSec`).
fn range_latency() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 20))
}

impl Metrics {
    /// The counters, registered.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            started: Family::default(),
            handled: Family::default(),
            seconds: Family::new_with_constructor(latency),
            slow: Counter::default(),
            range_seconds: Family::new_with_constructor(range_latency),
            refused_selectors: Family::default(),
            used_selectors: Family::default(),
            tls_reloads: Family::default(),
            refused_connections: Family::default(),
            standing: Standing::default(),
            watch_streams: Gauge::default(),
            watchers: Gauge::default(),
            db_size: Gauge::default(),
            db_size_in_use: Gauge::default(),
            watch_events: Counter::default(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("commit", crate::COMMIT)]);
        registry.register("sluice_build", "What is running", build);
        registry.register_collector(Box::new(process::ThisProcess));
        registry.register("grpc_server_started", "Requests that began, by method", metrics.started.clone());
        registry.register("grpc_server_handled", "Requests, by method and code", metrics.handled.clone());
        registry.register("grpc_server_handling_seconds", "Time to answer, by method", metrics.seconds.clone());
        registry.register("etcd_server_slow_apply", "Requests of more than a second", metrics.slow.clone());
        let help = "Time to read a range of keys, by whether it could be read";
        registry.register("etcd_server_range_duration_seconds", help, metrics.range_seconds.clone());
        registry.register(
            "sluice_selectors_refused",
            "Pushed selectors that are not used to filter, by reason",
            metrics.refused_selectors.clone(),
        );
        for reason in ["version", "too_long", "unparsable"] {
            // So that there is a number to look at, and to watch grow, before the first refusal.
            drop(metrics.refused_selectors.get_or_create(&RefusalLabel { reason }));
        }
        registry.register(
            "sluice_selectors_used",
            "Requests that are filtered by a pushed selector, by what",
            metrics.used_selectors.clone(),
        );
        registry.register("sluice_tls_reloads", "Reloads of changed certificate files", metrics.tls_reloads.clone());
        let help = "Connections that were refused, by cause";
        registry.register("sluice_refused_connections", help, metrics.refused_connections.clone());
        registry.register(
            "etcd_debugging_mvcc_watch_stream_total",
            "Watch streams that are open",
            metrics.watch_streams.clone(),
        );
        registry.register("etcd_debugging_mvcc_watcher_total", "Watchers that are open", metrics.watchers.clone());
        let help = "Bytes of the database, free pages included, as the metrics are read";
        registry.register("etcd_mvcc_db_total_size_in_bytes", help, metrics.db_size.clone());
        let help = "Bytes of the database without free pages, as the metrics are read";
        registry.register("etcd_mvcc_db_total_size_in_use_in_bytes", help, metrics.db_size_in_use.clone());
        registry.register("etcd_debugging_mvcc_events", "Events sent to watchers", metrics.watch_events.clone());
        metrics
    }

    /// Counts a request that is filtered by its selector.
    pub fn selector_used(&self, used: Used) {
        let by = match used {
            Used::Labels => "labels",
            Used::Fields => "fields",
            Used::Both => "both",
        };
        self.used_selectors.get_or_create(&UsedLabel { by }).inc();
    }

    /// Counts a selector that is not used, or not all of it.
    pub fn selector_refused(&self, refusal: Refusal) {
        let reason = match refusal {
            Refusal::Version => "version",
            Refusal::TooLong => "too_long",
            Refusal::Unparsable => "unparsable",
            Refusal::UnknownField => "unknown_field",
            Refusal::Nothing => "nothing",
        };
        self.refused_selectors.get_or_create(&RefusalLabel { reason }).inc();
    }

    /// The number of selectors refused for that reason.
    #[cfg(test)]
    pub fn refused(&self, reason: &'static str) -> u64 {
        self.refused_selectors.get_or_create(&RefusalLabel { reason }).get()
    }

    /// The number of requests that are filtered by that.
    #[cfg(test)]
    pub fn used(&self, by: &'static str) -> u64 {
        self.used_selectors.get_or_create(&UsedLabel { by }).get()
    }

    /// Counts a read of a range.
    pub fn range_read(&self, took: Duration, success: bool) {
        let success = if success { "true" } else { "false" };
        self.range_seconds.get_or_create(&SuccessLabel { success }).observe(took.as_secs_f64());
    }

    /// Counts a reload of certificates.
    pub fn tls_reload(&self, success: bool) {
        let result = if success { "success" } else { "failure" };
        self.tls_reloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts a connection that is refused.
    pub fn refused_connection(&self, cause: &'static str) {
        self.refused_connections.get_or_create(&CauseLabel { cause }).inc();
    }

    /// Counts a stream of answers from its begin to its end. It may wait for the client, so it is never slow.
    pub fn observed<S>(&self, method: Method, answers: S) -> Observed<S> {
        Observed { observation: self.begin(method, Asked { waits: true, ..Asked::default() }), answers }
    }

    /// Begins to time a request.
    pub fn begin(&self, method: Method, asked: Asked) -> Observation {
        if self.started.get_or_create(&method).inc() == 0 {
            self.expect_ends(method);
        }
        Observation { metrics: self.clone(), method, asked, begin: Instant::now(), code: Code::Cancelled }
    }

    /// Sets to 0 how often the method ended, so that the first end shows as a growth: what is open is what began less
    /// what ended, and etcd's alerts look at how fast failures come.
    fn expect_ends(&self, method: Method) {
        let Method { grpc_service, grpc_method, grpc_type } = method;
        for grpc_code in EXPECTED {
            drop(self.handled.get_or_create(&Handled { grpc_service, grpc_method, grpc_type, grpc_code }));
        }
    }

    /// Carries out a request and times it.
    pub async fn observe<T>(
        &self,
        method: Method,
        asked: Asked,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<tonic::Response<T>, Status> {
        let mut observation = self.begin(method, asked);
        let result = work.await;
        observation.ends_with(result.as_ref().err());
        result.map(tonic::Response::new)
    }
}

/// What a request asks for, for the log.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The first key.
    pub key: Bytes,
    /// The end of the range.
    pub range_end: Bytes,
    /// The revision.
    pub revision: i64,
    /// The limit, or the number of operations.
    pub limit: i64,
    /// Whether there is a selector.
    pub selector: bool,
    /// Whether it may wait for other clients: then it isn't slow when it takes long.
    pub waits: bool,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key \"{}\"", self.key.escape_ascii())?;
        if !self.range_end.is_empty() {
            write!(f, " to \"{}\"", self.range_end.escape_ascii())?;
        }
        if self.revision != 0 {
            write!(f, " revision {}", self.revision)?;
        }
        if self.limit != 0 {
            write!(f, " limit {}", self.limit)?;
        }
        if self.selector { write!(f, " with selector") } else { Ok(()) }
    }
}

/// A request under way; counted when it is dropped, as cancelled by the client if nobody said otherwise.
#[derive(Debug)]
pub struct Observation {
    metrics: Metrics,
    method: Method,
    asked: Asked,
    begin: Instant,
    code: Code,
}

impl Observation {
    /// Says how the request ended.
    pub fn ends_with(&mut self, error: Option<&Status>) {
        self.code = error.map_or(Code::Ok, Status::code);
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let took = self.begin.elapsed();
        let Method { grpc_service, grpc_method, grpc_type } = self.method;
        let label = Handled { grpc_service, grpc_method, grpc_type, grpc_code: code_name(self.code) };
        self.metrics.handled.get_or_create(&label).inc();
        self.metrics.seconds.get_or_create(&self.method).observe(took.as_secs_f64());
        if took > SLOW && !self.asked.waits {
            self.metrics.slow.inc();
            tracing::warn!(
                method = grpc_method,
                asked = %self.asked,
                milliseconds = took.as_millis() as u64,
                code = label.grpc_code,
                "slow request"
            );
        }
    }
}

/// A stream of answers that is observed.
#[derive(Debug)]
pub struct Observed<S> {
    observation: Observation,
    answers: S,
}

impl<S, T> Stream for Observed<S>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
{
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = Pin::new(&mut this.answers).poll_next(cx);
        match &next {
            Poll::Ready(Some(Err(error))) => this.observation.ends_with(Some(error)),
            // After an error there is nothing either.
            Poll::Ready(None) if this.observation.code == Code::Cancelled => this.observation.ends_with(None),
            _ => {}
        }
        next
    }
}

/// The names that Go's gRPC gives the codes, which dashboards for etcd expect.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_method_and_code() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let method = Method::unary("etcdserverpb.KV", "Range");
        metrics.begin(method, Asked::default()).ends_with(None);
        metrics.begin(method, Asked::default()).ends_with(Some(&Status::not_found("")));
        drop(metrics.begin(method, Asked::default()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for code in ["OK", "NotFound", "Canceled"] {
            let line = format!(
                "grpc_server_handled_total{{grpc_service=\"etcdserverpb.KV\",grpc_method=\"Range\",grpc_type=\"unary\",grpc_code=\"{code}\"}} 1"
            );
            assert!(text.contains(&line), "{code} in\n{text}");
        }
        assert!(text.contains("grpc_server_handling_seconds_count{grpc_service=\"etcdserverpb.KV\",grpc_method=\"Range\",grpc_type=\"unary\"} 3"));
    }

    #[test]
    fn waiting_is_not_slow() {
        let metrics = Metrics::new(&mut Registry::default());
        for (waits, slow) in [(true, 0), (false, 1)] {
            let mut request = metrics.begin(Method::unary("s", "m"), Asked { waits, ..Asked::default() });
            request.begin = request.begin.checked_sub(2 * SLOW).unwrap();
            drop(request);
            assert_eq!(metrics.slow.get(), slow);
        }
    }

    #[test]
    fn what_was_asked_is_readable() {
        let asked =
            Asked { key: "/r/\0".into(), range_end: "/s".into(), revision: 3, limit: 5, selector: true, waits: false };
        assert_eq!(asked.to_string(), "key \"/r/\\x00\" to \"/s\" revision 3 limit 5 with selector");
        assert_eq!(Asked { key: "a".into(), ..Asked::default() }.to_string(), "key \"a\"");
    }
}
