//! The images of this build: all four, and the same ones when they are built again.

use serde_json::Value;

use super::lab::folder;
use super::wait::ensure;
use super::{Case, Suite, Verdict};
use crate::error::Result;
use crate::process::Run;

const IMAGES: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kubernetes", "sluice-shim"];

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("images/build", run)]
}

fn run(suite: &Suite) -> Result<Verdict> {
    let Some(target) = &suite.built_from else {
        return Ok(Verdict::Skipped("the programs were not built here".to_owned()));
    };
    let out = folder(suite, "images");
    let build = |name: &str| -> Result<Value> {
        let run = Run::new(std::env::current_exe()?, &suite.scratch)
            .args(["build-images", "--json", "--k8s", target.k8s.as_str(), "--source", &target.source.to_string()])
            .arg("--out")
            .arg(out.join(name));
        Ok(serde_json::from_str(&run.read()?)?)
    };
    let (first, second) = (digests(&build("first")?), digests(&build("second")?));
    ensure(first.len() == IMAGES.len() && first == second, || format!("built {first:?}, then {second:?}"))?;
    for image in IMAGES {
        let found = first.iter().any(|(name, digest)| name.contains(image) && digest.starts_with("sha256:"));
        ensure(found, || format!("there is no image {image} among {first:?}"))?;
    }
    fs_err::remove_dir_all(out)?;
    Ok(Verdict::PASSED)
}

fn digests(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let images = report["images"].as_array().map(Vec::as_slice).unwrap_or_default();
    images.iter().map(|image| (text(&image["name"]), text(&image["digest"]))).collect()
}
