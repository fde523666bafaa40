//! Metadata and fields of objects in Kubernetes' protobuf envelope.
//!
//! `k8s\0`, then a message `Unknown` (apimachinery: pkg/runtime/generated.proto) whose field `raw` holds the object.
//! The first field of every stored kind is its `ObjectMeta` (apimachinery: pkg/apis/meta/v1/generated.proto). The rules
//! for repeated, unknown and malformed fields are those of the generated Go code (`Unmarshal` and `skipGenerated` in
//! generated.pb.go beside them): messages merge, scalars take the last value, groups are skipped.

use std::borrow::Cow;

use super::fields::FieldSet;
use super::paths::Scalar;
use super::{Label, ObjectMeta, OwnerReference, sort_labels, time};
use crate::contract::BuiltinValue;

/// What the envelope starts with (apimachinery: `protoEncodingPrefix` in pkg/runtime/serializer/protobuf/protobuf.go).
pub(crate) const MAGIC: &[u8] = b"k8s\0";

/// The content type of `raw` when it is given at all.
const CONTENT_TYPE: &[u8] = b"application/vnd.kubernetes.protobuf";

/// Reads an envelope without its magic, with the fields that are wanted of the object's kind.
pub(super) fn decode<'a>(envelope: &'a [u8], wanted: &FieldSet, found: &mut [Scalar<'a>]) -> Option<ObjectMeta<'a>> {
    let mut meta = ObjectMeta::default();
    let mut raw = None;
    for field in fields(envelope) {
        match field? {
            (1, value) => read_type_meta(value.bytes()?, &mut meta)?,
            (2, value) => raw = Some(value.bytes()?),
            // `raw` is encoded once more, or is not protobuf.
            (3, value) if !value.bytes()?.is_empty() => return None,
            (4, value) if !matches!(value.bytes()?, b"" | CONTENT_TYPE) => return None,
            _ => {}
        }
    }
    // Upstream reads an envelope without an object as an empty object; to us it is one that was cut off.
    let raw = raw?;
    for field in fields(raw) {
        if let (1, value) = field? {
            read_object_meta(value.bytes()?, &mut meta)?;
        }
    }
    sort_labels(&mut meta.labels);
    // Of other kinds nobody knows what the numbers mean.
    found.fill(Scalar::Other);
    for (slot, field) in wanted.builtin(&meta) {
        found[slot] = match last(raw, field.protobuf)? {
            Some(value) => scalar(value, field.value)?,
            None => Scalar::Absent,
        };
    }
    Some(meta)
}

/// The last value that the way leads to; the inner `None` if there is none.
fn last<'a>(message: &'a [u8], way: &[i32]) -> Option<Option<Value<'a>>> {
    let Some((first, rest)) = way.split_first() else { return Some(None) };
    let mut found = None;
    for field in fields(message) {
        match field? {
            (number, value) if number == *first && rest.is_empty() => found = Some(value),
            (number, value) if number == *first => found = last(value.bytes()?, rest)?.or(found),
            _ => {}
        }
    }
    Some(found)
}

fn scalar(value: Value<'_>, kind: BuiltinValue) -> Option<Scalar<'_>> {
    Some(match kind {
        BuiltinValue::String | BuiltinValue::DefaultedString => Scalar::Text(value.text()?),
        BuiltinValue::Boolean => Scalar::Boolean(value.integer()? != 0),
        #[expect(clippy::cast_possible_truncation, reason = "upstream keeps 32 bits, too")]
        BuiltinValue::Integer => Scalar::Integer(i64::from(value.integer()? as i32)),
    })
}

fn read_type_meta<'a>(message: &'a [u8], meta: &mut ObjectMeta<'a>) -> Option<()> {
    for field in fields(message) {
        match field? {
            (1, value) => meta.api_version = value.text()?,
            (2, value) => meta.kind = value.text()?,
            _ => {}
        }
    }
    Some(())
}

fn read_object_meta<'a>(message: &'a [u8], meta: &mut ObjectMeta<'a>) -> Option<()> {
    for field in fields(message) {
        match field? {
            (1, value) => meta.name = value.text()?,
            (3, value) => meta.namespace = value.text()?,
            (5, value) => meta.uid = value.text()?,
            (7, value) => meta.generation = value.integer()?,
            (9, value) => meta.deletion_timestamp = Some(read_time(value.bytes()?)?),
            (10, value) => meta.deletion_grace_period_seconds = Some(value.integer()?),
            (11, value) => meta.labels.push(read_label(value.bytes()?)?),
            (13, value) => meta.owner_references.push(read_owner_reference(value.bytes()?)?),
            (14, value) => meta.finalizers.push(value.text()?),
            _ => {}
        }
    }
    Some(())
}

