//! Metadata and fields of CBOR objects (`CBORServingAndStorage`).
//!
//! kube-apiserver writes strings and the names of fields as byte strings, and reads both byte strings and text strings
//! (apimachinery: pkg/runtime/serializer/cbor/internal/modes). A field or a label that occurs twice, and a simple value
//! other than false, true and null, is an error there and opaque here; so is a tag on anything that is read.

use std::borrow::Cow;

use super::paths::{Node, Scalar};
use super::{Label, ObjectMeta, OwnerReference, sort_labels, time};

/// The tag "self-described CBOR" that all stored values start with (RFC 8949, section 3.4.6).
pub(crate) const MAGIC: &[u8] = &[0xd9, 0xd9, 0xf7];

/// How deep a value may be nested (apimachinery: `MaxNestedLevels` in modes/decode.go).
const MAX_DEPTH: usize = 10_000;

/// The byte that ends what has no length.
pub(crate) const BREAK: u8 = 0xff;

/// Reads the item that the magic tags, with what the tree wants of it.
pub(super) fn decode<'a>(item: &'a [u8], wanted: &Node, found: &mut [Scalar<'a>]) -> Option<ObjectMeta<'a>> {
    let mut reader = Reader::new(item);
    let mut meta = ObjectMeta::default();
    let mut seen = Seen::default();
    let mut met = 0;
    reader.entries(|reader, key| match key.as_ref() {
        "apiVersion" => seen.set(&mut meta.api_version, 0, reader.text()?),
        "kind" => seen.set(&mut meta.kind, 1, reader.text()?),
        "metadata" => seen.first(2).and_then(|()| read_object_meta(reader, &mut meta)),
        name => read_wanted(reader, wanted, name, &mut met, found),
    })?;
    reader.rest.is_empty().then_some(meta)
}

/// Reads the value of a name, if it is wanted; `met` has a bit for each child of the node.
fn read_wanted<'a>(
    reader: &mut Reader<'a>,
    node: &Node,
    name: &str,
    met: &mut u64,
    found: &mut [Scalar<'a>],
) -> Option<()> {
    let Some((at, child)) = node.child(name) else { return reader.skip() };
    let bit = 1_u64 << at;
    let first = *met & bit == 0;
    *met |= bit;
    if first { read_node(reader, child, found) } else { None }
}

/// Reads the value that a node of the tree stands for.
fn read_node<'a>(reader: &mut Reader<'a>, node: &Node, found: &mut [Scalar<'a>]) -> Option<()> {
    let mut ahead = Reader { rest: reader.rest, open: Vec::new() };
    let scalar = match ahead.head()? {
        Head::Map(_) => {
            node.object(found);
            let mut met = 0;
            return reader.entries(|reader, name| read_wanted(reader, node, &name, &mut met, found));
        }
        Head::Null => Scalar::Null,
        Head::Boolean(boolean) => Scalar::Boolean(boolean),
        Head::Unsigned(number) => i64::try_from(number).map_or(Scalar::Other, Scalar::Integer),
        Head::Negative(number) => i64::try_from(number).map_or(Scalar::Other, |number| Scalar::Integer(-1 - number)),
        head @ Head::String { .. } => Scalar::Text(ahead.string(&head)?),
        // Tags change what a value is, and floats are printed in a way of Go's own.
        Head::Array(_) | Head::Tag | Head::Float | Head::Break => Scalar::Other,
    };
    node.scalar(found, scalar);
    reader.skip()
}

fn read_object_meta<'a>(reader: &mut Reader<'a>, meta: &mut ObjectMeta<'a>) -> Option<()> {
    let mut seen = Seen::default();
    reader.entries(|reader, key| match key.as_ref() {
        "name" => seen.set(&mut meta.name, 0, reader.text()?),
        "namespace" => seen.set(&mut meta.namespace, 1, reader.text()?),
        "uid" => seen.set(&mut meta.uid, 2, reader.text()?),
        "generation" => seen.set(&mut meta.generation, 3, reader.integer()?.unwrap_or_default()),
        "deletionTimestamp" => seen.set(&mut meta.deletion_timestamp, 4, reader.time()?),
        "deletionGracePeriodSeconds" => seen.set(&mut meta.deletion_grace_period_seconds, 5, reader.integer()?),
        "labels" => seen.set(&mut meta.labels, 6, read_labels(reader)?),
        "finalizers" => seen.first(7).and_then(|()| {
            reader.elements(|reader| {
                meta.finalizers.push(reader.text()?);
                Some(())
            })
        }),
        "ownerReferences" => seen.first(8).and_then(|()| {
            reader.elements(|reader| {
                meta.owner_references.push(read_owner_reference(reader)?);
                Some(())
            })
        }),
        _ => reader.skip(),
    })
}

