//! The results in `docs/benchmarks.md`, between two marks.

use std::path::Path;

use crate::error::{Explain, Result};

const END: &str = "<!-- end -->";

/// The document has no place for the table.
#[derive(Debug, thiserror::Error)]
#[error("{path} has no line `{begin}` with a line `{END}` behind it")]
struct NoPlace {
    path: String,
    begin: String,
}

impl Explain for NoPlace {
    fn hint(&self) -> Option<String> {
        Some("put the two lines where the table belongs".into())
    }
}

/// Replaces the table of `bench store` in `docs`, and the plot and the report beside it, by those in `out`.
///
/// # Errors
/// When the document has no marks; file errors.
pub(super) fn save(docs: &Path, out: &Path, table: &str) -> Result<()> {
    put(docs, "store", table)?;
    for (from, to) in [("store.svg", "benchmarks.svg"), ("store.json", "benchmarks.json")] {
        fs_err::copy(out.join(from), docs.join(to))?;
    }
    Ok(())
}

/// Replaces the table of `cargo xtask bench WHAT` in `docs`.
///
/// # Errors
/// When the document has no marks; file errors.
pub(super) fn put(docs: &Path, what: &str, table: &str) -> Result<()> {
    let path = docs.join("benchmarks.md");
    let text = fs_err::read_to_string(&path)?;
    let begin = begin(what);
    let Some(text) = replaced(&text, &begin, table) else {
        return Err(NoPlace { path: path.display().to_string(), begin }.into());
    };
    Ok(fs_err::write(&path, text)?)
}

fn begin(what: &str) -> String {
    format!("<!-- begin: cargo xtask bench {what} --save -->")
}

fn replaced(text: &str, begin: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n{}\n{END}{after}", table.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_replaced_and_nothing_else() {
        let begin = begin("store");
        let other = format!("{}\nother\n{END}", super::begin("gc"));
        let text = format!("# Title\n{other}\n{begin}\nold\n{END}\nend\n");
        let once = replaced(&text, &begin, "new\n").unwrap();
        assert_eq!(once, format!("# Title\n{other}\n{begin}\nnew\n{END}\nend\n"));
        assert_eq!(replaced(&once, &begin, "new\n"), Some(once.clone()));
        assert_eq!(replaced("# Title", &begin, "new"), None);
    }
}
