//! `--definitions-from`: a store of some groups follows the definitions of the main store.

use std::sync::Arc;

use super::server::{Client, TestServer, range_of};
use sluice_shim::definitions;
use sluice_shim::engine::metrics::Metrics;
use sluice_shim::engine::{Engine, ReaderThreads};
use sluice_shim::pb::etcdserverpb as pb;
use sluice_shim::sql;
use tonic::transport::Endpoint;

const DEFINITION: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/shirts.stable.example.com";

fn definition(fields: &[&str]) -> String {
    let fields: Vec<_> = fields.iter().map(|field| format!(r#"{{"jsonPath":".{field}"}}"#)).collect();
    format!(
        r#"{{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1beta1","metadata":{{"name":"shirts.stable.example.com"}},
            "spec":{{"group":"stable.example.com","names":{{"plural":"shirts","kind":"Shirt"}},"scope":"Namespaced",
            "versions":[{{"name":"v1","served":true,"storage":true,"selectableFields":[{}]}}]}}}}"#,
        fields.join(",")
    )
}

fn of_definition() -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: DEFINITION.into(), ..Default::default() }
}

async fn indexed(shard: &TestServer, fields: usize) {
    shard.wait_for_metric(&format!("sluice_field_indexes{{state=\"Ready\"}} {fields}")).await;
}

async fn stored(client: &mut Client) -> Option<String> {
    let found = client.range(range_of(DEFINITION)).await.unwrap().kvs.pop()?;
    Some(String::from_utf8(found.value.to_vec()).unwrap())
}

#[tokio::test]
async fn fields_are_indexed_as_the_main_store_says_whenever_it_is_there() {
    let from = format!("http://127.0.0.1:{}", crate::port::free());
    let shard = TestServer::start(&["--definitions-from", &from]).await;
    let mut in_shard = shard.connect().await;

    // It comes later than the shard.
    let main = TestServer::start(&["--listen-client-urls", &from]).await;
    let mut in_main = main.connect().await;
    in_main.put(DEFINITION, definition(&["spec.color"])).await;
    indexed(&shard, 1).await;
    in_main.put(DEFINITION, definition(&["spec.color", "spec.size"])).await;
    indexed(&shard, 2).await;
    let outline = stored(&mut in_shard).await.unwrap();
    assert!(outline.contains("outline-of-definition") && !outline.contains("scope"), "{outline}");

    // It goes, and comes back with another definition.
    let TestServer { server, database, .. } = main;
    server.shutdown().await;
    assert_eq!(stored(&mut in_shard).await, Some(outline));
    let main = TestServer::start_in(database, &["--listen-client-urls", &from]).await;
    let mut in_main = main.connect().await;
    in_main.put(DEFINITION, definition(&["spec.size"])).await;
    indexed(&shard, 1).await;
    in_main.kv.delete_range(of_definition()).await.unwrap();
    indexed(&shard, 0).await;
    assert_eq!(stored(&mut in_shard).await, None);
}

/// What was deleted while nobody looked is gone too, and the definitions of a main store are never touched.
#[tokio::test]
async fn only_outlines_are_replaced() {
    let main = TestServer::start(&[]).await;
    main.connect().await.put(DEFINITION, definition(&["spec.color"])).await;
    let from = format!("http://{}", main.address());
    let shard = TestServer::start(&["--definitions-from", &from]).await;
    indexed(&shard, 1).await;
    let TestServer { server, database, following } = shard;
    drop(following);
    server.shutdown().await;
    main.connect().await.kv.delete_range(of_definition()).await.unwrap();
    let shard = TestServer::start_in(database, &["--definitions-from", &from]).await;
    indexed(&shard, 0).await;

    main.connect().await.put(DEFINITION, definition(&["spec.color"])).await;
    let TestServer { server, database, .. } = main;
    server.shutdown().await;
    let metrics = Arc::new(Metrics::default());
    let store = sql::open(database.endpoint(), Arc::clone(&metrics)).unwrap();
    let engine = Engine::start(store, ReaderThreads { small: 1, large: 1 }, metrics).await.unwrap();
    let refused = definitions::follow(&engine, Endpoint::from_static("http://127.0.0.1:1")).await.unwrap_err();
    assert!(refused.to_string().contains("has definitions of its own"), "{refused}");
    engine.shutdown().await;
}
