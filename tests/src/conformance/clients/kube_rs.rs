//! kube-rs' own tests, those that need a cluster: they are in its crates as published.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::list::List;
use super::{Bench, Ended, start};
use crate::conformance::verdict::{Outcome, Ran};
use sluice_shell::error::{Error, Result};
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::cluster::wait::{self, until};

/// The manifest and the lock file that pin the crates.
const PINS: &str = "toolkit/rust/kube";

const FEATURES: &str = "kube/derive,kube/runtime,kube/ws,kube-client/ws";

/// How long the tests of a crate may take.
const LIMIT: Limit = Limit::Clock(Duration::from_mins(5));

/// What a published crate loses: tests of kube-client ask for `kube`, which is beside it in upstream's workspace.
const LOST: &str = "\n[dev-dependencies.kube]\npath = \"../kube\"\nfeatures = [\"client\", \"derive\", \"ws\"]\n";

/// What makes one workspace of the crates.
const WORKSPACE: &str = "[workspace]\nmembers = [\"kube\", \"kube-client\"]\n\n[patch.crates-io]\nkube = { path = \"kube\" }\nkube-client = { path = \"kube-client\" }\n";

/// Compiles the tests of the crates, and runs those that are ignored without a cluster.
pub(super) fn run(bench: &Bench<'_>, list: &List) -> Result<Ended> {
    let pins = bench.shell.paths.root().join(PINS);
    let metadata = Run::cargo(&pins).args(["metadata", "--locked", "--format-version", "1"]).read()?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let workspace = bench.folder.join("source");
    prepare(&metadata, &pins, &workspace, &list.packages)?;
    let progress = bench.shell.out.spinner(format!("test {}", list.name));
    let built = Run::cargo(&workspace)
        .env("CARGO_TARGET_DIR", bench.shell.paths.cache().join("kube-rs"))
        // All is there, and pinned.
        .args(["test", "--offline", "--lib", "--no-run", "--message-format=json", "--features", FEATURES])
        .args(list.packages.iter().map(|name| format!("--package={name}")))
        .read_with(|line| progress.now(line))?;
    let (cluster, _guard) = start(bench, list)?;
    let api = cluster.client()?;
    // Pods need it.
    until("the namespace's service account", wait::LIMIT, || {
        Ok(api.get("/api/v1/namespaces/default/serviceaccounts/default").ok())
    })?;
    let mut runs = Vec::new();
    for name in &list.packages {
        let program = program(&built, name).ok_or_else(|| Error::input(format!("cargo names no tests of {name}")))?;
        let outside = list.outside.iter().flat_map(|entry| &entry.tests).map(|test| format!("--skip={test}"));
        let said = Run::new(program, workspace.join(name))
            .env("KUBECONFIG", cluster.kubeconfig())
            .args(["--ignored", "--test-threads=1"])
            .args(outside)
            .limit(LIMIT)
            .outcome()?;
        fs_err::write(bench.folder.join(format!("{name}.log")), format!("{}{}", said.stdout, said.stderr))?;
        let outcomes = read(&said.stdout);
        if outcomes.is_empty() {
            return Err(Error::input(format!("no test of {name} ran: {}{}", said.stdout, said.stderr)));
        }
        let each = outcomes.into_iter().map(|outcome| Ran {
            package: name.clone(),
            outcomes: [outcome].into(),
            asked: true,
            repeated: false,
        });
        runs.extend(each);
    }
    progress.done("");
    Ok(Ended { version: metadata.package("kube")?.version.clone(), runs })
}

/// What `cargo metadata` says, as far as it is of use here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

impl Metadata {
    fn package(&self, name: &str) -> Result<&Package> {
        let found = self.packages.iter().find(|package| package.name == name);
        found.ok_or_else(|| Error::input(format!("{PINS} pins no crate {name}")))
    }
}

/// Lays the crates out as a workspace with the versions that are pinned.
fn prepare(metadata: &Metadata, pins: &Path, workspace: &Path, crates: &[String]) -> Result<()> {
    for name in crates {
        let manifest = &metadata.package(name)?.manifest_path;
        super::copy(manifest.parent().unwrap_or(manifest), &workspace.join(name))?;
    }
    let client = workspace.join("kube-client/Cargo.toml");
    fs_err::write(&client, fs_err::read_to_string(&client)? + LOST)?;
    super::copy(&pins.join("src"), &workspace.join("src"))?;
    fs_err::copy(pins.join("Cargo.lock"), workspace.join("Cargo.lock"))?;
    let manifest = fs_err::read_to_string(pins.join("Cargo.toml"))?.replace("[workspace]\n", WORKSPACE);
    Ok(fs_err::write(workspace.join("Cargo.toml"), manifest)?)
}

/// The test program of a crate, of those that cargo names in JSON.
fn program(messages: &str, name: &str) -> Option<PathBuf> {
    let library = name.replace('-', "_");
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == library.as_str() && message["profile"]["test"] == true;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    })
}

/// The lines of Rust's test programs: `test a::b ... ok`.
fn read(said: &str) -> BTreeMap<String, Outcome> {
    let line = |line: &str| {
        let (test, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let outcome = if outcome == "ok" { Outcome::Passed } else { Outcome::Failed };
        Some((test.to_owned(), outcome))
    };
    said.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_test_programs_are_read() {
        let said =
            "\nrunning 2 tests\ntest a::b ... ok\ntest a::c ... FAILED\n\ntest result: FAILED. 1 passed; 1 failed";
        let expected = [("a::b", Outcome::Passed), ("a::c", Outcome::Failed)];
        assert_eq!(read(said), expected.map(|(name, outcome)| (name.to_owned(), outcome)).into());
    }

    #[test]
    fn the_test_program_of_a_crate_is_found() {
        let message = |name: &str, test: bool, program: &str| {
            let target = serde_json::json!({"name": name});
            serde_json::json!({"target": target, "profile": {"test": test}, "executable": program}).to_string()
        };
        let messages =
            [message("kube_client", false, "/a"), message("kube", true, "/b"), message("kube_client", true, "/c")];
        assert_eq!(program(&messages.join("\n"), "kube-client"), Some("/c".into()));
        assert_eq!(program(&messages.join("\n"), "kube-core"), None);
    }
}
