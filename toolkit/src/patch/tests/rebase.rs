//! A series goes to another minor.

use std::path::PathBuf;

use super::{PINS, STORE, Tiny};
use crate::patch::apply::bring_tree;
use crate::patch::carry::{self, How, Old};
use crate::patch::progress::{Carried, Progress};
use crate::patch::rebase::{Conflict, Plan, Wishes, abort, rebase};
use crate::patch::refresh::refresh;
use crate::patch::series::Series;
use crate::patch::tree::WorkTree;
use crate::pipeline::Fetched;
use crate::source::{Purpose, Target};
use sluice_shell::error::Error;

/// Three patches for v1.37, and v1.38 with another store.go.
struct Two {
    tiny: Tiny,
    to: Target,
    fetched: Fetched,
    old: Vec<Old>,
}

const NAMES: [&str; 3] = ["store-empty-list.patch", "store-clean-keys.patch", "store-count-keys.patch"];

impl Two {
    /// store.go of v1.38 is `edit` of the old one.
    fn new(edit: impl Fn(String) -> String) -> Self {
        let tiny = Tiny::with_three();
        let root = tiny.dir.path();
        let upstream = root.join("upstream");
        fs_err::write(upstream.join("pkg/store/store.go"), edit(STORE.to_owned())).unwrap();
        fs_err::create_dir_all(root.join("patches/v1.38")).unwrap();
        fs_err::write(root.join("patches/v1.38/source.toml"), PINS.replace("v1.37.2", "v1.38.0")).unwrap();
        let source = format!("path:{}", upstream.display()).parse().unwrap();
        let to = Target { k8s: "v1.38".parse().unwrap(), source };
        let fetched = to.open(&tiny.shell).unwrap();
        let tree = tiny.tree();
        let old = carry::read(&tree.repo, tree.base, &tiny.series()).unwrap();
        drop(tree);
        Self { tiny, to, fetched, old }
    }

    /// v1.38 reads by a function, which conflicts with the second patch.
    fn conflicting() -> Self {
        Self::new(|text| text.replace("ok := s.keys[key]", "ok := s.find(key)"))
    }

    fn folder(&self) -> PathBuf {
        self.tiny.dir.path().join("patches/v1.38")
    }

    fn tree(&self) -> WorkTree {
        WorkTree::open(&self.tiny.shell, &self.fetched).unwrap()
    }

    fn rebase(&self, wishes: Wishes) -> Result<Vec<Carried>, Error> {
        let plan = Plan { what: "v1.37.2".into(), resolutions: self.folder().join("resolutions/v1.37"), wishes };
        rebase(&self.tree(), &plan, &self.old)
    }

    fn go_on(&self) -> Result<Vec<Carried>, Error> {
        self.rebase(Wishes::default())
    }

    fn path(&self, path: &str) -> PathBuf {
        self.fetched.tree.join(path)
    }

    fn store(&self) -> String {
        fs_err::read_to_string(self.path("pkg/store/store.go")).unwrap()
    }

    /// Resolves the conflict of the second patch.
    fn resolve(&self) {
        let text = self.store();
        assert!(text.contains(CONFLICT), "{text}");
        let resolved = text.replace(CONFLICT, "\tvalue, ok := s.find(clean(key))\n");
        fs_err::write(self.path("pkg/store/store.go"), resolved).unwrap();
    }
}

const CONFLICT: &str = "<<<<<<< new upstream\n\tvalue, ok := s.find(key)\n||||||| old upstream\n\
    \tvalue, ok := s.keys[key]\n=======\n\tvalue, ok := s.keys[clean(key)]\n>>>>>>> store-clean-keys.patch\n";

