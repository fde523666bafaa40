//! Selectors of a request: from its metadata by the wire contract (patches/contract.toml), or from the request itself,
//! as HariKube's kube-apiserver sends them.
//!
//! A selector is a hint. What can't be used is counted and left out, so the client gets more than it asked for, never
//! an error and never less.

use std::sync::Arc;

use bytes::Bytes;
use tonic::metadata::{AsciiMetadataKey, BinaryMetadataKey, MetadataMap};

use crate::contract::{
    CONTRACT_VERSION, CONTRACT_VERSION_HEADER, FIELD_SELECTOR_HEADER, GROUP_VERSION_HEADER, LABEL_SELECTOR_HEADER,
    SELECTOR_BYTES_LIMIT,
};
use crate::metrics::{Metrics, Refusal, Used};
use crate::pb::etcdserverpb as pb;
use crate::selector::{ErrorKind, Selection};

/// The selectors in the metadata of a request, if they can be used.
pub fn from_metadata(metadata: &MetadataMap, metrics: &Metrics) -> Option<Arc<Selection>> {
    let label = ascii(metadata, LABEL_SELECTOR_HEADER);
    let field = binary(metadata, FIELD_SELECTOR_HEADER);
    if label.is_none() && field.is_none() {
        return None;
    }
    let version = ascii(metadata, CONTRACT_VERSION_HEADER);
    let group_version = ascii(metadata, GROUP_VERSION_HEADER);
    let parse = || {
        if version.transpose()? != Some(CONTRACT_VERSION.to_string()) {
            return Err(Refusal::Version);
        }
        parse(label.transpose()?.as_deref(), field.transpose()?.as_deref(), group_version.transpose()?.as_deref())
    };
    counted(parse(), metrics)
}

/// The selectors of a range: those in its metadata, else those in itself.
pub(super) fn of_range(metadata: &MetadataMap, range: &pb::RangeRequest, metrics: &Metrics) -> Option<Arc<Selection>> {
    from_metadata(metadata, metrics).or_else(|| from_message(&range.label_selector, &range.field_selector, metrics))
}

/// The selectors in a request itself (RangeRequest 14 and 15, WatchCreateRequest 9 and 10), if they can be used.
///
/// The senders state neither a version of a contract nor the one that field values were read in: that of the client's
/// request, or the stored one for selectors that a conversion webhook translated. Nor do they look for defaults. So of
/// the fields only names and namespaces narrow, which are the same everywhere. Labels narrow, as in the storage that
/// these requests were made for.
pub(super) fn from_message(label: &Bytes, field: &Bytes, metrics: &Metrics) -> Option<Arc<Selection>> {
    if label.is_empty() && field.is_empty() {
        return None;
    }
    let text = |bytes: &Bytes| only_text(bytes.to_vec(), false);
    let parse = || parse(Some(&text(label)?), Some(&text(field)?), None);
    counted(parse(), metrics)
}

fn parse(label: Option<&str>, field: Option<&str>, group_version: Option<&str>) -> Result<Option<Selection>, Refusal> {
    Selection::parse(label, field, group_version).map_err(|error| match error.kind() {
        ErrorKind::TooLong => Refusal::TooLong,
        ErrorKind::Syntax => Refusal::Unparsable,
    })
}

