//! Divides the tables of a store anew.

use std::sync::Arc;

use super::connect::Database;
use super::defragment::must_own;
use super::link::Ask;
use super::partition::{COMPRESSION, VACUUM, check, stored, tables};
use super::session::Session;
use crate::endpoint::Layout;
use crate::sql::failure::Result;
use crate::sql::layout::{DIVIDED, Divided};
use crate::sql::remote::{self, BEAT};

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
        let database = Arc::clone(&session.database);
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
