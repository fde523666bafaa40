//! Carries out a plan on an object in Kubernetes' protobuf envelope.
//!
//! Field numbers are those of `Unknown` (apimachinery: pkg/runtime/generated.proto) and of `ObjectMeta` and
//! `OwnerReference` (pkg/apis/meta/v1/generated.proto). An object whose metadata is written in several pieces, or that
//! has a field twice that is to change, is not changed: no program of Kubernetes writes such.

use super::plan::{Owner, Plan};
use crate::object::protobuf::{Field, MAGIC, Value, spans};

const RAW: i32 = 2;
const METADATA: i32 = 1;
const GENERATION: i32 = 7;
const DELETION_TIMESTAMP: i32 = 9;
const DELETION_GRACE_PERIOD_SECONDS: i32 = 10;
const OWNER_REFERENCES: i32 = 13;
const FINALIZERS: i32 = 14;
const BLOCK_OWNER_DELETION: i32 = 7;

/// The object with its metadata changed.
pub(super) fn edit(value: &[u8], plan: &Plan<'_>) -> Option<Vec<u8>> {
    let envelope = value.strip_prefix(MAGIC)?;
    let envelope = edit_only(envelope, RAW, |raw| {
        edit_only(raw, METADATA, |metadata| {
            let fields = edit_lists(read(metadata)?, plan)?;
            Some(edit_scalars(fields, plan)?.concat())
        })
    })?;
    Some([MAGIC, &envelope].concat())
}

/// A field of a message that is being written: its number and all its bytes.
struct Piece(i32, Vec<u8>);

fn read(message: &[u8]) -> Option<Vec<Field<'_>>> {
    spans(message).collect()
}

/// The message with a message in it changed, which must be there once.
fn edit_only(message: &[u8], number: i32, edit: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let fields = read(message)?;
    let mut places = (0..fields.len()).filter(|&index| fields[index].number == number);
    let (place, None) = (places.next()?, places.next()) else { return None };
    let changed = bytes_field(number, &edit(bytes(&fields[place])?)?);
    let whole = |fields: &[Field<'_>]| fields.iter().flat_map(|field| field.whole).copied().collect::<Vec<_>>();
    Some([whole(&fields[..place]), changed, whole(&fields[place + 1..])].concat())
}

/// The fields, with owners and finalizers changed.
fn edit_lists(fields: Vec<Field<'_>>, plan: &Plan<'_>) -> Option<Vec<Piece>> {
    let mut pieces = Vec::with_capacity(fields.len());
    let mut owners = plan.owners.iter().flatten();
    let mut keeps = plan.finalizers.iter().flat_map(|finalizers| &finalizers.keep);
    for field in fields {
        let changed = match field.number {
            OWNER_REFERENCES => match owners.next().unwrap_or(&Owner::Keep) {
                Owner::Keep => Some(field.whole.to_vec()),
                Owner::Drop => None,
                Owner::Unblock => Some(bytes_field(OWNER_REFERENCES, &unblock(bytes(&field)?)?)),
            },
            FINALIZERS => keeps.next().unwrap_or(&true).then(|| field.whole.to_vec()),
            _ => Some(field.whole.to_vec()),
        };
        pieces.extend(changed.map(|bytes| Piece(field.number, bytes)));
    }
    if let Some(new) = plan.finalizers.as_ref().and_then(|finalizers| finalizers.add) {
        insert(&mut pieces, FINALIZERS, bytes_field(FINALIZERS, new.as_bytes()));
    }
    Some(pieces)
}

fn unblock(owner: &[u8]) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(owner.len());
    for field in spans(owner) {
        let field = field?;
        if field.number == BLOCK_OWNER_DELETION {
            message.extend(varint_field(BLOCK_OWNER_DELETION, 0));
        } else {
            message.extend_from_slice(field.whole);
        }
    }
    Some(message)
}

fn edit_scalars(mut pieces: Vec<Piece>, plan: &Plan<'_>) -> Option<Vec<Vec<u8>>> {
    let time = |seconds| {
        // Upstream writes both numbers of a `Timestamp`, also zeros.
        bytes_field(DELETION_TIMESTAMP, &[varint_field(1, seconds), varint_field(2, 0)].concat())
    };
    let scalars = [
        (GENERATION, plan.generation.map(|number| varint_field(GENERATION, number))),
        (DELETION_TIMESTAMP, plan.deletion_timestamp.map(time)),
        (DELETION_GRACE_PERIOD_SECONDS, plan.grace_period.map(|n| varint_field(DELETION_GRACE_PERIOD_SECONDS, n))),
    ];
    for (number, bytes) in scalars {
        let Some(bytes) = bytes else { continue };
        let mut places = (0..pieces.len()).filter(|&index| pieces[index].0 == number);
        match (places.next(), places.next()) {
            (None, _) => insert(&mut pieces, number, bytes),
            (Some(place), None) => pieces[place].1 = bytes,
            (Some(_), Some(_)) => return None,
        }
    }
    Some(pieces.into_iter().map(|Piece(_, bytes)| bytes).collect())
}

/// Puts a field behind the last one without a greater number: generated code writes fields in the order of their
/// numbers.
fn insert(pieces: &mut Vec<Piece>, number: i32, bytes: Vec<u8>) {
    let place = pieces.iter().rposition(|piece| piece.0 <= number).map_or(0, |last| last + 1);
    pieces.insert(place, Piece(number, bytes));
}

fn bytes<'a>(field: &Field<'a>) -> Option<&'a [u8]> {
    if let Value::Bytes(bytes) = field.value { Some(bytes) } else { None }
}

fn bytes_field(number: i32, content: &[u8]) -> Vec<u8> {
    let mut field = Vec::with_capacity(content.len() + 6);
    write_varint(&mut field, tag(number, 2));
    write_varint(&mut field, content.len() as u64);
    field.extend_from_slice(content);
    field
}

fn varint_field(number: i32, content: i64) -> Vec<u8> {
    let mut field = Vec::with_capacity(11);
    write_varint(&mut field, tag(number, 0));
    write_varint(&mut field, content.cast_unsigned());
    field
}

fn tag(number: i32, wire_type: u64) -> u64 {
    u64::from(number.cast_unsigned()) << 3 | wire_type
}

fn write_varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}
