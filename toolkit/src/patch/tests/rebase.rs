//! A series goes to another minor.

use super::{PINS, STORE, Tiny};
use crate::patch::rebase::{Carried, Conflict, read, rebase};
use crate::patch::refresh::refresh;
use crate::patch::series::Series;
use crate::patch::tree::WorkTree;
use crate::pipeline::Fetched;
use crate::source::Target;

/// Three patches for v1.37, and v1.38 whose store.go is `edit` of the old one.
fn two_minors(edit: impl Fn(String) -> String) -> (Tiny, Fetched) {
    let tiny = Tiny::new();
    tiny.replace("pkg/store/list.go", "return nil", "return []string{}");
    tiny.add("store: empty list");
    tiny.replace("pkg/store/store.go", "value, ok := s.keys[key]", "value, ok := s.keys[clean(key)]");
    tiny.write("pkg/store/clean.go", "package store\n\nfunc clean(key string) string { return key }\n");
    tiny.add("store: clean keys");
    tiny.replace("pkg/store/store.go", "s.size++", "s.size = len(s.keys)");
    tiny.add("store: count keys");
    let root = tiny.dir.path();
    let upstream = root.join("upstream");
    fs_err::write(upstream.join("pkg/store/store.go"), edit(STORE.to_owned())).unwrap();
    fs_err::create_dir_all(root.join("patches/v1.38")).unwrap();
    fs_err::write(root.join("patches/v1.38/source.toml"), PINS.replace("v1.37.2", "v1.38.0")).unwrap();
    let source = format!("path:{}", upstream.display()).parse().unwrap();
    let fetched = Target { k8s: "v1.38".parse().unwrap(), source }.open(&tiny.shell).unwrap();
    (tiny, fetched)
}

fn carried(how: [&'static str; 3]) -> Vec<Carried> {
    let names = ["store-empty-list.patch", "store-clean-keys.patch", "store-count-keys.patch"];
    names.into_iter().zip(how).map(|(file, how)| Carried { file: file.into(), how }).collect()
}

#[test]
fn only_what_does_not_fit_is_merged() {
    // The context of `clean keys` changes, which strict apply refuses and a merge does not mind; the rest moves.
    let edit = |text: String| text.replace("// Get returns one value.", "// New.\n\n// Get returns a value.");
    let (tiny, fetched) = two_minors(edit);
    let old = read(&tiny.tree(), &tiny.series()).unwrap();
    let tree = WorkTree::open(&tiny.shell, &fetched).unwrap();
    assert_eq!(rebase(&tree, &old).unwrap(), carried(["as it was", "merged", "moved"]));
    let folder = tiny.dir.path().join("patches/v1.38");
    refresh(&tree, &Series::load_or_empty(&folder).unwrap()).unwrap();
    let new = Series::load(&folder).unwrap();
    assert_eq!(new.problems(), []);
    assert_eq!(new.entries[0].bytes, tiny.series().entries[0].bytes, "what fits stays byte for byte");
    assert!(String::from_utf8_lossy(&new.entries[1].bytes).contains(" // Get returns a value."));
    assert_eq!(rebase(&tree, &old).unwrap(), carried(["done before"; 3]));
}

#[test]
fn a_conflict_stops_and_the_same_command_goes_on() {
    let (tiny, fetched) = two_minors(|text| text.replace("ok := s.keys[key]", "ok := s.find(key)"));
    let old = read(&tiny.tree(), &tiny.series()).unwrap();
    let tree = WorkTree::open(&tiny.shell, &fetched).unwrap();
    let error = rebase(&tree, &old).unwrap_err();
    assert_eq!(error.downcast_ref::<Conflict>().unwrap().files, ["pkg/store/store.go"]);
    let path = fetched.tree.join("pkg/store/store.go");
    let text = fs_err::read_to_string(&path).unwrap();
    let conflict = "<<<<<<< new upstream\n\tvalue, ok := s.find(key)\n||||||| old upstream\n\tvalue, ok := s.keys[key]\n\
        =======\n\tvalue, ok := s.keys[clean(key)]\n>>>>>>> store-clean-keys.patch\n";
    assert!(text.contains(conflict), "{text}");
    assert!(!tiny.dir.path().join("patches/v1.38/series").exists(), "all or nothing");

    let error = rebase(&tree, &old).unwrap_err().to_string();
    assert!(error.contains("pkg/store/store.go:15 has a conflict"), "{error}");
    fs_err::write(&path, text.replace(conflict, "\tvalue, ok := s.find(clean(key))\n")).unwrap();
    assert_eq!(rebase(&tree, &old).unwrap(), carried(["done before", "resolved", "as it was"]));
    let text = fs_err::read_to_string(&path).unwrap();
    assert!(text.contains("s.find(clean(key))") && text.contains("len(s.keys)"));
    assert!(fetched.tree.join("pkg/store/clean.go").exists() && tree.changed().unwrap().is_empty());

    fs_err::write(&path, "package store\n").unwrap();
    assert!(rebase(&tree, &old).is_err(), "edits after the end are nobody's resolution");
}
