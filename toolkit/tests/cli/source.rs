//! `cargo xtask source`.

use std::path::{Path, PathBuf};

use super::proxy;
use super::workspace::{Workspace, files};

const PINS: &str = "patches/v1.37/source.toml";

/// A workspace with the tiny Kubernetes published and pinned.
pub(crate) fn pinned() -> Workspace {
    let workspace = Workspace::new();
    proxy::publish(&workspace);
    workspace.stdout(&["source", "--pin", "v1.37.2"]);
    workspace
}

fn tree(stdout: &str) -> PathBuf {
    PathBuf::from(stdout.trim_end())
}

fn base(tree: &Path) -> String {
    let repository = git2::Repository::open(tree).unwrap();
    repository.find_reference("refs/heads/base").unwrap().peel_to_commit().unwrap().id().to_string()
}

/// What is in the folder of the trees.
fn trees(workspace: &Workspace) -> Vec<std::ffi::OsString> {
    let folder = workspace.path(".sluice/trees");
    if folder.is_dir() {
        fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    } else {
        Vec::new()
    }
}

/// Replaces the checksum of a module by another well-formed one.
fn tamper(text: &str) -> String {
    let (before, rest) = text.split_once("sum = \"h1:").unwrap();
    let (_, after) = rest.split_once('"').unwrap();
    format!("{before}sum = \"h1:{}=\"{after}", "A".repeat(43))
}

#[test]
fn modules_become_upstreams_tree() {
    let workspace = pinned();
    insta::assert_snapshot!(fs_err::read_to_string(workspace.path(PINS)).unwrap());
    let tree = tree(&workspace.stdout(&["source"]));
    let names: Vec<String> = files(&tree).into_iter().map(|(name, ..)| name).collect();
    let expected =
        [".gitignore", ".go-version", "cmd/golden.test", "go.mod", "go.work", "staging/src/k8s.io/api/api.go"];
    assert_eq!(names[..6], expected);
    assert_eq!(names[6..], ["staging/src/k8s.io/api/go.mod"]);
    assert_eq!(fs_err::read(tree.join("cmd/golden.test")).unwrap(), b"one\r\ntwo\r\n");
    insta::assert_snapshot!(fs_err::read_to_string(tree.join("go.mod")).unwrap());
    // The same on every machine, in every folder, under every git configuration.
    assert_eq!(base(&tree), "26e8c92eed0ce769cde8d5fe7a57150dbaf338a7");
}

#[test]
fn pinning_again_changes_nothing() {
    let workspace = pinned();
    let text = fs_err::read_to_string(workspace.path(PINS)).unwrap().replace("revision = 1", "revision = 7");
    fs_err::write(workspace.path(PINS), &text).unwrap();
    workspace.stdout(&["source", "--pin"]);
    assert_eq!(fs_err::read_to_string(workspace.path(PINS)).unwrap(), text);
}

#[test]
fn a_second_run_finds_the_tree_and_a_changed_one_is_restored() {
    let workspace = pinned();
    let tree = tree(&workspace.stdout(&["source"]));
    insta::assert_snapshot!("second_run", workspace.xtask(&["source"]).replace(tree.to_str().unwrap(), "[TREE]"));

    let before = files(&tree);
    fs_err::write(tree.join("go.mod"), "module other\n").unwrap();
    fs_err::remove_file(tree.join(".go-version")).unwrap();
    fs_err::write(tree.join("cmd/added.test"), "ignored by .gitignore, but compiled by go test\n").unwrap();
    insta::assert_snapshot!("changed", workspace.xtask(&["source"]));
    assert_eq!(files(&tree), before);
}

