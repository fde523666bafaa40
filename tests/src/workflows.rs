//! The workflows of `ci/` for GitHub and GitLab, which nobody runs here: their form is checked.

use std::path::{Path, PathBuf};

use crate::python;
use sluice_shell::context::Context;
use sluice_shell::process::Run;
use sluice_toolkit::build::{self, Program};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Name and text of each workflow for GitHub.
fn github() -> Vec<(PathBuf, String)> {
    let files = fs_err::read_dir(root().join("ci/github")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files.map(|path| (path.clone(), fs_err::read_to_string(path).unwrap())).collect();
    assert!(!files.is_empty());
    files
}

/// Those, and the pipeline for GitLab.
fn all() -> Vec<(PathBuf, String)> {
    let pipeline = root().join("ci/gitlab-ci.yaml");
    let text = fs_err::read_to_string(&pipeline).unwrap();
    github().into_iter().chain([(pipeline, text)]).collect()
}

/// What actionlint says against a workflow. Its other programs are left out, which a machine may have or not.
fn actionlint(file: &Path) -> Option<String> {
    let built = build::build_tools(&Context::from_env().unwrap(), &[Program::Actionlint]).unwrap();
    let run = Run::new(&built[0].path, root()).args(["-no-color", "-oneline", "-shellcheck=", "-pyflakes="]).arg(file);
    let said = run.outcome().unwrap();
    (!said.status.success()).then(|| said.stdout + &said.stderr)
}

#[test]
fn github_understands_its_workflows() {
    for (path, _) in github() {
        assert_eq!(actionlint(&path), None);
    }
}

#[test]
fn a_workflow_that_github_does_not_understand_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.yaml");
    let good = fs_err::read_to_string(root().join("ci/github/check.yaml")).unwrap();
    for (line, broken, said) in [
        ("runs-on: ubuntu-24.04", "runs_on: ubuntu-24.04", "\"runs-on\" section is missing"),
        ("contents: read", "content: read", "unknown permission scope"),
        ("${{ runner.arch }}", "${{ runner.archive }}", "property \"archive\" is not defined"),
    ] {
        assert!(good.contains(line), "{line}");
        fs_err::write(&file, good.replace(line, broken)).unwrap();
        let found = actionlint(&file).unwrap_or_default();
        assert!(found.contains(said), "{broken}: {found}");
    }
}

/// What GitLab's own schema says against a pipeline.
fn gitlab(file: &Path) -> Option<String> {
    let schemas = python::packages(&Context::from_env().unwrap(), "check-jsonschema").unwrap();
    let run = Run::new("python3", root()).env("PYTHONPATH", schemas).args(["-m", "check_jsonschema"]);
    let said = run.args(["--builtin-schema", "vendor.gitlab-ci", "--color", "never"]).arg(file).outcome().unwrap();
    (!said.status.success()).then(|| said.stdout + &said.stderr)
}

