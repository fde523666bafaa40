//! What a database indexes of a key's value.

use super::catalog::{Catalog, FieldEntry};
use super::store::Facets;
use crate::contract::SKIP_METADATA_CACHING_LABEL;
use crate::gc::Node;
use crate::object;

/// The longest value of a field that the index holds, in bytes; an object with a longer one is looked at by every query.
const INDEXED: usize = 1024;

/// What the index holds of a key's value.
pub(crate) fn facets(catalog: &Catalog, key: &[u8], value: &[u8]) -> Facets {
    let mut fields = Vec::new();
    let mut decoded = None;
    for resource in catalog.of_key(key) {
        let found = object::decode_with_fields(value, &resource.fields);
        let (meta, values) = found.map_or((None, Vec::new()), |(meta, values)| (Some(meta), values));
        let values = values.into_iter().map(Some).chain(std::iter::repeat(None));
        fields.extend(
            resource.ids.iter().zip(values).map(|(index, value)| FieldEntry {
                index: *index,
                value: value
                    .as_ref()
                    .and_then(object::FieldValue::known)
                    .filter(|value| value.len() <= INDEXED)
                    .map(Box::from),
            }),
        );
        decoded = meta;
    }
    let decoded = decoded.or_else(|| if fields.is_empty() { object::decode(value) } else { None });
    let Some(meta) = decoded else { return Facets { opaque: true, fields, ..Facets::default() } };
    let labels: Vec<_> =
        meta.labels.iter().map(|(name, value)| (name.as_ref().into(), value.as_ref().into())).collect();
    let hidden = meta.labels.iter().any(|(name, _)| name == SKIP_METADATA_CACHING_LABEL);
    // Labels that are not stored are in no index.
    let opaque = meta.selectable_labels().is_none();
    Facets { opaque, misplaced: is_misplaced(key, &meta), hidden, labels, fields, node: Node::of(&meta) }
}

/// Whether the name or the namespace does not stand in the key where Kubernetes puts it (apiserver: `NamespaceKeyFunc` in
/// pkg/registry/generic/registry/store.go).
fn is_misplaced(key: &[u8], meta: &object::ObjectMeta<'_>) -> bool {
    let mut segments = key.rsplit(|byte| *byte == b'/');
    let (name, namespace) = (segments.next(), segments.next());
    name != Some(meta.name.as_bytes()) || (!meta.namespace.is_empty() && namespace != Some(meta.namespace.as_bytes()))
}
