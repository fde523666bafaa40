//! Selectors from a request's metadata, by the wire contract (patches/contract.toml).
//!
//! A selector is a hint. What can't be used is counted and left out, so the client gets more than it asked for, never
//! an error and never less.

use std::sync::Arc;

use tonic::metadata::{AsciiMetadataKey, BinaryMetadataKey, MetadataMap};

use crate::contract::{
    CONTRACT_VERSION, CONTRACT_VERSION_HEADER, FIELD_SELECTOR_HEADER, GROUP_VERSION_HEADER, LABEL_SELECTOR_HEADER,
    SELECTOR_BYTES_LIMIT,
};
use crate::metrics::{Metrics, Refusal};
use crate::selector::{ErrorKind, Selection};

/// The selectors that came with a request, if they can be used.
pub fn from_metadata(metadata: &MetadataMap, metrics: &Metrics) -> Option<Arc<Selection>> {
    let label = ascii(metadata, LABEL_SELECTOR_HEADER);
    let field = binary(metadata, FIELD_SELECTOR_HEADER);
    if label.is_none() && field.is_none() {
        return None;
    }
    match parse(metadata, label.transpose(), field.transpose()) {
        Ok(selection) => {
            metrics.selector(None);
            selection.map(Arc::new)
        }
        Err(refusal) => {
            tracing::debug!(?refusal, ?metadata, "a pushed selector is not used");
            metrics.selector(Some(refusal));
            None
        }
    }
}

fn parse(
    metadata: &MetadataMap,
    label: Result<Option<String>, Refusal>,
    field: Result<Option<String>, Refusal>,
) -> Result<Option<Selection>, Refusal> {
    let version = ascii(metadata, CONTRACT_VERSION_HEADER).transpose()?;
    if version != Some(CONTRACT_VERSION.to_string()) {
        return Err(Refusal::Version);
    }
    let group_version = ascii(metadata, GROUP_VERSION_HEADER).transpose()?;
    Selection::parse(label?.as_deref(), field?.as_deref(), group_version.as_deref()).map_err(|error| {
        match error.kind() {
            ErrorKind::TooLong => Refusal::TooLong,
            ErrorKind::Syntax => Refusal::Unparsable,
        }
    })
}

fn ascii(metadata: &MetadataMap, name: &'static str) -> Option<Result<String, Refusal>> {
    let mut values = metadata.get_all(AsciiMetadataKey::from_static(name)).into_iter();
    let first = values.next()?.as_bytes().to_vec();
    Some(only_text(first, values.next().is_some()))
}

fn binary(metadata: &MetadataMap, name: &'static str) -> Option<Result<String, Refusal>> {
    let mut values = metadata.get_all_bin(BinaryMetadataKey::from_static(name)).into_iter();
    let first = values.next()?.to_bytes().map(|bytes| bytes.to_vec());
    Some(first.map_err(|_| Refusal::Unparsable).and_then(|bytes| only_text(bytes, values.next().is_some())))
}

/// A header that comes twice says two things, so it says nothing.
fn only_text(bytes: Vec<u8>, more: bool) -> Result<String, Refusal> {
    if bytes.len() > SELECTOR_BYTES_LIMIT {
        return Err(Refusal::TooLong);
    }
    if more {
        return Err(Refusal::Unparsable);
    }
    String::from_utf8(bytes).map_err(|_| Refusal::Unparsable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    fn metadata(version: &str, label: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(CONTRACT_VERSION_HEADER, version.parse().unwrap());
        metadata.insert(LABEL_SELECTOR_HEADER, label.parse().unwrap());
        metadata
    }

    #[test]
    fn what_can_be_used_is() {
        let metrics = Metrics::new(&mut Registry::default());
        let selection = from_metadata(&metadata("1", "color=green"), &metrics).unwrap();
        assert_eq!(*selection, Selection::parse(Some("color=green"), None, None).unwrap().unwrap());
        assert_eq!(from_metadata(&MetadataMap::new(), &metrics), None);
        assert_eq!(metrics.used(), 1, "a request without a selector does not count");
        assert_eq!(from_metadata(&metadata("1", ""), &metrics), None);
        assert_eq!(["version", "too_long", "unparsable"].map(|reason| metrics.refused(reason)), [0; 3]);
    }

    #[test]
    fn what_can_not_be_used_is_counted() {
        let without_version = || {
            let mut metadata = metadata("1", "a=b");
            metadata.remove(CONTRACT_VERSION_HEADER);
            metadata
        };
        let twice = || {
            let mut metadata = metadata("1", "a=b");
            metadata.append(LABEL_SELECTOR_HEADER, "c=d".parse().unwrap());
            metadata
        };
        let bad_field = || {
            let mut metadata = metadata("1", "a=b");
            metadata.insert_bin(FIELD_SELECTOR_HEADER, tonic::metadata::BinaryMetadataValue::from_bytes(&[0xff]));
            metadata
        };
        let long = format!("a in ({})", "x,".repeat(3000));
        let table = [
            ("an unknown version", metadata("2", "a=b"), "version"),
            ("no version", without_version(), "version"),
            ("a long selector", metadata("1", &long), "too_long"),
            ("no selector", metadata("1", "a in ("), "unparsable"),
            ("two selectors", twice(), "unparsable"),
            ("a field selector that is no text", bad_field(), "unparsable"),
        ];
        for (name, metadata, reason) in table {
            let metrics = Metrics::new(&mut Registry::default());
            assert_eq!(from_metadata(&metadata, &metrics), None, "{name}");
            assert_eq!(metrics.refused(reason), 1, "{name}");
        }
    }

    #[test]
    fn field_selectors_are_binary() {
        let metrics = Metrics::new(&mut Registry::default());
        let mut metadata = metadata("1", "a=b");
        let field = tonic::metadata::BinaryMetadataValue::from_bytes("spec.color=grün".as_bytes());
        metadata.insert_bin(FIELD_SELECTOR_HEADER, field);
        metadata.insert(GROUP_VERSION_HEADER, "stable.example.com/v1".parse().unwrap());
        let selection = from_metadata(&metadata, &metrics).unwrap();
        assert_eq!(selection.field_requirements().len(), 1);
        assert_eq!(selection.group_version(), Some("stable.example.com/v1"));
    }
}
