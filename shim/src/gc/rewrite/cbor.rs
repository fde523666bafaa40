//! The spans of CBOR items.

use std::borrow::Cow;

use super::form::{Container, Form, Item, Piece};
use crate::object::cbor::{BREAK, Head, MAGIC, Reader, write_head};

/// CBOR, as kube-apiserver writes it: strings are byte strings.
pub(super) struct Cbor;

impl Form for Cbor {
    fn map(value: &[u8]) -> Option<Container<'_>> {
        container(value, MAP)
    }

    fn array(value: &[u8]) -> Option<Container<'_>> {
        container(value, ARRAY)
    }

    fn write(container: &Container<'_>, pieces: &[Piece<'_>]) -> Vec<u8> {
        let counted = container.tail.is_empty();
        let mut item = Vec::new();
        if counted && pieces.len() != container.items.len() {
            // Only containers inside of the object change their length, so the magic is not in the way.
            let major = container.head.first().map_or(ARRAY, |initial| initial >> 5);
            write_head(&mut item, major, pieces.len() as u64);
        } else {
            item.extend_from_slice(container.head);
        }
        for piece in pieces {
            item.extend_from_slice(&piece.bytes);
        }
        item.extend_from_slice(container.tail);
        item
    }

    fn is_null(value: &[u8]) -> bool {
        value == [0xf6]
    }

    fn text(text: &str) -> Vec<u8> {
        let mut item = Vec::with_capacity(text.len() + 2);
        write_head(&mut item, BYTE_STRING, text.len() as u64);
        item.extend_from_slice(text.as_bytes());
        item
    }

    fn integer(number: i64) -> Vec<u8> {
        let mut item = Vec::new();
        match u64::try_from(number) {
            Ok(number) => write_head(&mut item, UNSIGNED, number),
            Err(_) => write_head(&mut item, NEGATIVE, (!number).cast_unsigned()),
        }
        item
    }

    fn boolean(boolean: bool) -> Vec<u8> {
        vec![if boolean { 0xf5 } else { 0xf4 }]
    }

    fn array_of(element: &[u8]) -> Vec<u8> {
        let mut item = Vec::new();
        write_head(&mut item, ARRAY, 1);
        item.extend_from_slice(element);
        item
    }

    fn member(name: &str, value: &[u8]) -> Vec<u8> {
        [&Self::text(name), value].concat()
    }

    /// By the bytes of the encoded names, so shorter ones are first (apimachinery: `SortBytewiseLexical` in
    /// pkg/runtime/serializer/cbor/internal/modes/encode.go).
    fn precedes(name: &str, other: &str) -> bool {
        (name.len(), name) < (other.len(), other)
    }
}

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTE_STRING: u8 = 2;
const ARRAY: u8 = 4;
const MAP: u8 = 5;

fn container(value: &[u8], major: u8) -> Option<Container<'_>> {
    let mut reader = Reader::new(value.strip_prefix(MAGIC).unwrap_or(value));
    let length = match reader.head()? {
        Head::Array(length) if major == ARRAY => length,
        Head::Map(length) if major == MAP => length,
        _ => return None,
    };
    let head = before(value, reader.rest());
    let mut items: Vec<Item<'_>> = Vec::new();
    while length.map_or(reader.rest().first() != Some(&BREAK), |length| (items.len() as u64) < length) {
        let start = reader.rest();
        let name = if major == MAP {
            let name = reader.head()?;
            reader.string(&name)?
        } else {
            Cow::Borrowed("")
        };
        let value = reader.rest();
        reader.skip()?;
        let (whole, value) = (before(start, reader.rest()), before(value, reader.rest()));
        items.push(Item { lead: &[], name, whole, value });
    }
    Some(Container { head, items, tail: reader.rest() })
}

/// What stands before the rest of some bytes.
fn before<'a>(bytes: &'a [u8], rest: &[u8]) -> &'a [u8] {
    &bytes[..bytes.len() - rest.len()]
}
