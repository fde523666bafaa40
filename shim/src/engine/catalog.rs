//! The field indexes: which stored objects have entries for which of their fields.
//!
//! A CustomResourceDefinition declares them. They hold for the version that its objects are stored in; an object that
//! is stored in another one, or whose value can't be known from its bytes, has a *foreign* entry instead, which every
//! query on the field looks at. So an index that is complete needs no counts beside it.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use crate::object::{FieldSet, crd};

/// The longest prefix, version and field together that are indexed, in bytes: they are the key of an index themselves.
const DECLARED: usize = 2048;

/// What stands between the prefix of all keys and the name of a definition.
const DEFINITIONS: &[u8] = b"/apiextensions.k8s.io/customresourcedefinitions/";

/// A field of the objects below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldIndex {
    /// Its number, which is never used for another index while entries of it are left. Positive.
    pub id: i64,
    /// What the keys of the objects begin with; ends in a slash.
    pub prefix: Bytes,
    /// The group and version that an object must be stored in for its values to be known.
    pub api_version: String,
    /// The path of the field.
    pub field: String,
}

/// The indexes that have an entry for every object written from now on.
#[derive(Debug, Default)]
pub struct Catalog {
    resources: HashMap<Bytes, Resource>,
}

/// The indexes of the objects below one prefix.
#[derive(Debug)]
pub struct Resource {
    /// The fields, of objects in the version that is stored.
    pub fields: FieldSet,
    /// The numbers of the indexes, in the order of the fields.
    pub ids: Vec<i64>,
}

impl Catalog {
    /// A catalog of these indexes. Those of one prefix have one version.
    pub fn new(indexes: Vec<FieldIndex>) -> Self {
        let mut grouped: HashMap<Bytes, Vec<FieldIndex>> = HashMap::new();
        for index in indexes {
            grouped.entry(index.prefix.clone()).or_default().push(index);
        }
        let resource = |(prefix, indexes): (Bytes, Vec<FieldIndex>)| {
            let api_version = indexes.first().map(|index| index.api_version.as_str());
            let fields = FieldSet::new(api_version, indexes.iter().map(|index| &index.field));
            (prefix, Resource { fields, ids: indexes.iter().map(|index| index.id).collect() })
        };
        Self { resources: grouped.into_iter().map(resource).collect() }
    }

    /// The resources that a key belongs to: one as a rule, more if one cluster's prefix lies in another's resource.
    pub fn of_key<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Resource> + 'a {
        let slashes = if self.resources.is_empty() { &[][..] } else { key };
        let ends = slashes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
        ends.filter_map(|end| self.resources.get(&key[..end]))
    }
}

/// The entry of an object in a field index.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldEntry {
    /// The number of the index.
    pub index: i64,
    /// The value; `None` if it is foreign.
    pub value: Option<Box<str>>,
}

/// What a definition says of the objects below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// What the keys of the objects begin with; ends in a slash.
    pub prefix: Bytes,
    /// The group and version that they are stored in.
    pub api_version: String,
    /// The fields to index, maybe none.
    pub fields: BTreeSet<String>,
}

/// What a definition with this key declares; `None` if the key is not one of a definition. One that is deleted or can't
/// be read declares nothing to be indexed.
pub(crate) fn declaration(key: &[u8], value: Option<&[u8]>) -> Option<Declaration> {
    let name_at = key.iter().rposition(|byte| *byte == b'/')? + 1;
    let cluster = key[..name_at].strip_suffix(DEFINITIONS)?;
    // The name is the plural, a dot and the group (apiextensions: `ValidateCustomResourceDefinition`); a plural has no
    // dots.
    let name = std::str::from_utf8(&key[name_at..]).ok()?;
    let (plural, group) = name.split_once('.')?;
    let prefix: Bytes = [cluster, b"/", group.as_bytes(), b"/", plural.as_bytes(), b"/"].concat().into();
    let (version, mut fields) = match value.and_then(crd::selectable) {
        Some(crd::Selectable { version, fields }) => (version, fields),
        None => Default::default(),
    };
    let api_version = format!("{group}/{version}");
    fields.retain(|field| prefix.len() + api_version.len() + field.len() <= DECLARED);
    Some(Declaration { prefix, api_version, fields })
}

