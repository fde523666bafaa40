//! A virtual cluster without anything of ours: upstream's control plane on the kine of vCluster.

use std::time::Instant;

use serde_json::Value;

use super::virtual_cluster::{NAME, PODS, VirtualCluster, wait_ready};
use crate::cluster::lab::Lab;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::wait::ensure;

/// Makes one of the manifest for SQLite, and connects to it.
pub(super) fn make(lab: &Lab) -> Result<VirtualCluster> {
    let file = VirtualCluster::file(lab, "sqlite");
    let ours = lab.kubectl().run(&format!("create --dry-run=client --output=json -f {}", file.display()))?;
    let image = lab.load_stock()?;
    let objects = serde_json::Deserializer::from_str(&ours).into_iter::<Value>();
    let clock = Instant::now();
    for object in objects {
        lab.kubectl().send("apply", &without_ours(object?, image)?)?;
    }
    wait_ready(&lab.kubectl(), 1)?;
    VirtualCluster::connect(lab, &PODS[..1], clock.elapsed())
}

/// An object of the manifest as somebody has it who does not know us.
fn without_ours(mut object: Value, image: &str) -> Result<Value> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match object["kind"].as_str() {
        Some("Secret") if name == format!("vc-config-{NAME}") => {
            let config = object["stringData"]["config.yaml"].as_str().unwrap_or_default();
            object["stringData"]["config.yaml"] = configuration(config)?.into();
        }
        Some("StatefulSet") => {
            object["spec"]["volumeClaimTemplates"] = Value::Array(vec![]);
            let pod = &mut object["spec"]["template"]["spec"];
            let steps = pod["initContainers"].as_array_mut().ok_or_else(|| missing("a step before its start"))?;
            steps.retain(|step| step["name"] == "kubernetes");
            ensure(steps.len() == 1, || "the manifest copies no programs".to_owned())?;
            steps[0]["image"] = image.into();
        }
        _ => {}
    }
    Ok(object)
}

/// vCluster's configuration with its own kine, and without our policies.
fn configuration(ours: &str) -> Result<String> {
    let (head, kine) = ours.split_once("        extraArgs:\n        - --endpoint").ok_or_else(|| missing("a kine"))?;
    let (_, rest) = kine.split_once("  proxy:\n").ok_or_else(|| missing("a proxy"))?;
    let (middle, policies) = rest.split_once("  deploy:\n").ok_or_else(|| missing("policies"))?;
    let (_, tail) = policies.split_once("telemetry:\n").ok_or_else(|| missing("telemetry"))?;
    Ok(format!("{head}  proxy:\n{middle}telemetry:\n{tail}"))
}

fn missing(what: &str) -> Error {
    Error::input(format!("the manifest of vCluster does not have {what}"))
}
