//! What the collector counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::collecting::Collected;
use crate::clock::StoreTime;
use crate::gc::{Status, TaskKind, TaskState};

/// What the collector did to an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabel {
    action: &'static str,
}

/// Tasks that are alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    kind: &'static str,
    state: &'static str,
}

/// The collector's metrics; the documentation of each is its help text.
#[derive(Debug)]
pub struct GcMetrics {
    actions: Family<ActionLabel, Counter>,
    tasks: Family<TaskLabels, Gauge>,
    oldest_task: Gauge,
    parked: Gauge,
    tombstones: Gauge,
    unknown_owner_refs: Counter,
    opaque_values: Gauge,
    failures: Counter,
    latency: Histogram,
}

impl Default for GcMetrics {
    fn default() -> Self {
        Self {
            actions: Family::default(),
            tasks: Family::default(),
            oldest_task: Gauge::default(),
            parked: Gauge::default(),
            tombstones: Gauge::default(),
            unknown_owner_refs: Counter::default(),
            opaque_values: Gauge::default(),
            failures: Counter::default(),
            latency: Histogram::new(exponential_buckets(0.005, 2.0, 18)),
        }
    }
}

impl GcMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("gc_actions", "Changes that the collector made, by kind", self.actions.clone());
        registry.register("gc_tasks", "Tasks of the collector, by kind and state", self.tasks.clone());
        let help = "Age of the collector's oldest task";
        registry.register_with_unit("gc_oldest_task", help, Unit::Seconds, self.oldest_task.clone());
        let help = "Tasks that found an object which can't be changed, and are tried again";
        registry.register("gc_parked", help, self.parked.clone());
        registry.register("gc_tombstones", "Deleted objects that are remembered", self.tombstones.clone());
        let help = "Owner references to UIDs that the store does not know, each time one was met; they count as living";
        registry.register("gc_unknown_owner_refs", help, self.unknown_owner_refs.clone());
        registry.register("gc_opaque_values", "Values whose owners can't be read", self.opaque_values.clone());
        registry.register("gc_failures", "Changes that the collector could not make", self.failures.clone());
        registry.register_with_unit(
            "gc_latency",
            "From a task's cause to its end",
            Unit::Seconds,
            self.latency.clone(),
        );
    }

    /// Counts a portion of work.
    pub(super) fn collected(&self, collected: &Collected) {
        for entry in &collected.entries {
            self.actions.get_or_create(&ActionLabel { action: entry.action }).inc();
        }
        for age in &collected.ages {
            self.latency.observe(age.as_secs_f64());
        }
        self.unknown_owner_refs.inc_by(collected.unknown);
        self.failures.inc_by(collected.failures.len() as u64);
    }

    /// Shows the state of the queue.
    pub(super) fn show(&self, status: &Status, now: StoreTime) {
        let mut parked = 0;
        for kind in TaskKind::ALL {
            for state in TaskState::ALL {
                let found = status.tasks.iter().find(|(of, at, _)| (*of, *at) == (kind, state));
                let count = found.map_or(0, |(.., count)| *count);
                parked += if state == TaskState::Parked { count } else { 0 };
                self.tasks.get_or_create(&TaskLabels { kind: kind.name(), state: state.name() }).set(count);
            }
        }
        self.parked.set(parked);
        let age = status.oldest.map_or(0, |oldest| now.since(oldest).as_secs());
        self.oldest_task.set(i64::try_from(age).unwrap_or(i64::MAX));
        self.tombstones.set(status.tombstones);
        self.opaque_values.set(status.opaque);
    }
}
