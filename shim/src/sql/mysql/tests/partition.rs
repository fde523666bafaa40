//! Stores whose tables are divided.

use std::sync::Arc;

use super::super::partition::{divide, stored};
use super::super::testing::database;
use super::super::{Tables, text::Packet};
use super::plans::load;
use super::store::serve_as;
use crate::endpoint::{Address, Layout};
use crate::engine::{Error, Result};
use crate::sql::check;
use crate::sql::session::Commit as _;

fn ranges() -> Layout {
    Layout::of_prefixes(&["/r/".to_owned(), "/registry/pods/".to_owned()]).unwrap()
}

fn serve(address: &Address, layout: Option<Layout>) -> Result<Tables> {
    Ok(Tables::serve(Arc::new(Address { layout, ..address.clone() }), Arc::default())?)
}

fn refusal(address: &Address, layout: Layout) -> String {
    match serve(address, Some(layout)) {
        Err(Error::Broken(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it is served"),
    }
}

#[test]
fn a_store_is_made_as_the_flags_say_and_served_with_no_others() {
    let address = Arc::unwrap_or_clone(database());
    drop(serve(&address, Some(ranges())).unwrap());
    drop(serve(&address, None).unwrap());
    let mut tables = serve(&address, Some(ranges())).unwrap();
    assert_eq!(stored(&mut tables.connection).unwrap().one(), Some(&ranges()));
    tables.defragment().unwrap();
    drop(tables);
    let expected = "the store is partitioned by resource, /r/ /registry/pods/; the flags want --partition-by key \
                    --partitions 8; change the flags, or convert the store while it is not served: sluice-shim \
                    partition --partition-by key --partitions 8";
    assert_eq!(refusal(&address, Layout::Hashed(8)), expected);
}

/// Bytes that no text has.
#[test]
fn any_key_may_begin_a_part() {
    let layout = Layout::Ranges(vec![b"/b\0\xff".to_vec(), "/\u{e4}".into(), b"\xff\xfe".to_vec()]);
    let mut tables = serve_as(layout.clone());
    assert_eq!(stored(&mut tables.connection).unwrap().one(), Some(&layout));
}

#[test]
fn a_store_is_divided_anew_and_back() {
    let address = Arc::unwrap_or_clone(database());
    let mut tables = serve(&address, None).unwrap();
    load(&mut tables, 100);
    drop(tables);
    for (layout, was) in [
        (ranges(), "not partitioned"),
        (Layout::Hashed(5), "partitioned by resource, /r/ /registry/pods/"),
        (Layout::Hashed(2), "partitioned by key into 5"),
        (Layout::Whole, "partitioned by key into 2"),
    ] {
        let divided = divide(&address, &layout).unwrap();
        let counted = "keys: 100, superseded values: 100, entries of the index: 200";
        assert_eq!(divided.to_string(), format!("the store was {was}\nit is {layout} now\n{counted}"));
        drop(serve(&address, Some(layout)).unwrap());
        let mut tables = Tables::audit(address.clone().into()).unwrap();
        assert_eq!(check::run(&mut tables, false, &mut |_| {}).unwrap().keys, 100);
    }
    let again = divide(&address, &Layout::Whole).unwrap().to_string();
    assert!(again.starts_with("the store is not partitioned already\n"), "{again}");
}

#[test]
fn a_conversion_that_was_cut_off_is_ended_by_the_next() {
    let address = Arc::unwrap_or_clone(database());
    let mut tables = serve(&address, None).unwrap();
    load(&mut tables, 100);
    let first = Packet::of("divide", "ALTER TABLE current PARTITION BY KEY (k) PARTITIONS 4");
    tables.connection.run(&first).unwrap();
    drop(tables);
    let refused = refusal(&address, Layout::Hashed(4));
    let mixed = "partitioned in several ways (current: partitioned by key into 4; history: not partitioned; \
                 attribute: not partitioned)";
    assert!(refused.contains(mixed), "{refused}");
    drop(serve(&address, None).unwrap());
    let divided = divide(&address, &Layout::Hashed(4)).unwrap().to_string();
    assert!(divided.starts_with(&format!("the store was {mixed}\nit is partitioned by key into 4 now\n")), "{divided}");
}

/// Which parts a statement looks into.
fn shown(tables: &mut Tables, statement: &str) -> String {
    let explain = format!("EXPLAIN PARTITIONS {statement}");
    let parts = tables.connection.first("explain", explain, |cells| {
        let (_id, _kind, _table) = (cells.maybe_bytes()?, cells.maybe_bytes()?, cells.maybe_bytes()?);
        cells.text()
    });
    parts.unwrap().unwrap()
}

#[test]
fn a_list_of_a_resource_and_a_get_look_into_one_partition() {
    for (layout, of_list) in [(ranges(), "p1"), (Layout::Hashed(3), "p0,p1,p2")] {
        let mut tables = serve_as(layout);
        load(&mut tables, 1000);
        let within = "k >= '/r/' AND k < '/r0'";
        let lists = [
            format!("SELECT k FROM current c FORCE INDEX (PRIMARY) WHERE {within} ORDER BY k LIMIT 20"),
            format!("SELECT k FROM current c FORCE INDEX (current_visible) WHERE {within} AND hidden = 0 ORDER BY k"),
            format!("SELECT k FROM attribute c WHERE name = 1 AND value = 'v1' AND {within} ORDER BY k"),
        ];
        for list in &lists {
            assert_eq!(shown(&mut tables, list), of_list, "{list}");
        }
        let get = "SELECT k FROM current c FORCE INDEX (PRIMARY) WHERE k = '/r/000007'";
        assert!(!shown(&mut tables, get).contains(','));
    }
}
