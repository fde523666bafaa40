//! "Did you mean".

/// How alike two words are, of 1, for the one to be a misspelling of the other.
const ALIKE: f64 = 0.7;

/// What may have been meant by a word that is none of the known, as the end of a sentence; empty if nothing is alike.
pub(crate) fn meant(word: &str, known: &[&str]) -> String {
    let word = word.to_lowercase();
    let best = known.iter().map(|name| (strsim::jaro_winkler(&word, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness > ALIKE).map_or(String::new(), |(_, name)| format!(", did you mean {name}?"))
}
