//! `gc status` and `gc explain`, beside a running server.

use std::fmt::Write as _;
use std::time::Duration;

use clap::Parser as _;
use sluice_shim::cli::Cli;
use sluice_shim::endpoint::Endpoint;

use crate::hand::Hand;
use crate::world::*;

/// What a command prints.
fn run(world: &World, args: &[&str]) -> String {
    let cli =
        Cli::try_parse_from([&["sluice-shim", "gc"], args, &["--endpoint", world.database.url()]].concat()).unwrap();
    let mut out = Vec::new();
    assert!(cli.command.unwrap().run(&mut out).unwrap());
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn the_collectors_work_can_be_looked_at_while_it_goes_on() {
    // It does nothing, so that there is something to see.
    let hand = Hand::new();
    let world = World::in_file(idle(), &hand).await;
    let wardrobe = configmap(1);
    let closet = shirt(2).finalizer("example.com/wash").blocking(&wardrobe);
    let gone = shirt(3);
    let left = shirt(4).owned_by(&gone);
    let washed = shirt(5).owned_by(&gone).finalizer("example.com/wash");
    let kept = shirt(6).owned_by(&gone).owned_by(&wardrobe);
    let strange = shirt(7).owned_by(&shirt(99));
    let elsewhere = shirt(8).within("b").owned_by(&closet);
    let shared = shirt(9).visible().owned_by(&gone);
    let marked = configmap(10);
    let all = [&wardrobe, &closet, &gone, &left, &washed, &kept, &strange, &elsewhere, &shared, &marked];
    for object in all {
        world.create(object).await;
    }
    world.put("/registry/example.com/shirts/a/secret", &"k8s:enc:".into()).await;
    let mut labelled = marked.json();
    labelled["metadata"]["labels"] = serde_json::json!({LABEL: "true"});
    world.put(&marked.key(), &labelled).await;
    hand.pass(Duration::from_secs(10));
    world.delete(&gone).await;
    world.delete_with(&wardrobe, FOREGROUND).await;

    insta::assert_snapshot!("status", run(&world, &["status"]));
    let mut text = String::new();
    for object in all {
        writeln!(text, "{}", run(&world, &["explain", &object.key()])).unwrap();
    }
    for key in ["/registry/example.com/shirts/a/secret", "/registry/nothing"] {
        writeln!(text, "{}", run(&world, &["explain", key])).unwrap();
    }
    insta::assert_snapshot!("explain", text);
}

#[tokio::test]
async fn flags_of_the_server_are_minded() {
    let world = World::with(idle()).await;
    world.create(&shirt(1)).await;
    let key = shirt(1).key();
    let typed = run(&world, &["explain", &key, "--gc-typed-groups", ",example.com"]);
    assert!(typed.contains("visible: it has the label, but"), "{typed}");
    let ignored = run(&world, &["explain", &key, "--gc-ignored", "example.com/Shirt"]);
    assert!(ignored.contains("left out:"), "{ignored}");
}

#[test]
fn a_file_that_is_none_is_an_error_and_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        let endpoint = Endpoint::Sqlite(folder.path().join(name)).to_string();
        let cli = Cli::try_parse_from(["sluice-shim", "gc", "status", "--endpoint", &endpoint]).unwrap();
        format!("{:#}", cli.command.unwrap().run(&mut Vec::new()).unwrap_err())
    };
    assert!(run("missing.db").contains("there is no database"));
    assert!(!folder.path().join("missing.db").exists());
    rusqlite::Connection::open(folder.path().join("other.db")).unwrap().execute("CREATE TABLE t (x)", []).unwrap();
    assert!(run("other.db").contains("is not a database of sluice-shim"));
}
