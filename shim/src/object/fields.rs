//! Values of an object's fields, as field selectors compare them.
//!
//! A value is *known* only if kube-apiserver is sure to see the same one: the object is stored in the version that the
//! values are asked for in, and the stored form leaves no room for defaults or for another reading. The names and
//! namespaces of objects are the same in every version.
//!
//! Custom resources print what the path finds (apiextensions-apiserver: `selectableFields` in
//! pkg/registry/customresource/strategy.go): strings as they are, integers in decimal, booleans as `true` and `false`;
//! what is missing is the empty string, and so is a null, at the end of the path or before it (client-go: `evalField`
//! in util/jsonpath/jsonpath.go). Floats, objects and arrays print in ways of Go's own and stay unknown here.
//!
//! Of built-in kinds those fields are known that the contract lists ([`BUILTIN_FIELDS`]).

use std::borrow::Cow;
use std::hash::{Hash, Hasher};

use super::ObjectMeta;
use super::paths::{Node, Scalar};
use crate::contract::{BUILTIN_FIELDS, BuiltinField, BuiltinValue};

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue<'a> {
    /// What kube-apiserver compares. Empty if the object lacks the field.
    Known(Cow<'a, str>),
    /// The stored bytes do not tell.
    Unknown,
}

impl FieldValue<'_> {
    /// The value, if it is known.
    pub fn known(&self) -> Option<&str> {
        if let Self::Known(value) = self { Some(value) } else { None }
    }

    /// The value without the borrow.
    pub fn into_owned(self) -> FieldValue<'static> {
        match self {
            Self::Known(value) => FieldValue::Known(Cow::Owned(value.into_owned())),
            Self::Unknown => FieldValue::Unknown,
        }
    }
}

/// Fields that are to be read from objects, compiled.
#[derive(Debug, Clone, Default)]
pub struct FieldSet {
    api_version: Option<Box<str>>,
    names: Vec<Box<str>>,
    sources: Vec<Source>,
    root: Node,
}

/// Where the value of a field comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The object's name.
    Name,
    /// The object's namespace.
    Namespace,
    /// A path in custom resources of the set's version.
    Path,
    /// The field of that name of built-in kinds of the set's version; one for each kind.
    Builtin(Vec<&'static BuiltinField>),
    /// Nowhere: the value is never known.
    Nowhere,
}

impl FieldSet {
    /// The fields of these names (`metadata.name`, `spec.color`), in this order, of objects that are stored in that
    /// group and version. Without one, only names and namespaces can be known.
    pub fn new<N: AsRef<str>>(api_version: Option<&str>, names: impl IntoIterator<Item = N>) -> Self {
        let mut set = Self { api_version: api_version.map(Box::from), ..Self::default() };
        for (slot, name) in names.into_iter().enumerate() {
            let name = name.as_ref();
            let source = set.source(name, slot);
            set.names.push(name.into());
            set.sources.push(source);
        }
        set
    }

    fn source(&mut self, name: &str, slot: usize) -> Source {
        let Some(version) = self.api_version.as_deref() else { return metadata(name) };
        let mut builtin = BUILTIN_FIELDS.iter().filter(|field| field.api_version == version).peekable();
        if builtin.peek().is_some() {
            let fields: Vec<_> = builtin.filter(|field| field.name == name).collect();
            return match fields.first() {
                Some(first) if self.root.add(first.path, slot) => Source::Builtin(fields),
                _ => metadata(name),
            };
        }
        let first = name.split('.').next();
        // These are read as metadata, or are not fields that a resource may select by.
        let reserved = matches!(first, Some("metadata" | "apiVersion" | "kind"));
        if is_custom(version) && !reserved && self.root.add(name, slot) { Source::Path } else { metadata(name) }
    }

    /// The group and version that an object must be stored in for its values to be known.
    pub fn api_version(&self) -> Option<&str> {
        self.api_version.as_deref()
    }

