//! A list with a selector returns what may match, and nothing else, whatever is indexed: random objects, definitions,
//! selectors, pages and revisions.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;
use sluice_shim::engine::*;

use crate::database::Database;
use crate::fields::{DEFINITION, close_sound, definition, key, query, shirt};
use crate::support::{open, put};

const KEYS: usize = 12;

#[derive(Debug, Clone)]
enum Step {
    Put(usize, String),
    Delete(usize),
    Define(Option<String>),
    Restart,
    /// Label selector, field selector, version, page, how many revisions ago.
    List(&'static str, String, &'static str, usize, usize),
}

fn value() -> impl Strategy<Value = (usize, &'static str, &'static str, &'static str)> {
    let labels = vec![
        "",
        r#""color":"green""#,
        r#""color":"red","tier":"1""#,
        r#""color":"green","tier":"2","skip-controller-manager-metadata-caching":"""#,
        r#""tier":"12""#,
    ];
    let specs = vec![
        "",
        r#""color":"green""#,
        r#""color":"green","size":7"#,
        r#""color":"red","size":7"#,
        r#""color":null,"size":true"#,
        r#""color":1.5"#,
        r#""color":{"a":"green"},"size":8"#,
        r#""color":"green","color":"red""#,
    ];
    (0..KEYS + 1, select(vec!["v1", "v1", "v1", "v2"]), select(labels), select(specs))
}

fn step() -> impl Strategy<Value = Step> {
    let object = (0..KEYS, value(), 0..12u8).prop_map(|(number, (name, version, labels, spec), odd)| {
        let value = match odd {
            0 => "k8s:enc:sealed".to_owned(),
            1 => shirt(name, version, labels, spec),
            _ => shirt(number, version, labels, spec),
        };
        Step::Put(number, value)
    });
    let fields = select(vec![vec!["spec.color"], vec!["spec.size"], vec!["spec.color", "spec.size"], vec![]]);
    let define = (select(vec!["v1", "v1", "v2"]), fields, 0..8u8).prop_map(|(version, fields, odd)| {
        Step::Define(match odd {
            0 => None,
            1 => Some("unreadable".to_owned()),
            _ => Some(definition(version, &fields)),
        })
    });
    let label = select(vec![
        "",
        "",
        "color=green",
        "color in (green,red)",
        "color!=green",
        "tier",
        "tier>1",
        "!tier",
        "tier=1,color=red",
        "flavour",
        "!skip-controller-manager-metadata-caching",
    ]);
    let field = select(vec![
        "",
        "spec.color=green",
        "spec.color=",
        "spec.color!=green",
        "spec.size=7",
        "spec.color=green,spec.size=7",
        "spec.size!=7,spec.color!=red",
        "metadata.name=s3",
        "metadata.namespace=ns1",
        "metadata.name!=s4,spec.size=true",
        "metadata.namespace=ns2,spec.color=red",
    ]);
    let list = (label, field, select(vec!["v1", "v1", "v2"]), 0..4usize, select(vec![0, 0, 1, 3, 8]))
        .prop_map(|(label, field, version, limit, ago)| Step::List(label, field.to_owned(), version, limit, ago));
    prop_oneof![
        8 => object,
        2 => (0..KEYS).prop_map(Step::Delete),
        2 => define,
        1 => Just(Step::Restart),
        8 => list,
    ]
}

/// Every state since the beginning, by revision.
struct Model(Vec<BTreeMap<Bytes, Bytes>>);

impl Model {
    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<Bytes, Bytes>)) {
        let mut state = self.0.last().cloned().unwrap_or_default();
        change(&mut state);
        self.0.push(state);
    }

    fn revision(&self) -> Revision {
        self.0.len() as Revision
    }
}

async fn set(engine: &Engine, model: &mut Model, key: Bytes, value: Option<Bytes>) {
    match value {
        Some(value) => {
            put(engine, key.clone(), value.clone()).await;
            model.change(|state| {
                state.insert(key, value);
            });
        }
        None => {
            let range = KeyRange::single(key.clone());
            engine.write(Op::Delete(DeleteRange { range, prev_kv: false })).await.unwrap();
            if model.0.last().is_some_and(|state| state.contains_key(&key)) {
                model.change(|state| {
                    state.remove(&key);
                });
            }
        }
    }
}

async fn list(engine: &Engine, model: &Model, mut page: RangeQuery, ago: usize) {
    let revision = (model.revision() - ago as Revision).max(1);
    let range = page.range.clone();
    let matches = |value: &Bytes| page.selection.as_ref().is_none_or(|selection| selection.may_match(value));
    let state = &model.0[revision as usize - 1];
    let expected: Vec<_> = state.iter().filter(|(key, value)| range.contains(key) && matches(value)).collect();
    // At the newest revision some ask without one.
    page.revision = if ago == 0 && page.limit == 0 { 0 } else { revision };
    let mut found = Vec::new();
    loop {
        let result = engine.range(page.clone()).await.unwrap();
        assert!(!result.more || !result.kvs.is_empty(), "an empty page");
        found.extend(result.kvs.into_iter().map(|kv| (kv.key, kv.value)));
        match found.last() {
            Some((last, _)) if result.more => page.range = range.after(last),
            _ => break,
        }
    }
    let found: Vec<_> = found.iter().map(|(key, value)| (key, value)).collect();
    assert_eq!(found, expected, "{page:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn lists_return_what_may_match(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let database = Database::new();
            let (mut engine, _) = open(&database).await;
            let mut model = Model(vec![BTreeMap::new()]);
            for step in steps {
                match step {
                    Step::Put(number, value) => set(&engine, &mut model, key(number).into(), Some(value.into())).await,
                    Step::Delete(number) => set(&engine, &mut model, key(number).into(), None).await,
                    Step::Define(value) => set(&engine, &mut model, DEFINITION.into(), value.map(Bytes::from)).await,
                    Step::Restart => {
                        engine.shutdown().await;
                        (engine, _) = open(&database).await;
                    }
                    Step::List(label, field, version, limit, ago) => {
                        let page = RangeQuery { limit, ..query(label, &field, version) };
                        list(&engine, &model, page, ago).await;
                    }
                }
            }
            close_sound(engine, &database).await;
        });
    }
}
