//! The index finds exactly the watchers that a look at each of them finds.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;

use super::inbox::Inbox;
use super::interests::Interests;
use super::ring_event::RingEvent;
use super::types::{Event, EventKind, KeyRange, KeyValue, WatchSpec};
use crate::selector::Selection;

const KEYS: [&str; 7] = [
    "/registry/example.com/shirts/a/x",
    "/registry/example.com/shirts/b/x",
    "/registry/example.com/shirts/a/y/z",
    "/registry/example.com/socks/a/x",
    "/registry/example.com/shirtsleeves/a/x",
    "plain",
    "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/x",
];

/// Starts and ends of ranges, as requests have them.
const RANGES: [(&str, &str); 13] = [
    ("/registry/example.com/shirts/", "/registry/example.com/shirts0"),
    ("/registry/example.com/shirts/a/", "/registry/example.com/shirts/a0"),
    ("/registry/example.com/", "/registry/example.com0"),
    ("/", "0"),
    ("/registry/example.com/shirts/a/x", ""),
    ("plain", ""),
    // Not directories: a prefix without its slash, a part of one, two of them, one that is deep, everything.
    ("/registry/example.com/shirts", "/registry/example.com/shirtt"),
    ("/registry/example.com/shirts/", "/registry/example.com/shirts/b"),
    ("/registry/example.com/shirts/", "/registry/example.com/t"),
    ("/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/", "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/160"),
    ("/registry/", "\0"),
    ("\0", "\0"),
    ("", "/registry/example.com/shirts/a/x"),
];

const LABELS: [&str; 14] = [
    "",
    "c=red",
    "c=blue",
    "c=red,s=l",
    "c=red,s=m",
    "c in (red,blue)",
    "c in (red,blue),s in (l)",
    "c in (a,b,d,e,f,g,h,i,j,k,l,m,n,o,p,q,red)",
    "c=red,c=blue",
    "c=",
    "c!=red",
    "!c,s=l",
    "c",
    "kubernetes.io/metadata.name=x",
];

const FIELDS: [&str; 11] = [
    "",
    "spec.color=red",
    "spec.color=blue",
    "spec.color=",
    "spec.color!=red",
    "spec.color=red,spec.size=1",
    "spec.size=1",
    "spec.color=red,spec.color=blue",
    "metadata.name=x",
    "metadata.name=x,spec.color=red",
    "metadata.labels.c=red",
];

const VERSIONS: [Option<&str>; 3] = [Some("example.com/v1"), Some("example.com/v2"), None];

const VALUES: [&str; 12] = [
    "",
    "k8s:enc:secretbox:v1:x",
    r#"{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{"name":"x","labels":{"c":"red","s":"l"}},"spec":{"color":"red","size":1}}"#,
    r#"{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{"name":"x","labels":{"c":"red","s":"m"}},"spec":{"color":"red"}}"#,
    r#"{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{"name":"y","labels":{"c":"blue"}},"spec":{"color":"blue"}}"#,
    r#"{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{"name":"y","labels":{"s":"l"}},"spec":{"color":1.5,"size":1}}"#,
    r#"{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{"name":"y","labels":{"c":"","d":"x"}},"spec":{}}"#,
    r#"{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{"name":"z"},"spec":{"color":null}}"#,
    r#"{"apiVersion":"example.com/v2","kind":"Shirt","metadata":{"name":"x","labels":{"c":"red"}},"spec":{"color":"red"}}"#,
    r#"{"apiVersion":"example.com/v2","kind":"Shirt","metadata":{"name":"y","labels":{"c":"blue","s":"l"}},"spec":{"color":"blue"}}"#,
    // Defaults may give these labels that are not stored.
    r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"x"}}"#,
    r#"{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"}}"#,
];

fn selection() -> impl Strategy<Value = Option<Arc<Selection>>> {
    (select(&LABELS), select(&FIELDS), select(&VERSIONS)).prop_map(|(labels, fields, version)| {
        Selection::parse(Some(labels), Some(fields), version).unwrap().map(Arc::new)
    })
}

fn watcher() -> impl Strategy<Value = WatchSpec> {
    (select(&RANGES), prop::bool::weighted(0.1), prop::bool::weighted(0.1), selection()).prop_map(
        |((start, end), no_put, no_delete, selection)| WatchSpec {
            id: 0,
            range: KeyRange::from_wire(start.into(), end.into()),
            start_revision: 0,
            no_put,
            no_delete,
            selection,
        },
    )
}