    /// The names of the fields, in the order of their values.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether the field in that place is known of any object at all.
    pub fn is_readable(&self, at: usize) -> bool {
        self.sources.get(at).is_some_and(|source| *source != Source::Nowhere)
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// The fields of an object's kind, each with its slot, if it is a built-in one of the set's version.
    pub(super) fn builtin(&self, meta: &ObjectMeta<'_>) -> impl Iterator<Item = (usize, &'static BuiltinField)> {
        let of_version = self.api_version.as_deref() == Some(&*meta.api_version);
        let sources = if of_version { &self.sources[..] } else { &[] };
        sources.iter().enumerate().filter_map(|(slot, source)| {
            let Source::Builtin(fields) = source else { return None };
            fields.iter().find(|field| field.kind == meta.kind).map(|field| (slot, *field))
        })
    }

    /// Room for what is found in an object.
    pub(super) fn slots<'a>(&self) -> Vec<Scalar<'a>> {
        if self.root.is_empty() { Vec::new() } else { vec![Scalar::Absent; self.names.len()] }
    }

    /// The values that what was found stands for.
    pub(super) fn values<'a>(&self, meta: &ObjectMeta<'a>, mut found: Vec<Scalar<'a>>) -> Vec<FieldValue<'a>> {
        let of_version = self.api_version.as_deref() == Some(&*meta.api_version);
        let value = |(slot, source): (usize, &Source)| match source {
            Source::Name => FieldValue::Known(meta.name.clone()),
            Source::Namespace => FieldValue::Known(meta.namespace.clone()),
            Source::Path if of_version => printed(std::mem::take(&mut found[slot])),
            Source::Builtin(fields) if of_version => {
                let field = fields.iter().find(|field| field.kind == meta.kind);
                field.map_or(FieldValue::Unknown, |field| printed_as(field.value, std::mem::take(&mut found[slot])))
            }
            Source::Path | Source::Builtin(_) | Source::Nowhere => FieldValue::Unknown,
        };
        self.sources.iter().enumerate().map(value).collect()
    }
}

/// The same fields in the same order are the same set.
impl PartialEq for FieldSet {
    fn eq(&self, other: &Self) -> bool {
        self.api_version == other.api_version && self.names == other.names
    }
}

impl Eq for FieldSet {}

impl Hash for FieldSet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.api_version.hash(state);
        self.names.hash(state);
    }
}

/// As Go's `fmt.Sprint` prints it.
fn printed(found: Scalar<'_>) -> FieldValue<'_> {
    match found {
        Scalar::Absent | Scalar::Null => FieldValue::Known(Cow::Borrowed("")),
        Scalar::Text(text) => FieldValue::Known(text),
        Scalar::Integer(number) => FieldValue::Known(Cow::Owned(number.to_string())),
        Scalar::Boolean(boolean) => FieldValue::Known(Cow::Borrowed(if boolean { "true" } else { "false" })),
        Scalar::Other => FieldValue::Unknown,
    }
}

/// As the predicate of a built-in kind prints it. Another type than the field's is for kube-apiserver to fail on.
fn printed_as(value: BuiltinValue, found: Scalar<'_>) -> FieldValue<'_> {
    match (value, found) {
        (BuiltinValue::String, found @ (Scalar::Absent | Scalar::Null | Scalar::Text(_))) => printed(found),
        (BuiltinValue::DefaultedString, Scalar::Text(text)) if !text.is_empty() => FieldValue::Known(text),
        (BuiltinValue::Boolean, Scalar::Absent | Scalar::Null) => printed(Scalar::Boolean(false)),
        (BuiltinValue::Boolean, found @ Scalar::Boolean(_)) => printed(found),
        (BuiltinValue::Integer, Scalar::Absent | Scalar::Null) => printed(Scalar::Integer(0)),
        (BuiltinValue::Integer, Scalar::Integer(number)) if i32::try_from(number).is_ok() => {
            printed(Scalar::Integer(number))
        }
        _ => FieldValue::Unknown,
    }
}

/// Where a field comes from that every kind has.
fn metadata(name: &str) -> Source {
    match name {
        "metadata.name" => Source::Name,
        "metadata.namespace" => Source::Namespace,
        _ => Source::Nowhere,
    }
}

/// Whether resources of that group and version may be custom ones: their groups have a dot, those of the oldest
/// built-in kinds have none (apiextensions-apiserver: `ValidateCustomResourceDefinition` in
/// pkg/apis/apiextensions/validation/validation.go).
fn is_custom(api_version: &str) -> bool {
    api_version.split_once('/').is_some_and(|(group, _)| group.contains('.'))
}
