use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;

const VERSION: &str = "stable.example.com/v1";

/// A custom resource with these fields beside its metadata, in JSON.
fn shirt(fields: &str) -> Vec<u8> {
    let head = format!("{{\"apiVersion\":\"{VERSION}\",\"kind\":\"Shirt\",\"metadata\":{{\"name\":\"a\"}}");
    if fields.is_empty() { format!("{head}}}").into() } else { format!("{head},{fields}}}").into() }
}

/// The only field's value in an object; `None` if it is unknown.
fn value_of(name: &str, value: &[u8]) -> Option<String> {
    let (_, values) = decode_with_fields(value, &FieldSet::new(Some(VERSION), [name])).unwrap();
    values[0].known().map(str::to_owned)
}

#[test]
fn values_are_what_upstream_prints() {
    let table = [
        (r#""spec":{"color":"green"}"#, Some("green")),
        (r#""spec":{"color":"gr\u00fcn"}"#, Some("grün")),
        (r#""spec":{"color":""}"#, Some("")),
        (r#""spec":{"color":12}"#, Some("12")),
        (r#""spec":{"color":-12}"#, Some("-12")),
        (r#""spec":{"color":0}"#, Some("0")),
        (r#""spec":{"color":-9223372036854775808}"#, Some("-9223372036854775808")),
        (r#""spec":{"color":9223372036854775807}"#, Some("9223372036854775807")),
        (r#""spec":{"color":true}"#, Some("true")),
        (r#""spec":{"color":false}"#, Some("false")),
        // Missing, or null.
        ("", Some("")),
        (r#""spec":{}"#, Some("")),
        (r#""spec":{"Color":"green"},"Spec":{"color":"green"}"#, Some("")),
        (r#""spec":{"color":null}"#, Some("")),
        (r#""spec":null"#, Some("")),
        // What Go prints in ways of its own, or reads in another way.
        (r#""spec":{"color":9223372036854775808}"#, None),
        (r#""spec":{"color":-0}"#, None),
        (r#""spec":{"color":1.0}"#, None),
        (r#""spec":{"color":1e2}"#, None),
        (r#""spec":{"color":["green"]}"#, None),
        (r#""spec":{"color":{"a":1}}"#, None),
        // A step through something that is no object.
        (r#""spec":"green""#, None),
        (r#""spec":[{"color":"green"}]"#, None),
        (r#""spec":7"#, None),
        // Twice.
        (r#""spec":{"color":"green","color":"green"}"#, None),
        (r#""spec":{"color":"green"},"spec":{}"#, None),
    ];
    for (fields, expected) in table {
        assert_eq!(value_of("spec.color", &shirt(fields)).as_deref(), expected, "{fields}");
    }
}

#[test]
fn paths_are_names_with_dots() {
    let value = shirt(r#""a":{"b-c_1":{"d":"x"},"e":"y"},"spec":{"0":"z","é":"u","":"v"}"#);
    let table = [
        ("a.b-c_1.d", Some("x")),
        ("a.e", Some("y")),
        ("a", None),
        ("a.b-c_1", None),
        ("spec.0", Some("z")),
        ("metadata.name", Some("a")),
        ("metadata.namespace", Some("")),
        ("metadata.uid", None),
        ("spec.é", None),
        ("spec.", None),
        ("", None),
        ("spec.*", None),
        ("spec..0", None),
        ("apiVersion", None),
        ("kind", None),
    ];
    for (name, expected) in table {
        assert_eq!(value_of(name, &value).as_deref(), expected, "{name}");
    }
    let deep = vec!["a"; 17].join(".");
    assert_eq!(value_of(&deep, &value), None, "too many steps");
    assert_eq!(value_of(&deep[2..], &value).as_deref(), Some(""));
}

#[test]
fn values_hold_for_one_version_alone_names_for_all() {
    let value = shirt(r#""spec":{"color":"green"}"#);
    let names = ["spec.color", "metadata.name", "spec.color"];
    let read = |version| {
        let (_, values) = decode_with_fields(&value, &FieldSet::new(version, names)).unwrap();
        values.iter().map(|value| value.known().map(str::to_owned)).collect::<Vec<_>>()
    };
    let known = |value: &str| Some(value.to_owned());
    assert_eq!(read(Some(VERSION)), [known("green"), known("a"), None], "a repeated name is not read");
    for version in [None, Some("stable.example.com/v2"), Some("stable.example.com/"), Some("v1"), Some("apps/v1")] {
        assert_eq!(read(version), [None, known("a"), None], "{version:?}");
    }
}

#[test]
fn a_path_may_begin_another() {
    let set = FieldSet::new(Some(VERSION), ["spec", "spec.color", "spec.color.shade", "spec.size"]);
    let read = |fields: &str| {
        let value = shirt(fields);
        let (_, values) = decode_with_fields(&value, &set).unwrap();
        values.iter().map(|value| value.known().unwrap_or("?").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(read(r#""spec":{"color":{"shade":"dark"},"size":1}"#), ["?", "?", "dark", "1"]);
    assert_eq!(read(r#""spec":{"color":"red"}"#), ["?", "red", "?", ""]);
    assert_eq!(read(r#""spec":"x""#), ["x", "?", "?", "?"]);
    assert_eq!(read(r#""spec":null"#), ["", "", "", ""]);
    assert_eq!(read(""), ["", "", "", ""]);
}

#[test]
fn more_fields_than_a_set_reads_are_unknown() {
    let names: Vec<String> = (0..100).map(|at| format!("spec.f{at}")).collect();
    let set = FieldSet::new(Some(VERSION), &names);
    let value = shirt(r#""spec":{"f0":"a","f63":"b","f64":"c"}"#);
    let (_, values) = decode_with_fields(&value, &set).unwrap();
    assert_eq!(values.len(), 100);
    assert_eq!([0, 1, 63, 64].map(|at| values[at].known()), [Some("a"), Some(""), Some("b"), None]);
}

#[test]
fn cbor_of_other_forms() {
    let document = |spec: &[u8]| {
        let mut value = b"\xd9\xd9\xf7\xa4\x4aapiVersion\x55stable.example.com/v1\x44kind\x45Shirt".to_vec();
        value.extend(b"\x48metadata\xa1\x44name\x41a\x44spec");
        value.extend(spec);
        value
    };
    let table: [(&[u8], Option<&str>); 14] = [
        (b"\xa1\x45color\x45green", Some("green")),
        (b"\xa1\x65color\x65green", Some("green")),
        (b"\xbf\x45color\x5f\x42gr\x43een\xff\xff", Some("green")),
        (b"\xa1\x45color\x18\x2a", Some("42")),
        (b"\xa1\x45color\x38\x29", Some("-42")),
        (b"\xa1\x45color\x1b\x80\0\0\0\0\0\0\0", None),
        (b"\xa1\x45color\xf5", Some("true")),
        (b"\xa1\x45color\xf6", Some("")),
        (b"\xf6", Some("")),
        (b"\xa0", Some("")),
        (b"\xa1\x45color\xf9\x3c\0", None),
        (b"\xa1\x45color\xd6\x45green", None),
        (b"\xa1\x45color\x81\x45green", None),
        (b"\x45green", None),
    ];
    for (spec, expected) in table {
        assert_eq!(value_of("spec.color", &document(spec)).as_deref(), expected, "{}", spec.escape_ascii());
    }
    let twice = document(b"\xa2\x45color\x41a\x45color\x41a");
    assert_eq!(decode_with_fields(&twice, &FieldSet::new(Some(VERSION), ["spec.color"])), None);
}

#[test]
fn fields_of_builtin_kinds_in_json() {
    let table = [
        ("v1", "Pod", r#""spec":{"nodeName":"n"}"#, "spec.nodeName", Some("n")),
        ("v1", "Pod", r#""spec":{}"#, "spec.nodeName", Some("")),
        ("v1", "Pod", r#""spec":{"nodeName":1}"#, "spec.nodeName", None),
        ("v1", "Pod", r#""spec":{"restartPolicy":"Never"}"#, "spec.restartPolicy", Some("Never")),
        ("v1", "Pod", r#""spec":{"restartPolicy":""}"#, "spec.restartPolicy", None),
        ("v1", "Pod", r#""spec":null"#, "spec.restartPolicy", None),
        ("v1", "Pod", r#""spec":{"hostNetwork":true}"#, "spec.hostNetwork", Some("true")),
        ("v1", "Pod", r#""spec":{"hostNetwork":"true"}"#, "spec.hostNetwork", None),
        ("v1", "Pod", "", "spec.hostNetwork", Some("false")),
        // The predicate reads another field.
        ("v1", "Pod", r#""status":{"podIP":"10.0.0.1"}"#, "status.podIP", None),
        ("v1", "Event", r#""source":{"component":"kubelet"}"#, "source", Some("kubelet")),
        ("v1", "Event", r#""reportingComponent":"x""#, "source", None),
        ("v1", "Event", r#""type":"Normal""#, "type", Some("Normal")),
        ("v1", "Event", "", "type", Some("")),
        ("v1", "Secret", "", "type", None),
        ("v1", "Secret", r#""type":"Opaque""#, "type", Some("Opaque")),
        // A field of another kind of the version, and of none.
        ("v1", "ConfigMap", r#""type":"Opaque""#, "type", None),
        ("v1", "ConfigMap", r#""data":{"a":"b"}"#, "data.a", None),
        ("v1", "ConfigMap", "", "metadata.name", Some("a")),
        ("batch/v1", "Job", r#""status":{"succeeded":3,"successful":4}"#, "status.successful", Some("3")),
        ("batch/v1", "Job", "", "status.successful", Some("0")),
        ("batch/v1", "Job", r#""status":{"succeeded":2147483648}"#, "status.successful", None),
        ("resource.k8s.io/v1", "ResourceSlice", r#""spec":{"pool":{"name":"p"}}"#, "spec.pool.name", Some("p")),
        ("resource.k8s.io/v1", "ResourceSlice", r#""spec":{"pool":{"name":"p"}}"#, "spec.pool", None),
        ("autoscaling/v2", "HorizontalPodAutoscaler", r#""spec":{"x":"y"}"#, "spec.x", None),
    ];
    for (version, kind, fields, name, expected) in table {
        let separator = if fields.is_empty() { "" } else { "," };
        let value =
            format!(r#"{{"apiVersion":"{version}","kind":"{kind}","metadata":{{"name":"a"}}{separator}{fields}}}"#);
        let (_, values) = decode_with_fields(value.as_bytes(), &FieldSet::new(Some(version), [name])).unwrap();
        assert_eq!(values[0].known(), expected, "{name} of {value}");
    }
}

#[test]
fn fields_of_builtin_kinds_in_protobuf() {
    let pod = |raw: &[u8]| envelope("v1", "Pod", raw);
    let table: [(Vec<u8>, &str, Option<&str>); 12] = [
        (pod(b"\x12\x03\x52\x01n"), "spec.nodeName", Some("n")),
        // Messages merge, scalars take the last value.
        (pod(b"\x12\x03\x52\x01n\x12\x03\x52\x01m"), "spec.nodeName", Some("m")),
        (pod(b"\x12\x03\x52\x01n\x12\0"), "spec.nodeName", Some("n")),
        (pod(b"\x12\0"), "spec.nodeName", Some("")),
        (pod(b""), "spec.nodeName", Some("")),
        (pod(b"\x12\x02\x1a\0"), "spec.restartPolicy", None),
        (pod(b"\x12\x02\x58\x01"), "spec.hostNetwork", Some("true")),
        (pod(b"\x12\x02\x58\0"), "spec.hostNetwork", Some("false")),
        (pod(b"\x12\x03\x52\x01n"), "status.podIP", None),
        (envelope("v1", "ConfigMap", b"\x12\x03\x52\x01n"), "spec.nodeName", None),
        (envelope("v1", "ReplicationController", b"\x1a\x02\x08\x07"), "status.replicas", Some("7")),
        (
            envelope("v1", "ReplicationController", b"\x1a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            "status.replicas",
            Some("-1"),
        ),
    ];
    for (value, name, expected) in &table {
        let (_, values) = decode_with_fields(value, &FieldSet::new(Some("v1"), [name])).unwrap();
        assert_eq!(values[0].known(), *expected, "{name} of {}", value.escape_ascii());
    }
    // Another version than was asked for, and no built-in kind at all.
    for version in ["v2", "example.com/v1"] {
        let value = envelope(version, "Pod", b"\x12\x03\x52\x01n");
        let (_, values) = decode_with_fields(&value, &FieldSet::new(Some("v1"), ["spec.nodeName"])).unwrap();
        assert_eq!(values, [FieldValue::Unknown]);
        let (_, values) = decode_with_fields(&value, &FieldSet::new(Some(version), ["spec.nodeName"])).unwrap();
        assert_eq!(values, [FieldValue::Unknown]);
    }
    // Go fails on a field of another wire type, and on one that is cut off.
    for raw in [&b"\x12\x02\x50\x01"[..], b"\x12\x03\x52\x02n", b"\x10\x01"] {
        assert_eq!(decode_with_fields(&pod(raw), &FieldSet::new(Some("v1"), ["spec.nodeName"])), None);
    }
}

#[test]
fn the_table_of_builtin_fields_is_consistent() {
    use crate::contract::BUILTIN_FIELDS;
    for field in BUILTIN_FIELDS {
        assert!(!field.protobuf.is_empty() && field.protobuf[0] > 1, "{field:?}: 1 is the metadata");
        for other in BUILTIN_FIELDS {
            let same = (field.api_version, field.name) == (other.api_version, other.name);
            assert!(!same || field.path == other.path, "one version has one path for a name: {field:?} {other:?}");
            assert!(!same || field.kind != other.kind || field == other, "twice: {field:?}");
        }
    }
}

/// A stored object in protobuf, without metadata.
fn envelope(version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let bytes = |field: u8, content: &[u8]| {
        [vec![field << 3 | 2, u8::try_from(content.len()).unwrap()], content.to_vec()].concat()
    };
    let type_meta = [bytes(1, version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), bytes(1, &type_meta), bytes(2, raw)].concat()
}

/// JSON as Kubernetes writes it to CBOR: all strings as byte strings.
fn cbor(value: &Value) -> Vec<u8> {
    let head = |major: u8, number: u64| [vec![major << 5 | 27], number.to_be_bytes().to_vec()].concat();
    let string = |text: &str| [head(2, text.len() as u64), text.as_bytes().to_vec()].concat();
    match value {
        Value::Null => vec![0xf6],
        Value::Bool(boolean) => vec![if *boolean { 0xf5 } else { 0xf4 }],
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => head(0, number),
            (_, Some(number), _) => head(1, (!number).cast_unsigned()),
            (_, _, Some(number)) => [vec![0xfb], number.to_be_bytes().to_vec()].concat(),
            _ => unreachable!("serde_json has no other numbers"),
        },
        Value::String(text) => string(text),
        Value::Array(items) => [head(4, items.len() as u64), items.iter().flat_map(cbor).collect()].concat(),
        Value::Object(entries) => {
            let content = entries.iter().flat_map(|(key, value)| [string(key), cbor(value)].concat());
            [head(5, entries.len() as u64), content.collect()].concat()
        }
    }
}

/// What upstream's `selectableFields` gives for the path; nothing for what it prints in a way of Go's own.
fn printed_by_go(object: &Value, path: &str) -> Option<String> {
    let mut value = object;
    for step in path.split('.') {
        match value {
            // Anything else has no such field, and `evalField` finds nothing.
            Value::Object(entries) => match entries.get(step) {
                Some(next) => value = next,
                None => return Some(String::new()),
            },
            _ => return Some(String::new()),
        }
    }
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Bool(boolean) => Some(boolean.to_string()),
        Value::Number(number) => number.as_i64().map(|number| number.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn values() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-2..3_i64).prop_map(Value::from)
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        any::<f64>().prop_map(Value::from),
        select(vec!["", "x", "true", "1", "ä,\\="]).prop_map(Value::from),
    ];
    let names = || select(vec!["a", "b", "c", "ä"]);
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            1 => vec(inner.clone(), 0..3).prop_map(Value::from),
            4 => btree_map(names(), inner, 0..4)
                .prop_map(|entries| entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

fn objects() -> impl Strategy<Value = Value> {
    btree_map(select(vec!["a", "b", "c"]), values(), 0..4).prop_map(|fields: BTreeMap<_, _>| {
        let mut object = json!({"apiVersion": VERSION, "kind": "Shirt", "metadata": {"name": "x"}});
        fields.into_iter().for_each(|(name, value)| object[name] = value);
        object
    })
}

fn paths() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "c"]), 1..4).prop_map(|steps| steps.join("."))
}

proptest! {
    /// A known value is what Go prints, and a plain one in its place is known.
    #[test]
    fn values_of_random_objects_are_gos(object in objects(), names in vec(paths(), 1..6)) {
        let names: Vec<String> = names.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        let set = FieldSet::new(Some(VERSION), &names);
        let encoded = [object.to_string().into_bytes(), [cbor::MAGIC, &cbor(&object)].concat()];
        for value in &encoded {
            let (_, values) = decode_with_fields(value, &set).unwrap();
            for (name, value) in names.iter().zip(&values) {
                let go = printed_by_go(&object, name);
                if let Some(known) = value.known() {
                    prop_assert_eq!(Some(known), go.as_deref(), "{} in {}", name, object);
                } else if name.split('.').count() == 1 {
                    prop_assert_eq!(go, None, "{} in {}", name, object);
                }
            }
        }
    }

    /// Looking for fields changes nothing of what is read besides.
    #[test]
    fn any_bytes_are_survived(mark in select(vec![&b""[..], b"{", protobuf::MAGIC, cbor::MAGIC]), noise: Vec<u8>) {
        let value = [mark, &noise].concat();
        let read = decode_with_fields(&value, &FieldSet::new(Some(VERSION), ["a", "a.b", "b"]));
        prop_assert_eq!(read.map(|(meta, _)| meta), decode(&value));
    }
}
