//! Metadata of JSON objects.
//!
//! Names of fields match exactly, upper and lower case included, as in apimachinery's own decoder
//! (`UnmarshalCaseSensitivePreserveInts` of sigs.k8s.io/json, used by pkg/runtime/serializer/json and pkg/util/json).
//! A field that occurs twice makes the value opaque: Go merges the two in typed objects and takes the last in custom
//! resources. A label key that occurs twice has the last value in both. `null` is the same as nothing, and as an empty
//! string where a string must be.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::{Label, ObjectMeta, OwnerReference, sort_labels, time};

/// Reads a document, to its end.
pub(super) fn decode(value: &[u8]) -> Option<ObjectMeta<'_>> {
    let mut input = serde_json::Deserializer::from_slice(value);
    let Object(document) = Object::<Document<'_>>::deserialize(&mut input).ok()?;
    input.end().ok()?;
    let Object(metadata) = document.metadata;
    Some(ObjectMeta {
        api_version: document.api_version.0,
        kind: document.kind.0,
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

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Document<'a> {
    #[serde(borrow)]
    api_version: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    metadata: Object<Metadata<'a>>,
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
