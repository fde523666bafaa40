//! What etcd says of its place in a cluster, as far as it is true of a server that orders all writes by itself; and of
//! its clients' bytes and probes. docs/monitoring.md lists which of etcd's metrics there are, and which not and why.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Whether writes are ordered here, and how many wait. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    leads: Gauge,
    pending: Gauge,
    /// How often another process that served was seen to go.
    pub changes: Counter,
}

impl Standing {
    /// Adds the metrics to a registry; `quota` in bytes, 0 for none.
    pub fn register(&self, registry: &mut Registry, quota: i64) {
        let help = "1 while the thread that orders writes takes them: else nobody does";
        registry.register("etcd_server_has_leader", help, self.leads.clone());
        registry.register("etcd_server_is_leader", "The same: it is in this process", self.leads.clone());
        let help = "How often this process saw another one go that ordered the writes";
        registry.register("etcd_server_leader_changes_seen", help, self.changes.clone());
        registry.register("etcd_server_proposals_pending", "Requests that wait to be written", self.pending.clone());
        if quota > 0 {
            // Without a quota there is no number that the size could be compared with.
            let gauge = Gauge::<i64>::default();
            gauge.set(quota);
            let help = "Bytes of data from which on nothing is written that needs space";
            registry.register("etcd_server_quota_backend_bytes", help, gauge);
        }
    }

    /// Sets them before somebody looks.
    pub fn set(&self, leads: bool, pending: usize) {
        self.leads.set(i64::from(leads));
        self.pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
    }
}

/// What a process counts that stands by while another one serves. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct StandbyMetrics {
    stands_by: Gauge,
    /// Requests that were handed on.
    pub requests: Counter,
    /// Lists that this process read.
    pub lists: Counter,
}

impl StandbyMetrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let ours = registry.sub_registry_with_prefix("sluice");
        ours.register("standby", "1 while another process serves the database, or none", self.stands_by.clone());
        ours.register("forwarded_requests", "Requests handed on to the process that serves", self.requests.clone());
        ours.register("standby_lists", "Lists answered while another process serves", self.lists.clone());
    }

    /// Notes whether this process stands by.
    pub fn stands_by(&self, stands_by: bool) {
        self.stands_by.set(i64::from(stands_by));
    }
}

/// Bytes of the connections of clients.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// From them.
    pub received: Counter,
    /// To them.
    pub sent: Counter,
}

impl Traffic {
    /// Adds the metrics to a registry.
    pub fn new(registry: &mut Registry) -> Self {
        let traffic = Self { received: Counter::default(), sent: Counter::default() };
        let help = "Bytes received at the client URLs, frames and HTTP included, TLS not";
        registry.register("etcd_network_client_grpc_received_bytes", help, traffic.received.clone());
        let help = "Bytes sent at the client URLs, likewise";
        registry.register("etcd_network_client_grpc_sent_bytes", help, traffic.sent.clone());
        traffic
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Checked {
    r#type: &'static str,
    name: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    r#type: &'static str,
    name: &'static str,
    status: &'static str,
}

/// The checks of /livez and /readyz. Clones share it.
#[derive(Debug, Clone)]
pub struct HealthChecks {
    last: Family<Checked, Gauge>,
    all: Family<Ended, Counter>,
}

impl HealthChecks {
    /// Adds the metrics to a registry.
    pub fn new(registry: &mut Registry) -> Self {
        let checks = Self { last: Family::default(), all: Family::default() };
        let help = "1 if the check passed when it was last asked for";
        registry.register("etcd_server_healthcheck", help, checks.last.clone());
        registry.register("etcd_server_healthchecks", "Checks, by how they ended", checks.all.clone());
        checks
    }

    /// Counts a check.
    pub fn count(&self, kind: &'static str, name: &'static str, passed: bool) {
        self.last.get_or_create(&Checked { r#type: kind, name }).set(i64::from(passed));
        let status = if passed { "success" } else { "error" };
        self.all.get_or_create(&Ended { r#type: kind, name, status }).inc();
    }
}
