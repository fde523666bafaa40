//! Encrypted at rest by a plugin of the API KMS v2: the shim can't read who owns an object, never collects it, and says
//! so at its start.

use serde_json::json;

use super::super::at_rest::{Keys, Plugin};
use super::super::lab::{Lab, Wish};
use super::super::{Column, Suite, Verdict};
use super::side::{self, Policy, Side, reference};
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::cluster::component::Component;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

const NAMESPACE: &str = "encrypted";
const KEY: &str = "/registry/stable.example.com/belts/encrypted/sealed";

/// A Secret is none of the collector's business; a labelled custom resource is.
pub(super) fn run(suite: &Suite) -> Result<Verdict> {
    let Some(plugin) = Plugin::start(suite)? else {
        return Ok(Verdict::Skipped("needs kms-plugin beside etcd".to_owned()));
    };
    let encrypted = ["secrets", "belts.stable.example.com"];
    let encrypted = encrypted.map(|resource| (resource.to_owned(), plugin.provider(resource)));
    let keys = Keys::write(&suite.scratch, &encrypted)?;
    let wish = Wish::new(Column::OURS).apiserver_arg(side::NO_WATCH_CACHE).apiserver_arg(keys.flag());
    let lab = super::start_one(suite, wish)?;
    let side = Side::new(&lab, true).in_namespace(NAMESPACE)?;
    let secret = json!({"metadata": {"name": "sealed"}, "stringData": {"password": "secret"}});
    side.api.create(&format!("/api/v1/namespaces/{NAMESPACE}/secrets"), &secret)?;
    until_opaque(&lab, 1)?;
    ensure(!warns(&lab)?, || "the shim warns of a Secret".to_owned())?;

    let owner = reference(&side.config_map("owner", &[], &[])?);
    for plural in ["belts", "hats"] {
        side.hidden(plural, "sealed", std::slice::from_ref(&owner), &[])?;
    }
    until_opaque(&lab, 2)?;
    side.delete("configmaps", "owner", Policy::Background)?;
    side.until_left("hats", "")?;
    side.until_left("belts", "sealed")?;
    let explain = Run::new(&lab.cluster.settings.programs.store, &lab.cluster.folder)
        .env("SLUICE_ENDPOINT", lab.cluster.endpoint()?)
        .args(["gc", "explain", KEY])
        .read()?;
    ensure(explain.contains("its value can't be read"), || format!("gc explain says {explain}"))?;
    ensure(warns(&lab)?, || format!("the shim does not warn of {KEY}"))?;
    lab.finish()?;
    Ok(Verdict::PASSED)
}

/// Waits until the shim counts this many values that it can't read.
fn until_opaque(lab: &Lab, count: usize) -> Result<()> {
    let line = format!("sluice_gc_opaque_values {count}");
    until(&line, LIMIT, || {
        let metrics = lab.cluster.store_client().text("/metrics")?;
        Ok(metrics.lines().any(|said| said == line).then_some(()))
    })
}

/// Whether the shim warns of the custom resource, or of anything encrypted, when it starts on the data anew.
fn warns(lab: &Lab) -> Result<bool> {
    let log = lab.cluster.log(Component::Store);
    let before = fs_err::read_to_string(&log)?.len();
    lab.cluster.stop_one(Component::Store)?;
    lab.cluster.start_one(Component::Store)?;
    until("serving again", LIMIT, || Ok(lab.api.get("/api/v1/namespaces/default").ok()))?;
    let log = fs_err::read_to_string(&log)?;
    let line = log[before..].lines().find(|line| line.contains("is encrypted"));
    ensure(line.is_none_or(|line| line.contains(KEY)), || format!("the shim warns: {line:?}"))?;
    Ok(line.is_some())
}
