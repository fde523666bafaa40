//! The tables that hold keys, and how they are divided.

use tokio_postgres::types::Type;

use super::link::{Ask, Link, get};
use crate::endpoint::Layout;
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};
use crate::sql::layout::{DIVIDED, Stored, hex};

/// The oldest version that looks into one part alone for a change of one key, as PostgreSQL numbers them.
const OLDEST: i32 = 140_000;

/// How often a table, or a part of one, is vacuumed: when a fiftieth of it has changed.
pub(super) const VACUUM: &str = "autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05, \
    autovacuum_analyze_scale_factor = 0.05, vacuum_truncate = off";

/// Long values: faster both ways, where the server was built with it.
pub(super) const COMPRESSION: &str = "DO $$ DECLARE part text; BEGIN
        IF EXISTS (SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
            FOR part IN SELECT c.oid::regclass FROM pg_class t LEFT JOIN LATERAL pg_partition_tree(t.oid) p ON true
                JOIN pg_class c ON c.oid = coalesce(p.relid, t.oid)
                WHERE t.relname IN ('current', 'history') AND t.relkind IN ('r', 'p') AND c.relkind = 'r'
                AND t.relnamespace = current_schema()::regnamespace
            LOOP
                EXECUTE format('ALTER TABLE %s ALTER COLUMN value SET COMPRESSION lz4', part);
            END LOOP;
        END IF;
    END $$";

/// How a statement looks up the live rows `c` of the keys in its first parameter.
pub(super) struct ByKeys {
    /// Behind FROM, with a condition to which others may be added.
    pub(super) from: &'static str,
    /// Behind LEFT JOIN.
    pub(super) join: &'static str,
    /// What puts them in order.
    pub(super) order: &'static str,
}

impl ByKeys {
    /// The server looks for all keys with one scan of the index.
    pub(super) const WHOLE: Self =
        Self { from: "current c WHERE c.key = ANY($1)", join: "current c ON c.key = ANY($1)", order: "c.key" };
    /// Of a list the server would look for each key in each part. Of one key it knows the part.
    pub(super) const DIVIDED: Self = Self {
        from: "(SELECT DISTINCT key FROM unnest($1::bytea[]) u(key) ORDER BY key) t JOIN current c ON c.key = t.key
            WHERE true",
        join: "(unnest($1::bytea[]) t(key) JOIN current c ON c.key = t.key) ON true",
        order: "t.key",
    };
}

/// A table that holds keys.
struct Table {
    name: &'static str,
    columns: &'static str,
    /// Of a part, if there are parts.
    settings: &'static str,
    indexes: &'static str,
}

/// In the order of [`DIVIDED`].
const TABLES: [Table; 3] = [
    // The newest value of each live key. hidden: whether the object has the skip label; NULL if the value is no
    // readable object. uid: that of the object. No indexed column changes in an update, but for these two.
    Table {
        name: "current",
        columns: "key bytea PRIMARY KEY,
    create_revision bigint NOT NULL,
    mod_revision bigint NOT NULL,
    sub bigint NOT NULL,
    version bigint NOT NULL,
    lease bigint NOT NULL,
    hidden boolean,
    uid bytea,
    value bytea NOT NULL",
        settings: "fillfactor = 80, VACUUM",
        indexes: "CREATE INDEX current_uid ON current (uid) WHERE uid IS NOT NULL;
CREATE INDEX current_visible ON current (key) WHERE NOT hidden;",
    },
    // Values that were superseded at end_revision; deleted: whether that change deleted the key.
    Table {
        name: "history",
        columns: "key bytea NOT NULL,
    create_revision bigint NOT NULL,
    mod_revision bigint NOT NULL,
    sub bigint NOT NULL,
    version bigint NOT NULL,
    lease bigint NOT NULL,
    end_revision bigint NOT NULL,
    end_sub bigint NOT NULL,
    deleted boolean NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (key, end_revision, end_sub)",
        settings: "VACUUM",
        indexes: "",
    },
    // The labels and fields of the live objects, as an inverted index. Negative names are those of fields.
    Table {
        name: "attribute",
        columns: "name bigint NOT NULL,
    value bytea NOT NULL,
    key bytea NOT NULL,
    PRIMARY KEY (name, value, key)",
        settings: "VACUUM",
        indexes: "",
    },
];

/// What makes them, with VACUUM where their settings stand.
pub(super) fn tables(layout: &Layout) -> String {
    TABLES.iter().map(|table| made(table, layout)).collect::<Vec<_>>().join("\n")
}

fn made(table: &Table, layout: &Layout) -> String {
    let Table { name, columns, settings, indexes } = table;
    let by = match layout {
        Layout::Whole => return format!("CREATE TABLE {name} ({columns}) WITH ({settings});\n{indexes}"),
        Layout::Hashed(_) => "HASH",
        Layout::Ranges(_) => "RANGE",
    };
    let mut sql = format!("CREATE TABLE {name} ({columns}) PARTITION BY {by} (key);\n");
    for (at, values) in parts(layout).iter().enumerate() {
        sql += &format!("CREATE TABLE {name}_{at} PARTITION OF {name} FOR VALUES {values} WITH ({settings});\n");
    }
    sql + indexes
}

/// What each part holds.
fn parts(layout: &Layout) -> Vec<String> {
    match layout {
        Layout::Whole => Vec::new(),
        Layout::Hashed(parts) => (0..*parts).map(|part| format!("WITH (MODULUS {parts}, REMAINDER {part})")).collect(),
        Layout::Ranges(bounds) => {
            let bounds = bounds.iter().map(|bound| format!("decode('{}', 'hex')", hex(bound)));
            let from: Vec<String> = ["MINVALUE".to_owned()].into_iter().chain(bounds).collect();
            let to = from.iter().skip(1).map(String::as_str).chain(["MAXVALUE"]);
            from.iter().zip(to).map(|(from, to)| format!("FROM ({from}) TO ({to})")).collect()
        }
    }
}

/// How the tables are divided: for each how, into how many, and where the parts begin.
const STORED: &str = r"SELECT t.relname::text, coalesce(p.partstrat::text, ''), count(c.oid),
        coalesce(array_agg(decode(b.hex, 'hex') ORDER BY b.hex) FILTER (WHERE b.hex IS NOT NULL), '{}')
    FROM pg_class t LEFT JOIN pg_partitioned_table p ON p.partrelid = t.oid
    LEFT JOIN pg_inherits i ON i.inhparent = t.oid LEFT JOIN pg_class c ON c.oid = i.inhrelid
    LEFT JOIN LATERAL (SELECT substring(pg_get_expr(c.relpartbound, c.oid) FROM 'FROM \(''\\x([0-9a-f]+)''\)')) b(hex)
        ON true
    WHERE t.relname = ANY($1) AND t.relkind IN ('r', 'p') AND t.relnamespace = current_schema()::regnamespace
    GROUP BY t.relname, p.partstrat";

/// How the tables are divided.
pub(super) fn stored(link: &mut Link) -> Result<Stored> {
    let names = DIVIDED.to_vec();
    let answers = link.all(&[
        // The bounds are texts, in which bytes are as this setting says.
        Ask::plain("begin", "BEGIN; SET LOCAL bytea_output = hex"),
        Ask::new("partitions", STORED, vec![(&names, Type::TEXT_ARRAY)]),
        Ask::plain("rollback", "ROLLBACK"),
    ])?;
    let mut stored = Stored::default();
    for row in answers.iter().flat_map(|answer| &answer.rows) {
        let (name, by, parts): (&str, &str, i64) = (get(row, 0)?, get(row, 1)?, get(row, 2)?);
        let layout = match by {
            "h" => Layout::Hashed(u16::try_from(parts).unwrap_or(u16::MAX)),
            "r" => Layout::Ranges(get(row, 3)?),
            _ => Layout::Whole,
        };
        if let Some(at) = DIVIDED.iter().position(|table| *table == name) {
            stored.0[at] = layout;
        }
    }
    Ok(stored)
}

/// Refuses a server that divides tables worse than it should.
pub(super) fn check(link: &mut Link, layout: &Layout) -> Result<()> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version')";
    let found = link.one(Ask::new("version of the server", sql, vec![]))?.rows;
    let Some(row) = found.first() else { return Ok(()) };
    if *layout == Layout::Whole || get::<i32>(row, 0)? >= OLDEST {
        return Ok(());
    }
    let version: &str = get(row, 1)?;
    refused(format!("the database is PostgreSQL {version}; for partitions it must be 14 or newer"))
}

fn refused<T>(what: String) -> Result<T> {
    Err(Failure::Final(Error::Broken(what)))
}
