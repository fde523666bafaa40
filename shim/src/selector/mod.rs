//! Kubernetes' label and field selectors: parsed, printed and evaluated exactly as apimachinery does.
//!
//! A selector that reaches the shim is a hint. It may be ignored, never misread: what upstream would reject is
//! rejected, and the caller then filters nothing.

mod error;
mod field;
mod label;
mod lexer;
mod parser;
mod requirement;
#[cfg(test)]
mod tests;
mod validity;

pub use error::{ErrorKind, ParseError};
pub use field::{FieldRequirement, FieldSelector};
pub use label::LabelSelector;
pub use requirement::{Operator, Requirement};

use std::sync::Arc;

use crate::contract::SELECTOR_BYTES_LIMIT;
use crate::object::{self, FieldSet, FieldValue, Label};

/// Selectors that came with a request, compiled. Equal for requests that ask for the same objects in another spelling,
/// so that watchers can be grouped by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    field_set: Arc<FieldSet>,
}

impl Selection {
    /// Reads the selectors of a request: the label selector, the field selector, and the group/version that the field
    /// values were read in. `None` if nothing can be left out because of them: there are no label requirements, and
    /// none on a field whose value can be known.
    ///
    /// Errors if one of the two is too long or is not one that Kubernetes would parse; then nothing must be filtered.
    pub fn parse(
        label: Option<&str>,
        field: Option<&str>,
        group_version: Option<&str>,
    ) -> Result<Option<Self>, ParseError> {
        let labels = LabelSelector::parse(within_limit(label)?)?;
        let fields = FieldSelector::parse(within_limit(field)?)?;
        let mut names: Vec<&str> = fields.requirements().iter().map(|requirement| &*requirement.field).collect();
        names.dedup();
        let field_set = Arc::new(FieldSet::new(group_version, names));
        let selection = Self { labels, fields, field_set };
        let narrows = !selection.label_requirements().is_empty() || selection.narrows_by_fields();
        Ok(narrows.then_some(selection))
    }

    /// What the labels of a matching object fulfil, all of it.
    pub fn label_requirements(&self) -> &[Requirement] {
        self.labels.requirements()
    }

    /// What the fields of a matching object fulfil, all of it, as far as their values are known. Sorted by field.
    pub fn field_requirements(&self) -> &[FieldRequirement] {
        self.fields.requirements()
    }

    /// The group/version that the values in [`field_requirements`](Self::field_requirements) were read in.
    pub fn group_version(&self) -> Option<&str> {
        self.field_set.api_version()
    }

    /// The fields that the requirements are about, each once, in the order of the requirements.
    pub fn field_set(&self) -> &Arc<FieldSet> {
        &self.field_set
    }

    /// Whether there is a requirement on a field whose value can be known.
    pub fn narrows_by_fields(&self) -> bool {
        (0..self.field_set.names().len()).any(|at| self.field_set.is_readable(at))
    }

    /// Whether there is a requirement on a field whose value is never known; it leaves nothing out.
    pub fn has_unreadable_fields(&self) -> bool {
        (0..self.field_set.names().len()).any(|at| !self.field_set.is_readable(at))
    }

    /// Whether the stored object may match. True for all that can't be decoded.
    pub fn may_match(&self, value: &[u8]) -> bool {
        object::decode_with_fields(value, &self.field_set)
            .is_none_or(|(meta, values)| self.may_match_read(meta.selectable_labels(), &values))
    }

    /// Whether an object may match that has these labels, sorted by key (`None`: not known), and these values of the
    /// [fields](Self::field_set).
    pub fn may_match_read(&self, labels: Option<&[Label<'_>]>, values: &[FieldValue<'_>]) -> bool {
        labels.is_none_or(|labels| self.labels.matches(labels)) && self.fields_may_match(values)
    }

    fn fields_may_match(&self, values: &[FieldValue<'_>]) -> bool {
        // Both are sorted by field, and every field of a requirement is in the set.
        let mut values = self.field_set.names().zip(values).peekable();
        self.fields.requirements().iter().all(|requirement| {
            while values.next_if(|(name, _)| **name < *requirement.field).is_some() {}
            let value = values.peek().filter(|(name, _)| **name == *requirement.field);
            value.and_then(|(_, value)| value.known()).is_none_or(|value| requirement.allows(value))
        })
    }
}

fn within_limit(selector: Option<&str>) -> Result<&str, ParseError> {
    let selector = selector.unwrap_or_default();
    if selector.len() > SELECTOR_BYTES_LIMIT { Err(ParseError::too_long(selector.len())) } else { Ok(selector) }
}