fn read_labels<'a>(reader: &mut Reader<'a>) -> Option<Vec<Label<'a>>> {
    let mut labels = Vec::new();
    reader.entries(|reader, key| {
        labels.push((key, reader.text()?));
        Some(())
    })?;
    let written = labels.len();
    sort_labels(&mut labels);
    (labels.len() == written).then_some(labels)
}

fn read_owner_reference<'a>(reader: &mut Reader<'a>) -> Option<OwnerReference<'a>> {
    let mut owner = OwnerReference::default();
    let mut seen = Seen::default();
    reader.entries(|reader, key| match key.as_ref() {
        "apiVersion" => seen.set(&mut owner.api_version, 0, reader.text()?),
        "kind" => seen.set(&mut owner.kind, 1, reader.text()?),
        "name" => seen.set(&mut owner.name, 2, reader.text()?),
        "uid" => seen.set(&mut owner.uid, 3, reader.text()?),
        "blockOwnerDeletion" => seen.set(&mut owner.block_owner_deletion, 4, reader.boolean()?),
        "controller" => seen.set(&mut owner.controller, 5, reader.boolean()?),
        _ => reader.skip(),
    })?;
    Some(owner)
}

/// Which fields of a map were read already.
#[derive(Default)]
struct Seen(u16);

impl Seen {
    /// `None` if the field was read before.
    fn first(&mut self, field: u8) -> Option<()> {
        let bit = 1 << field;
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first.then_some(())
    }

    fn set<T>(&mut self, place: &mut T, field: u8, value: T) -> Option<()> {
        self.first(field)?;
        *place = value;
        Some(())
    }
}

/// The start of an item: what it is, with the number that the start carries. No number is one of open length.
pub(crate) enum Head {
    Unsigned(u64),
    Negative(u64),
    /// A byte string or a text string.
    String {
        major: u8,
        length: Option<u64>,
    },
    Array(Option<u64>),
    Map(Option<u64>),
    Tag,
    Boolean(bool),
    Null,
    Float,
    Break,
}