fn event() -> impl Strategy<Value = RingEvent> {
    (select(&KEYS), any::<bool>(), select(&VALUES), prop::option::of(select(&VALUES)), 1..3_i64).prop_map(
        |(key, delete, value, previous, version)| {
            let kv =
                |value: &'static str| KeyValue { key: key.into(), value: value.into(), version, ..KeyValue::default() };
            let kind = if delete { EventKind::Delete } else { EventKind::Put };
            let current = if delete { "" } else { value };
            RingEvent::new(Arc::new(Event { kind, kv: kv(current), prev_kv: previous.map(kv) }))
        },
    )
}

fn found(interests: &Interests, event: &RingEvent) -> BTreeSet<i64> {
    let mut found = BTreeSet::new();
    interests.each_wanting(event, |id, inbox| {
        assert!(inbox.upgrade().is_some());
        found.insert(id);
    });
    found
}

proptest! {
    #[test]
    fn finds_the_watchers_that_want_the_event(
        watchers in prop::collection::vec((watcher(), any::<bool>()), 1..60),
        events in prop::collection::vec(event(), 1..12),
    ) {
        let inboxes = [Arc::<Inbox>::default(), Arc::default()];
        let (mut interests, mut left) = (Interests::default(), Vec::new());
        for (id, (spec, _)) in (0..).zip(&watchers) {
            interests.insert(&inboxes[usize::from(id % 3 == 0)], &WatchSpec { id, ..spec.clone() });
        }
        for (id, (spec, leaves)) in (0..).zip(&watchers) {
            let spec = WatchSpec { id, ..spec.clone() };
            if *leaves {
                interests.remove(&inboxes[usize::from(id % 3 == 0)], &spec);
            } else {
                left.push(spec);
            }
        }
        for event in &events {
            let wanting: BTreeSet<i64> = left.iter().filter(|spec| event.wanted_by(spec)).map(|spec| spec.id).collect();
            prop_assert_eq!(found(&interests, event), wanting, "{:?}", event);
        }
        for spec in &left {
            interests.remove(&inboxes[usize::from(spec.id % 3 == 0)], spec);
        }
        prop_assert!(interests.is_empty());
    }
}

/// Watchers of selectors of their own, which also require what all of them require.
fn crowd(inbox: &Arc<Inbox>, count: i64) -> Interests {
    let mut interests = Interests::default();
    for id in 0..count {
        let own = [format!("app=shop,c=c{id}"), format!("app=shop,spec.color=c{id}")];
        let selection = if id % 2 == 0 {
            Selection::parse(Some(&own[0]), None, Some("example.com/v1"))
        } else {
            Selection::parse(None, Some(&own[1].replace("app", "spec.app")), Some("example.com/v1"))
        };
        let range = KeyRange::from_wire("/registry/example.com/shirts/".into(), "/registry/example.com/shirts0".into());
        let selection = selection.unwrap().map(Arc::new);
        interests
            .insert(inbox, &WatchSpec { id, range, start_revision: 0, no_put: false, no_delete: false, selection });
    }
    interests
}

#[test]
fn an_event_looks_at_few_of_many_watchers() {
    let (count, inbox) = (1000, Arc::default());
    let interests = crowd(&inbox, count);
    let shirt = |color: i64| {
        KeyValue {
        key: KEYS[0].into(),
        value: format!(
            r#"{{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{{"labels":{{"app":"shop","c":"c{color}"}}}},"spec":{{"app":"shop","color":"c{color}"}}}}"#
        )
        .into(),
        ..KeyValue::default()
    }
    };
    for color in [0, 1, 500, 999] {
        let event = Event { kind: EventKind::Put, kv: shirt(color), prev_kv: Some(shirt(7)) };
        let event = RingEvent::new(Arc::new(event));
        assert_eq!(found(&interests, &event), BTreeSet::from([color, 7]));
        assert!(interests.candidates(&event) <= 8, "{}", interests.candidates(&event));
    }
    let opaque = KeyValue { value: "k8s:enc:x".into(), ..shirt(0) };
    let event = RingEvent::new(Arc::new(Event { kind: EventKind::Put, kv: opaque, prev_kv: None }));
    assert_eq!(found(&interests, &event).len() as i64, count);
}
