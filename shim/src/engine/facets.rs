//! What a database indexes of a key's value.

use super::catalog::{Catalog, FieldEntry};
use super::store::Facets;
use crate::contract::SKIP_METADATA_CACHING_LABEL;
use crate::gc::Node;
use crate::object;

/// The longest name or value that the index holds beside a key, in bytes. An object with a longer value of a field, or
/// with a longer label, is looked at by every query. Kubernetes allows 317 bytes for the name of a label and 63 for its
/// value.
pub(crate) const INDEXED: usize = 1024;

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
    let fits = |(name, value): &&object::Label<'_>| name.len() <= INDEXED && value.len() <= INDEXED;
    let indexed = meta.labels.iter().filter(fits);
    let labels: Vec<_> = indexed.map(|(name, value)| (name.as_ref().into(), value.as_ref().into())).collect();
    let hidden = meta.labels.iter().any(|(name, _)| name == SKIP_METADATA_CACHING_LABEL);
    // Labels that are not stored are in no index.
    let opaque = labels.len() < meta.labels.len() || meta.selectable_labels().is_none();
    Facets { opaque, misplaced: is_misplaced(key, &meta), hidden, labels, fields, node: Node::of(&meta) }
}

/// Whether the name or the namespace does not stand in the key where Kubernetes puts it (apiserver: `NamespaceKeyFunc`
/// in pkg/registry/generic/registry/store.go).
fn is_misplaced(key: &[u8], meta: &object::ObjectMeta<'_>) -> bool {
    let mut segments = key.rsplit(|byte| *byte == b'/');
    let (name, namespace) = (segments.next(), segments.next());
    name != Some(meta.name.as_bytes()) || (!meta.namespace.is_empty() && namespace != Some(meta.namespace.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gc::Uid;

    /// What is kept of an object: whether it is opaque, how many labels and owners, and whether it has a UID.
    fn kept(uid: usize, owner: usize, label: (usize, usize)) -> (bool, usize, usize, bool) {
        let text = |length: usize| "x".repeat(length);
        let reference = |uid: &str| format!(r#"{{"apiVersion":"v1","kind":"A","name":"n","uid":"{uid}"}}"#);
        let value = format!(
            r#"{{"apiVersion":"v1","kind":"A","metadata":{{"name":"a","uid":"{}","labels":{{"a":"b","{}":"{}"}},
                "ownerReferences":[{},{}]}}}}"#,
            text(uid),
            text(label.0),
            text(label.1),
            reference("other"),
            reference(&text(owner))
        );
        let Facets { opaque, labels, node, .. } = facets(&Catalog::default(), b"/a", value.as_bytes());
        let owners = node.as_ref().map_or(0, |node| node.owners.len());
        (opaque, labels.len(), owners, node.is_some())
    }

    #[test]
    fn what_an_index_can_not_hold_is_not_kept() {
        let all = (false, 2, 2, true);
        let table = [
            ("what Kubernetes allows", (36, 36, (317, 63)), all),
            ("the longest", (Uid::LONGEST, Uid::LONGEST, (INDEXED, INDEXED)), all),
            ("a long UID", (Uid::LONGEST + 1, 36, (317, 63)), (false, 2, 0, false)),
            ("the UID of an owner", (36, Uid::LONGEST + 1, (317, 63)), (false, 2, 1, true)),
            ("the name of a label", (36, 36, (INDEXED + 1, 63)), (true, 1, 2, true)),
            ("the value of a label", (36, 36, (317, INDEXED + 1)), (true, 1, 2, true)),
        ];
        for (name, (uid, owner, label), expected) in table {
            assert_eq!(kept(uid, owner, label), expected, "{name}");
        }
    }
}
