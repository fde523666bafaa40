//! One requirement of a label selector (apimachinery: `Requirement` in pkg/labels/selector.go).

use std::fmt;

/// A requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What must hold for it.
    pub operator: Operator,
}

/// What must hold for a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// It is there, and its value is one of these. Sorted, never empty.
    In(Vec<String>),
    /// It is not there, or its value is none of these. Sorted, never empty.
    NotIn(Vec<String>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
    /// It is there, and its value is an integer greater than this.
    GreaterThan(i64),
    /// It is there, and its value is an integer less than this.
    LessThan(i64),
}

impl Operator {
    /// Whether a label with this value (none: no such label) fulfils it.
    pub fn allows(&self, value: Option<&str>) -> bool {
        match self {
            Self::In(values) => value.is_some_and(|value| contains(values, value)),
            Self::NotIn(values) => value.is_none_or(|value| !contains(values, value)),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::GreaterThan(bound) => value.and_then(parse_int).is_some_and(|number| number > *bound),
            Self::LessThan(bound) => value.and_then(parse_int).is_some_and(|number| number < *bound),
        }
    }
}

fn contains(sorted: &[String], value: &str) -> bool {
    sorted.binary_search_by(|candidate| candidate.as_str().cmp(value)).is_ok()
}

/// Go's `strconv.ParseInt(text, 10, 64)`: an optional sign, then decimal digits, within 64 bits.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    text.parse().ok()
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.operator {
            Operator::In(values) => match values.as_slice() {
                [value] => write!(f, "{key}={value}"),
                values => write!(f, "{key} in ({})", values.join(",")),
            },
            Operator::NotIn(values) => match values.as_slice() {
                [value] => write!(f, "{key}!={value}"),
                values => write!(f, "{key} notin ({})", values.join(",")),
            },
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan(bound) => write!(f, "{key}>{bound}"),
            Operator::LessThan(bound) => write!(f, "{key}<{bound}"),
        }
    }
}
