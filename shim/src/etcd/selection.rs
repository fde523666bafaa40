//! Selectors from a request's metadata, by the wire contract (patches/contract.toml).
//!
//! A selector is a hint. What can't be used is counted and left out, so the client gets more than it asked for, never
//! an error and never less.

use std::sync::Arc;

use tonic::metadata::MetadataMap;

use crate::metrics::{Metrics, Refusal};
use crate::selector::Selection;

const VERSION_HEADER: &str = "sluice-contract-version";
const LABEL_HEADER: &str = "sluice-label-selector";
const VERSION: &str = "1";
const MAX_BYTES: usize = 4096;

/// The selectors that came with a request, if they can be used.
pub(super) fn from_metadata(metadata: &MetadataMap, metrics: &Metrics) -> Option<Arc<Selection>> {
    let label = metadata.get(LABEL_HEADER)?;
    let result = parse(metadata.get(VERSION_HEADER).map(|value| value.as_bytes()), label.as_bytes());
    match result {
        Ok(selection) => {
            metrics.selector(None);
            Some(Arc::new(selection))
        }
        Err(refusal) => {
            tracing::debug!(?refusal, selector = %label.as_bytes().escape_ascii(), "a pushed selector is not used");
            metrics.selector(Some(refusal));
            None
        }
    }
}

fn parse(version: Option<&[u8]>, label: &[u8]) -> Result<Selection, Refusal> {
    if version != Some(VERSION.as_bytes()) {
        return Err(Refusal::Version);
    }
    if label.len() > MAX_BYTES {
        return Err(Refusal::TooLong);
    }
    let _label = std::str::from_utf8(label).map_err(|_| Refusal::Unparsable)?;
    Err(Refusal::Unparsable)
}