fn counted(parsed: Result<Option<Selection>, Refusal>, metrics: &Metrics) -> Option<Arc<Selection>> {
    match parsed {
        Ok(Some(selection)) => {
            let used = match (selection.label_requirements().is_empty(), selection.narrows_by_fields()) {
                (true, _) => Used::Fields,
                (false, false) => Used::Labels,
                (false, true) => Used::Both,
            };
            metrics.selector_used(used);
            if selection.has_unreadable_fields() {
                metrics.selector_refused(Refusal::UnknownField);
            }
            Some(Arc::new(selection))
        }
        Ok(None) => {
            metrics.selector_refused(Refusal::Nothing);
            None
        }
        Err(refusal) => {
            tracing::debug!(?refusal, "a pushed selector is not used");
            metrics.selector_refused(refusal);
            None
        }
    }
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
        assert_eq!(metrics.used("labels"), 1, "a request without a selector does not count");
        assert_eq!(["version", "too_long", "unparsable", "nothing"].map(|reason| metrics.refused(reason)), [0; 4]);
        assert_eq!(from_metadata(&metadata("1", ""), &metrics), None);
        assert_eq!((metrics.used("labels"), metrics.refused("nothing")), (1, 1));
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
        let mut metadata = metadata("1", "a=b");
        let field = |text: &str| tonic::metadata::BinaryMetadataValue::from_bytes(text.as_bytes());
        metadata.insert_bin(FIELD_SELECTOR_HEADER, field("spec.color=grün,metadata.uid=1"));
        metadata.insert(GROUP_VERSION_HEADER, "stable.example.com/v1".parse().unwrap());
        let metrics = Metrics::new(&mut Registry::default());
        let selection = from_metadata(&metadata, &metrics).unwrap();
        assert_eq!(selection.field_requirements().len(), 2);
        assert_eq!(selection.group_version(), Some("stable.example.com/v1"));
        assert_eq!((metrics.used("both"), metrics.refused("unknown_field")), (1, 1));

        metadata.remove(LABEL_SELECTOR_HEADER);
        assert!(from_metadata(&metadata, &metrics).is_some());
        assert_eq!(metrics.used("fields"), 1);
        // Without the version nothing is known of a field but names.
        metadata.remove(GROUP_VERSION_HEADER);
        assert_eq!(from_metadata(&metadata, &metrics), None);
        assert_eq!(metrics.refused("nothing"), 1);
    }

    /// Bytes as HariKube's client writes them: number and wire type, length, text.
    #[test]
    fn selectors_on_the_wire_of_messages() {
        use crate::pb::etcdserverpb::{RangeRequest, WatchCreateRequest};
        use prost::Message;
        let range = RangeRequest::decode(&b"\x0a\x02/r\x72\x0bcolor=green\x7a\x0fmetadata.name=a"[..]).unwrap();
        let watch = WatchCreateRequest::decode(&b"\x0a\x02/r\x4a\x0bcolor=green\x52\x0fmetadata.name=a"[..]).unwrap();
        assert_eq!((&range.key[..], &watch.key[..]), (&b"/r"[..], &b"/r"[..]));
        let expected = Selection::parse(Some("color=green"), Some("metadata.name=a"), None).unwrap().unwrap();
        let metrics = Metrics::new(&mut Registry::default());
        for (label, field) in
            [(range.label_selector, range.field_selector), (watch.label_selector, watch.field_selector)]
        {
            assert_eq!(from_message(&label, &field, &metrics).as_deref(), Some(&expected));
        }
        assert!(RangeRequest::decode(&b"\x0a\x01a\x72\x01\xff"[..]).is_ok(), "a hint that is no text fails nothing");
    }

    #[test]
    fn selectors_in_messages() {
        let long = "a".repeat(SELECTOR_BYTES_LIMIT + 1);
        // Label selector, field selector, what counts them.
        let table: [(&[u8], &[u8], &str); 9] = [
            (b"color=green", b"", "labels"),
            (b"", b"metadata.name=a", "fields"),
            (b"color=green", b"metadata.namespace!=a", "both"),
            (b"color=green", b"spec.color=red", "labels"),
            (b"", b"spec.color=red", "nothing"),
            (b"a in (", b"", "unparsable"),
            (b"\xff", b"", "unparsable"),
            (b"a", b"b", "unparsable"),
            (long.as_bytes(), b"", "too_long"),
        ];
        for (label, field, counter) in table {
            let metrics = Metrics::new(&mut Registry::default());
            let selection = from_message(&label.to_vec().into(), &field.to_vec().into(), &metrics);
            let name = label.escape_ascii();
            assert_eq!(selection.is_some(), metrics.used(counter) == 1, "{name}");
            assert_eq!(metrics.used(counter) + metrics.refused(counter), 1, "{name}: {counter}");
        }
        let metrics = Metrics::new(&mut Registry::default());
        assert_eq!(from_message(&Bytes::new(), &Bytes::new(), &metrics), None);
        assert_eq!(metrics.refused("nothing"), 0, "most requests have none");
    }
}
