//! Kubernetes' label and field selectors: parsed, printed and evaluated exactly as apimachinery does.
//!
//! A selector that reaches the shim is a hint. It may be ignored, never misread: what upstream would reject is rejected,
//! and the caller then filters nothing.

mod error;
mod field;
mod label;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;
mod validity;

pub use error::{ErrorKind, ParseError};
pub use field::{FieldRequirement, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement};

use crate::contract::SELECTOR_BYTES_LIMIT;
use crate::object::{self, Label};

/// Selectors that came with a request, compiled. Equal for requests that ask for the same objects in another spelling,
/// so that watchers can be grouped by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    group_version: Option<String>,
}

impl Selection {
    /// Reads the selectors of a request: the label selector, the field selector, and the group/version that the field
    /// values were read in. `None` if nothing can be left out because of them: there are no label requirements, and
    /// fields are not compared with values yet.
    ///
    /// Errors if one of the two is too long or is not one that Kubernetes would parse; then nothing must be filtered.
    pub fn parse(
        label: Option<&str>,
        field: Option<&str>,
        group_version: Option<&str>,
    ) -> Result<Option<Self>, ParseError> {
        let labels = LabelSelector::parse(within_limit(label)?)?;
        let fields = FieldSelector::parse(within_limit(field)?)?;
        if labels.requirements().is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { labels, fields, group_version: group_version.map(str::to_owned) }))
    }

    /// What the labels of a matching object fulfil, all of it. At least one, if the selection was parsed.
    pub fn label_requirements(&self) -> &[Requirement] {
        self.labels.requirements()
    }

    /// What the fields of a matching object fulfil, all of it. Holds only for objects stored in
    /// [`group_version`](Self::group_version).
    pub fn field_requirements(&self) -> &[FieldRequirement] {
        self.fields.requirements()
    }

    /// The group/version that the values in [`field_requirements`](Self::field_requirements) were read in.
    pub fn group_version(&self) -> Option<&str> {
        self.group_version.as_deref()
    }

    /// Whether the stored object may match. True for all that can't be decoded.
    pub fn may_match(&self, value: &[u8]) -> bool {
        object::decode(value).is_none_or(|meta| self.may_match_labels(&meta.labels))
    }

    /// Whether an object with these labels, sorted by key, may match. Fields are not looked at.
    pub fn may_match_labels(&self, labels: &[Label<'_>]) -> bool {
        self.labels.matches(labels)
    }
}

fn within_limit(selector: Option<&str>) -> Result<&str, ParseError> {
    let selector = selector.unwrap_or_default();
    if selector.len() > SELECTOR_BYTES_LIMIT { Err(ParseError::too_long(selector.len())) } else { Ok(selector) }
}
