//! Label and field selectors.

use serde::Deserialize;
use sluice_shim::object::decode;
use sluice_shim::selector::{FieldSelector, LabelSelector, Selection};

use super::bounds::Bounds;
use super::driver::{Target, alone, kind, words};
use super::objects;

/// A requirement takes some 60 bytes, and at least two of the text.
pub(crate) const BOUNDS: Bounds = Bounds { memory: 64 << 10, memory_a_byte: 512 };

const WORDS: [&[u8]; 18] = [
    b"=",
    b"==",
    b"!=",
    b"!",
    b",",
    b"in",
    b"notin",
    b"(",
    b")",
    b">",
    b"<",
    b"\\",
    b" ",
    b"\t",
    b"a",
    b"example.com/",
    b"9223372036854775808",
    "\u{e9}".as_bytes(),
];

fn seeds() -> Vec<Vec<u8>> {
    #[derive(Deserialize)]
    struct Vectors {
        label: Vec<Case>,
        field: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        selector: String,
    }
    let vectors: Vectors = serde_json::from_str(include_str!("../vectors/selectors.json")).unwrap();
    vectors.label.into_iter().chain(vectors.field).map(|case| case.selector.into_bytes()).collect()
}

fn run(values: &[Vec<u8>], input: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(input);
    let len = text.len();
    let label = BOUNDS.hold(len, || LabelSelector::parse(&text));
    if let Ok(selector) = &label {
        let printed = selector.to_string();
        assert_eq!(LabelSelector::parse(&printed).as_ref(), Ok(selector), "printed as {printed:?}");
        for meta in values.iter().filter_map(|value| decode(value)) {
            BOUNDS.hold(len, || selector.matches(&meta.labels));
        }
    }
    let field = BOUNDS.hold(len, || FieldSelector::parse(&text));
    if let Ok(selector) = &field {
        let printed = selector.to_string();
        assert_eq!(FieldSelector::parse(&printed).as_ref(), Ok(selector), "printed as {printed:?}");
    }
    let both = BOUNDS.hold(2 * len, || Selection::parse(Some(&text), Some(&text), Some(&text)));
    if let Ok(Some(selection)) = &both {
        assert_eq!(label.as_ref().map(LabelSelector::requirements), Ok(selection.label_requirements()));
        assert_eq!(field.as_ref().map(FieldSelector::requirements), Ok(selection.field_requirements()));
    }
    let operators = label.map(|selector| {
        let names = selector.requirements().iter().take(3).map(|requirement| format!("{:?}", requirement.operator));
        names.map(|name| name.split(['(', '[']).next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    });
    let fields = field.map(|selector| selector.requirements().len().min(4)).map_err(words);
    kind((operators.map_err(words), fields, both.map(|both| both.is_some()).map_err(|error| error.kind())))
}

#[test]
fn selectors() {
    let alone = alone();
    let values = objects::seeds();
    Target { name: "selectors", seeds: seeds(), words: &WORDS, run: &|input| run(&values[..8], input) }.fuzz(&alone);
}