#[test]
fn changes_that_can_not_be_kept_stay() {
    let workspace = pinned();
    let tree = tree(&workspace.stdout(&["source"]));
    workspace.write(".sluice/saved", "");
    fs_err::write(tree.join("go.mod"), "module mine\n").unwrap();
    let text = workspace.xtask(&["source"]);
    assert!(!text.starts_with("exit code: 0") && text.contains("cannot keep the differences of"), "{text}");
    assert_eq!(fs_err::read_to_string(tree.join("go.mod")).unwrap(), "module mine\n");
}

#[test]
fn a_damaged_or_half_finished_tree_is_made_anew() {
    let workspace = pinned();
    let tree = tree(&workspace.stdout(&["source"]));
    let (id, before) = (base(&tree), files(&tree));
    for damage in [".git/HEAD", ".git/index", ".git/refs/heads/base", ".git/objects"] {
        let path = tree.join(damage);
        if path.is_dir() {
            fs_err::remove_dir_all(path).unwrap();
        } else {
            fs_err::remove_file(path).unwrap();
        }
        for half in [
            format!("{}.partial", tree.display()),
            workspace.path(".sluice/trees/v1.30-x.partial").display().to_string(),
        ] {
            fs_err::create_dir_all(Path::new(&half).join("cmd")).unwrap();
        }
        workspace.stdout(&["source"]);
        assert_eq!((base(&tree), files(&tree)), (id.clone(), before.clone()), "{damage}");
        assert_eq!(trees(&workspace), [tree.file_name().unwrap()]);
    }
}

/// Each tree has a lock of its own.
#[test]
fn a_tree_that_another_run_composes_stays_and_holds_up_no_other() {
    let workspace = pinned();
    let other = workspace.path(".sluice/trees/v1.30-x.partial");
    fs_err::create_dir_all(&other).unwrap();
    fs_err::create_dir_all(workspace.path(".sluice/locks")).unwrap();
    let lock = fs_err::File::create(workspace.path(".sluice/locks/tree-v1.30-x")).unwrap();
    lock.file().lock().unwrap();
    let tree = tree(&workspace.stdout(&["source"]));
    workspace.stdout(&["clean", "--older-than", "0h"]);
    assert!(other.exists() && !tree.exists());
    drop(lock);
    workspace.stdout(&["clean"]);
    assert!(!other.exists());
}

#[test]
fn a_tampered_pin_is_refused() {
    let workspace = pinned();
    let text = fs_err::read_to_string(workspace.path(PINS)).unwrap();
    fs_err::write(workspace.path(PINS), tamper(&text)).unwrap();
    insta::assert_snapshot!(workspace.xtask(&["source"]));
    assert_eq!(trees(&workspace), [""; 0], "nothing is left of a tree that was refused");
}

#[test]
fn a_tampered_module_cache_is_refused() {
    let workspace = pinned();
    let file = workspace.path("modules/k8s.io/api@v0.37.2/api.go");
    fs_err::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs_err::write(file, "package evil\n").unwrap();
    insta::assert_snapshot!(workspace.xtask(&["source"]));
}

