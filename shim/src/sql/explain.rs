//! What a database says of how it would read a range with a selector.

use std::fmt;

/// How a range is read. Shown as text for people.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// The candidates, the one that is used first.
    pub candidates: Vec<Candidate>,
    /// Requirements that no index answers, with the reason.
    pub unanswered: Vec<(String, String)>,
    /// The field indexes of the range, with their state.
    pub indexes: Vec<(String, String)>,
    /// How many objects of the range can't be read, and how many have another name than their key.
    pub odd: (i64, i64),
    /// Whether the index tells that nothing matches.
    pub nothing: bool,
    /// How many rows were read, and how many keys were found.
    pub rows: (u64, usize),
}

/// A way to find the keys that may match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What it goes through.
    pub source: String,
    /// How many keys that are.
    pub keys: String,
    /// Whether keys of the one that is used are looked up in it, before their values are fetched.
    pub probe: bool,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, candidate) in self.candidates.iter().enumerate() {
            let role = match (at, candidate.probe) {
                (0, _) if !self.nothing => "use",
                (_, true) => "probe",
                _ => "leave",
            };
            writeln!(f, "{role:<6} {}: {} keys", candidate.source, candidate.keys)?;
        }
        for (requirement, why) in &self.unanswered {
            writeln!(f, "value  {requirement}: {why}")?;
        }
        for (index, state) in &self.indexes {
            writeln!(f, "index  {index}: {state}")?;
        }
        writeln!(f, "unreadable objects: {}, with another name than their key: {}", self.odd.0, self.odd.1)?;
        writeln!(f, "rows read: {}, returned: {}", self.rows.0, self.rows.1)
    }
}
