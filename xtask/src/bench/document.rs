//! The results in `docs/benchmarks.md`, between two marks.

use std::path::Path;

use crate::error::{Explain, Result};

const BEGIN: &str = "<!-- begin: cargo xtask bench store --save -->";
const END: &str = "<!-- end -->";

/// The document has no place for the table.
#[derive(Debug, thiserror::Error)]
#[error("{path} has no line `{BEGIN}` with a line `{END}` behind it")]
struct NoPlace {
    path: String,
}

impl Explain for NoPlace {
    fn hint(&self) -> Option<String> {
        Some("put the two lines where the table belongs".into())
    }
}

/// Replaces the table in `docs`, and the plot and the report beside it, by those in `out`.
///
/// # Errors
/// When the document has no marks; file errors.
pub(super) fn save(docs: &Path, out: &Path, table: &str) -> Result<()> {
    let path = docs.join("benchmarks.md");
    let text = fs_err::read_to_string(&path)?;
    let Some(text) = replaced(&text, table) else { return Err(NoPlace { path: path.display().to_string() }.into()) };
    fs_err::write(&path, text)?;
    for (from, to) in [("store.svg", "benchmarks.svg"), ("store.json", "benchmarks.json")] {
        fs_err::copy(out.join(from), docs.join(to))?;
    }
    Ok(())
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", table.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_replaced_and_nothing_else() {
        let text = format!("# Title\n{BEGIN}\nold\n{END}\nend\n");
        let once = replaced(&text, "new\n").unwrap();
        assert_eq!(once, format!("# Title\n{BEGIN}\nnew\n{END}\nend\n"));
        assert_eq!(replaced(&once, "new\n"), Some(once.clone()));
        assert_eq!(replaced("# Title", "new"), None);
    }
}
