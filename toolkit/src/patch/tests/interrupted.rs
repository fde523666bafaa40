//! What a run leaves that is killed while it applies patches.

use super::{Tiny, minor};
use crate::patch::{self, apply::bring_tree};
use crate::source::Target;

const SIZE: &str = "package store\n\nfunc (s *store) Size() int { return s.size }\n";

/// A tree without its only patch, as a run left it that was killed while it wrote the patched files.
fn killed_while_applying() -> Tiny {
    let tiny = Tiny::new();
    tiny.replace("pkg/store/store.go", "s.size++", "s.size = len(s.keys)");
    tiny.replace("docs/windows.txt", "two\r\n", "zwei\r\n");
    tiny.write("pkg/store/size.go", SIZE);
    tiny.add("store: count keys");
    let tree = tiny.tree();
    let patched = tree.head().unwrap();
    let text = tiny.read("pkg/store/store.go");
    tree.switch(tree.base).unwrap();
    tree.repo.reference("refs/sluice/switching", patched, true, "test").unwrap();
    // One file is written, one is new, one is cut short.
    tiny.write("docs/windows.txt", "one\r\nzwei\r\nthree\r\n");
    tiny.write("pkg/store/size.go", SIZE);
    tiny.write("pkg/store/store.go", &text[..text.len() / 2]);
    drop(tree);
    tiny
}

fn target(tiny: &Tiny) -> Target {
    let origin = format!("path:{}", tiny.dir.path().join("upstream").display());
    Target { k8s: minor(), source: origin.parse().unwrap() }
}

#[test]
fn a_killed_apply_is_taken_up() {
    let tiny = killed_while_applying();
    let fetched = target(&tiny).open(&tiny.shell).unwrap();
    assert_eq!(fetched.tree, tiny.fetched.tree, "the tree is taken up, not made anew");
    patch::apply(&tiny.shell, fetched).unwrap();
    assert!(tiny.read("pkg/store/store.go").contains("s.size = len(s.keys)\n}"));
    assert_eq!(tiny.read("pkg/store/size.go"), SIZE);
    assert_eq!(tiny.tree().changed().unwrap(), Vec::<String>::new());
    assert!(tiny.tree().repo.find_reference("refs/sluice/switching").is_err());
}

#[test]
fn an_edit_after_the_kill_is_not_lost() {
    let tiny = killed_while_applying();
    tiny.write("docs/windows.txt", "mine\r\n");
    tiny.write("pkg/store/mine.go", "package store\n");
    let error = bring_tree(&tiny.tree(), &tiny.series(), false).unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("docs/windows.txt") && text.contains("mine.go") && !text.contains("size.go"), "{text}");
    assert_eq!(tiny.read("docs/windows.txt"), "mine\r\n");
}

#[test]
fn locks_that_a_killed_run_left_are_removed_and_those_of_a_running_git_are_not() {
    let tiny = killed_while_applying();
    for lock in [".git/index.lock", ".git/HEAD.lock", ".git/refs/heads/sluice.lock", ".git/refs/sluice/saved.lock"] {
        tiny.write(lock, "");
    }
    let fetched = target(&tiny).open(&tiny.shell).unwrap();
    patch::apply(&tiny.shell, fetched).unwrap();

    // Somebody's git waits for an editor: it keeps the lock while it does.
    tiny.write(".git/index.lock", "");
    let git = tiny.dir.path().join("git");
    fs_err::copy("/bin/sleep", &git).unwrap();
    let mut editing = sluice_shell::process::Run::new(&git, &tiny.fetched.tree)
        .arg("1000")
        .spawn(&tiny.dir.path().join("log"))
        .unwrap();
    let refused = target(&tiny).open(&tiny.shell);
    editing.kill().unwrap();
    editing.wait().unwrap();
    let text = format!("{:?}", refused.unwrap_err());
    assert!(text.contains("git is at work") && text.contains(&editing.id().to_string()), "{text}");
    target(&tiny).open(&tiny.shell).unwrap();
}
