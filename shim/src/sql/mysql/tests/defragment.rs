//! How large a store is, and how it becomes smaller.

use super::super::Tables;
use super::super::testing::{address, root};
use crate::engine::StoreStatus;
use crate::sql::failure::Failure;
use crate::sql::session::{Commit as _, Read as _};
use mysql::prelude::Queryable as _;

/// Some 4 MB of past.
const PAST: &str = "INSERT INTO history SELECT seq, 1, 1, 0, 1, 0, 2, 0, 0, REPEAT('v', 4000) FROM seq_1_to_1000";
const MANY: i64 = 3_000_000;

/// A store for a user with these rights, in a database of that name.
fn store(name: &str, user: &str) -> Tables {
    let url: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
    root().query_drop(format!("CREATE DATABASE `{name}`")).unwrap();
    Tables::serve(address(&format!("{user}@127.0.0.1:PORT/{url}")), std::sync::Arc::default()).unwrap()
}

fn status(tables: &mut Tables) -> StoreStatus {
    let head = tables.snapshot().unwrap();
    let status = tables.status(head).unwrap();
    tables.end();
    status
}

fn run(tables: &mut Tables, statement: &str) {
    tables.alone(statement).unwrap();
}

#[test]
fn a_store_is_as_large_as_its_files_and_a_defragmentation_makes_them_smaller() {
    let mut tables = store("files-\u{e9} %", "root");
    let empty = status(&mut tables);
    assert!(empty.db_size > 0 && empty.db_size_in_use > 0, "{empty:?}");
    run(&mut tables, PAST);
    let full = status(&mut tables);
    assert!(full.db_size_in_use > empty.db_size_in_use + MANY, "{empty:?} {full:?}");
    run(&mut tables, "DELETE FROM history");
    tables.defragment().unwrap();
    let left = status(&mut tables);
    assert!(left.db_size < empty.db_size + MANY / 3, "{empty:?} {left:?}");
    assert_eq!(tables.snapshot().unwrap().revision, 1);
}

#[test]
fn a_user_who_may_not_know_of_files_is_told_what_was_counted_and_may_defragment() {
    for host in ["localhost", "127.0.0.1"] {
        root().query_drop(format!("CREATE USER plain@'{host}'")).unwrap();
        root().query_drop(format!("GRANT ALL ON counted.* TO plain@'{host}'")).unwrap();
    }
    let mut tables = store("counted", "plain");
    run(&mut tables, PAST);
    tables.defragment().unwrap();
    let full = status(&mut tables);
    assert!(full.db_size > MANY, "{full:?}");
    run(&mut tables, "DELETE FROM history");
    tables.defragment().unwrap();
    let left = status(&mut tables);
    assert!(left.db_size_in_use < full.db_size_in_use - MANY, "{full:?} {left:?}");
}

#[test]
fn a_defragmentation_gives_up_on_a_table_that_somebody_reads_for_long() {
    let mut tables = store("held", "root");
    let mut reader = root();
    reader.query_drop("BEGIN; SELECT * FROM held.history").unwrap();
    let refused = tables.defragment();
    assert!(matches!(refused, Err(Failure::Again(_))), "{refused:?}");
    reader.query_drop("COMMIT").unwrap();
    tables.defragment().unwrap();
}
