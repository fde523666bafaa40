//! How large a store is, and how it becomes smaller.

use super::*;
use crate::engine::StoreStatus;
use crate::sql::failure::Failure;
use crate::sql::session::Commit as _;

/// Some MB of values that no compression makes smaller; only the last of them is still needed.
const FILL: &str = "INSERT INTO current SELECT convert_to(lpad(i::text, 7, '0'), 'UTF8'), 1, 1, i, 1, 0, NULL, NULL,
        (SELECT string_agg(decode(md5(i || ':' || j), 'hex'), '') FROM generate_series(1, 250) j)
        FROM generate_series(1, 1000) i;
    DELETE FROM current WHERE key < '0001000'";
const MANY: i64 = 3_000_000;

fn status(session: &mut Session) -> StoreStatus {
    let head = session.snapshot().unwrap();
    let status = session.status(head).unwrap();
    session.end();
    status
}

#[test]
fn a_defragmentation_makes_tables_smaller_that_hold_something_at_their_end() {
    let name = Server::get().database();
    let (mut session, _) = opened(&address(&name)).unwrap();
    let empty = status(&mut session).db_size;
    Server::get().psql(&name, FILL).unwrap();
    let full = status(&mut session).db_size;
    assert!(full > empty + MANY, "{empty} {full}");
    session.defragment().unwrap();
    let left = status(&mut session).db_size;
    assert!(left < empty + MANY / 3, "{empty} {left}");
    assert_eq!(Server::get().psql(&name, "SELECT count(*) FROM current").unwrap(), "1");
    let seen = "SELECT relallvisible > 0 FROM pg_class WHERE relname = 'current'";
    assert_eq!(Server::get().psql(&name, seen).unwrap(), "t", "an index alone can answer");
}

#[test]
fn only_the_owner_of_the_tables_may_defragment() {
    let name = Server::get().database();
    drop(opened(&address(&name)).unwrap());
    let grant =
        "CREATE ROLE visitor LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO visitor";
    Server::get().psql(&name, grant).unwrap();
    let (mut session, _) = opened(&address_as("visitor", &name)).unwrap();
    let Err(Failure::Final(refused)) = session.defragment() else { panic!("it was not refused") };
    assert!(refused.to_string().contains("\"visitor\" may not build"), "{refused}");
}

#[test]
fn a_defragmentation_gives_up_on_a_table_that_somebody_reads_for_long() {
    let name = Server::get().database();
    let (mut session, _) = opened(&address(&name)).unwrap();
    let reads = Database::new(&address(&name), 0, Arc::default(), Some(PATIENCE)).unwrap();
    let mut reader = Session::new(reads, None);
    reader.snapshot().unwrap();
    let refused = session.defragment();
    assert!(matches!(refused, Err(Failure::Again(_))), "{refused:?}");
    reader.end();
    session.defragment().unwrap();
}
