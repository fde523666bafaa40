//! The tables.
//!
//! Keys, names and values are bytes everywhere, so that no collation orders them. No column is generated: numbers of
//! names, tasks, tombstones and indexes come from `meta.next_id`, under the lock that every commit holds.

use super::link::{Ask, Link, get};
use super::partition::{self, COMPRESSION, VACUUM};
use crate::endpoint::Layout;
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};

/// The version of these tables.
const VERSION: i32 = 1;
/// Keeps two that start at once apart: "Sluice".
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(91630053188453)";

/// All of them, with VACUUM where their settings stand, and the names of those that [`partition`] makes.
const TABLES: &str = "
CREATE TABLE store (id smallint PRIMARY KEY CHECK (id = 1), version int NOT NULL);

-- The one row that every commit writes. revision: 0 while the store is being loaded. batch: the last commit of the
-- process `owner`, which serves the store; address: where that process is; seen_at: when it was last there, in
-- milliseconds of this server's clock; backend: the process of this server that serves it, 0 through a pooler.
CREATE TABLE meta (
    id smallint PRIMARY KEY CHECK (id = 1),
    revision bigint NOT NULL,
    compact_revision bigint NOT NULL,
    cluster_id bigint NOT NULL,
    next_id bigint NOT NULL,
    batch bigint NOT NULL,
    owner bigint NOT NULL,
    seen_at bigint NOT NULL,
    backend int NOT NULL,
    address text NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 100, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0);

CURRENT HISTORY ATTRIBUTE
-- The order of things: a row for each value in current or history, at its mod_revision and sub, and one for each
-- deletion.
CREATE TABLE change (
    revision bigint NOT NULL,
    sub bigint NOT NULL,
    deleted boolean NOT NULL,
    key bytea NOT NULL,
    PRIMARY KEY (revision, sub)
) WITH (VACUUM);

-- How far the changes are compacted: up to this place, for the compaction at `compacted`.
CREATE TABLE sweep (id smallint PRIMARY KEY CHECK (id = 1), revision bigint NOT NULL, sub bigint NOT NULL,
    compacted bigint NOT NULL);

CREATE TABLE directory (
    path bytea PRIMARY KEY,
    live bigint NOT NULL,
    opaque bigint NOT NULL,
    misplaced bigint NOT NULL
) WITH (fillfactor = 50, VACUUM);
CREATE INDEX directory_opaque ON directory (path) WHERE opaque > 0;
CREATE INDEX directory_misplaced ON directory (path) WHERE misplaced > 0;

CREATE TABLE attribute_name (id bigint PRIMARY KEY, name bytea NOT NULL UNIQUE);
CREATE TABLE field_index (
    id bigint PRIMARY KEY,
    prefix bytea NOT NULL,
    api_version bytea NOT NULL,
    field bytea NOT NULL,
    state bigint NOT NULL,
    cursor bytea NOT NULL,
    objects bigint NOT NULL
);
CREATE UNIQUE INDEX field_index_field ON field_index (prefix, api_version, field) WHERE state < 2;

-- expires_at: a moment of this server's clock, as all others.
CREATE TABLE lease (id bigint PRIMARY KEY, ttl bigint NOT NULL, expires_at bigint NOT NULL);
CREATE INDEX lease_end ON lease (expires_at, id);
CREATE TABLE attached (lease bigint NOT NULL, key bytea NOT NULL, PRIMARY KEY (lease, key));

-- Who is whose dependent, and the collector's queue and memory: as in SQLite.
CREATE TABLE owner (
    owner_uid bytea NOT NULL,
    labelled boolean NOT NULL,
    key bytea NOT NULL,
    block boolean NOT NULL,
    waits boolean NOT NULL,
    PRIMARY KEY (owner_uid, labelled, key)
) WITH (VACUUM);
CREATE INDEX owner_waits ON owner (owner_uid) WHERE waits;
CREATE TABLE gc_task (
    id bigint PRIMARY KEY,
    kind bigint NOT NULL,
    uid bytea NOT NULL,
    key bytea NOT NULL,
    hidden boolean NOT NULL,
    cause_revision bigint NOT NULL,
    created_at bigint NOT NULL,
    state bigint NOT NULL,
    not_before bigint NOT NULL,
    swept boolean NOT NULL,
    cursor_labelled boolean,
    cursor_key bytea,
    failures bigint NOT NULL,
    attempts bigint NOT NULL,
    reason bytea NOT NULL,
    UNIQUE (uid, kind)
);
CREATE INDEX gc_task_due ON gc_task (not_before, id) WHERE state <> 1;
CREATE INDEX gc_task_kind ON gc_task (kind, id);
CREATE INDEX gc_task_age ON gc_task (created_at);
CREATE TABLE gc_tombstone (
    id bigint PRIMARY KEY,
    uid bytea NOT NULL,
    key bytea NOT NULL,
    namespaced boolean NOT NULL,
    revision bigint NOT NULL,
    at bigint NOT NULL
);
CREATE INDEX gc_tombstone_uid ON gc_tombstone (uid, id);
";

