//! Whole commands: exit code, stdout and stderr, in a workspace of its own with a hostile git configuration.

#![expect(clippy::unwrap_used, reason = "a test fails where it can't go on")]

mod cluster;
mod interrupt;
mod patch;
mod proxy;
mod push;
mod source;
mod workspace;

use workspace::Workspace;

#[test]
fn an_unknown_verb_is_a_wrong_input() {
    insta::assert_snapshot!(Workspace::new().xtask(&["frobnicate"]));
}

#[test]
fn outside_of_a_workspace() {
    let workspace = Workspace::new();
    fs_err::remove_file(workspace.path("patches/contract.toml")).unwrap();
    insta::assert_snapshot!(workspace.xtask(&["source"]));
}

#[test]
fn reports_are_json_with_a_schema() {
    let text = source::pinned().stdout(&["source", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["version"], "v1.37.2");
}
