//! What the engine counts, for the metrics listener.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::database_metrics::DatabaseMetrics;
use super::gc_metrics::GcMetrics;

/// Where the candidates of a read with a selector come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ReadSource {
    /// All keys of the range.
    Scan,
    /// The index of a label.
    Label,
    /// The index of a field.
    Field,
    /// The index of objects without the skip label.
    Visible,
    /// Keys made of the name.
    Names,
    /// None can match.
    Nothing,
}

/// What can be done with a field index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum IndexState {
    /// It does not have all entries yet.
    Building,
    /// It answers queries.
    Ready,
    /// Its entries are being removed.
    Dropping,
}

/// What became of a read on a server that holds a copy of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ReplicaOutcome {
    /// It was answered there.
    Answered,
    /// The copy was late, so the database itself was read.
    Late,
    /// It failed there, so the database itself was read.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaRead {
    endpoint: String,
    outcome: ReplicaOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfReplica {
    endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Read {
    source: ReadSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: IndexState,
}

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
    pub field_index_objects: Gauge,
    reads: Family<Read, Counter>,
    field_indexes: Family<OfState, Gauge>,
    replica_reads: Family<ReplicaRead, Counter>,
    replica_revisions: Family<OfReplica, Gauge>,
    pub batch_requests: Histogram,
    pub commit_seconds: Histogram,
    pub commit_failures: Counter,
    pub store_commit_seconds: Histogram,
    pub log_sync_seconds: Histogram,
    pub proposals_committed: Counter,
    pub proposals_failed: Counter,
    pub events: Counter,
    pub replays: Counter,
    pub leases_expired: Counter,
    pub gc: GcMetrics,
    pub database: DatabaseMetrics,
}

/// From 0.125 ms to 8.2 s, which has etcd's buckets (from 1 ms on) among its own.
fn of_the_disk() -> Histogram {
    Histogram::new(exponential_buckets(0.000_125, 2.0, 17))
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
            field_index_objects: Gauge::default(),
            reads: Family::default(),
            field_indexes: Family::default(),
            replica_reads: Family::default(),
            replica_revisions: Family::default(),
            batch_requests: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            commit_seconds: Histogram::new(exponential_buckets(0.000_125, 2.0, 16)),
            commit_failures: Counter::default(),
            store_commit_seconds: of_the_disk(),
            log_sync_seconds: of_the_disk(),
            proposals_committed: Counter::default(),
            proposals_failed: Counter::default(),
            events: Counter::default(),
            replays: Counter::default(),
            leases_expired: Counter::default(),
            gc: GcMetrics::default(),
            database: DatabaseMetrics::default(),
        }
    }
}

impl Metrics {
    /// Counts reads with a selector whose candidates come from there.
    pub fn reads(&self, source: ReadSource) -> Counter {
        self.reads.get_or_create_owned(&Read { source })
    }

    /// The number of field indexes in a state.
    pub fn field_indexes(&self, state: IndexState) -> Gauge {
        self.field_indexes.get_or_create_owned(&OfState { state })
    }

    /// Counts reads at a read endpoint with such an end.
    pub fn replica_reads(&self, endpoint: &str, outcome: ReplicaOutcome) -> Counter {
        self.replica_reads.get_or_create_owned(&ReplicaRead { endpoint: endpoint.to_owned(), outcome })
    }

    /// The revision of a read endpoint.
    pub fn replica_revision(&self, endpoint: &str) -> Gauge {
        self.replica_revisions.get_or_create_owned(&OfReplica { endpoint: endpoint.to_owned() })
    }

    /// Adds to a registry what etcd has too, under etcd's names: its alerts and dashboards ask for them
    /// (docs/monitoring.md).
    pub fn register_as_etcd(&self, registry: &mut Registry) {
        let help = "Time to sync the log of the database, which each commit waits for";
        registry.register("etcd_disk_wal_fsync_duration_seconds", help, self.log_sync_seconds.clone());
        let help = "Time of the database's own commit, the sync of its log included";
        registry.register("etcd_disk_backend_commit_duration_seconds", help, self.store_commit_seconds.clone());
        let help = "Requests to write that were committed since the start";
        registry.register("etcd_server_proposals_committed", help, self.proposals_committed.clone());
        let help = "The same: what is committed is applied";
        registry.register("etcd_server_proposals_applied", help, self.proposals_committed.clone());
        let help = "Requests to write whose commit failed since the start";
        registry.register("etcd_server_proposals_failed", help, self.proposals_failed.clone());
        let help = "Newest published revision";
        registry.register("etcd_debugging_mvcc_current_revision", help, self.revision.clone());
        let help = "Revision of the last compaction";
        registry.register("etcd_debugging_mvcc_compact_revision", help, self.compact_revision.clone());
    }

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
        let help = "Reads of ranges with a selector, by what their candidates were found with";
        registry.register("selector_reads", help, self.reads.clone());
        let help = "Indexes of fields of custom resources";
        registry.register("field_indexes", help, self.field_indexes.clone());
        let help = "Objects that are done in the indexes of fields that are being built, for each index";
        registry.register("field_index_objects", help, self.field_index_objects.clone());
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
        self.database.register(registry);
    }

    /// Adds what only a database on a server has.
    pub fn register_server(&self, registry: &mut Registry) {
        let help = "Reads that a read endpoint was asked for, by what became of them";
        registry.register("read_endpoint_reads", help, self.replica_reads.clone());
        let help = "The newest revision that a read endpoint had when it was asked last";
        registry.register("read_endpoint_revision", help, self.replica_revisions.clone());
        self.database.register_server(registry);
    }
}