/// The names of all tables.
pub(super) const NAMES: [&str; 15] = [
    "store",
    "meta",
    "current",
    "history",
    "change",
    "sweep",
    "directory",
    "attribute_name",
    "attribute",
    "field_index",
    "lease",
    "attached",
    "owner",
    "gc_task",
    "gc_tombstone",
];

/// Makes sure that the database has the tables in our version. A fresh store is at revision 1, as etcd's is, so that
/// the first write is revision 2. Of two that start at once one waits.
/// `layout`: how a fresh one is divided.
pub(super) fn prepare(link: &mut Link, cluster_id: i64, layout: &Layout) -> Result<()> {
    if begin_look(link)? { link.one(Ask::commit()).map(drop) } else { create(link, cluster_id, layout) }
}

/// Whether the database has the tables, in our version. Fails if it is of no use.
pub(super) fn look(link: &mut Link) -> Result<bool> {
    let there = begin_look(link)?;
    link.one(Ask::plain("rollback", "ROLLBACK")).map(|_| there)
}

/// The same in a transaction that goes on, and keeps those out that start as well.
fn begin_look(link: &mut Link) -> Result<bool> {
    let there = "SELECT count(*), coalesce(bool_or(relname = 'store'), false),
        coalesce(bool_and(has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
            AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')), true),
        coalesce(current_schema()::text, ''), coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
        current_user::text
        FROM pg_class WHERE relkind IN ('r', 'p') AND relname = ANY($1) AND relnamespace = current_schema()::regnamespace";
    let names = NAMES.to_vec();
    let ask = Ask::new("tables", there, vec![(&names, tokio_postgres::types::Type::TEXT_ARRAY)]);
    let answers = link.all(&[Ask::plain("begin", "BEGIN"), Ask::plain("lock", LOCK), ask])?;
    let Some(row) = answers.iter().flat_map(|answer| &answer.rows).next() else { return Err(unreadable()) };
    let (tables, ours, usable): (i64, bool, bool) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
    let (schema, creates, user): (&str, bool, &str) = (get(row, 3)?, get(row, 4)?, get(row, 5)?);
    if schema.is_empty() {
        let advice =
            format!("CREATE SCHEMA sluice AUTHORIZATION {user:?}; ALTER ROLE {user:?} SET search_path = sluice");
        return broken(format!("the database has no schema that the user {user:?} can use for tables; {advice}"));
    }
    if tables == 0 {
        if !creates {
            let advice = format!("GRANT CREATE ON SCHEMA {schema:?} TO {user:?}");
            return broken(format!(
                "the user {user:?} may not make tables in the database's schema {schema:?}; {advice}"
            ));
        }
        return Ok(false);
    }
    if !ours {
        return broken(format!(
            "the database's schema {schema:?} has tables of another program; name another database"
        ));
    }
    if !usable {
        let advice = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema:?} TO {user:?}");
        return broken(format!("the user {user:?} may not read and write all tables of the database; {advice}"));
    }
    let answer = link.one(Ask::new("version", "SELECT version FROM store WHERE id = 1", vec![]))?;
    let version: i32 = answer.rows.first().map_or(Ok(0), |row| get(row, 0))?;
    if version != VERSION {
        return broken(format!(
            "the database has schema version {version}, this sluice-shim knows version {VERSION}; start the release \
                that \
             wrote it, or restore a backup that fits"
        ));
    }
    Ok(true)
}

fn create(link: &mut Link, cluster_id: i64, layout: &Layout) -> Result<()> {
    let tables = TABLES.replace("CURRENT HISTORY ATTRIBUTE", &partition::tables(layout));
    let tables = tables.replace("VACUUM", VACUUM);
    let rows = format!(
        "INSERT INTO store VALUES (1, {VERSION});
         INSERT INTO meta VALUES (1, 1, 0, {cluster_id}, 1, 0, 0, 0, 0, '');
         INSERT INTO sweep VALUES (1, 0, -1, 0)"
    );
    link.all(&[Ask::plain("create tables", &tables), Ask::plain("fill tables", &rows), Ask::commit()])?;
    link.one(Ask::plain("compression", COMPRESSION)).map(drop)
}

fn broken<T>(what: String) -> Result<T> {
    Err(Failure::Final(Error::Broken(what)))
}

fn unreadable() -> Failure {
    Failure::Final(Error::Broken("the database does not say which tables it has".into()))
}
