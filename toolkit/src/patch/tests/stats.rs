//! The series of several minors beside each other.

use std::path::Path;

use super::Tiny;
use crate::patch::series::{Entry, Series};
use crate::patch::stats::{all, report};
use sluice_shell::context::Context;

/// What each minor's series may change at most: in files that are there before the patch, and of these in upstream's.
const CHANGED_IN_EXISTING_FILES: usize = 220;
const TOUCHED_IN_UPSTREAMS_FILES: usize = 130;

#[test]
fn the_series_of_all_minors_leave_existing_files_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let minors = report(&all(&Context::for_test(root)).expect("the series of the workspace")).minors;
    assert!(minors.len() >= 4, "{minors:?}");
    for totals in minors {
        let minor = &totals.minor;
        let lines = totals.lines_changed_in_existing_files;
        assert!(lines <= CHANGED_IN_EXISTING_FILES, "{minor} changes {lines} lines in existing files");
        let lines = totals.touched_upstream_lines;
        assert!(lines <= TOUCHED_IN_UPSTREAMS_FILES, "{minor} touches {lines} lines in upstream's files");
    }
}

#[test]
fn a_patch_that_does_the_same_elsewhere_is_the_same_and_other_lines_or_words_are_not() {
    let tiny = Tiny::new();
    tiny.replace("pkg/store/store.go", "s.size++", "s.size = len(s.keys)");
    tiny.write("pkg/store/size.go", "package store\n\nfunc (s *store) Size() int { return s.size }\n");
    tiny.write("pkg/store/size_test.go", "package store\n");
    tiny.write("pkg/store/testdata/sizes", "1\n2\n");
    tiny.add("store: count keys");
    tiny.replace("pkg/store/size.go", "return s.size", "return len(s.keys)");
    tiny.replace("pkg/store/store.go", "// Put keeps", "// Put stores");
    tiny.add("store: size without a field");
    tiny.write("docs/new.txt", "x\n");
    tiny.add("docs: only here");
    let newest = tiny.series();

    // Elsewhere: other positions, context and blob ids, and one line more in the second patch.
    let mut older = newest.clone();
    for hunk in older.entries[0].patch.files.iter_mut().flat_map(|file| &mut file.hunks) {
        hunk.old_start += 7;
        hunk.new_start += 7;
        hunk.section = b"func elsewhere()".to_vec();
    }
    older.entries[0].patch.files[0].old_id = "0123456789012345678901234567890123456789".into();
    let again = older.entries[1].patch.files[1].hunks[0].lines[3].clone();
    older.entries[1].patch.files[1].hunks[0].lines.insert(3, again);
    older.entries.pop();
    let mut oldest = older.clone();
    oldest.entries[1].patch.body += "\nMore words.";
    oldest.entries.push(Entry { name: "old-only.patch".into(), ..newest.entries[2].clone() });
    let named = |minor: &str, series: Series| (minor.to_owned(), series);
    let text = report(&[named("v1.37", newest), named("v1.36", older), named("v1.35", oldest)]).text();
    insta::assert_snapshot!(text);
}
