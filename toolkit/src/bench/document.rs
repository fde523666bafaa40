//! The results in `docs/benchmarks.md`, between two marks.

use std::path::Path;

use sluice_shell::error::{Explain, Result};

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

/// Replaces the table of a measurement in `docs`, and the files beside it (from, to) by those in `out`.
///
/// # Errors
/// When the document has no marks; file errors.
pub(super) fn save(docs: &Path, out: &Path, measurement: &str, table: &str, files: &[(&str, &str)]) -> Result<()> {
    let (path, begin) = (docs.join("benchmarks.md"), begin(measurement));
    let text = fs_err::read_to_string(&path)?;
    let Some(text) = replaced(&text, &begin, table) else {
        return Err(NoPlace { path: path.display().to_string(), begin }.into());
    };
    fs_err::write(&path, text)?;
    for (from, to) in files {
        fs_err::copy(out.join(from), docs.join(to))?;
    }
    Ok(())
}

/// The line before the table of a measurement.
fn begin(measurement: &str) -> String {
    format!("<!-- begin: cargo xtask bench {measurement} --save -->")
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
        let (begin, other) = (begin("store"), begin("platform"));
        let text = format!("# Title\n{other}\nkept\n{END}\n{begin}\nold\n{END}\nend\n");
        let once = replaced(&text, &begin, "new\n").unwrap();
        assert_eq!(once, format!("# Title\n{other}\nkept\n{END}\n{begin}\nnew\n{END}\nend\n"));
        assert_eq!(replaced(&once, &begin, "new\n"), Some(once.clone()));
        assert_eq!(replaced("# Title", &begin, "new"), None);
    }
}
