//! The two custom resources: shirts (in namespaces) and hats (of the whole cluster, in two versions, with a default).

use serde_json::{Value, json};

/// The API group of both.
const GROUP: &str = "equal.example.com";

/// Takes both out of the watch cache; only a patched apiserver understands it.
pub(super) const NO_WATCH_CACHE: &str = "--watch-cache-sizes=*.equal.example.com#0";

/// The namespaces that shirts are in.
pub(super) const NAMESPACES: [&str; 3] = ["a", "b", "b-2"];

/// A custom resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// In namespaces.
    Shirts,
    /// Not in a namespace; stored as v1, served as v1 and v2.
    Hats,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Shirts, Self::Hats];

    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Shirts => "shirts",
            Self::Hats => "hats",
        }
    }

    pub(super) fn versions(self) -> &'static [&'static str] {
        match self {
            Self::Shirts => &["v1"],
            Self::Hats => &["v1", "v2"],
        }
    }

    /// Where its objects may be: in these namespaces, or in none.
    pub(super) fn namespaces(self) -> &'static [Option<&'static str>] {
        match self {
            Self::Shirts => &[Some(NAMESPACES[0]), Some(NAMESPACES[1]), Some(NAMESPACES[2])],
            Self::Hats => &[None],
        }
    }

    /// The fields of `spec` that may be selected by, in every version.
    pub(super) fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Shirts => &["color", "size", "clean"],
            Self::Hats => &["color", "fit"],
        }
    }

    /// The path of its objects, in one namespace or all.
    pub(super) fn path(self, version: &str, namespace: Option<&str>) -> String {
        let namespace = namespace.map(|name| format!("namespaces/{name}/")).unwrap_or_default();
        format!("/apis/{GROUP}/{version}/{namespace}{}", self.plural())
    }

    fn singular(self) -> &'static str {
        match self {
            Self::Shirts => "shirt",
            Self::Hats => "hat",
        }
    }

    /// The kind's name in objects.
    fn title(self) -> &'static str {
        match self {
            Self::Shirts => "Shirt",
            Self::Hats => "Hat",
        }
    }

    /// An object's body without labels and spec.
    pub(super) fn object(self, name: &str) -> Value {
        json!({"apiVersion": format!("{GROUP}/v1"), "kind": self.title(), "metadata": {"name": name}})
    }

    /// The CustomResourceDefinition's name.
    pub(super) fn definition_name(self) -> String {
        format!("{}.{GROUP}", self.plural())
    }

    /// The CustomResourceDefinition. Hats get the default of a selectable field `with_default` only: those that were
    /// stored before do not have it in their bytes.
    pub(super) fn definition(self, with_default: bool) -> Value {
        let versions: Vec<Value> = self.versions().iter().map(|version| self.version(version, with_default)).collect();
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.definition_name()},
            "spec": {
                "group": GROUP,
                "scope": if self == Self::Shirts { "Namespaced" } else { "Cluster" },
                "names": {"plural": self.plural(), "singular": self.singular(), "kind": self.title()},
                "versions": versions,
            },
        })
    }

    fn version(self, version: &str, with_default: bool) -> Value {
        let (text, number, truth) = (json!({"type": "string"}), json!({"type": "integer"}), json!({"type": "boolean"}));
        let mut fit = text.clone();
        if with_default {
            fit["default"] = json!(if version == "v1" { "regular" } else { "wide" });
        }
        let properties = match self {
            Self::Shirts => json!({"color": text, "size": number, "clean": truth}),
            Self::Hats => json!({"color": text, "brim": number, "fit": fit}),
        };
        let mut selectable: Vec<&str> = self.fields().to_vec();
        if (self, version) == (Self::Hats, "v1") {
            selectable.push("brim");
        }
        let selectable: Vec<Value> =
            selectable.iter().map(|name| json!({"jsonPath": format!(".spec.{name}")})).collect();
        json!({
            "name": version,
            "served": true,
            "storage": version == "v1",
            // The description keeps the versions' schemas different: with equal ones upstream refuses selectable fields
            // that differ.
            "schema": {"openAPIV3Schema": {"type": "object", "description": version, "properties": {
                // Defaults reach only into objects that are there.
                "spec": {"type": "object", "properties": properties, "default": {}},
            }}},
            "selectableFields": selectable,
        })
    }
}
