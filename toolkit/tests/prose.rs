//! Prose is wrapped, so that a diff shows what was changed, and a terminal shows all of a line.

use std::collections::BTreeSet;
use std::ffi::OsStr;
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

/// Where comments are, besides the patches, whose lines are upstream's.
const SOURCES: [&str; 9] = [".ci", "bench", "ci", "images", "install", "shim", "tests", "toolkit", "xtask"];

#[test]
fn comments_fit_into_their_columns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let folders = SOURCES.iter().flat_map(|folder| walkdir::WalkDir::new(root.join(folder)));
    let entries = folders.map(|entry| entry.expect("a source folder"));
    let below = entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    let (mut long, mut languages) = (Vec::new(), BTreeSet::new());
    for file in below.chain([root.join("Cargo.toml"), root.join("patches/contract.toml")]) {
        let Some(marks) = marks(&file) else { continue };
        languages.insert(marks);
        let text = fs_err::read_to_string(&file).expect("a source file");
        let lines = text.lines().enumerate().filter(|(_, line)| is_long_comment(marks, line));
        long.extend(lines.map(|(index, _)| format!("{}:{}", file.display(), index + 1)));
    }
    assert_eq!(languages.len(), 3, "{languages:?}");
    assert!(long.is_empty(), "comments of more than {WIDTH} columns:\n{}", long.join("\n"));
}

#[test]
fn a_comment_that_can_be_broken_is_long() {
    let words = "word ".repeat(24);
    let link = format!("// <https://{}>", "x".repeat(WIDTH));
    let table = [
        ("a.rs", format!("/// {words}"), true),
        ("a.rs", format!("    //! {words}"), true),
        ("a.rs", format!("// {}", &words[5..]), false),
        ("a.rs", link, false),
        ("a.rs", format!("/// | {words} |"), false),
        ("a.rs", format!("let x = \"{words}\";"), false),
        ("a.rs", format!("#[error(\"{words}\")]"), false),
        ("a.rs", format!("-- A table in SQL. {words}"), true),
        ("a.go", format!("\t// {words}"), true),
        ("a.toml", format!("# {words}"), true),
        ("a.toml", format!("doc = \"{words}\""), false),
        ("a.yaml", format!("  -- {words}"), false),
        ("run", format!("# {words}"), true),
    ];
    for (file, line, expected) in table {
        let marks = marks(Path::new(file)).expect("a language");
        assert_eq!(is_long_comment(marks, &line), expected, "{file}: {line}");
    }
    assert_eq!(marks(Path::new("a.json")), None);
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

/// What a comment begins with in the language of a file.
fn marks(file: &Path) -> Option<&'static [&'static str]> {
    match file.extension().and_then(OsStr::to_str) {
        Some("rs") => Some(&["//", "-- "]),
        Some("go" | "mod" | "proto") => Some(&["//"]),
        Some("toml" | "yaml" | "yml" | "sh" | "py") => Some(&["#"]),
        // Scripts.
        None if file.ends_with("run") || file.ends_with("prepare") => Some(&["#"]),
        _ => None,
    }
}

/// Whether a line is a comment and could be shorter.
fn is_long_comment(marks: &[&str], line: &str) -> bool {
    let Some(comment) = marks.iter().find_map(|mark| line.trim_start().strip_prefix(mark)) else { return false };
    let text = comment.trim_start_matches(['/', '!', '#']).trim_start();
    !text.starts_with('|') && text.contains(' ') && line.chars().count() > WIDTH
}
