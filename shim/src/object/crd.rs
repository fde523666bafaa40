//! What a stored CustomResourceDefinition says of its selectable fields, and of the versions that are served.
//!
//! kube-apiserver stores definitions as JSON, in v1beta1 (kubernetes: `CreateAPIExtensionsConfig` in
//! pkg/controlplane/apiserver/apiextensions.go), where fields that all versions share stand beside the versions instead
//! of in them (apiextensions: pkg/apis/apiextensions/v1/conversion.go,
//! `Convert_v1_CustomResourceDefinitionSpec_To_apiextensions_…`). Both forms are read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The annotation of an [`outline`].
const OUTLINE: &str = "sluice-project.github.io/outline-of-definition";

/// The selectable fields of the objects of a definition, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selectable {
    /// The version that objects are stored in, without the group: `v1`.
    pub version: String,
    /// The fields, as selectors name them: `spec.color`. Only those that are steps into objects.
    pub fields: BTreeSet<String>,
}

/// Reads a definition; `None` if it is not readable or stores no version.
pub fn selectable(value: &[u8]) -> Option<Selectable> {
    let Definition { spec } = serde_json::from_slice(value).ok()?;
    let mut fields = spec.selectable_fields.unwrap_or_default();
    let versions = spec.versions.unwrap_or_default();
    let version = if versions.is_empty() {
        // Definitions of old have one version only.
        spec.version.filter(|version| !version.is_empty())?
    } else {
        let stored = versions.into_iter().find(|version| version.storage)?;
        fields.extend(stored.selectable_fields.unwrap_or_default());
        stored.name
    };
    let fields = fields.iter().filter_map(|field| field.json_path.strip_prefix('.'));
    Some(Selectable { version, fields: fields.filter(|field| is_path(field)).map(str::to_owned).collect() })
}

/// How objects of a definition can be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The versions that kube-apiserver serves, without the group: `v1`.
    pub versions: Vec<String>,
}

/// Reads which versions of a definition are served; `None` if the definition is not readable.
pub fn served(value: &[u8]) -> Option<Served> {
    let Definition { spec } = serde_json::from_slice(value).ok()?;
    let versions: Vec<String> = match spec.versions.filter(|versions| !versions.is_empty()) {
        Some(versions) => versions.into_iter().filter(|version| version.served).map(|version| version.name).collect(),
        None => spec.version.into_iter().collect(),
    };
    Some(Served { group: spec.group?, kind: spec.names?.kind?, versions })
}

/// A definition with nothing but what [`selectable`] and [`served`] read, for a store whose apiserver has the whole one
/// elsewhere. It says of itself that it is one. `None` if the definition is not readable.
pub fn outline(name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let Definition { spec } = serde_json::from_slice(value).ok()?;
    let metadata = Metadata { name: name.to_owned(), annotations: [(OUTLINE.to_owned(), "true".to_owned())].into() };
    let (api_version, kind) = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    serde_json::to_vec(&Outline { api_version, kind, metadata, spec }).ok()
}

/// Whether a stored definition is an [`outline`], and no apiserver's.
pub fn is_outline(value: &[u8]) -> bool {
    let found = serde_json::from_slice(value).ok().map(|Annotated { metadata }| metadata.annotations);
    found.is_some_and(|annotations| annotations.contains_key(OUTLINE))
}

/// Whether a path is only names with dots between them, which are read the same by JSONPath and by us.
fn is_path(path: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    path.split('.').all(is_name)
}

// Schemas may be deep; fields that are not named here are skipped without recursion.

#[derive(Deserialize)]
struct Definition {
    spec: Spec,
}

#[derive(Deserialize)]
struct Annotated {
    metadata: Metadata,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<Names>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<Version>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selectable_fields: Option<Vec<Field>>,
}

