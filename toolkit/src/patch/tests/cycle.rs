//! Edits become patches, patches become commits, commits become patches again; with the user's git against us.

use clap::Parser as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Tiny, minor};
use crate::patch::apply::bring_tree;
use crate::patch::engine;
use crate::patch::export::{Format, all_forms, export};
use crate::patch::file::{Author, Patch};
use crate::patch::refresh::refresh;
use crate::patch::series::{Change, Series};
use crate::patch::verify::Effort;
use crate::patch::{self, list, verify};
use sluice_shell::process::Run;

/// Two patches that between them change, add, remove, make executable, and touch the odd ends of files.
fn two_patches() -> Tiny {
    let tiny = Tiny::new();
    tiny.replace("pkg/store/store.go", "s.size++", "s.size = len(s.keys)");
    tiny.write("pkg/store/size.go", "package store\n\nfunc (s *store) Size() int { return s.size }\n");
    assert_eq!(tiny.add("store: count keys"), "store-count-keys.patch");
    tiny.replace("docs/windows.txt", "two\r\n", "zwei\r\n");
    tiny.replace("docs/open-end.txt", "last", "last but one\nlast");
    fs_err::remove_file(tiny.path("docs/superfluous.txt")).unwrap();
    fs_err::set_permissions(tiny.path("hack/run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    tiny.replace("pkg/store/size.go", "return s.size", "return len(s.keys)");
    tiny.write("staging/src/k8s.io/api/new.go", "package api\n\n// One is one.\nconst One = 1\n");
    assert_eq!(tiny.add("docs: Odd ends & `modes`"), "docs-odd-ends-modes.patch");
    tiny
}

#[test]
fn list_shows_what_we_carry() {
    let tiny = two_patches();
    insta::assert_snapshot!(list::report(&minor(), &tiny.series()).text());
}

#[test]
fn patch_files_are_the_same_whatever_git_is_set_to() {
    let tiny = two_patches();
    let files = tiny.files();
    assert_eq!(tiny.series().problems(), []);
    insta::assert_snapshot!(
        files
            .iter()
            .filter(|(name, _)| name != "source.toml")
            .map(|(name, text)| format!("==> {name}\n{text}"))
            .collect::<String>()
    );
    // Applied anew, the same commits; nothing to do the second time.
    let head = tiny.tree().head().unwrap();
    let tree = tiny.tree();
    tree.switch(tree.base).unwrap();
    assert!(tiny.read("pkg/store/store.go").contains("s.size++") && tiny.path("docs/superfluous.txt").exists());
    let (steps, changed) = bring_tree(&tree, &tiny.series(), false).unwrap();
    assert!(changed && steps[1].commit == head && tree.changed().unwrap().is_empty());
    assert!(!bring_tree(&tree, &tiny.series(), false).unwrap().1);
    assert_eq!(tiny.read("docs/windows.txt"), "one\r\nzwei\r\nthree\r\n");
    assert_eq!(fs_err::metadata(tiny.path("hack/run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
    // Exported again, the same bytes.
    assert_eq!(refresh(&tree, &tiny.series()).unwrap(), []);
    assert_eq!(tiny.files(), files);
}

/// Runs the test above with a home folder whose git settings would break it.
#[test]
fn hostile_git_settings_change_nothing() {
    let home = tempfile::tempdir().unwrap();
    let hooks = home.path().join("hooks");
    fs_err::create_dir_all(&hooks).unwrap();
    for hook in ["pre-commit", "commit-msg", "post-checkout", "post-commit"] {
        fs_err::write(hooks.join(hook), "#!/bin/sh\nexit 1\n").unwrap();
        fs_err::set_permissions(hooks.join(hook), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let ignore = home.path().join("ignore");
    fs_err::write(&ignore, "*.go\n*.txt\n*.patch\n").unwrap();
    let (hooks, ignore) = (hooks.display(), ignore.display());
    let config = format!(
        "[core]\nautocrlf = true\neol = crlf\nsafecrlf = true\nfileMode = false\nignoreCase = true\nabbrev = 4\n\
         hooksPath = {hooks}\nexcludesFile = {ignore}\nattributesFile = {ignore}\n\
         [commit]\ngpgSign = true\n[gpg]\nprogram = false\n[user]\nname = Mallory\nemail = m@example.com\n\
         [diff]\nnoprefix = true\nmnemonicPrefix = true\ncontext = 9\ninterHunkContext = 9\nalgorithm = patience\n\
         indentHeuristic = false\nrenames = copies\nexternal = false\n[diff \"hex\"]\ntextconv = od\n\
         [format]\nsignature = mallory\nsubjectPrefix = MALLORY\n[i18n]\ncommitEncoding = latin1\n"
    );
    fs_err::write(home.path().join(".gitconfig"), config).unwrap();
    let outcome = Run::new(std::env::current_exe().unwrap(), env!("CARGO_MANIFEST_DIR"))
        .args(["--exact", "patch::tests::cycle::patch_files_are_the_same_whatever_git_is_set_to", "--nocapture"])
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path())
        .env("INSTA_UPDATE", "no")
        .outcome()
        .unwrap();
    assert!(outcome.status.success() && outcome.stdout.contains("1 passed"), "{}{}", outcome.stdout, outcome.stderr);
}

#[test]
fn refresh_writes_only_what_changed() {
    let tiny = two_patches();
    let before = tiny.files();
    // The maintainer amends the last commit: as `git commit --amend`, at another time and under another name.
    tiny.replace("docs/windows.txt", "zwei", "deux");
    let tree = tiny.tree();
    let old = engine::to_patch(&tree.repo, tree.head().unwrap()).unwrap();
    let after = tree.repo.find_tree(tree.snapshot().unwrap()).unwrap();
    let parent = tree.repo.find_commit(tree.head().unwrap()).unwrap().parent(0).unwrap();
    let amended =
        engine::commit(&tree.repo, &Patch { subject: "docs: French".into(), ..old }, &after, &parent).unwrap();
    assert!(refresh(&tree, &tiny.series()).is_err(), "changes that are in no commit are not left out in silence");
    tree.repo.reset(tree.repo.find_commit(amended).unwrap().as_object(), git2::ResetType::Mixed, None).unwrap();
    let refused = bring_tree(&tree, &tiny.series(), false).unwrap_err();
    assert!(format!("{refused:?}").contains("docs: French"), "{refused:?}");

    let changes = refresh(&tree, &tiny.series()).unwrap();
    let change = |file: &str, change| Change { file: file.into(), change };
    assert_eq!(
        changes,
        [
            change("docs-french.patch", "new"),
            change("series", "changed"),
            change("docs-odd-ends-modes.patch", "removed")
        ]
    );
    let after = tiny.files();
    assert_eq!(after[1], ("series".into(), "# The order.\nstore-count-keys.patch\ndocs-french.patch\n".into()));
    assert!(after.contains(before.iter().find(|(name, _)| name == "store-count-keys.patch").unwrap()));
    assert_eq!(bring_tree(&tree, &tiny.series(), false).unwrap().0[1].commit, amended);
}

/// The tree is made of patches that are known; of others it says nothing.
#[test]
fn refresh_removes_no_patch_that_the_tree_was_not_made_of() {
    let tiny = two_patches();
    let (tree, files) = (tiny.tree(), tiny.files());
    let steps = bring_tree(&tree, &tiny.series(), false).unwrap().0;
    let refused = |names: &[&str]| {
        let error = refresh(&tree, &tiny.series()).unwrap_err();
        assert!(error.to_string().ends_with(&format!("remove:\n  {}", names.join("\n  "))), "{error}");
        assert_eq!(tiny.files(), files);
    };
    // As `source` composes it.
    tree.switch(tree.base).unwrap();
    refused(&["store-count-keys.patch", "docs-odd-ends-modes.patch"]);

    // A pull brought the second patch after work on the first one began.
    tree.switch(steps[0].commit).unwrap();
    refused(&["docs-odd-ends-modes.patch"]);
    let head = tree.repo.find_commit(tree.head().unwrap()).unwrap();
    let mine = Patch { subject: "store: mine".into(), ..engine::to_patch(&tree.repo, head.id()).unwrap() };
    tiny.write("pkg/store/mine.go", "package store\n");
    let after = tree.repo.find_tree(tree.snapshot().unwrap()).unwrap();
    let mine = engine::commit(&tree.repo, &mine, &after, &head).unwrap();
    tree.place(mine).unwrap();
    refused(&["docs-odd-ends-modes.patch"]);
    let error = format!("{:?}", bring_tree(&tree, &tiny.series(), false).unwrap_err());
    assert!(error.contains("store: mine") && error.contains("git cherry-pick"), "{error}");
    assert!(!error.contains("patch refresh"), "{error}");

    // One that the tree had goes with its commit.
    bring_tree(&tree, &tiny.series(), true).unwrap();
    tree.place(steps[0].commit).unwrap();
    let removed = Change { file: "docs-odd-ends-modes.patch".into(), change: "removed" };
    assert_eq!(refresh(&tree, &tiny.series()).unwrap().last(), Some(&removed));
}

#[test]
fn comments_and_empty_lines_of_a_series_stay() {
    let tiny = Tiny::with_three();
    let (one, two, three) = ("store-empty-list.patch", "store-clean-keys.patch", "store-count-keys.patch");
    let before = format!("# Top.\n\n{one}\n\n# Keys.\n{two}\n# Sizes.\n{three}\n# End.\n");
    fs_err::write(tiny.folder().join("series"), before).unwrap();
    let series = tiny.series();
    for (names, expected) in [
        (vec![one, "new", three, "last"], "# Top.\n\n1\n\n# Keys.\n# Sizes.\nnew\n3\n# End.\nlast\n"),
        (vec![two, one, three], "# Top.\n\n2\n# Sizes.\n1\n\n# Keys.\n3\n# End.\n"),
        (vec![two, three], "# Top.\n\n\n# Keys.\n2\n# Sizes.\n3\n# End.\n"),
    ] {
        let entries: Vec<_> = names.into_iter().map(|name| (name.to_owned(), vec![])).collect();
        let expected = expected.replace('1', one).replace('2', two).replace('3', three);
        assert_eq!(series.list(&entries), expected);
    }
}

/// `patch new` says to fill in the header in the patch file.
#[test]
fn refresh_keeps_what_was_edited_in_the_patch_file() {
    let tiny = two_patches();
    let file = tiny.folder().join("docs-odd-ends-modes.patch");
    let edit = |from: &str, to: &str| {
        let text = fs_err::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        fs_err::write(&file, text.replace(from, to)).unwrap();
    };
    let amend = |message: Option<&str>| {
        let tree = tiny.tree();
        let after = tree.repo.find_tree(tree.snapshot().unwrap()).unwrap();
        let head = tree.repo.find_commit(tree.head().unwrap()).unwrap();
        let patch = engine::to_patch(&tree.repo, head.id()).unwrap();
        let body = message.map_or(patch.body.clone(), String::from);
        let new = engine::commit(&tree.repo, &Patch { body, ..patch }, &after, &head.parent(0).unwrap()).unwrap();
        tree.repo.reset(tree.repo.find_commit(new).unwrap().as_object(), git2::ResetType::Mixed, None).unwrap();
    };

    edit("Because docs: Odd ends & `modes`.", "Ends were odd.");
    tiny.replace("docs/windows.txt", "zwei", "deux");
    amend(None);
    assert_eq!(refresh(&tiny.tree(), &tiny.series()).unwrap().len(), 1);
    let text = fs_err::read_to_string(&file).unwrap();
    assert!(text.contains("Ends were odd.") && text.contains("+deux"), "{text}");
    assert!(!bring_tree(&tiny.tree(), &tiny.series(), false).unwrap().0.is_empty());

    // The commit's message wins where the file has the old one, and nobody where both changed.
    amend(Some("Ends are odd."));
    refresh(&tiny.tree(), &tiny.series()).unwrap();
    assert!(fs_err::read_to_string(&file).unwrap().contains("Ends are odd."));
    edit("Ends are odd.", "Ends were even.");
    amend(Some("Ends were odd again."));
    let error = refresh(&tiny.tree(), &tiny.series()).unwrap_err().to_string();
    assert!(error.contains("the header was edited in the file"), "{error}");
    assert!(fs_err::read_to_string(&file).unwrap().contains("Ends were even."));

    edit("Ends were even.", "Ends are odd.");
    edit("+deux", "+due");
    let error = refresh(&tiny.tree(), &tiny.series()).unwrap_err().to_string();
    assert!(error.contains("a hunk was edited in the file"), "{error}");
}

#[test]
fn edits_are_not_lost() {
    let tiny = two_patches();
    let tree = tiny.tree();
    for lose in [true, false] {
        tiny.write("pkg/store/draft.go", "package store\n");
        let result = bring_tree(&tree, &tiny.series(), lose);
        assert_eq!(result.is_ok(), lose);
        assert_eq!(tiny.path("pkg/store/draft.go").exists(), !lose);
    }
    let error = format!("{:?}", bring_tree(&tree, &tiny.series(), false).unwrap_err());
    assert!(error.contains("pkg/store/draft.go") && error.contains("cargo xtask patch new"), "{error}");
    assert!(patch::new::add(&tree, &tiny.series(), "store: count keys").is_err(), "the name is taken");
    assert!(patch::new::add(&tree, &tiny.series(), " -- ").is_err(), "no name");
}

#[test]
fn a_new_patch_is_refused_until_its_header_is_filled_in() {
    let tiny = Tiny::new();
    tiny.write("pkg/store/draft.go", "package store\n");
    tiny.write("docs/empty.txt", "");
    let name = patch::new::add(&tiny.tree(), &tiny.series(), "store:  draft").unwrap();
    let problems = tiny.series().problems();
    assert!(
        name == "store-draft.patch" && problems.iter().any(|found| found.problem.contains("placeholder")),
        "{problems:?}"
    );
    let head = tiny.tree().head().unwrap();
    assert_eq!(engine::to_patch(&tiny.tree().repo, head).unwrap().author, Author::maintainers());
    assert_eq!(bring_tree(&tiny.tree(), &tiny.series(), false).unwrap().0[0].commit, head);
}

#[test]
fn the_series_lint_has_a_sentence_for_each_mistake() {
    let tiny = two_patches();
    let path = |name: &str| tiny.folder().join(name);
    fs_err::rename(path("store-count-keys.patch"), path("0001-count.patch")).unwrap();
    let mail = fs_err::read_to_string(path("docs-odd-ends-modes.patch")).unwrap();
    fs_err::write(path("docs-odd-ends-modes.patch"), mail.replace("Subject: ", "Subject: [PATCH] ")).unwrap();
    fs_err::write(path("series"), "0001-count.patch\ndocs-odd-ends-modes.patch\n").unwrap();
    let problems: Vec<String> =
        tiny.series().problems().into_iter().map(|found| format!("{}: {}", found.file, found.problem)).collect();
    insta::assert_snapshot!(problems.join("\n"));
}

#[test]
fn what_series_and_the_folder_do_not_agree_on_is_refused() {
    let tiny = two_patches();
    let (one, two) = ("store-count-keys.patch\n", "docs-odd-ends-modes.patch\n");
    for (list, refused) in [
        (one.to_owned(), "does not list what is in the folder:\n  docs-odd-ends-modes.patch"),
        (format!("# Order.\n{one}{two}\n{one}"), "lists store-count-keys.patch twice, in lines 2 and 5"),
        (format!("{one}{two}gone.patch\n"), "lists gone.patch, which is not there"),
        (format!("{one}{two}../v1.37/store-count-keys.patch\n"), "which is not there"),
    ] {
        fs_err::write(tiny.folder().join("series"), list).unwrap();
        for error in [
            patch::apply(&tiny.shell, tiny.fetched.clone()).unwrap_err(),
            Series::of(&tiny.shell, &minor()).unwrap_err(),
        ] {
            assert!(error.to_string().contains(refused), "{refused}: {error:?}");
        }
    }
    fs_err::write(tiny.folder().join("series"), format!("{one}{two}")).unwrap();
    fs_err::create_dir(tiny.folder().join("resolutions")).unwrap();
    patch::apply(&tiny.shell, tiny.fetched.clone()).unwrap();
}

/// Pins alone, without patches: said before half a minute is spent on the source.
#[test]
fn what_is_missing_is_said_before_the_source_is_composed() {
    let tiny = Tiny::new();
    let pins = tiny.dir.path().join("patches/v1.34");
    fs_err::create_dir(&pins).unwrap();
    fs_err::write(pins.join("source.toml"), super::PINS.replace("v1.37.2", "v1.34.4")).unwrap();
    for (k8s, said) in [("v1.34", "there are no patches in"), ("v1.33", "Kubernetes v1.33 is not supported")] {
        for verb in ["apply", "verify", "refresh", "new x", "export --out out", "list"] {
            let source = format!("path:{}", tiny.dir.path().join("nowhere").display());
            let source = if verb == "list" { vec![] } else { vec!["--source", &source] };
            let args = ["patch"].into_iter().chain(verb.split(' ')).chain(["--k8s", k8s]).chain(source);
            let error = patch::Line::try_parse_from(args).unwrap().cmd.run(&tiny.shell).unwrap_err();
            assert!(error.to_string().contains(said), "{verb}: {error:?}");
        }
    }
}

#[test]
fn the_commit_that_is_in_no_patch_file_is_named_and_no_other() {
    let tiny = Tiny::new();
    for number in 0..12 {
        tiny.write(&format!("docs/{number}.txt"), "x\n");
        tiny.add(&format!("docs: number {number}"));
    }
    tiny.replace("docs/0.txt", "x", "y");
    let tree = tiny.tree();
    let (head, after) = (tree.head().unwrap(), tree.repo.find_tree(tree.snapshot().unwrap()).unwrap());
    let patch = Patch { subject: "docs: mine".into(), ..engine::to_patch(&tree.repo, head).unwrap() };
    let mine = engine::commit(&tree.repo, &patch, &after, &tree.repo.find_commit(head).unwrap()).unwrap();
    tree.place(mine).unwrap();
    let error = bring_tree(&tree, &tiny.series(), false).unwrap_err().to_string();
    assert!(error.ends_with("has commits that are in no patch file:\n  docs: mine"), "{error}");
}

#[test]
fn every_export_makes_the_same_tree() {
    let tiny = two_patches();
    let tree = tiny.tree();
    let head = tree.repo.find_commit(tree.head().unwrap()).unwrap();
    for (format, names) in [
        (Format::Git, vec!["0001-store-count-keys.patch", "0002-docs-odd-ends-modes.patch"]),
        (Format::Quilt, vec!["patches/store-count-keys.patch", "patches/docs-odd-ends-modes.patch", "patches/series"]),
        (Format::Single, vec!["sluice-v1.37.patch"]),
    ] {
        let files = export(&tree, &tiny.series(), &minor(), "v1.37.2", format).unwrap();
        assert_eq!(files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
        // git's own apply, through libgit2, must read what we write.
        let mut at = tree.repo.find_commit(tree.base).unwrap().tree().unwrap();
        for (_, text) in files.iter().filter(|(name, _)| name.ends_with(".patch")) {
            let diff = git2::Diff::from_buffer(text).unwrap();
            let mut index = tree.repo.apply_to_tree(&at, &diff, None).unwrap();
            at = tree.repo.find_tree(index.write_tree_to(&tree.repo).unwrap()).unwrap();
        }
        assert_eq!(at.id(), head.tree_id(), "{format:?}");
    }
}

#[test]
fn git_and_patch_read_the_forms_of_a_release() {
    let tiny = two_patches();
    let tree = tiny.tree();
    let head = tree.repo.find_commit(tree.head().unwrap()).unwrap().tree_id().to_string();
    let files = all_forms(&tree, &tiny.series(), &minor(), "v1.37.2").unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in &files {
        let path = dir.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, bytes).unwrap();
    }
    let base = tree.base.to_string();
    let series: Vec<_> = tiny.series().entries.iter().map(|entry| format!("../quilt/{}", entry.name)).collect();
    let forms = [
        ("am", vec!["am", "--quiet", "--keep-cr", "../sluice-v1.37.mbox"]),
        ("single", vec!["apply", "--index", "../sluice-v1.37.patch"]),
        ("each", ["apply", "--index"].into_iter().chain(series.iter().map(String::as_str)).collect()),
    ];
    for (clone, args) in forms {
        let (source, folder) = (tiny.fetched.tree.clone(), dir.path().join(clone));
        let git = |folder: &Path| {
            Run::new("git", folder).args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "core.autocrlf=false"])
        };
        git(dir.path()).args(["clone", "--quiet", "--no-checkout"]).arg(source).arg(&folder).run().unwrap();
        git(&folder).args(["checkout", "--quiet", &base]).run().unwrap();
        git(&folder).args(args).run().unwrap();
        assert_eq!(git(&folder).arg("write-tree").read().unwrap(), head, "{clone}");
    }
}

#[test]
fn verify_compiles_tests_and_remembers() {
    let tiny = two_patches();
    let patched = || patch::apply(&tiny.shell, tiny.fetched.clone()).unwrap();
    let verified = verify::check(&tiny.shell, patched(), Effort::TestEach).unwrap();
    assert_eq!(verified.digest.len(), 64);
    let stamps = || fs_err::read_dir(tiny.shell.paths.cache().join("verified")).unwrap().count();
    // Two compiled, two tested, and both tests together at the end, which are those of the second patch.
    let done = stamps();
    assert_eq!(done, 4);
    verify::check(&tiny.shell, patched(), Effort::TestEach).unwrap();
    assert_eq!(stamps(), done);

    let path = tiny.folder().join("store-count-keys.patch");
    let text = fs_err::read_to_string(&path).unwrap();
    let broken = text.replace("Drop-When", "Invariant: ./pkg/store/: `s\\.size` 7 times\nDrop-When");
    fs_err::write(&path, broken).unwrap();
    let refused =
        patch::apply(&tiny.shell, tiny.fetched.clone()).and_then(|it| verify::check(&tiny.shell, it, Effort::Series));
    assert!(refused.err().unwrap().to_string().contains("breaks invariants"));
    fs_err::write(&path, text).unwrap();
    patched();

    tiny.write(
        "pkg/store/size_test.go",
        "package store\n\nimport \"testing\"\n\nfunc TestSize(t *testing.T) { t.Fatal(\"three\") }\n",
    );
    tiny.add("store: fail");
    let error = format!("{:?}", verify::check(&tiny.shell, patched(), Effort::Test).err().unwrap());
    assert!(error.contains("series: test failed") && error.contains("three"), "{error}");
    tiny.write("pkg/store/broken.go", "package store\n\nvar x int = \"\"\n");
    tiny.add("store: break");
    let error = format!("{:?}", verify::check(&tiny.shell, patched(), Effort::Compile).err().unwrap());
    assert!(error.contains("store-break.patch: build, vet failed") && error.contains("broken.go:3"), "{error}");
    // The tree is back at the end of the series.
    assert!(!bring_tree(&tiny.tree(), &tiny.series(), false).unwrap().1);
}