#[test]
fn gitlab_understands_its_pipeline() {
    let file = root().join("ci/gitlab-ci.yaml");
    assert_eq!(gitlab(&file), None);

    let good = fs_err::read_to_string(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("broken.yaml");
    for (line, broken) in [("expire_in:", "expires:"), ("script:", "scripts:"), ("paths: [out/images]", "paths: 7")] {
        assert!(good.contains(line), "{line}");
        fs_err::write(&bad, good.replace(line, broken)).unwrap();
        assert!(gitlab(&bad).is_some_and(|said| said.contains("Schema validation errors")), "{broken}");
    }
}

/// Lines that take a program from elsewhere under a name that somebody can move.
fn unpinned(text: &str) -> Vec<&str> {
    let hexadecimal = |digits: &str, len: usize| digits.len() == len && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let pinned = |value: &str| {
        let name = value.split(" #").next().unwrap_or_default().trim();
        match (name.split_once("@sha256:"), name.split_once('@')) {
            (Some((_, digest)), _) => hexadecimal(digest, 64),
            (None, Some((_, commit))) => hexadecimal(commit, 40),
            (None, None) => false,
        }
    };
    let taken = |line: &&str| {
        let line = line.trim().trim_start_matches("- ");
        ["uses:", "image:", "container:"].iter().find_map(|key| line.strip_prefix(key)).is_some_and(|it| !pinned(it))
    };
    text.lines().filter(taken).collect()
}

#[test]
fn what_they_take_from_elsewhere_can_not_change() {
    for (_, text) in all() {
        assert_eq!(unpinned(&text), [""; 0]);
    }
    let moved = "- uses: actions/cache@v4\nimage: golang:1.26\ncontainer: golang@sha256:abc\nuses: x/y";
    assert_eq!(unpinned(moved).len(), 4);
}

/// Lines that write a file into the root of the workspace.
fn into_the_root(text: &str) -> Vec<&str> {
    let is_in_the_root = |target: &str| {
        let name = target.split_whitespace().next().unwrap_or_default();
        name.starts_with(|c: char| c.is_alphanumeric() || c == '.') && !name.contains('/')
    };
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.filter(|line| line.split('>').skip(1).any(is_in_the_root)).collect()
}

/// A release is refused where the workspace has a file that no commit has.
#[test]
fn they_leave_the_workspace_as_the_commit_has_it() {
    for (path, text) in all() {
        assert_eq!(into_the_root(&text), [""; 0], "{}", path.display());
    }
    let texts = "a > b\na 2>&1\na > out/b\na >> \"$X\"\na >>b.json\n# a > b\na > ~/.b\nrun: >\na >.b";
    assert_eq!(into_the_root(texts), ["a > b", "a >>b.json", "a >.b"]);
}

/// GitHub's own choice of a shell has no `pipefail`: a command that fails before a `|` would be taken for a success.
#[test]
fn a_pipe_does_not_hide_a_failure() {
    for (path, text) in github() {
        assert!(text.contains("\ndefaults:\n  run:\n    shell: bash\n"), "{}", path.display());
    }
    let pipeline = fs_err::read_to_string(root().join("ci/gitlab-ci.yaml")).unwrap();
    let piped = pipeline.lines().filter(|line| line.replace("||", "").contains(" | ")).collect::<Vec<_>>();
    assert!(piped.is_empty() || pipeline.contains("set -o pipefail"), "{piped:?}");
}

/// git, and `cargo xtask`, refuse a repository of another user unless they are told that it is safe.
#[test]
fn git_takes_the_checkout_of_another_user() {
    for (path, text) in github() {
        for job in text.split("    container: ").skip(1) {
            let own = job.find("git config --global --add safe.directory \"$GITHUB_WORKSPACE\"");
            assert!(own.is_some() && own < job.find("ci/prepare"), "{}", path.display());
        }
    }
}

const RELEASE: &str = "cargo xtask release --k8s ";

/// The pins may be those of a release before: it would be replaced.
#[test]
fn a_release_has_the_version_of_its_tag() {
    for (path, text) in all() {
        for command in text.split(RELEASE).skip(1) {
            let command = command.split(" > ").next().unwrap();
            let tag = ["\"$TAG\"", "\"$CI_COMMIT_TAG\""].map(|tag| format!("--expect-version {tag} "));
            assert!(tag.iter().any(|flag| command.contains(flag)), "{}: {command}", path.display());
        }
    }
}

/// `ci/prepare` pins the Go of a Kubernetes minor, which may be too old for another program.
#[test]
fn programs_are_there_before_a_release_is_pushed_whatever_they_are_compiled_with() {
    for (path, text) in all() {
        let Some(push) = text.find(RELEASE) else { continue };
        let installs: Vec<_> = text.match_indices(" go install ").map(|(at, _)| at).collect();
        assert!(!installs.is_empty(), "{}", path.display());
        for at in installs {
            assert!(at < push && text[..at].ends_with("GOTOOLCHAIN=auto"), "{}", path.display());
        }
    }
}

/// The variable is an argument of a command in the pipeline, so a wrong one fails far from its cause.
#[test]
fn the_go_of_a_minor_is_the_one_in_its_pins() {
    let said = |args: &[&str]| Run::new(root().join("ci/prepare"), root()).args(args).read().unwrap();
    for folder in fs_err::read_dir(root().join("patches")).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(pins) = fs_err::read_to_string(folder.join("source.toml")) else { continue };
        let pins: toml::Table = toml::from_str(&pins).unwrap();
        let minor = folder.file_name().unwrap().to_str().unwrap();
        let go = pins["kubernetes"]["go"].as_str().unwrap();
        assert_eq!(said(&[minor]).trim(), format!("GOTOOLCHAIN=go{go}"), "{minor}");
    }
    let newest = sluice_shell::minor::Minor::DEFAULT;
    assert_eq!(said(&[]), said(&[newest]));
}
