//! `git commit --fixup` before `patch refresh`.

use super::Tiny;
use crate::patch::engine;
use crate::patch::file::Patch;
use crate::patch::refresh::refresh;

/// Two patches in two files.
fn two_patches() -> Tiny {
    let tiny = Tiny::new();
    tiny.replace("pkg/store/store.go", "s.size++", "s.size = len(s.keys)");
    tiny.add("store: count keys");
    tiny.replace("pkg/store/list.go", "return nil", "return []string{}");
    tiny.add("store: empty list");
    tiny
}

/// Commits the edits of the tree under a message.
fn commit(tiny: &Tiny, subject: &str, body: &str) {
    let tree = tiny.tree();
    let head = tree.head().unwrap();
    let after = tree.repo.find_tree(tree.snapshot().unwrap()).unwrap();
    let patch = Patch { subject: subject.into(), body: body.into(), ..engine::to_patch(&tree.repo, head).unwrap() };
    let new = engine::commit(&tree.repo, &patch, &after, &tree.repo.find_commit(head).unwrap()).unwrap();
    tree.place(new).unwrap();
}

#[test]
fn a_fixup_goes_into_its_commit_and_makes_no_file() {
    let tiny = two_patches();
    let names = |tiny: &Tiny| tiny.files().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let before = names(&tiny);
    let last = tiny.files()[1].clone();
    tiny.replace("pkg/store/store.go", "s.size = len(s.keys)", "s.size = max(len(s.keys), 1)");
    commit(&tiny, "fixup! store: count keys", "");
    tiny.write("pkg/store/more.go", "package store\n");
    commit(&tiny, "fixup! fixup! store: count", "");
    let tree = tiny.tree();
    let files = tree.repo.find_commit(tree.head().unwrap()).unwrap().tree_id();
    let changes = refresh(&tree, &tiny.series()).unwrap();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(names(&tiny), before);
    assert!(tiny.files().contains(&last), "the patch above stays byte for byte");
    let series = tiny.series();
    let text = String::from_utf8_lossy(&series.entries[0].bytes).into_owned();
    assert!(text.contains("+\ts.size = max(len(s.keys), 1)") && text.contains("b/pkg/store/more.go"), "{text}");
    assert!(text.contains("Because store: count keys."), "the message is the old one");
    let head = tree.repo.find_commit(tree.head().unwrap()).unwrap();
    assert_eq!((head.tree_id(), head.summary().unwrap()), (files, Some("store: empty list")));
    assert_eq!(refresh(&tree, &series).unwrap(), []);
}

#[test]
fn an_amend_brings_its_message_and_what_can_t_be_put_in_is_refused() {
    let tiny = two_patches();
    tiny.replace("pkg/store/store.go", "s.size = len(s.keys)", "s.size = 1");
    let body = tiny.series().entries[0].patch.body.clone();
    commit(&tiny, "amend! store: count keys", &format!("store: count one\n\n{body}"));
    refresh(&tiny.tree(), &tiny.series()).unwrap();
    assert_eq!(tiny.series().entries[0].name, "store-count-one.patch");

    for (subject, body, refused) in [
        ("fixup! nobody: nothing", "", "no commit before it has that subject"),
        ("squash! store: count keys", "And why.", "one message of two"),
    ] {
        let tiny = two_patches();
        tiny.replace("pkg/store/store.go", "s.size = len(s.keys)", "s.size = 2");
        commit(&tiny, subject, body);
        let files = tiny.files();
        let error = refresh(&tiny.tree(), &tiny.series()).unwrap_err().to_string();
        assert!(error.contains(refused), "{error}");
        assert_eq!(tiny.files(), files);
    }
    let tiny = two_patches();
    tiny.replace("pkg/store/list.go", "return []string{}", "return []string{\"x\"}");
    commit(&tiny, "fixup! store: count keys", "");
    let error = refresh(&tiny.tree(), &tiny.series()).unwrap_err().to_string();
    assert!(error.contains("it conflicts in pkg/store/list.go"), "{error}");
}
