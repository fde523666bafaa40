//! Reads the metadata and fields of stored Kubernetes objects straight from their bytes.
//!
//! Three encodings are known: JSON, Kubernetes' protobuf envelope and CBOR. All else is *opaque*: encrypted values,
//! values of other programs, values that are cut off, and values that Kubernetes' own decoders read differently for
//! typed objects and for custom resources. An opaque value is never an error: it is one that nothing may be concluded
//! from.
//!
//! Every reader runs once over the input, keeps no tree of it, and does not recurse with its depth.

mod cbor;
pub mod crd;
mod defaults;
mod fields;
#[cfg(test)]
mod fields_tests;
mod json;
mod paths;
mod protobuf;
#[cfg(test)]
mod tests;
mod time;

use std::borrow::Cow;

pub use fields::{FieldSet, FieldValue};
use paths::Scalar;

/// A label key with its value.
pub type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The part of an object's metadata that selectors and the garbage collector look at.
///
/// As in Kubernetes, an empty string stands for a field that is not set (apimachinery: `ObjectMeta` in
/// pkg/apis/meta/v1/types.go). Strings borrow from the stored bytes unless they are written with escapes or in pieces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectMeta<'a> {
    /// The group and version the object is stored in, `v1` or `apps/v1`. Never empty.
    pub api_version: Cow<'a, str>,
    /// The kind. Never empty.
    pub kind: Cow<'a, str>,
    /// The name.
    pub name: Cow<'a, str>,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: Cow<'a, str>,
    /// The UID.
    pub uid: Cow<'a, str>,
    /// The generation; 0 if not set.
    pub generation: i64,
    /// When the object is to be deleted, in seconds since 1970 (UTC; a fraction is cut off); `None` while it is not.
    pub deletion_timestamp: Option<i64>,
    /// The grace period of the deletion, in seconds.
    pub deletion_grace_period_seconds: Option<i64>,
    /// The labels, sorted by key, each key once.
    pub labels: Vec<Label<'a>>,
    /// The finalizers, in stored order.
    pub finalizers: Vec<Cow<'a, str>>,
    /// The owners, in stored order.
    pub owner_references: Vec<OwnerReference<'a>>,
}

/// One owner of an object (apimachinery: `OwnerReference` in pkg/apis/meta/v1/types.go).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnerReference<'a> {
    /// The owner's group and version.
    pub api_version: Cow<'a, str>,
    /// The owner's kind.
    pub kind: Cow<'a, str>,
    /// The owner's name.
    pub name: Cow<'a, str>,
    /// The owner's UID.
    pub uid: Cow<'a, str>,
    /// Whether the object blocks a foreground deletion of the owner. False if not set.
    pub block_owner_deletion: bool,
    /// Whether the owner is the managing controller. False if not set.
    pub controller: bool,
}

impl ObjectMeta<'_> {
    /// The value of a label, if the object has it.
    pub fn label(&self, key: &str) -> Option<&str> {
        label(&self.labels, key)
    }
}

/// The value of a key among labels that are sorted by key.
pub fn label<'l>(labels: &'l [Label<'_>], key: &str) -> Option<&'l str> {
    let at = labels.binary_search_by(|(candidate, _)| candidate.as_ref().cmp(key)).ok()?;
    Some(&labels[at].1)
}

/// Reads the metadata of a stored value; `None` if the value is opaque.
///
/// Well-formedness is checked to the end of the value, so that one that is cut off is opaque. The encoding is found by
/// the same marks as upstream's: a `{` after white space, `k8s\0`, CBOR's self-description tag (apimachinery:
/// `RecognizesData` in pkg/runtime/serializer/{json,protobuf,cbor}). An object without `apiVersion` or `kind` is opaque,
/// since kube-apiserver fails on it and must get to see it.
pub fn decode(value: &[u8]) -> Option<ObjectMeta<'_>> {
    read(value, &FieldSet::default(), &mut [])
}

/// Reads the metadata of a stored value, and in the same pass the values of fields, in the order of the set; `None` if
/// the value is opaque.
pub fn decode_with_fields<'a>(value: &'a [u8], fields: &FieldSet) -> Option<(ObjectMeta<'a>, Vec<FieldValue<'a>>)> {
    let mut found = fields.slots();
    let meta = read(value, fields, &mut found)?;
    let values = fields.values(&meta, found);
    Some((meta, values))
}

fn read<'a>(value: &'a [u8], wanted: &FieldSet, found: &mut [Scalar<'a>]) -> Option<ObjectMeta<'a>> {
    let meta = if let Some(envelope) = value.strip_prefix(protobuf::MAGIC) {
        protobuf::decode(envelope, wanted, found)
    } else if let Some(item) = value.strip_prefix(cbor::MAGIC) {
        cbor::decode(item, wanted.root(), found)
    } else if value.trim_ascii_start().first() == Some(&b'{') {
        json::decode(value, wanted.root(), found)
    } else {
        None
    }?;
    (!meta.api_version.is_empty() && !meta.kind.is_empty()).then_some(meta)
}

/// Sorts labels by key. Of equal keys the one that was written last stays, as in a Go map that is filled in order.
fn sort_labels(labels: &mut Vec<Label<'_>>) {
    labels.sort_by(|a, b| a.0.cmp(&b.0));
    labels.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            std::mem::swap(&mut later.1, &mut kept.1);
        }
        same
    });
}
