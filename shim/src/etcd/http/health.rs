//! /health, /livez and /readyz (etcd: server/etcdserver/api/etcdhttp/health.go).

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;

use super::{Served, plain};
use crate::engine::{KeyRange, Projection, RangeQuery};
use crate::etcd::context::Context;
use crate::pb::etcdserverpb::AlarmType;

/// A database that has not answered by then does not pass a check.
const WITHIN: Duration = Duration::from_secs(5);

/// One thing that must be so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// No statement has found the database damaged since the start.
    DataCorruption,
    /// The database can be read.
    SerializableRead,
    /// The same for a client that must see all that was acknowledged, which a server that stops does not serve.
    LinearizableRead,
    /// Always so: there are no learners.
    NonLearner,
    /// A write would be taken: the writer's thread answers, the quota has room, and the last commit or a trial reached
    /// the disk. etcd has no such check.
    Writable,
}

impl Check {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
            Self::Writable => "writable",
        }
    }

    /// Makes the check; returns why it fails.
    async fn run(self, context: &Context) -> Result<(), String> {
        match self {
            Self::DataCorruption => {
                context.engine.damage().map_or(Ok(()), |damage| Err(format!("alarm activated: CORRUPT: {damage}")))
            }
            Self::SerializableRead => read(context).await,
            Self::LinearizableRead if *context.stop.borrow() => Err("etcdserver: server stopped".to_owned()),
            Self::LinearizableRead => read(context).await,
            Self::NonLearner => Ok(()),
            Self::Writable => write(context).await,
        }
    }
}

async fn read(context: &Context) -> Result<(), String> {
    let query =
        RangeQuery { range: KeyRange::single("health"), projection: Projection::CountOnly, ..RangeQuery::default() };
    in_time("the database", context.engine.range(query)).await.map(|_| ())
}

async fn write(context: &Context) -> Result<(), String> {
    if context.is_full() && context.measure_quota().await {
        return Err("alarm activated: NOSPACE: the data exceeds the quota (--quota-backend-bytes)".to_owned());
    }
    in_time("the writer", context.engine.writable()).await
}

async fn in_time<T>(who: &str, work: impl Future<Output = crate::engine::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(WITHIN, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("{who} did not answer within {} s", WITHIN.as_secs())),
    }
}

/// A path that answers for several checks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    pub(super) path: &'static str,
    /// Its name in metrics.
    kind: &'static str,
    /// What the path itself checks.
    checks: &'static [Check],
    /// What is checked only below the path, by its name.
    apart: &'static [Check],
}

/// Whether the process is of use, or must be started anew.
pub(super) const LIVEZ: Probe = Probe { path: "/livez", kind: "livez", checks: &[Check::SerializableRead], apart: &[] };

/// Whether requests can be served. A store that takes no writes is ready, as etcd is: it serves reads, and the
/// deletions that make room.
pub(super) const READYZ: Probe = Probe {
    path: "/readyz",
    kind: "readyz",
    checks: &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner],
    apart: &[Check::Writable],
};

impl Probe {
    /// The checks that have a path of their own.
    pub(super) fn named(self) -> impl Iterator<Item = Check> {
        self.checks.iter().chain(self.apart).copied()
    }

    /// All checks but those that the query excludes.
    pub(super) async fn all(self, State(served): State<Served>, RawQuery(query): RawQuery) -> Response {
        let query = Query::parse(query);
        let checks = self.checks.iter().copied().filter(|check| !query.exclude.contains(check.name()));
        self.answer(&served, checks.collect(), query.verbose).await
    }

    /// One check.
    pub(super) async fn one(self, check: Check, State(served): State<Served>, RawQuery(query): RawQuery) -> Response {
        self.answer(&served, vec![check], Query::parse(query).verbose).await
    }

    async fn answer(self, served: &Served, checks: Vec<Check>, verbose: bool) -> Response {
        let results = join_all(checks.iter().map(|check| check.run(&served.context))).await;
        let (mut lines, mut passed) = (String::new(), true);
        for (check, result) in checks.into_iter().zip(results) {
            let name = check.name();
            served.checks.count(self.kind, name, result.is_ok());
            match result {
                Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
                Err(why) => {
                    passed = false;
                    lines.push_str(&format!("[-]{name} failed: {why}\n"));
                }
            }
        }
        if !passed {
            tracing::warn!(path = self.path, reason = lines.trim_end(), "a health check failed");
            return plain(StatusCode::SERVICE_UNAVAILABLE, lines + "\n");
        }
        plain(StatusCode::OK, if verbose { lines + "ok\n" } else { "ok\n".to_owned() })
    }
}

/// The older answer for all: the alarms, then whether there is a leader, then a read.
pub(super) async fn health(State(served): State<Served>, RawQuery(query): RawQuery) -> Response {
    match unhealthy(&served.context, &Query::parse(query)).await {
        None => {
            let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (kind, r#"{"health":"true","reason":""}"#).into_response()
        }
        Some(reason) => {
            tracing::warn!(path = "/health", reason, "a health check failed");
            let reason = serde_json::Value::String(reason);
            plain(StatusCode::SERVICE_UNAVAILABLE, format!("{{\"health\":\"false\",\"reason\":{reason}}}\n"))
        }
    }
}

async fn unhealthy(context: &Context, query: &Query) -> Option<String> {
    let alarms = context.alarms().await;
    if let Some(alarm) = alarms.iter().map(AlarmType::as_str_name).find(|alarm| !query.exclude.contains(*alarm)) {
        return Some(format!("ALARM {alarm}"));
    }
    if !query.serializable && !context.engine.takes_writes() {
        return Some("RAFT NO LEADER".to_owned());
    }
    read(context).await.err().map(|error| format!("RANGE ERROR:{error}"))
}

/// What the query of a URL asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    /// Names of checks or alarms. Those that nobody knows do no harm.
    exclude: BTreeSet<String>,
    verbose: bool,
    serializable: bool,
}

impl Query {
    fn parse(text: Option<String>) -> Self {
        let text = text.unwrap_or_default();
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "exclude" => {
                    query.exclude.insert(value.into_owned());
                }
                "verbose" => query.verbose = true,
                "serializable" => query.serializable = value == "true",
                _ => {}
            }
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let table: [(&str, &[&str], bool, bool); 6] = [
            ("", &[], false, false),
            ("verbose", &[], true, false),
            ("verbose=false&x=y", &[], true, false),
            ("exclude=a&exclude=b&verbose", &["a", "b"], true, false),
            ("exclude=a%5Fb&serializable=true", &["a_b"], false, true),
            ("serializable=1", &[], false, false),
        ];
        for (text, exclude, verbose, serializable) in table {
            let exclude = exclude.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(Query::parse(Some(text.to_owned())), Query { exclude, verbose, serializable }, "{text}");
        }
    }
}
