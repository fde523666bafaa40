//! What is counted of the way to the database.

use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A database's program.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Program {
    kind: &'static str,
    version: String,
}

/// The metrics; the documentation of each is its help text.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the help texts say it")]
pub struct DatabaseMetrics {
    pub retries: Counter,
    pub unknown_outcomes: Counter,
    info: Family<Program, Gauge>,
    program: Mutex<Option<Program>>,
    round_trips: Counter,
    connections: Gauge,
    busy: Gauge,
}

/// One that is counted until it is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    fn in_gauge(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl DatabaseMetrics {
    /// Notes what a connection leads to: one of them, as others lead to the same.
    pub fn leads_to(&self, kind: &'static str, version: &str) {
        let program = Program { kind, version: version.to_owned() };
        let mut last = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() != Some(&program) {
            // It was updated, or another server took over.
            self.info.clear();
            self.info.get_or_create(&program).set(1);
            *last = Some(program);
        }
    }

    /// Counts a connection to a server, until what is returned is dropped.
    pub fn connected(&self) -> Counted {
        Counted::in_gauge(&self.connections)
    }

    /// Counts a round trip, whose connection is busy until what is returned is dropped.
    pub fn asks(&self) -> Counted {
        self.round_trips.inc();
        Counted::in_gauge(&self.busy)
    }

    /// Adds to a registry what there is for each database.
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "1 for the database that is served: its kind and its version";
        registry.register("database_info", help, self.info.clone());
        let help = "Tries to do something with the database that came after one that failed";
        registry.register("database_retries", help, self.retries.clone());
        let help = "Tries of commits of which it was not known whether they had happened, until the database told";
        registry.register("database_unknown_outcomes", help, self.unknown_outcomes.clone());
    }

    /// Adds to a registry what there is for a database on a server.
    pub(super) fn register_server(&self, registry: &mut Registry) {
        let help = "Times that an answer of the database's server was waited for";
        registry.register("database_round_trips", help, self.round_trips.clone());
        let help = "Open connections to the database's server";
        registry.register("database_connections", help, self.connections.clone());
        let help = "Those of them that wait for an answer";
        registry.register("database_connections_busy", help, self.busy.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &DatabaseMetrics) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.register_server(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_server_that_took_over_is_told_instead_of_the_last_one() {
        let metrics = DatabaseMetrics::default();
        for version in ["15.18", "15.18", "17.6"] {
            metrics.leads_to("PostgreSQL", version);
            let text = text(&metrics);
            let infos: Vec<_> = text.lines().filter(|line| line.starts_with("database_info{")).collect();
            assert_eq!(infos, [format!("database_info{{kind=\"PostgreSQL\",version=\"{version}\"}} 1")]);
        }
    }

    #[test]
    fn connections_are_counted_while_they_are_there() {
        let metrics = DatabaseMetrics::default();
        let pool =
            |metrics: &DatabaseMetrics| (metrics.connections.get(), metrics.busy.get(), metrics.round_trips.get());
        let (first, second) = (metrics.connected(), metrics.connected());
        let asking = metrics.asks();
        assert_eq!(pool(&metrics), (2, 1, 1));
        drop((first, asking));
        assert_eq!(pool(&metrics), (1, 0, 1));
        drop(second);
        assert_eq!(pool(&metrics), (0, 0, 1));
    }
}
