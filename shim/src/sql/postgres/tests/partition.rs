//! Stores whose tables are divided.

use super::model::{Model, Op};
use super::*;

fn pods() -> Layout {
    Layout::of_prefixes(&["/registry/pods/".to_owned()]).unwrap()
}

fn with(layout: Layout, name: &str) -> Address {
    Address { layout: Some(layout), ..address(name) }
}

/// Puts keys of two resources, one of them twice.
fn fill(session: &mut Session, rounds: usize) {
    let mut model = Model::new();
    for round in 0..rounds {
        let value = format!("v{round}");
        let ops = ["/registry/pods/a/1", "/registry/pods/a/2", "/registry/nodes/1"];
        model.commit(session, &[ops.map(|key| Op::Put(key, value.clone(), 0)).into()], None);
    }
}

#[test]
fn a_store_is_made_as_the_flags_say_and_served_with_no_others() {
    let name = Server::get().database();
    drop(opened(&with(pods(), &name)).unwrap());
    let kinds = "SELECT string_agg(relname || ' ' || relkind::text, ', ' ORDER BY relname) FROM pg_class
        WHERE relname ~ '^(current|history|attribute|change)(_[0-9])?$' AND relkind IN ('r', 'p')";
    let expected = "attribute p, attribute_0 r, attribute_1 r, attribute_2 r, change r, current p, current_0 r, \
                    current_1 r, current_2 r, history p, history_0 r, history_1 r, history_2 r";
    assert_eq!(Server::get().psql(&name, kinds).unwrap(), expected);
    let settings = "SELECT count(*) FROM pg_class WHERE relname ~ '_[0-9]$' AND relkind = 'r'
        AND 'autovacuum_vacuum_scale_factor=0.02' = ANY (reloptions)";
    assert_eq!(Server::get().psql(&name, settings).unwrap(), "9");
    drop(opened(&address(&name)).unwrap());
    // Bytes may be shown in another way.
    Server::get().psql(&name, &format!("ALTER DATABASE {name} SET bytea_output = 'escape'")).unwrap();
    drop(opened(&with(pods(), &name)).unwrap());
    let refused = refusal(&with(Layout::Hashed(8), &name));
    let expected = "the store is partitioned by resource, /registry/pods/; the flags want --partition-by key \
                    --partitions 8; change the flags, or convert the store while it is not served: sluice-shim \
                    partition --partition-by key --partitions 8";
    assert_eq!(refused, expected);
    assert!(refusal(&with(Layout::Whole, &name)).contains("sluice-shim partition --partition-by none"));
}

#[test]
fn a_partitioned_store_is_as_large_as_its_parts_and_is_defragmented() {
    let name = Server::get().database();
    let (mut session, _) = opened(&with(Layout::Hashed(4), &name)).unwrap();
    let size = |session: &mut Session| {
        let head = session.snapshot().unwrap();
        session.status(head).unwrap().db_size
    };
    let before = size(&mut session);
    let fill = "INSERT INTO current SELECT convert_to('/r/' || i, 'UTF8'), 1, 1, i, 1, 0, true, NULL,
        decode(repeat(md5(i::text), 30), 'hex') FROM generate_series(1, 20000) i";
    Server::get().psql(&name, fill).unwrap();
    let full = size(&mut session);
    assert!(full - before > 9_000_000, "{before}, {full}");
    Server::get().psql(&name, "DELETE FROM current WHERE sub % 10 <> 0").unwrap();
    session.defragment().unwrap();
    let after = size(&mut session);
    assert!(after < full / 3, "{full}, {after}");
}

#[test]
fn a_store_is_divided_anew_and_back() {
    let name = Server::get().database();
    let (mut session, _) = opened(&address(&name)).unwrap();
    fill(&mut session, 3);
    drop(session);
    let setup = "CREATE ROLE guest_of_parts LOGIN; GRANT SELECT ON current TO guest_of_parts";
    Server::get().psql(&name, setup).unwrap();
    for (layout, was) in [
        (pods(), "not partitioned"),
        (Layout::Hashed(5), "partitioned by resource, /registry/pods/"),
        (Layout::Hashed(2), "partitioned by key into 5"),
        (Layout::Whole, "partitioned by key into 2"),
    ] {
        let divided = divide(&address(&name), &layout).unwrap();
        let text =
            format!("the store was {was}\nit is {layout} now\nkeys: 3, superseded values: 6, entries of the index: 3");
        assert_eq!(divided.to_string(), text);
        drop(opened(&with(layout, &name)).unwrap());
        let rights = "SELECT has_table_privilege('guest_of_parts', 'current', 'SELECT'),
            (SELECT count(*) FROM pg_class WHERE relname LIKE 'sluice_was_%')";
        assert_eq!(Server::get().psql(&name, rights).unwrap(), "t|0");
        // The model's objects are none, which is all that is wrong with them.
        let mut session = audit(&address(&name)).unwrap();
        let checked = crate::sql::check::run(&mut session, false, &mut |damage| assert!(damage.derived, "{damage:?}"));
        assert_eq!(checked.unwrap().keys, 3);
    }
    let again = divide(&address(&name), &Layout::Whole).unwrap().to_string();
    assert!(again.starts_with("the store is not partitioned already\n"), "{again}");
}

#[test]
fn a_store_that_is_served_is_not_divided_and_a_conversion_that_is_cut_off_changes_nothing() {
    let name = Server::get().database();
    let (mut session, _) = opened(&address(&name)).unwrap();
    fill(&mut session, 2);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                session.tell_alive().unwrap();
            }
        });
        let refused = divide(&address(&name), &pods()).unwrap_err().to_string();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(refused.starts_with("another sluice-shim serves this database: "), "{refused}");
    });
    drop(session);
    // Somebody reads the table: the conversion waits, and is ended while it does.
    let mut reader = open_link(&name);
    reader.one(link::Ask::plain("begin", "BEGIN")).unwrap();
    reader.one(link::Ask::new("read", "SELECT count(*) FROM current", vec![])).unwrap();
    std::thread::scope(|scope| {
        let working = scope.spawn(|| divide(&address(&name), &pods()));
        let end = format!(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = '{name}'
             AND query LIKE 'BEGIN; SET LOCAL lock_timeout%' AND wait_event_type = 'Lock'"
        );
        while Server::get().psql(&name, &end).unwrap() == "0" {}
        assert!(working.join().unwrap().is_err());
    });
    reader.one(link::Ask::plain("end", "ROLLBACK")).unwrap();
    let (mut session, _) = opened(&with(Layout::Whole, &name)).unwrap();
    assert_eq!(session.snapshot().unwrap().revision, 3);
    drop(session);
    divide(&address(&name), &pods()).unwrap();
}