/// The keys that the definition of an object's kind may have: one as a rule, more if the key has dots before its group.
pub(crate) fn definitions_of(key: &[u8]) -> Vec<Vec<u8>> {
    let parts: Vec<&[u8]> = key.split(|byte| *byte == b'/').collect();
    let mut keys = Vec::new();
    for (at, pair) in parts.windows(2).enumerate() {
        // The last part is the object's name, so the plural stands before it.
        if let [group, plural] = pair
            && group.contains(&b'.')
            && at + 2 < parts.len()
        {
            let cluster = parts[..at].join(&b'/');
            keys.push([&cluster, DEFINITIONS, plural, b".", group].concat());
        }
    }
    keys
}

/// Whether the keys of a directory are those of definitions.
pub(crate) fn is_of_definitions(directory: &[u8]) -> bool {
    directory.ends_with(DEFINITIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_found_by_their_key() {
        let crd =
            br#"{"spec":{"versions":[{"name":"v1","storage":true,"selectableFields":[{"jsonPath":".spec.color"}]}]}}"#;
        let declared = |key: &str, value: Option<&[u8]>| {
            let Declaration { prefix, api_version, fields } = declaration(key.as_bytes(), value)?;
            Some((String::from_utf8(prefix.to_vec()).unwrap(), api_version, fields.into_iter().collect::<Vec<_>>()))
        };
        let key = "/registry/apiextensions.k8s.io/customresourcedefinitions/shirts.stable.example.com";
        let (prefix, field) = ("/registry/stable.example.com/shirts/".to_owned(), "spec.color".to_owned());
        assert_eq!(declared(key, Some(crd)), Some((prefix.clone(), "stable.example.com/v1".to_owned(), vec![field])));
        for unreadable in [None, Some(&b"k8s:enc:"[..])] {
            assert_eq!(declared(key, unreadable), Some((prefix.clone(), "stable.example.com/".to_owned(), Vec::new())));
        }
        let others = [
            "/registry/apiextensions.k8s.io/customresourcedefinitions/shirts",
            "/registry/apiextensions.k8s.io/customresourcedefinitions/x/shirts.stable.example.com",
            "/registry/pods/default/customresourcedefinitions.a",
            "shirts.stable.example.com",
        ];
        for key in others {
            assert_eq!(declared(key, Some(crd)), None, "{key}");
        }
        let nested = "/a/b/apiextensions.k8s.io/customresourcedefinitions/x.y";
        assert_eq!(declared(nested, None).map(|(prefix, ..)| prefix).as_deref(), Some("/a/b/y/x/"));
    }

    #[test]
    fn the_definition_of_an_object_is_found_by_its_key() {
        let of = |key: &str| {
            let keys = definitions_of(key.as_bytes()).into_iter();
            keys.map(|key| String::from_utf8(key).unwrap()).collect::<Vec<_>>()
        };
        let expected = "/registry/apiextensions.k8s.io/customresourcedefinitions/shirts.example.com";
        assert_eq!(of("/registry/example.com/shirts/a/b.c"), [expected]);
        assert_eq!(of("/registry/example.com/shirts/b.c"), [expected]);
        assert_eq!(of("/registry/pods/a/b.c"), [""; 0]);
        assert_eq!(of("/registry/pods/b.c"), [""; 0]);
        assert_eq!(of("/a.b/example.com/shirts/x").len(), 2);
        assert_eq!(of(""), [""; 0]);
    }

    #[test]
    fn a_key_belongs_to_the_resources_around_it() {
        let index = |id, prefix: &'static str, field: &str| FieldIndex {
            id,
            prefix: prefix.into(),
            api_version: "g/v1".to_owned(),
            field: field.to_owned(),
        };
        let catalog =
            Catalog::new(vec![index(1, "/r/g/a/", "x"), index(2, "/r/g/a/", "y"), index(3, "/r/g/a/b/c/", "z")]);
        let of =
            |key: &str| catalog.of_key(key.as_bytes()).flat_map(|resource| resource.ids.clone()).collect::<Vec<_>>();
        assert_eq!(of("/r/g/a/ns/n"), [1, 2]);
        assert_eq!(of("/r/g/a/b/c/n"), [1, 2, 3]);
        assert_eq!(of("/r/g/ab/n"), [0; 0]);
        assert_eq!(of("/r/g/a"), [0; 0]);
    }
}
