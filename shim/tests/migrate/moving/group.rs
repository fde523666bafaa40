//! The objects of a group go to a database of their own.

use sluice_shim::endpoint::Endpoint;
use sluice_shim::engine::*;
use sluice_shim::migrate::moving::{Move, Progress, Ranges, leaving};
use sluice_shim::sql;

use super::served::{open_with, owned};
use super::{pairs, refusal};
use crate::database::Database;
use crate::support::*;

const PREFIX: &str = "/registry/shirts/";
const OWNER: &str = "00000000-0000-4000-8000-000000000001";
const DEPENDENT: &str = "00000000-0000-4000-8000-000000000002";

async fn move_group(from: &Database, to: &Database, more: &[&str]) -> std::result::Result<bool, String> {
    run(&[&["move-group", to.url(), "--endpoint", from.url(), "--prefix", PREFIX], more].concat()).await
}

fn shirts() -> Ranges {
    Ranges::below(&[KeyRange::tree(PREFIX.as_bytes())])
}

/// Does something that blocks.
async fn blocking<T: Send + 'static>(
    from: &Database,
    to: &Database,
    work: impl FnOnce(&Endpoint, &Endpoint) -> T + Send + 'static,
) -> T {
    let (from, to) = (from.endpoint().clone(), to.endpoint().clone());
    tokio::task::spawn_blocking(move || work(&from, &to)).await.unwrap()
}

/// The live keys of a database that nobody has open, with their mod revisions.
async fn live(database: &Database) -> Vec<(String, Revision)> {
    let engine = open(database).await.unwrap();
    let found = engine.range(RangeQuery { range: all(), ..RangeQuery::default() }).await.unwrap();
    engine.shutdown().await;
    let text = |kv: &KeyValue| (String::from_utf8_lossy(&kv.key).into_owned(), kv.mod_revision);
    found.kvs.iter().map(text).collect()
}

fn is_shirt(key: &[u8]) -> bool {
    key.starts_with(PREFIX.as_bytes())
}

/// The objects are in the target as they were, history included, and the source has all others.
async fn has_left(before: &Content, from: &Database, to: &Database) {
    let records = |is_wanted: &dyn Fn(&[u8]) -> bool| {
        let records = before.records.iter().filter(|record| is_wanted(&record.kv.key));
        records.cloned().collect::<Vec<_>>()
    };
    let there = content_of(to).await;
    let (revision, compact_revision) = (before.revision, before.compact_revision);
    assert_eq!(there, Content { revision, compact_revision, records: records(&is_shirt), leases: vec![] });
    let here = content_of(from).await;
    assert!(live(from).await.iter().all(|(key, _)| !is_shirt(key.as_bytes())));
    let mut others = here.records;
    others.retain(|record| !is_shirt(&record.kv.key));
    assert_eq!((others, here.leases), (records(&|key| !is_shirt(key)), before.leases.clone()));
    for database in [from, to] {
        assert_eq!(run(&["fsck", "--endpoint", database.url()]).await, Ok(true), "{}", database.url());
        let engine = open(database).await.unwrap();
        let (revision, _) = engine.write(put("/registry/hats/new", object("red"), 0)).await.unwrap();
        assert!(revision > before.revision, "both go on from there");
        engine.shutdown().await;
    }
}

/// Without the leases of shirts, with which they would have to stay.
async fn unleased(database: &Database, compact: Option<Revision>) -> Content {
    filled(database, compact).await;
    let engine = open(database).await.unwrap();
    engine.write(put("/registry/shirts/b", object("pink"), 0)).await.unwrap();
    engine.write(put("/registry/shirtsleeves/a", object("pink"), 0)).await.unwrap();
    let content = content(&engine).await;
    engine.shutdown().await;
    content
}

