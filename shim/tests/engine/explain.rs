//! `sluice-shim explain`, beside the server.

use sluice_shim::inspect::explain::Explain;

use crate::database::Database;
use crate::fields::{DEFINITION, SHIRTS, definition, key, settled, shirt};
use crate::support::{open, put};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_how_a_list_is_read() {
    let database = Database::new();
    let (engine, metrics) = open(&database).await;
    put(&engine, DEFINITION, definition("v1", &["spec.color"])).await;
    settled(&metrics, 1).await;
    for number in 0..120 {
        let color = if number % 40 == 0 { "green" } else { "blue" };
        put(&engine, key(number), shirt(number, "v1", r#""team":"a""#, &format!(r#""color":"{color}""#))).await;
    }
    put(&engine, key(120), shirt(120, "v2", r#""team":"a""#, "")).await;
    let explain = |selector: &str, field_selector: &str| {
        let explain = Explain {
            database: database.endpoint().clone().into(),
            prefix: SHIRTS.to_owned(),
            selector: Some(selector.to_owned()),
            field_selector: Some(field_selector.to_owned()),
            group_version: Some("stable.example.com/v1".to_owned()),
            limit: 0,
        };
        let mut out = Vec::new();
        explain.run(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    insta::assert_snapshot!(explain("team=a,color!=red", "spec.color=green"), @r"
    use    index of fields (spec.color=green, 2 lists): 4 keys
    leave  index of labels (team=a): 121 keys
    leave  all keys from /registry/stable.example.com/shirts/: 121 keys
    value  color!=red: no index lists what lacks something
    index  spec.color in stable.example.com/v1: ready, 1 foreign objects
    unreadable objects: 0, with another name than their key: 0
    rows read: 4, returned: 4
    ");
    insta::assert_snapshot!(explain("team=b", "spec.size=3,metadata.name=s7"), @r"
    use    index of labels (team=b): 0 keys
    leave  keys of that name (metadata.name=s7): 3 keys
    leave  all keys from /registry/stable.example.com/shirts/: 121 keys
    value  spec.size=3: the field has no index in that version
    index  spec.color in stable.example.com/v1: ready, 1 foreign objects
    unreadable objects: 0, with another name than their key: 0
    rows read: 0, returned: 0
    ");
    insta::assert_snapshot!(explain("team", "spec.color=blue"), @r"
    use    index of fields (spec.color=blue, 2 lists): 118 keys
    probe  index of labels (team): 121 keys
    leave  all keys from /registry/stable.example.com/shirts/: 121 keys
    index  spec.color in stable.example.com/v1: ready, 1 foreign objects
    unreadable objects: 0, with another name than their key: 0
    rows read: 118, returned: 118
    ");
    put(&engine, format!("{SHIRTS}ns1/sealed"), "k8s:enc:").await;
    insta::assert_snapshot!(explain("team=a", "metadata.name=s7"), @r"
    use    all keys from /registry/stable.example.com/shirts/: 122 keys
    value  metadata.name=s7: 1 objects of the range can't be read, so the index can't be used
    value  team=a: 1 objects of the range can't be read, so the index can't be used
    index  spec.color in stable.example.com/v1: ready, 2 foreign objects
    unreadable objects: 1, with another name than their key: 0
    rows read: 122, returned: 2
    ");
}
