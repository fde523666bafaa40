//! Metadata and fields of JSON objects.
//!
//! Names of fields match exactly, upper and lower case included, as in apimachinery's own decoder
//! (`UnmarshalCaseSensitivePreserveInts` of sigs.k8s.io/json, used by pkg/runtime/serializer/json and pkg/util/json).
//! A field that occurs twice makes the value opaque: Go merges the two in typed objects and takes the last in custom
//! resources; of a field that is looked up, the value is then unclear. A label key that occurs twice has the last value
//! in both. `null` is the same as nothing, and as an empty string where a string must be.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::paths::{Node, Scalar};
use super::{Label, ObjectMeta, OwnerReference, sort_labels, time};

/// Reads a document, to its end, with what the tree wants of it.
pub(super) fn decode<'a>(value: &'a [u8], wanted: &Node, found: &mut [Scalar<'a>]) -> Option<ObjectMeta<'a>> {
    let mut input = serde_json::Deserializer::from_slice(value);
    let document = DocumentSeed { wanted, found }.deserialize(&mut input).ok()?;
    input.end().ok()?;
    let metadata = document.metadata.unwrap_or_default().0;
    Some(ObjectMeta {
        api_version: document.api_version.unwrap_or_default().0,
        kind: document.kind.unwrap_or_default().0,
        name: metadata.name.0,
        namespace: metadata.namespace.0,
        uid: metadata.uid.0,
        generation: metadata.generation.unwrap_or_default(),
        deletion_timestamp: metadata.deletion_timestamp.0,
        deletion_grace_period_seconds: metadata.deletion_grace_period_seconds,
        labels: metadata.labels.0,
        finalizers: metadata.finalizers.unwrap_or_default().into_iter().map(|finalizer| finalizer.0).collect(),
        owner_references: metadata
            .owner_references
            .unwrap_or_default()
            .into_iter()
            .map(|owner| owner.0.into())
            .collect(),
    })
}

// Unknown fields are skipped by serde_json's `ignore_value`, which neither recurses nor allocates per field.

/// What is read of a document; `None` is what it does not have.
#[derive(Default)]
struct Document<'a> {
    api_version: Option<Text<'a>>,
    kind: Option<Text<'a>>,
    metadata: Option<Object<Metadata<'a>>>,
}

/// Reads a [`Document`], and the fields that are wanted.
struct DocumentSeed<'r, 'a> {
    wanted: &'r Node,
    found: &'r mut [Scalar<'a>],
}

impl<'de> DeserializeSeed<'de> for DocumentSeed<'_, 'de> {
    type Value = Document<'de>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for DocumentSeed<'_, 'de> {
    type Value = Document<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut document = Document::default();
        let mut met = 0;
        while let Some(Text(name)) = fields.next_key()? {
            match name.as_ref() {
                "apiVersion" => once(&mut document.api_version, &mut fields)?,
                "kind" => once(&mut document.kind, &mut fields)?,
                "metadata" => once(&mut document.metadata, &mut fields)?,
                name => read_wanted(self.wanted, name, &mut met, self.found, &mut fields)?,
            }
        }
        Ok(document)
    }
}

/// Reads a value that must not come twice.
fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(place: &mut Option<T>, fields: &mut A) -> Result<(), A::Error> {
    if place.is_some() {
        return Err(A::Error::custom("a field occurs twice"));
    }
    *place = Some(fields.next_value()?);
    Ok(())
}

/// Reads the value of a name, if it is wanted; `met` has a bit for each child of the node.
fn read_wanted<'de, A: MapAccess<'de>>(
    node: &Node,
    name: &str,
    met: &mut u64,
    found: &mut [Scalar<'de>],
    fields: &mut A,
) -> Result<(), A::Error> {
    let Some((at, child)) = node.child(name) else { return fields.next_value().map(|IgnoredAny| ()) };
    let bit = 1_u64 << at;
    if *met & bit != 0 {
        child.unclear(found);
        return fields.next_value().map(|IgnoredAny| ());
    }
    *met |= bit;
    fields.next_value_seed(NodeSeed { node: child, found })
}

/// Reads the value that a node of the tree stands for.
struct NodeSeed<'r, 'a> {
    node: &'r Node,
    found: &'r mut [Scalar<'a>],
}

impl<'a> NodeSeed<'_, 'a> {
    fn set<E>(self, value: Scalar<'a>) -> Result<(), E> {
        self.node.scalar(self.found, value);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.node.object(self.found);
        let mut met = 0;
        while let Some(Text(name)) = fields.next_key()? {
            read_wanted(self.node, &name, &mut met, self.found, &mut fields)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        self.set(Scalar::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.set(Scalar::Null)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.set(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.set(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E: Error>(self, boolean: bool) -> Result<(), E> {
        self.set(Scalar::Boolean(boolean))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.set(Scalar::Integer(number))
    }

    /// Beyond 64 bits with a sign Go reads a float.
    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.set(i64::try_from(number).map_or(Scalar::Other, Scalar::Integer))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.set(Scalar::Other)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    namespace: Text<'a>,
    #[serde(borrow)]
    uid: Text<'a>,
    generation: Option<i64>,
    deletion_timestamp: Time,
    deletion_grace_period_seconds: Option<i64>,
    #[serde(borrow)]
    labels: Labels<'a>,
    #[serde(borrow)]
    finalizers: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    owner_references: Option<Vec<Object<Owner<'a>>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Owner<'a> {
    #[serde(borrow)]
    api_version: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    uid: Text<'a>,
    block_owner_deletion: Option<bool>,
    controller: Option<bool>,
}

impl<'a> From<Owner<'a>> for OwnerReference<'a> {
    fn from(owner: Owner<'a>) -> Self {
        Self {
            api_version: owner.api_version.0,
            kind: owner.kind.0,
            name: owner.name.0,
            uid: owner.uid.0,
            block_owner_deletion: owner.block_owner_deletion.unwrap_or_default(),
            controller: owner.controller.unwrap_or_default(),
        }
    }
}

/// A string, borrowed if it has no escapes; null is the empty one.
#[derive(Default)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or null")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(""))
            }
        }
        input.deserialize_any(TextVisitor).map(Text)
    }
}

/// A point in time; null is none.
#[derive(Default)]
struct Time(Option<i64>);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let Some(Text(text)) = Option::<Text<'de>>::deserialize(input)? else { return Ok(Self(None)) };
        let seconds = time::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("not an RFC 3339 time"))?;
        Ok(Self(Some(seconds)))
    }
}

/// A JSON object, read into `T`; null is an empty one. Derived readers would take an array of the fields as well.
#[derive(Default)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for ObjectVisitor<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or null")
            }
            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
            fn visit_unit<E: Error>(self) -> Result<T, E> {
                Ok(T::default())
            }
        }
        input.deserialize_any(ObjectVisitor(PhantomData)).map(Object)
    }
}

/// A map of strings, sorted by key.
#[derive(Default)]
struct Labels<'a>(Vec<Label<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct LabelsVisitor;
        impl<'de> Visitor<'de> for LabelsVisitor {
            type Value = Vec<Label<'de>>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings or null")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
                let mut labels = Vec::new();
                while let Some((Text(key), Text(value))) = fields.next_entry()? {
                    labels.push((key, value));
                }
                sort_labels(&mut labels);
                Ok(labels)
            }
            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }
        }
        input.deserialize_any(LabelsVisitor).map(Labels)
    }
}