#[tokio::test]
async fn the_objects_of_a_group_go_with_their_revisions() {
    for compact in [None, Some(5), Some(8), Some(10)] {
        for (from, to) in pairs() {
            let before = unleased(&from, compact).await;
            assert_eq!(move_group(&from, &to, &["--dry-run"]).await, Ok(true));
            assert!(sql::probe(to.endpoint()).unwrap().1.is_none(), "a rehearsal leaves nothing");
            assert_eq!(content_of(&from).await, before);
            assert_eq!(move_group(&from, &to, &[]).await, Ok(true));
            has_left(&before, &from, &to).await;
        }
    }
}

#[tokio::test]
async fn a_move_that_was_stopped_goes_on() {
    for stop in 0..3 {
        for (from, to) in pairs() {
            let before = unleased(&from, Some(5)).await;
            blocking(&from, &to, move |from, to| match stop {
                0 => drop(Move::begin_part(from, to, &shirts(), Progress::default()).unwrap()),
                1 => Move::begin_part(from, to, &shirts(), Progress::default()).unwrap().copy().unwrap(),
                _ => drop(leaving::copy(from, to, &shirts(), Progress::default()).unwrap()),
            })
            .await;
            assert_eq!(content_of(&from).await, before, "stopped at {stop}");
            let other =
                run(&["move-group", to.url(), "--endpoint", from.url(), "--prefix", "/registry/shirtsleeves/"]).await;
            assert!(other.unwrap_err().contains("the database"), "what another move filled is refused");
            // A rehearsal says what is left to be done; when all is done, there is nothing, and that is no error.
            for more in [&["--dry-run"][..], &[], &["--dry-run"], &[]] {
                assert_eq!(move_group(&from, &to, more).await, Ok(true));
            }
            has_left(&before, &from, &to).await;
        }
    }
}

/// What the target does not have is kept, whoever is to blame.
#[tokio::test]
async fn nothing_goes_that_the_target_lacks() {
    for (from, to) in pairs() {
        unleased(&from, None).await;
        blocking(&from, &to, |from, to| leaving::copy(from, to, &shirts(), Progress::default()).unwrap()).await;
        let engine = open(&from).await.unwrap();
        engine.write(put("/registry/shirts/c", object("red"), 0)).await.unwrap();
        let before = content(&engine).await;
        engine.shutdown().await;
        let said = move_group(&from, &to, &[]).await.unwrap_err();
        assert!(said.contains("lacks /registry/shirts/c"), "{said}");
        assert_eq!(content_of(&from).await, before);
    }
}

/// The command and its rehearsal refuse it, and leave both as they were.
async fn refused(from: &Database, to: &Database, expected: &str) {
    let before = content_of(from).await;
    match move_group(from, to, &["--dry-run"]).await {
        Ok(fits) => assert!(!fits, "{expected}"),
        Err(said) => assert!(said.contains(expected), "{said}"),
    }
    let said = move_group(from, to, &[]).await.unwrap_err();
    assert!(said.contains(expected), "{said}");
    assert_eq!(content_of(from).await, before);
}

#[tokio::test]
async fn what_may_not_go() {
    let [leased, full, empty] = Database::several();
    filled(&leased, None).await;
    refused(&leased, &empty, "have a lease").await;
    assert!(sql::probe(empty.endpoint()).unwrap().1.is_none());
    let from = Database::new();
    unleased(&from, None).await;
    filled(&full, None).await;
    refused(&from, &full, "the database is not empty").await;
    refused(&from, &from, "the target is the database that the store is in").await;
    let none = ["move-group", empty.url(), "--endpoint", from.url(), "--prefix", "/registry/shirt/"];
    assert_eq!(run(&[&none[..], &["--dry-run"]].concat()).await, Ok(false));
    assert!(run(&none).await.unwrap_err().contains("no key begins with that"));
    assert!(sql::probe(empty.endpoint()).unwrap().1.is_none());

    let definitions = "/registry/shirts/apiextensions.k8s.io/customresourcedefinitions/shirts.example.com";
    let engine = open(&from).await.unwrap();
    engine.write(put(definitions, "{}", 0)).await.unwrap();
    engine.shutdown().await;
    refused(&from, &empty, "definitions").await;
}

