//! The tables that hold keys, and how they are divided.

use tokio_postgres::types::Type;

use super::connect::Database;
use super::defragment::must_own;
use super::link::{Ask, Link, get};
use super::schema::{COMPRESSION, VACUUM};
use super::session::Session;
use crate::endpoint::Layout;
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};
use crate::sql::layout::{DIVIDED, Divided, Stored};
use crate::sql::remote::{self, BEAT};

/// The oldest version that looks into one part alone for a change of one key, as PostgreSQL numbers them.
const OLDEST: i32 = 140_000;

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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

/// Gives the tables, their parts and their indexes names that are in nobody's way.
const PUT_ASIDE: &str = "DO $$ DECLARE r record; BEGIN
        FOR r IN SELECT DISTINCT x.oid, x.relname, x.relkind IN ('i', 'I') AS is_index
            FROM pg_class t LEFT JOIN LATERAL pg_partition_tree(t.oid) p ON true
            JOIN pg_class c ON c.oid = coalesce(p.relid, t.oid) LEFT JOIN pg_index i ON i.indrelid = c.oid
            JOIN pg_class x ON x.oid IN (c.oid, i.indexrelid)
            WHERE t.relname IN ('current', 'history', 'attribute') AND t.relkind IN ('r', 'p')
            AND t.relnamespace = current_schema()::regnamespace
        LOOP
            EXECUTE format('ALTER %s %s RENAME TO %I', CASE WHEN r.is_index THEN 'INDEX' ELSE 'TABLE' END,
                r.oid::regclass, 'sluice_was_' || r.relname);
        END LOOP;
    END $$";

/// Fills the new tables from the old ones, gives them to whom the old ones belong, with the rights that others have,
/// and removes the old ones. Fails if a row is missing.
const TAKE_OVER: &str = "DO $$ DECLARE r record; g record; part text; were bigint; are bigint; BEGIN
        FOR r IN SELECT n.oid, n.relname, o.oid AS old, o.relowner, o.relacl FROM pg_class n JOIN pg_class o
            ON o.relname = 'sluice_was_' || n.relname AND o.relnamespace = n.relnamespace
            WHERE n.relname IN ('current', 'history', 'attribute') AND n.relnamespace = current_schema()::regnamespace
        LOOP
            EXECUTE format('INSERT INTO %s SELECT * FROM %s', r.oid::regclass, r.old::regclass);
            GET DIAGNOSTICS are = ROW_COUNT;
            EXECUTE format('SELECT count(*) FROM %s', r.old::regclass) INTO were;
            IF were <> are THEN
                RAISE EXCEPTION 'the table % had % rows, and has % now', r.relname, were, are;
            END IF;
            FOR part IN SELECT r.oid::regclass::text UNION SELECT relid::regclass::text FROM pg_partition_tree(r.oid)
            LOOP
                EXECUTE format('ALTER TABLE %s OWNER TO %s', part, r.relowner::regrole);
            END LOOP;
            FOR g IN SELECT * FROM aclexplode(r.relacl) WHERE grantee <> r.relowner LOOP
                EXECUTE format('GRANT %s ON %s TO %s', g.privilege_type, r.oid::regclass,
                    CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END);
            END LOOP;
            EXECUTE format('DROP TABLE %s', r.old::regclass);
        END LOOP;
    END $$";

/// Divides the tables of the store that a session serves. It is one transaction: whatever ends it leaves the store as
/// it was, or as it is to be.
pub(super) fn divide(session: &mut Session, layout: &Layout) -> Result<Divided> {
    session.on(|link| check(link, layout))?;
    let before = session.on(stored)?;
    if before.one() != Some(layout) {
        let database = std::sync::Arc::clone(&session.database);
        remote::beside(BEAT, || convert(&database, layout), || session.tell_alive())?;
    }
    let (after, mut rows) = (session.on(stored)?, [0; DIVIDED.len()]);
    for (table, rows) in DIVIDED.iter().zip(&mut rows) {
        *rows = session.number(Ask::new("count", &format!("SELECT count(*) FROM {table}"), vec![]))?;
    }
    session.rollback();
    Ok(Divided { before, after, rows })
}

fn convert(database: &Database, layout: &Layout) -> Result<()> {
    let mut link = database.connect()?;
    must_own(&mut link)?;
    let tables = tables(layout).replace("VACUUM", VACUUM);
    let script = format!(
        "BEGIN; SET LOCAL lock_timeout = '20s'; SET LOCAL enable_seqscan = on;
         LOCK TABLE current, history, attribute IN ACCESS EXCLUSIVE MODE;
         {PUT_ASIDE}; {tables} {COMPRESSION}; {TAKE_OVER}; COMMIT"
    );
    link.long("divide", &script)?;
    // Until then no index alone can answer.
    for table in DIVIDED {
        link.long("vacuum", &format!("VACUUM {table}"))?;
    }
    Ok(())
}
