//! Field selectors (apimachinery: pkg/fields/selector.go).

use std::fmt;

use super::error::ParseError;

/// Requirements on fields, all of which must hold; sorted, each once.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

/// A requirement on one field. A field that an object lacks has the empty value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldRequirement {
    /// The path of the field, `spec.color`.
    pub field: String,
    /// Whether the value must be another one than `value`, instead of this one.
    pub negated: bool,
    /// The value, without escapes.
    pub value: String,
}

impl FieldSelector {
    /// Parses what Kubernetes' `fields.ParseSelector` parses, and nothing else. The empty selector matches everything.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut requirements = Vec::new();
        for term in split_terms(text).filter(|term| !term.is_empty()) {
            let requirement = parse_term(term)?;
            // Upstream drops a requirement that names neither a field nor a value (`Transform`).
            if !(requirement.field.is_empty() && requirement.value.is_empty()) {
                requirements.push(requirement);
            }
        }
        requirements.sort();
        requirements.dedup();
        Ok(Self { requirements })
    }

    /// The requirements, sorted by field.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }
}

impl FieldRequirement {
    /// Whether a field with this value fulfils it.
    pub fn allows(&self, value: &str) -> bool {
        (self.value == value) != self.negated
    }
}

/// Splits at the commas that no backslash stands before.
fn split_terms(text: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |character| {
        let ends = character == ',' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    })
}

/// The field ends at the first operator; escapes are known only in the value.
fn parse_term(term: &str) -> Result<FieldRequirement, ParseError> {
    let operators = [("!=", true), ("==", false), ("=", false)];
    for (at, _) in term.char_indices() {
        for (operator, negated) in operators {
            if let Some(value) = term[at..].strip_prefix(operator) {
                return Ok(FieldRequirement { field: term[..at].to_owned(), negated, value: unescape(value)? });
            }
        }
    }
    Err(ParseError::syntax(format!("'{term}' has no operator")))
}

fn unescape(value: &str) -> Result<String, ParseError> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                _ => return Err(ParseError::syntax(format!("'{value}' has a backslash that escapes nothing"))),
            },
            ',' | '=' => {
                return Err(ParseError::syntax(format!("'{value}' has a '{character}' without a backslash")));
            }
            _ => plain.push(character),
        }
    }
    Ok(plain)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for FieldRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.field, if self.negated { "!=" } else { "=" })?;
        for character in self.value.chars() {
            if matches!(character, '\\' | ',' | '=') {
                f.write_str("\\")?;
            }
            write!(f, "{character}")?;
        }
        Ok(())
    }
}