#[tokio::test]
async fn a_store_that_is_served_keeps_its_groups() {
    let [from, to] = Database::several();
    let before = unleased(&from, None).await;
    let engine = open(&from).await.unwrap();
    let said = move_group(&from, &to, &[]).await.unwrap_err();
    let others = ["another process has the database", "another sluice-shim serves this database"];
    assert!(others.iter().any(|other| said.contains(other)), "{said}");
    assert_eq!(content(&engine).await, before);
    engine.shutdown().await;
    assert!(refusal(&from).await == "it is served");
}

/// An owner and its labelled dependent stay together, unless that is waived: then the dependent is kept, on either
/// side.
#[tokio::test]
async fn owners_and_dependents() {
    for (owner, dependent) in
        [("/registry/shirts/a/owner", "/registry/a/d"), ("/registry/a/owner", "/registry/shirts/d")]
    {
        for (from, to) in pairs() {
            let engine = open_with(&from, false).await;
            engine.write(put(owner, owned("owner", OWNER, None), 0)).await.unwrap();
            let value = owned("dependent", DEPENDENT, Some(("owner", OWNER)));
            engine.write(put(dependent, value, 0)).await.unwrap();
            engine.shutdown().await;
            refused(&from, &to, "nobody would collect them").await;
            assert_eq!(move_group(&from, &to, &["--accept-uncollected"]).await, Ok(true));
            let (has_owner, has_dependent) = if is_shirt(owner.as_bytes()) { (&to, &from) } else { (&from, &to) };
            let engine = open_with(has_dependent, true).await;
            // A deletion that the collector sees, to know when it has looked.
            collected(&engine).await;
            engine.shutdown().await;
            assert!(live(has_dependent).await.iter().any(|(key, _)| key == dependent), "it is kept");
            assert!(live(has_owner).await.iter().any(|(key, _)| key == owner));
        }
    }
}

/// Waits until the collector has taken a dependent of an owner that is deleted now.
async fn collected(engine: &Engine) {
    let [gone, taken] = [3, 4].map(|number| format!("00000000-0000-4000-8000-00000000000{number}"));
    engine.write(put("/registry/a/gone", owned("gone", &gone, None), 0)).await.unwrap();
    engine.write(put("/registry/a/taken", owned("taken", &taken, Some(("gone", &gone))), 0)).await.unwrap();
    engine.write(delete("/registry/a/gone")).await.unwrap();
    let query = RangeQuery { range: KeyRange::single("/registry/a/taken"), ..RangeQuery::default() };
    while !engine.range(query.clone()).await.unwrap().kvs.is_empty() {
        tokio::task::yield_now().await;
    }
}

/// A deletion whose dependents were not collected yet is finished where they are now.
#[tokio::test]
async fn the_collectors_work_goes_along() {
    for (from, to) in pairs() {
        let engine = open_with(&from, false).await;
        engine.write(put("/registry/shirts/o", owned("o", OWNER, None), 0)).await.unwrap();
        engine.write(put("/registry/shirts/d", owned("d", DEPENDENT, Some(("o", OWNER))), 0)).await.unwrap();
        engine.write(delete("/registry/shirts/o")).await.unwrap();
        engine.compact(4, true).await.unwrap();
        engine.shutdown().await;
        assert_eq!(move_group(&from, &to, &[]).await, Ok(true));
        for (database, what) in [(&from, "nothing is left to be done"), (&to, "the dependent goes")] {
            let engine = open_with(database, true).await;
            while !engine.collector().await.unwrap().tasks.is_empty() {
                tokio::task::yield_now().await;
            }
            engine.shutdown().await;
            assert_eq!(live(database).await, [], "{what}");
        }
    }
}
