//! The rules of the architecture that imports can break.

use std::fs;
use std::path::{Path, PathBuf};

/// Folder, what its files must not name, and why.
const RULES: [(&str, &[&str], &str); 6] = [
    (
        "src/engine",
        &["rusqlite", "crate::sql", "prost", "tonic", "crate::pb", "crate::etcd"],
        "the engine knows no SQL and no protobuf",
    ),
    ("src/etcd", &["rusqlite", "crate::sql"], "the gRPC layer knows no SQL"),
    ("src/gc", &["rusqlite", "crate::sql", "crate::engine", "crate::etcd", "tonic"], "the collector's rules are pure"),
    (
        "src/object",
        &["rusqlite", "crate::sql", "crate::engine", "crate::etcd", "tonic"],
        "objects are bytes with metadata",
    ),
    (
        "src/selector",
        &["rusqlite", "crate::sql", "crate::engine", "crate::etcd", "tonic"],
        "selectors know objects only",
    ),
    ("src/sql", &["prost", "tonic", "crate::pb", "crate::etcd"], "databases know no protobuf"),
];

#[test]
fn layers_do_not_reach_past_each_other() {
    let mut broken = Vec::new();
    for (folder, forbidden, why) in RULES {
        let files = rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
        assert!(!files.is_empty(), "{folder} has no files");
        for file in files {
            let text = fs::read_to_string(&file).expect("a source file");
            // Documentation may name what code may not.
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code.filter(|line| forbidden.iter().any(|name| line.contains(name))) {
                broken.push(format!("{}: {} ({why})", file.display(), line.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What lasts is never measured with the calendar, so whoever needs that asks for it by its type.
#[test]
fn the_calendar_is_asked_in_one_place() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let asks = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("a source file");
        ["SystemTime::now", "UNIX_EPOCH"].iter().any(|name| text.contains(name))
    };
    let found: Vec<_> = rust_files(&source).into_iter().filter(asks).collect();
    assert_eq!(found, [source.join("clock.rs")]);
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a source folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
