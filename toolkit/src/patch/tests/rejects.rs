//! What a person sees when a patch does not apply.

use super::Tiny;
use crate::patch::apply::bring_tree;
use crate::patch::engine::{self, DoesNotApply};
use crate::patch::file::Patch;
use crate::patch::verify;
use sluice_shell::error::Error;

/// A series with one patch that changes `Get`, and the tree back at upstream.
fn get_patch() -> Tiny {
    let tiny = Tiny::new();
    tiny.replace("pkg/store/store.go", "value, ok := s.keys[key]", "value, ok := s.keys[clean(key)]");
    tiny.write("pkg/store/clean.go", "package store\n\nfunc clean(key string) string { return key }\n");
    tiny.add("store: clean keys");
    let tree = tiny.tree();
    tree.switch(tree.base).unwrap();
    drop(tree);
    tiny
}

/// Applies the series of `tiny` to its upstream after `edit` of one file (none: the file is removed).
fn apply_to(tiny: &Tiny, path: &str, edit: impl Fn(String) -> Option<String>) -> Result<Vec<engine::Step>, Error> {
    match edit(tiny.read(path)) {
        Some(text) => tiny.write(path, &text),
        None => fs_err::remove_file(tiny.path(path)).unwrap(),
    }
    let tree = tiny.tree();
    let series = tiny.series();
    let patch = Patch { subject: "upstream moved on".into(), files: Vec::new(), ..series.entries[0].patch.clone() };
    let parent = tree.repo.find_commit(tree.base).unwrap();
    let after = tree.repo.find_tree(tree.snapshot().unwrap()).unwrap();
    let base = engine::commit(&tree.repo, &patch, &after, &parent).unwrap();
    engine::commit_series(&tree.repo, base, series.entries.iter().map(|entry| (entry.name.as_str(), &entry.patch)))
}

fn shown(tiny: &Tiny, path: &str, edit: impl Fn(String) -> Option<String>) -> String {
    let error = apply_to(tiny, path, edit).unwrap_err();
    assert!(error.downcast_ref::<DoesNotApply>().is_some());
    sluice_shell::output::plain_text(&format!("{error:?}")).into_owned()
}

#[test]
fn upstream_changed_the_line() {
    let tiny = get_patch();
    insta::assert_snapshot!(shown(&tiny, "pkg/store/store.go", |text| {
        Some(
            text.replace("value, ok := s.keys[key]", "value, ok := s.lookup(key)").replace("import \"errors\"\n\n", ""),
        )
    }));
}

#[test]
fn the_change_is_upstream_now() {
    let tiny = get_patch();
    insta::assert_snapshot!(shown(&tiny, "pkg/store/store.go", |text| Some(text.replace("[key]\n", "[clean(key)]\n"))));
}

#[test]
fn the_file_moved() {
    let tiny = get_patch();
    tiny.write("pkg/kv/store.go", super::STORE);
    insta::assert_snapshot!(shown(&tiny, "pkg/store/store.go", |_| None));
}

#[test]
fn the_new_file_exists_and_nothing_is_alike() {
    let tiny = get_patch();
    tiny.write("pkg/store/clean.go", "package store\n");
    insta::assert_snapshot!(shown(&tiny, "pkg/store/store.go", |_| Some("package store\n".into())));
}

#[test]
fn a_place_that_is_there_twice_is_not_guessed() {
    let tiny = get_patch();
    let twice = |text: String| {
        let get = text.find("// Get").unwrap();
        Some(format!(
            "{}// Moved.\n{}{}",
            &text[..get],
            &text[get..],
            text[get..].replace("Get(", "Fetch(").replace("// Get", "// Fetch")
        ))
    };
    // Both copies must hold all the context lines, so the hunk is cut to what they share.
    let mut series = tiny.series();
    let hunk = &mut series.entries[0].patch.files[1].hunks[0];
    hunk.lines.drain(..3);
    (hunk.old_start, hunk.new_start) = (hunk.old_start + 3, hunk.new_start + 3);
    let patch = series.entries[0].patch.clone();
    fs_err::write(tiny.folder().join(&series.entries[0].name), patch.to_bytes()).unwrap();
    let text = shown(&tiny, "pkg/store/store.go", twice);
    assert!(text.contains("the lines stand at 2 places: lines 16, 33"), "{text}");
}

#[test]
fn a_hunk_that_moved_applies_and_verify_names_it() {
    let tiny = get_patch();
    let steps =
        apply_to(&tiny, "pkg/store/store.go", |text| Some(text.replace("type store", "// Two\n// lines.\ntype store")))
            .unwrap();
    assert_eq!((steps[0].moved[0].hunk, steps[0].moved[0].lines), (1, 2));

    let tiny = get_patch();
    let path = tiny.folder().join("store-clean-keys.patch");
    let text = fs_err::read_to_string(&path).unwrap();
    fs_err::write(&path, text.replace("@@ -12,7 +12,7 @@", "@@ -11,7 +11,7 @@")).unwrap();
    let error = verify::re_export(&tiny.tree(), &tiny.series()).unwrap_err().to_string();
    assert!(error.contains("hunk 1 of pkg/store/store.go stands +1 lines away"), "{error}");
}

#[test]
fn nothing_of_a_failed_series_reaches_the_tree() {
    let tiny = get_patch();
    let good = tiny.series();
    let mut bad = good.clone();
    let mut entry = good.entries[0].clone();
    entry.name = "second.patch".into();
    bad.entries.push(entry);
    let before = tiny.tree().head().unwrap();
    let error = bring_tree(&tiny.tree(), &bad, false).unwrap_err().to_string();
    assert!(error.starts_with("second.patch does not apply"), "{error}");
    assert_eq!(tiny.tree().head().unwrap(), before);
    assert!(tiny.tree().changed().unwrap().is_empty() && !tiny.path("pkg/store/clean.go").exists());
}

#[test]
fn a_place_that_a_patch_forgot_breaks_its_invariant() {
    let tiny = get_patch();
    bring_tree(&tiny.tree(), &tiny.series(), false).unwrap();
    let check = |line: &str| {
        let mut series = tiny.series();
        series.entries[0].patch.body += &format!("\nInvariant: {line}");
        let tree = tiny.tree();
        let head = tree.head().unwrap();
        verify::invariants(&tree, &series, head).map_err(|error| format!("{error:?}"))
    };
    check("./pkg/store/store.go: each `:= s\\.keys\\[` with `clean\\(key\\)`").unwrap();
    check("./pkg/store/: `s\\.keys\\[` 2 times").unwrap();
    for (line, said) in [
        (
            "./pkg/store/store.go: each `s\\.keys\\[` with `clean\\(key\\)`",
            "store-clean-keys.patch: the line does not have `clean\\(key\\)`: pkg/store/store.go:27: s.keys[key] = value",
        ),
        ("./pkg/store/: `s\\.keys\\[` 1 times", "matches 2 lines of pkg/store/ instead of 1:\n"),
        // What is gone proves nothing: neither a call, nor a file, nor a folder, nor a comment.
        ("./pkg/store/store.go: each `s\\.seek\\[` with `clean`", "no line of pkg/store/store.go matches"),
        ("./pkg/store/gone.go: each `s` with `s`", "no line of pkg/store/gone.go matches"),
        ("./pkg/gone/: each `s` with `s`", "no line of pkg/gone/ matches"),
        ("./pkg/store/store.go: each `Get returns` with `value`", "no line of pkg/store/store.go matches"),
    ] {
        let error = check(line).unwrap_err();
        assert!(error.contains(said) && error.contains("hint: upstream has a place"), "{line}: {error}");
    }
}