#[derive(Serialize, Deserialize)]
struct Names {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    name: String,
    #[serde(default)]
    served: bool,
    #[serde(default)]
    storage: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    selectable_fields: Option<Vec<Field>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Field {
    json_path: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &str) -> Option<(String, Vec<String>)> {
        let selectable = selectable(format!(r#"{{"kind":"CustomResourceDefinition","spec":{spec}}}"#).as_bytes())?;
        Some((selectable.version, selectable.fields.into_iter().collect()))
    }

    #[test]
    fn the_fields_of_the_stored_version_are_read_in_both_forms() {
        type Expected = Option<(&'static str, &'static [&'static str])>;
        let table: [(&str, Expected); 9] = [
            (
                r#"{"versions":[{"name":"v1","storage":false,"selectableFields":[{"jsonPath":".spec.size"}]},
                    {"name":"v2","storage":true,"selectableFields":[{"jsonPath":".spec.size"},{"jsonPath":".spec.color"}]}]}"#,
                Some(("v2", &["spec.color", "spec.size"])),
            ),
            (
                r#"{"version":"v1","versions":[{"name":"v1","served":true,"storage":true}],
                    "selectableFields":[{"jsonPath":".status.phase"}],"validation":{"openAPIV3Schema":{"type":"object"}}}"#,
                Some(("v1", &["status.phase"])),
            ),
            (r#"{"version":"v1","selectableFields":[{"jsonPath":".a"}]}"#, Some(("v1", &["a"]))),
            (r#"{"versions":[{"name":"v1","storage":true}]}"#, Some(("v1", &[]))),
            (
                r#"{"versions":[{"name":"v1","storage":true,"selectableFields":[{"jsonPath":"spec"},{"jsonPath":".a[0]"},{"jsonPath":".a..b"}]}]}"#,
                Some(("v1", &[])),
            ),
            (r#"{"versions":[{"name":"v1","storage":false}]}"#, None),
            (r#"{"version":""}"#, None),
            (r#"{"versions":[{"storage":true}]}"#, None),
            ("[]", None),
        ];
        for (spec, expected) in table {
            let expected = expected.map(|(version, fields)| {
                (version.to_owned(), fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>())
            });
            assert_eq!(read(spec), expected, "{spec}");
        }
        assert_eq!(selectable(b"k8s:enc:aescbc:v1:"), None);
    }

    #[test]
    fn the_versions_that_are_served_are_read_in_both_forms() {
        let read = |spec: &str| {
            let served = served(
                format!(r#"{{"spec":{{"group":"g.example","names":{{"kind":"K","plural":"ks"}},{spec}}}}}"#).as_bytes(),
            )?;
            Some((served.group, served.kind, served.versions.join(",")))
        };
        let expected = |versions: &str| Some(("g.example".to_owned(), "K".to_owned(), versions.to_owned()));
        let several = r#""versions":[{"name":"v1","served":true},{"name":"v2","served":false},
            {"name":"v3","served":true,"storage":true},{"name":"v4"}]"#;
        assert_eq!(read(several), expected("v1,v3"));
        assert_eq!(read(r#""version":"v1""#), expected("v1"));
        assert_eq!(read(r#""version":"v1","versions":[{"name":"v1","served":false}]"#), expected(""));
        assert_eq!(served(br#"{"spec":{"group":"g.example","version":"v1"}}"#), None);
        assert_eq!(served(b"k8s:enc:aescbc:v1:"), None);
    }

    #[test]
    fn an_outline_says_the_same_and_what_it_is() {
        for spec in [
            r#"{"group":"g.example","names":{"kind":"K","plural":"ks"},"versions":[{"name":"v1","served":true,"schema":{}},
                {"name":"v2","storage":true,"selectableFields":[{"jsonPath":".a.b"},{"jsonPath":".c[0]"}]}]}"#,
            r#"{"group":"g.example","names":{"kind":"K"},"version":"v1","selectableFields":[{"jsonPath":".a"}]}"#,
            "{}",
        ] {
            let annotated = r#""metadata":{"name":"ks.g.example","annotations":{"a":"b"}}"#;
            let whole = format!(r#"{{"kind":"CustomResourceDefinition",{annotated},"spec":{spec}}}"#);
            let outline = outline("ks.g.example", whole.as_bytes()).unwrap();
            assert_eq!(selectable(&outline), selectable(whole.as_bytes()), "{spec}");
            assert_eq!(served(&outline), served(whole.as_bytes()), "{spec}");
            assert!(is_outline(&outline) && !is_outline(whole.as_bytes()), "{spec}");
        }
        assert_eq!(outline("ks.g.example", b"k8s:enc:aescbc:v1:"), None);
        assert!(!is_outline(b"k8s:enc:aescbc:v1:"));
    }

    #[test]
    fn a_deep_schema_does_not_recurse() {
        let schema = format!("{}{}", r#"{"a":"#.repeat(100_000), "1".to_owned() + &"}".repeat(100_000));
        let spec = format!(r#"{{"versions":[{{"name":"v1","storage":true,"schema":{schema}}}]}}"#);
        assert_eq!(read(&spec), Some(("v1".to_owned(), Vec::new())));
    }
}