/// Writes the start of an item in its shortest form.
pub(crate) fn write_head(item: &mut Vec<u8>, major: u8, number: u64) {
    let bytes = number.to_be_bytes();
    let (info, length) = match number {
        0..24 => (bytes[7], 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    item.push(major << 5 | info);
    item.extend_from_slice(&bytes[8 - length..]);
}

/// A container that is being skipped.
enum Open {
    /// So many items are left.
    Counted(u64),
    /// An array that ends with a break.
    Array,
    /// A map that ends with a break, which must not come between a key and its value.
    Map { value_is_next: bool },
}

/// Reads items.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// The containers around the item that is being skipped; kept for its memory.
    open: Vec<Open>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(items: &'a [u8]) -> Self {
        Self { rest: items, open: Vec::new() }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    /// Reads the start of an item; its content is next.
    pub(crate) fn head(&mut self) -> Option<Head> {
        let initial = self.byte()?;
        let (major, info) = (initial >> 5, initial & 0x1f);
        if major == 7 {
            return self.simple(info);
        }
        let number = match info {
            0..24 => Some(u64::from(info)),
            24..28 => Some(self.take(1 << (info - 24))?.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))),
            31 => None,
            _ => return None,
        };
        Some(match major {
            0 => Head::Unsigned(number?),
            1 => Head::Negative(number?),
            2 | 3 => Head::String { major, length: number },
            4 => Head::Array(number),
            5 => Head::Map(number),
            _ => {
                number?;
                Head::Tag
            }
        })
    }

    fn simple(&mut self, info: u8) -> Option<Head> {
        match info {
            20 => Some(Head::Boolean(false)),
            21 => Some(Head::Boolean(true)),
            22 => Some(Head::Null),
            25..28 => self.take(1 << (info - 24)).map(|_| Head::Float),
            31 => Some(Head::Break),
            _ => None,
        }
    }

    /// A string; null is the empty one.
    fn text(&mut self) -> Option<Cow<'a, str>> {
        match self.head()? {
            Head::Null => Some(Cow::Borrowed("")),
            head => self.string(&head),
        }
    }

    /// Reads the content of a string.
    pub(crate) fn string(&mut self, head: &Head) -> Option<Cow<'a, str>> {
        let Head::String { major, length } = *head else { return None };
        if let Some(length) = length {
            return std::str::from_utf8(self.take(length)?).ok().map(Cow::Borrowed);
        }
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk(major)? {
            whole.extend_from_slice(chunk);
        }
        String::from_utf8(whole).ok().map(Cow::Owned)
    }

    /// The next piece of a string of open length; the inner `None` at its end.
    fn chunk(&mut self, of: u8) -> Option<Option<&'a [u8]>> {
        match self.head()? {
            Head::Break => Some(None),
            Head::String { major, length: Some(length) } if major == of => self.take(length).map(Some),
            _ => None,
        }
    }

    fn integer(&mut self) -> Option<Option<i64>> {
        match self.head()? {
            Head::Null => Some(None),
            Head::Unsigned(number) => i64::try_from(number).ok().map(Some),
            Head::Negative(number) => i64::try_from(number).ok().map(|number| Some(-1 - number)),
            _ => None,
        }
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.head()? {
            Head::Null => Some(false),
            Head::Boolean(boolean) => Some(boolean),
            _ => None,
        }
    }

    fn time(&mut self) -> Option<Option<i64>> {
        match self.head()? {
            Head::Null => Some(None),
            head => time::parse_rfc3339(&self.string(&head)?).map(Some),
        }
    }

    /// Calls `read` for each key of a map; it must read the value. Null is an empty map.
    fn entries(&mut self, mut read: impl FnMut(&mut Self, Cow<'a, str>) -> Option<()>) -> Option<()> {
        let length = match self.head()? {
            Head::Null => return Some(()),
            Head::Map(length) => length,
            _ => return None,
        };
        self.repeat(length, |reader| {
            let head = reader.head()?;
            let key = reader.string(&head)?;
            read(reader, key)
        })
    }

    /// Calls `read` for each element of an array. Null is an empty array.
    fn elements(&mut self, read: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        match self.head()? {
            Head::Null => Some(()),
            Head::Array(length) => self.repeat(length, read),
            _ => None,
        }
    }

    fn repeat(&mut self, length: Option<u64>, mut read: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if let Some(length) = length {
            return (0..length).try_for_each(|_| read(self));
        }
        while self.rest.first() != Some(&BREAK) {
            read(self)?;
        }
        self.byte().map(|_| ())
    }

    /// Skips one item, whatever it is.
    pub(crate) fn skip(&mut self) -> Option<()> {
        self.open.clear();
        loop {
            let mut head = self.head()?;
            if matches!(head, Head::Break) {
                // Only in place of an item that an open container allows to be missing.
                let (Open::Array | Open::Map { value_is_next: false }) = self.open.pop()? else { return None };
            } else {
                self.count_item();
                while matches!(head, Head::Tag) {
                    head = self.head()?;
                }
                self.skip_content(&head)?;
            }
            while matches!(self.open.last(), Some(Open::Counted(0))) {
                self.open.pop();
            }
            if self.open.is_empty() {
                return Some(());
            }
        }
    }

    /// Tells the innermost container that an item of it begins.
    fn count_item(&mut self) {
        match self.open.last_mut() {
            Some(Open::Counted(left)) => *left -= 1,
            Some(Open::Map { value_is_next }) => *value_is_next = !*value_is_next,
            Some(Open::Array) | None => {}
        }
    }

    /// Skips what follows the head of an item, or opens the container that it is.
    fn skip_content(&mut self, head: &Head) -> Option<()> {
        let container = match *head {
            Head::String { length: Some(length), .. } => return self.take(length).map(|_| ()),
            Head::String { major, length: None } => {
                while self.chunk(major)?.is_some() {}
                return Some(());
            }
            Head::Array(Some(length)) => Open::Counted(length),
            Head::Map(Some(length)) => Open::Counted(length.checked_mul(2)?),
            Head::Array(None) => Open::Array,
            Head::Map(None) => Open::Map { value_is_next: false },
            Head::Break | Head::Tag => return None,
            Head::Unsigned(_) | Head::Negative(_) | Head::Boolean(_) | Head::Null | Head::Float => return Some(()),
        };
        self.open.push(container);
        (self.open.len() <= MAX_DEPTH).then_some(())
    }
}