#[test]
fn without_a_network_it_says_so_and_the_next_run_is_as_if_nothing_was() {
    let workspace = pinned();
    let source = |proxy: Option<&str>| {
        let mut command = workspace.command(&["source"]);
        command.env("GOMODCACHE", workspace.path("modules/other"));
        command.envs(proxy.map(|proxy| ("GOPROXY", proxy)));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = source(Some("http://127.0.0.1:1"));
    assert_eq!(code, Some(1));
    for part in [
        "cannot compose Kubernetes v1.37.2",
        "cannot download k8s.io/",
        "connection refused",
        "hint: the network or a proxy",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert_eq!(source(None).0, Some(0));
}

#[test]
fn wrong_inputs() {
    let workspace = pinned();
    insta::assert_snapshot!("unknown_minor", workspace.xtask(&["source", "--k8s", "v1.12"]));
    insta::assert_snapshot!("bad_origin", workspace.xtask(&["source", "--source", "https://host/kubernetes.git"]));
    insta::assert_snapshot!("no_source", workspace.xtask(&["source", "--source", "path:patches"]));
    insta::assert_snapshot!("no_reference", {
        git2::Repository::init(workspace.path("empty")).unwrap();
        workspace.xtask(&["source", "--source", "git:empty"])
    });
    fs_err::write(workspace.path(PINS), "[kubernetes]\nversion = 1\n").unwrap();
    insta::assert_snapshot!("broken_pins", workspace.xtask(&["source"]));
}

#[test]
fn clean_removes_the_trees_that_nobody_needs_and_no_work() {
    let workspace = pinned();
    upstream(&workspace);
    let current = tree(&workspace.stdout(&["source"]));
    let other = tree(&workspace.stdout(&["source", "--source", "path:upstream"]));
    fs_err::create_dir_all(workspace.path(".sluice/trees/etcd-v3.7.3-x")).unwrap();
    fs_err::create_dir_all(workspace.path(".sluice/trees/v1.30-x.partial")).unwrap();
    let there = || [current.exists(), other.exists(), workspace.path(".sluice/trees/etcd-v3.7.3-x").exists()];

    let text = workspace.stdout(&["clean", "--dry-run"]);
    assert!(text.contains("would be removed") && there() == [true; 3], "{text}");
    fs_err::write(other.join("draft.go"), "package draft\n").unwrap();
    let text = workspace.stdout(&["clean"]);
    assert!(
        text.contains("kept: ") && text.contains("changes that are in no commit") && there() == [true; 3],
        "{text}"
    );
    fs_err::remove_file(other.join("draft.go")).unwrap();
    assert!(!workspace.path(".sluice/trees/v1.30-x.partial").exists());
    let text = workspace.stdout(&["clean"]);
    assert!(text.contains("removed") && there() == [true, false, true], "{text}");
    assert_eq!(workspace.stdout(&["clean"]), "");

    // By age: one that was used now stays; the same an hour later does not.
    assert_eq!(workspace.stdout(&["clean", "--older-than", "1h"]), "");
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 3600);
    fs_err::File::open(current.join(".git/sluice-used")).unwrap().set_modified(past).unwrap();
    let text = workspace.stdout(&["clean", "--older-than", "1h"]);
    assert!(text.contains("removed") && there() == [false, false, true], "{text}");
    assert!(workspace.xtask(&["clean", "--older-than", "soon"]).starts_with("exit code: 1"));
}

/// Another user's tree is refused too, but only root could make one.
#[test]
fn a_tree_that_git_refuses_is_neither_removed_nor_made_anew() {
    let workspace = pinned();
    let tree = tree(&workspace.stdout(&["source"]));
    fs_err::write(tree.join("go.mod"), "module mine\n").unwrap();
    git2::Repository::open(&tree).unwrap().config().unwrap().set_i32("core.repositoryformatversion", 99).unwrap();
    let text = workspace.stdout(&["clean", "--older-than", "0h"]);
    assert!(text.contains("kept: ") && text.contains("99"), "{text}");
    let text = workspace.xtask(&["source"]);
    assert!(!text.starts_with("exit code: 0") && text.contains("99"), "{text}");
    assert_eq!(fs_err::read_to_string(tree.join("go.mod")).unwrap(), "module mine\n");
}

/// Blobs with everything that a git configuration could change.
fn upstream(workspace: &Workspace) -> PathBuf {
    let folder = workspace.path("upstream");
    workspace.write("upstream/go.mod", "module k8s.io/kubernetes\n");
    workspace.write("upstream/.gitattributes", "* text=auto eol=lf\n");
    workspace.write("upstream/.gitignore", "*.test\n");
    workspace.write("upstream/cmd/golden.test", "one\r\ntwo\r\n");
    workspace.write("upstream/staging/src/k8s.io/api/api.go", "package api\n");
    workspace.write("upstream/build.sh", "#!/bin/sh\n");
    fs_err::set_permissions(folder.join("build.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs_err::os::unix::fs::symlink("build.sh", folder.join("link")).unwrap();
    folder
}

#[test]
fn a_folder_and_a_clone_of_it_give_the_same_tree() {
    let workspace = pinned();
    let folder = upstream(&workspace);
    let from_folder = tree(&workspace.stdout(&["source", "--source", "path:upstream"]));
    assert_eq!(files(&from_folder), files(&folder));
    workspace.write("upstream/cmd/golden.test", "three\n");
    let changed = tree(&workspace.stdout(&["source", "--source", "path:upstream"]));
    assert_eq!(files(&changed), files(&folder));
    workspace.write("upstream/cmd/golden.test", "one\r\ntwo\r\n");

    // `source` made a commit of every byte there; it serves as the repository to clone.
    let repository = git2::Repository::open(&from_folder).unwrap();
    let commit = repository.revparse_single("base").unwrap();
    repository.tag_lightweight("v1.37.2", &commit, false).unwrap();
    for reference in ["", "#base", &format!("#{}", commit.id())] {
        let origin = format!("git:{}{reference}", from_folder.display());
        let from_git = tree(&workspace.stdout(&["source", "--source", &origin]));
        assert_ne!(from_git, from_folder);
        assert_eq!(files(&from_git), files(&folder), "{origin}");
    }
}

/// `https://host/kubernetes.git`, which git takes for the folder that a user's configuration names. The repository
/// holds the tree, with a tag and a branch.
fn remote(workspace: &Workspace) -> PathBuf {
    upstream(workspace);
    let made = tree(&workspace.stdout(&["source", "--source", "path:upstream"]));
    let folder = workspace.path("served.git");
    let repository = git2::build::RepoBuilder::new().bare(true).clone(made.to_str().unwrap(), &folder).unwrap();
    let commit =
        repository.find_reference("refs/remotes/origin/base").or_else(|_| repository.find_reference("refs/heads/base"));
    let commit = commit.unwrap().peel_to_commit().unwrap();
    repository.tag_lightweight("v1.37.2", commit.as_object(), true).unwrap();
    repository.branch("work", &commit, true).unwrap();
    let config = fs_err::read_to_string(workspace.path("home/.gitconfig")).unwrap();
    let instead = format!("[url \"file://{}\"]\n\tinsteadOf = https://host/kubernetes.git\n", folder.display());
    workspace.write("home/.gitconfig", format!("{config}{instead}"));
    made
}

#[test]
fn a_clone_over_https_is_fetched_by_the_git_program() {
    let workspace = pinned();
    let made = remote(&workspace);
    for reference in ["", "#work", &format!("#{}", base(&made))] {
        let origin = format!("git:https://host/kubernetes.git{reference}");
        let cloned = tree(&workspace.stdout(&["source", "--source", &origin]));
        assert_eq!(files(&cloned), files(&workspace.path("upstream")), "{origin}");
    }
    let refused = |reference: &str| {
        let text = workspace.xtask(&["source", "--source", &format!("git:https://host/kubernetes.git#{reference}")]);
        assert!(text.starts_with("exit code: 1\n"), "{text}");
        text
    };
    for absent in ["nosuch", "0123456789012345678901234567890123456789"] {
        let text = refused(absent);
        assert!(text.contains(&format!("https://host/kubernetes.git has no branch, tag or commit {absent}")), "{text}");
    }
    fs_err::remove_dir_all(workspace.path("served.git")).unwrap();
    let text = refused("other");
    assert!(text.contains("cannot fetch from https://host/kubernetes.git: "), "{text}");
}

#[test]
fn a_clone_without_a_git_program_is_refused() {
    let workspace = pinned();
    let mut command = workspace.command(&["source", "--source", "git:https://host/kubernetes.git"]);
    let output = command.env("PATH", workspace.path("empty")).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("there is no git program to fetch it") && text.contains("hint: install git"), "{text}");
}