fn how(carried: &[Carried]) -> Vec<How> {
    assert_eq!(carried.iter().map(|carried| carried.file.as_str()).collect::<Vec<_>>(), NAMES[..carried.len()]);
    carried.iter().map(|carried| carried.how).collect()
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn only_what_does_not_fit_is_merged() {
    // The context of `clean keys` changes, which strict apply refuses and a merge does not mind; the rest moves.
    let two = Two::new(|text| text.replace("// Get returns one value.", "// New.\n\n// Get returns a value."));
    let carried = two.go_on().unwrap();
    assert_eq!(how(&carried), [How::AsItWas, How::Merged, How::Moved]);
    assert_eq!(carried.iter().map(|carried| carried.left).collect::<Vec<_>>(), [100; 3]);
    refresh(&two.tree(), &Series::load_or_empty(&two.folder()).unwrap()).unwrap();
    let new = Series::load(&two.folder()).unwrap();
    assert_eq!(new.problems(), []);
    assert_eq!(new.entries[0].bytes, two.tiny.series().entries[0].bytes, "what fits stays byte for byte");
    assert!(String::from_utf8_lossy(&new.entries[1].bytes).contains(" // Get returns a value."));
    assert_eq!(two.go_on().unwrap(), carried, "a second run knows what the first one did");
    fs_err::write(two.path("pkg/store/store.go"), "package store\n").unwrap();
    assert!(two.go_on().is_err(), "edits after the end are nobody's resolution");
}

#[test]
fn a_conflict_stops_and_the_same_command_goes_on_and_knows_who_was_resolved() {
    let two = Two::conflicting();
    let error = two.go_on().unwrap_err();
    assert_eq!(error.downcast_ref::<Conflict>().unwrap().files, ["pkg/store/store.go"]);
    assert!(two.store().contains(CONFLICT), "{}", two.store());
    assert!(!two.folder().join("series").exists(), "all or nothing");

    let error = two.go_on().unwrap_err().to_string();
    assert!(error.contains("pkg/store/store.go:15 has a conflict"), "{error}");
    two.resolve();
    let carried = two.go_on().unwrap();
    assert_eq!(how(&carried), [How::AsItWas, How::Resolved, How::AsItWas]);
    assert_eq!(carried[1].left, 50, "one of the lines is another one: {carried:?}");
    assert!(two.store().contains("s.find(clean(key))") && two.store().contains("len(s.keys)"));
    assert!(two.path("pkg/store/clean.go").exists() && two.tree().changed().unwrap().is_empty());
}

#[test]
fn no_other_verb_undoes_a_rebase_that_needs_a_person() {
    let two = Two::conflicting();
    two.go_on().unwrap_err();
    let before = two.store();
    let series = two.tiny.series();
    let source = two.to.fetch(&two.tiny.shell, Purpose::Patching).unwrap_err();
    let tree = two.tree();
    let (apply, others) = (bring_tree(&tree, &series, false).unwrap_err(), tree.refuse_rebase().unwrap_err());
    drop(tree);
    for (verb, error) in [("source", source), ("apply", apply), ("new, refresh", others)] {
        let text = format!("{error:?}");
        assert!(text.contains("is in the middle of a rebase") && text.contains("--abort"), "{verb}: {text}");
    }
    assert_eq!(two.store(), before);
    bring_tree(&two.tree(), &series, true).unwrap_err();
    assert!(Progress::load(&two.tree().repo).unwrap().is_some(), "what does not apply ends nothing");
}

#[test]
fn a_rebase_of_another_series_does_not_go_on_with_this_one() {
    let two = Two::conflicting();
    two.go_on().unwrap_err();
    let plan = Plan { what: "v1.37.9".into(), resolutions: two.folder(), wishes: Wishes::default() };
    let error = rebase(&two.tree(), &plan, &two.old).unwrap_err().to_string();
    assert!(error.contains("in the middle of a rebase: 1 patches of v1.37.2 stand"), "{error}");
}

#[test]
fn abort_brings_back_what_was_there() {
    let two = Two::conflicting();
    let start = two.tree().head().unwrap();
    assert!(abort(&two.tree()).unwrap_err().to_string().contains("no rebase stands in"));
    two.go_on().unwrap_err();
    abort(&two.tree()).unwrap();
    assert_eq!(two.tree().head().unwrap(), start);
    assert_eq!(two.tree().changed().unwrap(), Vec::<String>::new());
    assert!(two.rebase(Wishes { skip: true, ..Wishes::default() }).is_err(), "nothing to skip");
    assert!(two.go_on().unwrap_err().downcast_ref::<Conflict>().is_some(), "it begins anew");
}

#[test]
fn patches_can_be_left_out() {
    let two = Two::conflicting();
    two.go_on().unwrap_err();
    let skip = Wishes { skip: true, ..Wishes::default() };
    assert_eq!(how(&two.rebase(skip).unwrap()), [How::AsItWas, How::Dropped, How::AsItWas]);
    assert!(!two.path("pkg/store/clean.go").exists() && two.store().contains("len(s.keys)"));

    let two = Two::conflicting();
    let unknown = two.rebase(Wishes { drop: named(&["x.patch"]), ..Wishes::default() }).unwrap_err().to_string();
    assert_eq!(unknown, "the series has no patch x.patch");
    let drop = Wishes { drop: named(&NAMES[..2]), ..Wishes::default() };
    let carried = two.rebase(drop).unwrap();
    assert_eq!(how(&carried), [How::Dropped, How::Dropped, How::AsItWas]);
    assert_eq!((carried[0].left, carried[2].left), (0, 100));
    let changes = refresh(&two.tree(), &Series::load_or_empty(&two.folder()).unwrap()).unwrap();
    assert_eq!(changes.len(), 2, "the series and one patch: {changes:?}");
}

#[test]
fn a_resolution_that_leaves_little_of_a_patch_is_asked_for() {
    let two = Two::conflicting();
    two.go_on().unwrap_err();
    // All that the patch does in store.go, and the new file: nothing but its first line is left.
    let text = two.store().replace(CONFLICT, "\tvalue, ok := s.find(key)\n");
    fs_err::write(two.path("pkg/store/store.go"), text).unwrap();
    fs_err::write(two.path("pkg/store/clean.go"), "package store\n").unwrap();
    let error = format!("{:?}", two.go_on().unwrap_err());
    assert!(error.contains("store-clean-keys.patch: 25 % of the lines that it changes would be left"), "{error}");
    assert!(error.contains("--accept store-clean-keys.patch"), "{error}");
    assert!(!two.folder().join("resolutions").exists(), "what nobody accepted is not recorded");
    let accept = Wishes { accept: named(&["store-clean-keys.patch"]), ..Wishes::default() };
    let carried = two.rebase(accept).unwrap();
    assert_eq!((how(&carried)[1], carried[1].left), (How::Resolved, 25));
}

#[test]
fn a_merge_that_leaves_little_of_a_patch_is_asked_for() {
    // Upstream took the line of `count keys`, in other surroundings: the merge has nothing left to do.
    let two = Two::new(|text| {
        text.replace("s.size++", "s.size = len(s.keys)").replace("= map[string]string{}", "= make(map[string]string)")
    });
    for _ in 0..2 {
        let error = format!("{:?}", two.go_on().unwrap_err());
        assert!(error.contains("store-count-keys.patch: 0 % of the lines") && error.contains("--skip"), "{error}");
    }
    let skip = Wishes { skip: true, ..Wishes::default() };
    assert_eq!(how(&two.rebase(skip).unwrap()), [How::AsItWas, How::AsItWas, How::Dropped]);
}

#[test]
fn a_file_that_upstream_removed_is_not_resolved_by_running_the_command_again() {
    let two = Two::conflicting();
    fs_err::rename(two.path("pkg/store/list.go"), two.path("pkg/store/lists.go")).unwrap();
    let upstream = two.tiny.dir.path().join("upstream/pkg/store");
    fs_err::rename(upstream.join("list.go"), upstream.join("lists.go")).unwrap();
    let fetched = two.to.open(&two.tiny.shell).unwrap();
    let two = Two { fetched, ..two };
    let error = two.go_on().unwrap_err();
    assert_eq!(error.downcast_ref::<Conflict>().unwrap().files, ["pkg/store/list.go: upstream has no such file"]);
    let again = two.go_on().unwrap_err().to_string();
    assert!(again.contains("store-empty-list.patch: the files are as the conflict left them"), "{again}");
    let text = fs_err::read_to_string(two.path("pkg/store/lists.go")).unwrap();
    fs_err::write(two.path("pkg/store/lists.go"), text.replace("return nil", "return []string{}")).unwrap();
    let error = two.go_on().unwrap_err();
    assert_eq!(error.downcast_ref::<Conflict>().unwrap().files, ["pkg/store/store.go"], "the next patch's");
}

#[test]
fn what_a_person_resolved_once_is_replayed() {
    let two = Two::conflicting();
    two.go_on().unwrap_err();
    two.resolve();
    // Something that the conflict did not ask for belongs to the resolution as well.
    let clean = "package store\n\nfunc clean(key string) string { return key }\n\nfunc unused() {}\n";
    fs_err::write(two.path("pkg/store/clean.go"), clean).unwrap();
    two.go_on().unwrap();
    let resolved = two.tree().head().unwrap();
    let file = two.folder().join("resolutions/v1.37/store-clean-keys.patch");
    insta::assert_snapshot!(fs_err::read_to_string(&file).unwrap());

    abort(&two.tree()).unwrap();
    let carried = two.go_on().unwrap();
    assert_eq!(how(&carried), [How::AsItWas, How::Replayed, How::AsItWas]);
    assert_eq!(two.tree().head().unwrap(), resolved);

    // Another conflict in the same place is not taken for it.
    let text = fs_err::read_to_string(&file).unwrap();
    abort(&two.tree()).unwrap();
    fs_err::write(&file, text.replace("-\tvalue, ok := s.find(key)", "-\tvalue, ok := s.seek(key)")).unwrap();
    assert!(two.go_on().unwrap_err().downcast_ref::<Conflict>().is_some());
}

#[test]
fn a_rebase_that_was_killed_while_it_wrote_a_conflict_writes_it_again() {
    let two = Two::conflicting();
    two.go_on().unwrap_err();
    let text = two.store();
    let tree = two.tree();
    let mut progress = Progress::load(&tree.repo).unwrap().unwrap();
    progress.stopped.as_mut().unwrap().shown = false;
    progress.store(&tree.repo).unwrap();
    drop(tree);
    fs_err::write(two.path("pkg/store/store.go"), &text[..text.len() / 2]).unwrap();
    assert!(two.go_on().unwrap_err().downcast_ref::<Conflict>().is_some());
    assert_eq!(two.store(), text);
    two.resolve();
    assert_eq!(how(&two.go_on().unwrap()), [How::AsItWas, How::Resolved, How::AsItWas]);
}
