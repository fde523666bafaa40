//! patches/contract.toml as types.

use serde::Deserialize;
use serde::de::Error as _;
use std::collections::BTreeMap;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Contract {
    /// Version that a sender of this contract states.
    version: u32,
    /// gRPC request metadata.
    metadata: BTreeMap<String, Header>,
    /// gRPC response metadata.
    #[serde(default)]
    response_metadata: BTreeMap<String, Header>,
    /// Paths of kube-apiserver.
    #[serde(default)]
    paths: BTreeMap<String, Label>,
    /// Label keys.
    labels: BTreeMap<String, Label>,
    /// Numbers.
    limits: BTreeMap<String, Limit>,
    /// Built-in kinds with fields to select by.
    #[serde(default)]
    builtin: Vec<Builtin>,
}

/// A built-in kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Builtin {
    /// Group and version that it is stored in.
    pub(super) api_version: String,
    /// Its kind.
    pub(super) kind: String,
    /// Its name in URLs and keys.
    pub(super) resource: String,
    /// What it may be selected by, beside names.
    pub(super) fields: Vec<BuiltinField>,
}

/// A field of a built-in kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BuiltinField {
    /// Name in selectors.
    pub(super) name: String,
    /// Way through JSON, if it is not the name.
    path: Option<String>,
    /// Way through protobuf, by numbers.
    pub(super) protobuf: Vec<u16>,
    /// How its value is printed.
    pub(super) value: BuiltinValue,
}

/// How a value is printed.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BuiltinValue {
    /// As it is.
    String,
    /// As it is, unless it is empty.
    DefaultedString,
    /// `true` or `false`.
    Boolean,
    /// In decimal.
    Integer,
}

impl Builtin {
    /// The resource with its group, as `schema.GroupResource` prints it: `pods`, `jobs.batch`.
    pub(super) fn group_resource(&self) -> String {
        match self.api_version.split_once('/') {
            Some((group, _)) => format!("{}.{group}", self.resource),
            None => self.resource.clone(),
        }
    }
}

impl BuiltinField {
    /// The way through JSON.
    pub(super) fn path(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.name)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(deserialize_with = "metadata_name")]
    name: String,
    doc: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    name: String,
    doc: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    value: u64,
    doc: String,
}

/// One constant in any language.
pub(super) struct Constant {
    /// Words of the name, lower case.
    pub(super) words: Vec<String>,
    /// The value.
    pub(super) value: Value,
    /// What a Go comment says after the constant's name: a verb first.
    pub(super) predicate: String,
    /// What the value means, as sentences.
    pub(super) doc: String,
}

/// Value of a constant.
pub(super) enum Value {
    /// A version.
    Version(u32),
    /// A name.
    Text(String),
    /// A size.
    Size(u64),
}

impl Contract {
    /// Built-in kinds with fields to select by.
    pub(super) fn builtin(&self) -> &[Builtin] {
        &self.builtin
    }

    /// All constants, ordered by kind and name.
    pub(super) fn constants(&self) -> Vec<Constant> {
        let words = |prefix: &str, key: &str, suffix: &str| {
            format!("{prefix}{key}{suffix}").split('_').map(str::to_owned).collect::<Vec<_>>()
        };
        let version = "the version of the contract that this code speaks. It is sent with every selector, and a receiver that \
            does not know it ignores the selector.";
        let mut constants = vec![Constant {
            words: words("", "contract_version", ""),
            value: Value::Version(self.version),
            predicate: format!("is {version}"),
            doc: capital(version),
        }];
        for (kind, headers) in [("request", &self.metadata), ("response", &self.response_metadata)] {
            constants.extend(headers.iter().map(|(key, Header { name, doc })| Constant {
                words: words("", key, "_header"),
                value: Value::Text(name.clone()),
                predicate: format!("names the gRPC {kind} metadata that carries {}", lower(doc)),
                doc: format!("gRPC {kind} metadata. {doc}"),
            }));
        }
        constants.extend(self.paths.iter().map(|(key, Label { name, doc })| Constant {
            words: words("", key, "_path"),
            value: Value::Text(name.clone()),
            predicate: format!("is a path. {doc}"),
            doc: format!("Path. {doc}"),
        }));
        constants.extend(self.labels.iter().map(|(key, Label { name, doc })| Constant {
            words: words("", key, "_label"),
            value: Value::Text(name.clone()),
            predicate: format!("is the key of a label. {doc}"),
            doc: format!("Label key. {doc}"),
        }));
        constants.extend(self.limits.iter().map(|(key, Limit { value, doc })| Constant {
            words: words("", key, "_limit"),
            value: Value::Size(*value),
            predicate: format!("is a limit. {doc}"),
            doc: doc.clone(),
        }));
        constants
    }
}

/// Breaks a text into lines of at most `width` columns, if no word is longer.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The text with its first letter in upper case.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// gRPC sends names in lower case and keeps those that start with `grpc-` for itself (gRPC over HTTP/2,
/// "Custom-Metadata").
fn metadata_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if name.is_empty() || name.starts_with("grpc-") || !name.bytes().all(legal) {
        return Err(D::Error::custom(format!(
            "{name:?} is no name of gRPC metadata: lower case letters, digits, - _ ."
        )));
    }
    Ok(name)
}
