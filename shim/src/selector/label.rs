//! Label selectors (apimachinery: pkg/labels/selector.go).

use std::fmt;

use super::error::ParseError;
use super::parser;
use super::requirement::Requirement;
use crate::object::{Label, label};

/// Requirements on labels, all of which must hold.
///
/// In a normal form: requirements sorted, each once, the values of a set as well; `a=b`, `a==b` and `a in (b)` are the
/// same, as are `a!=b` and `a notin (b)`; numbers have no leading zeros. Upstream keeps these spellings apart, with the
/// same meaning.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Parses what Kubernetes' `labels.Parse` parses, and nothing else. The empty selector matches everything.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut requirements = parser::parse(text)?;
        requirements.sort();
        requirements.dedup();
        Ok(Self { requirements })
    }

    /// The requirements, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object with these labels matches. They must be sorted by key, each key once.
    pub fn matches(&self, labels: &[Label<'_>]) -> bool {
        self.requirements.iter().all(|requirement| requirement.operator.allows(label(labels, &requirement.key)))
    }
}

impl fmt::Display for LabelSelector {
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