/// Seconds alone: upstream ignores the nanoseconds (apimachinery: pkg/apis/meta/v1/time_proto.go).
fn read_time(message: &[u8]) -> Option<i64> {
    if message.is_empty() {
        return Some(time::ZERO);
    }
    let mut seconds = 0;
    for field in fields(message) {
        match field? {
            (1, value) => seconds = value.integer()?,
            (2, value) => _ = value.integer()?,
            _ => {}
        }
    }
    Some(seconds)
}

fn read_label(message: &[u8]) -> Option<Label<'_>> {
    let mut label = Label::default();
    for field in fields(message) {
        match field? {
            (1, value) => label.0 = value.text()?,
            (2, value) => label.1 = value.text()?,
            _ => {}
        }
    }
    Some(label)
}

fn read_owner_reference(message: &[u8]) -> Option<OwnerReference<'_>> {
    let mut owner = OwnerReference::default();
    for field in fields(message) {
        match field? {
            (1, value) => owner.kind = value.text()?,
            (3, value) => owner.name = value.text()?,
            (4, value) => owner.uid = value.text()?,
            (5, value) => owner.api_version = value.text()?,
            (6, value) => owner.controller = value.integer()? != 0,
            (7, value) => owner.block_owner_deletion = value.integer()? != 0,
            _ => {}
        }
    }
    Some(owner)
}

/// A field of a message with the bytes that it is made of.
pub(crate) struct Field<'a> {
    pub(crate) number: i32,
    pub(crate) value: Value<'a>,
    /// From the tag to the end of the value.
    pub(crate) whole: &'a [u8],
}

/// The value of a field.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    /// A variable-length integer.
    Varint(u64),
    /// Bytes with a length: a string, or a message.
    Bytes(&'a [u8]),
    /// A number of fixed length or a group: nothing that is read here.
    Skipped,
}

impl<'a> Value<'a> {
    fn bytes(self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    fn text(self) -> Option<Cow<'a, str>> {
        std::str::from_utf8(self.bytes()?).ok().map(Cow::Borrowed)
    }

    fn integer(self) -> Option<i64> {
        if let Self::Varint(number) = self { Some(number.cast_signed()) } else { None }
    }
}

/// The numbers and values of a message's fields, in order; `None` where it is malformed, which ends it.
fn fields(message: &[u8]) -> impl Iterator<Item = Option<(i32, Value<'_>)>> {
    spans(message).map(|field| field.map(|field| (field.number, field.value)))
}

/// The fields of a message, in order; `None` where it is malformed, which ends it.
pub(crate) fn spans(message: &[u8]) -> impl Iterator<Item = Option<Field<'_>>> {
    let mut reader = Reader { rest: message };
    std::iter::from_fn(move || {
        let start = reader.rest;
        if start.is_empty() {
            return None;
        }
        let Some((number, value)) = reader.field() else {
            reader.rest = &[];
            return Some(None);
        };
        Some(Some(Field { number, value, whole: &start[..start.len() - reader.rest.len()] }))
    })
}

/// Reads the wire format.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn field(&mut self) -> Option<(i32, Value<'a>)> {
        let tag = self.varint()?;
        #[expect(clippy::cast_possible_truncation, reason = "upstream cuts the number to 32 bits, too")]
        let number = (tag >> 3) as i32;
        if number <= 0 {
            return None;
        }
        let value = match tag & 7 {
            3 => self.skip_group()?,
            wire_type => self.value(wire_type)?,
        };
        Some((number, value))
    }

    fn value(&mut self, wire_type: u64) -> Option<Value<'a>> {
        match wire_type {
            0 => self.varint().map(Value::Varint),
            1 => self.take(8).map(|_| Value::Skipped),
            2 => {
                let length = self.varint()?;
                self.take(length).map(Value::Bytes)
            }
            5 => self.take(4).map(|_| Value::Skipped),
            _ => None,
        }
    }

    /// Skips what follows the start of a group. Groups in it are counted, not entered.
    fn skip_group(&mut self) -> Option<Value<'a>> {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.varint()? & 7 {
                3 => depth += 1,
                4 => depth -= 1,
                wire_type => _ = self.value(wire_type)?,
            }
        }
        Some(Value::Skipped)
    }

    /// At most ten bytes; bits above the 64th are lost, as upstream loses them.
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(taken)
    }
}
