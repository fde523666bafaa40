//! Prose is wrapped, so that a diff shows what was changed, and a terminal shows all of a line.

use std::path::{Path, PathBuf};

const WIDTH: usize = 120;

/// Written by `cargo xtask test conformance`: each list of tests is a line.
const MADE: &str = "docs/conformance.md";

#[test]
fn prose_fits_into_its_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let files: Vec<PathBuf> = ["", "ci", "docs"].iter().flat_map(|folder| documents(&root.join(folder))).collect();
    assert!(files.len() > 10, "{files:?}");
    let mut long = Vec::new();
    for file in files.iter().filter(|file| !file.ends_with(MADE)) {
        let text = fs_err::read_to_string(file).expect("a document");
        long.extend(too_long(&text).map(|number| format!("{}:{number}", file.display())));
    }
    assert!(long.is_empty(), "lines of more than {WIDTH} columns:\n{}", long.join("\n"));
}

#[test]
fn what_can_be_broken_is_too_long() {
    let words = format!("{}x", "word ".repeat(24));
    let link = format!("- <https://{}>", "x".repeat(WIDTH));
    let (fits, table, made) =
        (&words[1..], format!("| {words} |"), format!("<!-- begin: x -->\n{words}\n<!-- end -->"));
    let text = [fits, &words, &link, &table, "```console", &words, "```", &made, &words].join("\n");
    assert_eq!(too_long(&text).collect::<Vec<_>>(), [2, 11]);
}

fn documents(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The numbers of the lines that could be shorter: not those of tables, of code, and of what a program puts between two
/// marks.
fn too_long(text: &str) -> impl Iterator<Item = usize> {
    let (mut code, mut made) = (false, false);
    text.lines().enumerate().filter_map(move |(index, line)| {
        let start = line.trim_start();
        code ^= start.starts_with("```");
        made = line.starts_with("<!-- begin") || made && !line.starts_with("<!-- end");
        let prose = !(code || made || start.starts_with('|'));
        let words = start.strip_prefix("- ").unwrap_or(start).split_whitespace().count();
        (prose && words > 1 && line.chars().count() > WIDTH).then_some(index + 1)
    })
}
