//! What the engine counts, for the metrics listener.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::gc_metrics::GcMetrics;

/// The engine's metrics; the documentation of each is its help text in [`Metrics::register`].
#[derive(Debug)]
#[expect(missing_docs, reason = "the help texts say it")]
pub struct Metrics {
    pub revision: Gauge,
    pub compact_revision: Gauge,
    pub compaction_pending: Gauge,
    pub rows_read: Counter,
    pub rows_returned: Counter,
    pub index_reads: Counter,
    pub batch_requests: Histogram,
    pub commit_seconds: Histogram,
    pub commit_failures: Counter,
    pub events: Counter,
    pub replays: Counter,
    pub leases_expired: Counter,
    pub gc: GcMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            revision: Gauge::default(),
            compact_revision: Gauge::default(),
            compaction_pending: Gauge::default(),
            rows_read: Counter::default(),
            rows_returned: Counter::default(),
            index_reads: Counter::default(),
            batch_requests: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            commit_seconds: Histogram::new(exponential_buckets(0.000_125, 2.0, 16)),
            commit_failures: Counter::default(),
            events: Counter::default(),
            replays: Counter::default(),
            leases_expired: Counter::default(),
            gc: GcMetrics::default(),
        }
    }
}

impl Metrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("revision", "Newest published revision", self.revision.clone());
        registry.register("compact_revision", "Revision of the last compaction", self.compact_revision.clone());
        let help = "1 while rows that the last compaction freed are still being removed";
        registry.register("compaction_pending", help, self.compaction_pending.clone());
        let help = "Rows of keys that range requests fetched, whether returned or not";
        registry.register("rows_read", help, self.rows_read.clone());
        registry.register("rows_returned", "Keys that range requests returned", self.rows_returned.clone());
        let help = "Range requests that the selector index answered";
        registry.register("index_reads", help, self.index_reads.clone());
        let help = "Requests in one commit";
        registry.register("commit_batch_requests", help, self.batch_requests.clone());
        let help = "Time of one commit, reading and deciding included";
        registry.register_with_unit("commit", help, Unit::Seconds, self.commit_seconds.clone());
        registry.register("commit_failures", "Commits that failed", self.commit_failures.clone());
        registry.register("events", "Changes committed", self.events.clone());
        let help = "Reads of the database for watchers that start in the past or fell behind";
        registry.register("watch_replays", help, self.replays.clone());
        registry.register("leases_expired", "Leases that ended by themselves", self.leases_expired.clone());
        self.gc.register(registry);
    }
}
