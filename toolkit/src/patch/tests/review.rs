//! What a refresh or a rebase made of a patch.

use super::{STORE, Tiny};
use crate::patch::review::review;
use crate::source::Files;

/// A patch of store.go.
fn patched() -> Tiny {
    let tiny = Tiny::new();
    tiny.replace("pkg/store/store.go", "value, ok := s.keys[key]", "value, ok := s.keys[clean(key)]");
    tiny.write("pkg/store/clean.go", "package store\n\nfunc clean(key string) string { return key }\n");
    tiny.add("store: clean keys");
    tiny
}

fn upstream(tiny: &Tiny) -> Files {
    Files::Folder(tiny.dir.path().join("upstream"))
}

#[test]
fn a_refreshed_patch_is_shown_as_what_it_does_otherwise() {
    let tiny = patched();
    let before = tiny.series();
    let shown = |after| review((&upstream(&tiny), &before), (&upstream(&tiny), after)).unwrap();
    assert_eq!(shown(&before), "");
    let other = patched();
    let mut after = before.clone();
    other.replace("pkg/store/clean.go", "return key", "return key[1:]");
    other.add("store: second");
    let second = other.series().entries.remove(1);
    after.entries.push(second);
    after.entries[0].patch.body = after.entries[0].patch.body.replace("Because", "Since");
    let line = &mut after.entries[0].patch.files[1].hunks[0].lines;
    let at = line.iter().position(|line| line.text.ends_with(b"clean(key)]\n")).unwrap();
    line[at].text = b"\tvalue, ok := s.keys[tidy(key)]\n".to_vec();
    insta::assert_snapshot!(shown(&after));
    let mut none = before.clone();
    none.entries.clear();
    assert_eq!(shown(&none), "==> store-clean-keys.patch: removed\n");
}

#[test]
fn what_upstream_did_is_no_part_of_the_review_of_a_rebase() {
    let tiny = patched();
    let before = tiny.series();
    let newer = tiny.dir.path().join("newer");
    fs_err::create_dir_all(newer.join("pkg/store")).unwrap();
    let text = STORE.replace("ok := s.keys[key]", "ok := s.find(key)").replace("// Put keeps", "// Put stores");
    fs_err::write(newer.join("pkg/store/store.go"), text).unwrap();
    let mut after = before.clone();
    for line in after.entries[0].patch.files[1].hunks.iter_mut().flat_map(|hunk| &mut hunk.lines) {
        let text = String::from_utf8(line.text.clone()).unwrap();
        line.text =
            text.replace("s.keys[key]", "s.find(key)").replace("s.keys[clean(key)]", "s.find(clean(key))").into();
    }
    let text = review((&upstream(&tiny), &before), (&Files::Folder(newer), &after)).unwrap();
    assert!(text.contains("-\tvalue, ok := s.keys[clean(key)]\n+\tvalue, ok := s.find(clean(key))\n"), "{text}");
    assert!(!text.contains("Put stores") && !text.contains("clean.go"), "{text}");
}
