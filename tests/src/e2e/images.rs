//! The images of this build: all four, and the same ones when they are built again.

use std::collections::BTreeSet;

use serde_json::Value;

use super::lab::folder;
use super::{Case, Suite, Verdict};
use sluice_shell::error::Result;
use sluice_shell::process::{Run, THIS};
use sluice_toolkit::cluster::wait::ensure;

const IMAGES: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kubernetes", "sluice-shim"];

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("images/build", run).on_files()]
}

fn run(suite: &Suite) -> Result<Verdict> {
    let Some(target) = &suite.built_from else {
        return Ok(Verdict::Skipped("the programs were not built here".to_owned()));
    };
    let out = folder(suite, "images");
    let build = |name: &str| -> Result<Value> {
        let run = Run::new(THIS, &suite.workspace)
            .args(["build-images", "--json", "--k8s", target.k8s.as_str(), "--source", &target.source.to_string()])
            .arg("--out")
            .arg(out.join(name));
        Ok(serde_json::from_str(&run.read()?)?)
    };
    let (first, second) = (digests(&build("first")?), digests(&build("second")?));
    ensure(first == second, || format!("built {first:?}, then {second:?}"))?;
    ensure(first.iter().all(|(_, digest)| digest.starts_with("sha256:")), || format!("no digests: {first:?}"))?;
    // Some come in two variants: for root and for others.
    let names: BTreeSet<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
    ensure(names == BTreeSet::from(IMAGES), || format!("built {names:?}"))?;
    fs_err::remove_dir_all(out)?;
    Ok(Verdict::PASSED)
}

fn digests(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let images = report["images"].as_array().map(Vec::as_slice).unwrap_or_default();
    images.iter().map(|image| (text(&image["name"]), text(&image["digest"]))).collect()
}
