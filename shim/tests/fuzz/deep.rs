//! Ten megabytes of nothing but nesting, on a small stack.

use sluice_shim::object::decode;
use sluice_shim::selector::{FieldSelector, LabelSelector};

use super::bounds::Bounds;
use super::driver::alone;
use super::objects;

const DEPTH: usize = 10 << 20;
/// An eighth of what a thread usually has.
const STACK: usize = 256 << 10;

fn check(name: &'static str, bounds: Bounds, work: impl FnOnce() + Send + 'static) {
    let _alone = alone();
    let thread = std::thread::Builder::new().stack_size(STACK).name(name.to_owned());
    thread.spawn(move || bounds.hold(DEPTH, work)).unwrap().join().unwrap();
}

#[test]
fn depth_is_no_danger() {
    let object = |before: &str, deep: &str, after: &str| {
        let unit = deep.len();
        [before.as_bytes(), deep.repeat(DEPTH / unit).as_bytes(), after.as_bytes()].concat()
    };
    let cbor = |deep: &[u8]| [b"\xd9\xd9\xf7\xa1\x41a", &deep.repeat(DEPTH / deep.len())[..]].concat();
    let labels_of_cbor =
        |deep: &[u8]| [b"\xd9\xd9\xf7\xa1\x48metadata\xa1\x46labels\xa1\x41a", &deep.repeat(DEPTH)[..]].concat();
    let protobuf = |before: &[u8], deep: &[u8]| [b"k8s\0", before, &deep.repeat(DEPTH)[..]].concat();
    let values: [(&'static str, Vec<u8>); 13] = [
        ("arrays alone", object("", "[", "")),
        ("arrays", object("{\"a\":", "[", "")),
        ("objects", object("{\"a\":", "{\"a\":", "")),
        ("arrays for metadata", object("{\"metadata\":", "[", "")),
        ("arrays in labels", object("{\"metadata\":{\"labels\":{\"a\":", "[", "")),
        ("objects for owners", object("{\"metadata\":{\"ownerReferences\":", "[{\"name\":", "")),
        ("white space", object("{\"a\":", " ", "1}")),
        ("CBOR arrays", cbor(b"\x81")),
        ("CBOR arrays of open length", cbor(b"\x9f")),
        ("CBOR tags", cbor(b"\xc1")),
        ("CBOR arrays in labels", labels_of_cbor(b"\x81")),
        ("protobuf groups", protobuf(b"", b"\x0b")),
        ("protobuf groups in an object", protobuf(b"\x12\x80\x80\x80\x05", b"\x0b")),
    ];
    for (name, value) in values {
        check(name, objects::BOUNDS, move || assert_eq!(decode(&value), None, "{name}"));
    }
}

#[test]
fn a_deep_object_that_ends_well_is_read() {
    let half = DEPTH / 2;
    let value = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"A\",\"spec\":{}{},\"metadata\":{{\"name\":\"n\"}}}}",
        "[".repeat(half),
        "]".repeat(half)
    );
    check("JSON", objects::BOUNDS, move || assert_eq!(decode(value.as_bytes()).unwrap().name, "n"));
}

#[test]
fn selectors_have_no_depth() {
    for text in ["(", "!", "a in ", ",", "\\", "a=b,"] {
        let text = text.repeat(DEPTH / text.len() / 8);
        // Longer than any request may have it, so that only the time counts.
        let bounds = Bounds { memory: 1 << 30, memory_a_byte: 0 };
        check("a selector", bounds, move || {
            let _ = LabelSelector::parse(&text).map(|selector| selector.to_string());
            let _ = FieldSelector::parse(&text).map(|selector| selector.to_string());
        });
    }
}
