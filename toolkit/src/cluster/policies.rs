//! The admission policies of the label that hides objects from the controller manager, put into a cluster.

use std::path::Path;
use std::time::{Duration, Instant};

use fs_err as fs;
use serde_json::{Value, json};

use super::Cluster;
use super::client::{Client, HttpError};
use super::pid::POLL;
use sluice_shell::error::{Error, Result};
use sluice_shell::minor::Minor;
use sluice_shell::process::{Limit, Run};

/// The group that the manifest's binding names.
const EXAMPLE: &str = r#"["stable.example.com"]"#;

/// The API of all admission policies.
const API: &str = "admissionregistration.k8s.io";

/// The first minor that serves policies that change objects without being told to.
const GRADUATION: u32 = 36;

/// The version in which older ones serve them, and what tells them to.
const BEFORE: &str = "v1beta1";
const FLAGS: [&str; 2] =
    ["--runtime-config=admissionregistration.k8s.io/v1beta1=true", "--feature-gates=MutatingAdmissionPolicy=true"];

/// How long the apiserver may take to follow new policies. It looks every second.
const LIMIT: Duration = Duration::from_secs(60);

/// Installs the policies, with the label put on all kinds of these groups, and waits until the apiserver follows them.
/// Fine if they are there already.
///
/// # Errors
/// When there is no kubectl, the apiserver does not serve such policies (see [`apiserver_args`]), or it refuses.
pub fn install(cluster: &Cluster, workspace: &Path, groups: &[String]) -> Result<()> {
    let Some(kubectl) = &cluster.settings.programs.kubectl else {
        return Err(Error::input("`--with-policies` needs a kubectl beside the other programs"));
    };
    let api = cluster.client()?;
    let version = served(|version| api.get(&format!("/apis/{API}/{version}")))?;
    let apply = Run::new(kubectl, &cluster.folder)
        .limit(Limit::ANSWER)
        .env("KUBECONFIG", cluster.kubeconfig())
        .arg(format!("--cache-dir={}", cluster.folder.join("kubectl/cache").display()))
        .args(["apply", "-f", "-"])
        .stdin(manifest(workspace, groups, version)?);
    apply.read()?;
    wait_followed(&api)
}

/// What kube-apiserver of a minor has to be told so that it serves the policies.
pub fn apiserver_args(minor: &Minor) -> impl Iterator<Item = String> + use<> {
    let told = version_of(minor) == BEFORE;
    FLAGS.into_iter().filter(move |_| told).map(str::to_owned)
}

/// The version in which kube-apiserver of a minor, told so by [`apiserver_args`], serves policies that change objects.
pub fn version_of(minor: &Minor) -> &'static str {
    let old = minor.numbers().1.parse().is_ok_and(|number: u32| number < GRADUATION);
    if old { BEFORE } else { "v1" }
}

/// A manifest of policies that change objects, in the version that is served. Those that check objects are v1 in all
/// minors, and stay so.
pub fn in_version(manifest: &str, version: &str) -> String {
    let objects = manifest.split("---\n").map(|object| match object.contains("\nkind: MutatingAdmissionPolicy") {
        true => object.replace(&format!("apiVersion: {API}/v1\n"), &format!("apiVersion: {API}/{version}\n")),
        false => object.to_owned(),
    });
    objects.collect::<Vec<_>>().join("---\n")
}

/// The version in which the apiserver serves policies that change objects; `discover` asks what a version has.
fn served(discover: impl Fn(&str) -> Result<Value, HttpError>) -> Result<&'static str> {
    for version in ["v1", BEFORE] {
        let found = match discover(version) {
            Err(error) if error.status() == Some(404) => continue,
            found => found?,
        };
        let resources = found["resources"].as_array().map_or(&[][..], Vec::as_slice);
        if resources.iter().any(|resource| resource["name"] == "mutatingadmissionpolicies") {
            return Ok(version);
        }
    }
    let flags = FLAGS.join(" ");
    Err(Error::input(format!(
        "kube-apiserver serves no MutatingAdmissionPolicy; before Kubernetes 1.36 it needs {flags}"
    )))
}

/// The manifests, with the binding's group replaced, in the version that the apiserver serves.
fn manifest(workspace: &Path, groups: &[String], version: &str) -> Result<String> {
    let folder = workspace.join("images/manifests/policies");
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let label = read("label-at-create.yaml")?;
    if label.matches(EXAMPLE).count() != 1 {
        return Err(anyhow::anyhow!("{}/label-at-create.yaml does not name {EXAMPLE} once", folder.display()).into());
    }
    let label = label.replace(EXAMPLE, &json!(groups).to_string());
    Ok(in_version(&format!("{}---\n{label}", read("label-is-final.yaml")?), version))
}

/// Tries to create what the policies forbid, without doing it, until that is refused. Both policies are followed from
/// the same moment on, or a second apart.
fn wait_followed(api: &Client) -> Result<()> {
    let labels = json!({"skip-controller-manager-metadata-caching": "true"});
    let forbidden = json!({"metadata": {"generateName": "policies-", "labels": labels}});
    let deadline = Instant::now() + LIMIT;
    loop {
        match api.create("/api/v1/namespaces/default/configmaps?dryRun=All", &forbidden) {
            Err(HttpError::Refused { status: 422, .. }) => return Ok(()),
            // `default` comes a moment after the apiserver is ready.
            Ok(_) | Err(HttpError::Refused { status: 404, .. }) if Instant::now() < deadline => {
                std::thread::sleep(POLL);
            }
            Ok(_) => return Err(Error::input(format!("the policies do nothing after {} s", LIMIT.as_secs()))),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
    }

    #[test]
    fn the_binding_names_the_groups_and_the_guard_comes_first() {
        let text =
            manifest(workspace(), &["a.example".to_owned(), "b.example".to_owned()], "v1").expect("the manifests");
        assert!(text.contains(r#"- apiGroups: ["a.example","b.example"]"#), "{text}");
        assert!(!text.contains(EXAMPLE));
        let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
        let expected = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
        assert_eq!(kinds[..2], expected);
        assert_eq!(kinds[2..], ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"]);
    }

    #[test]
    fn what_changes_objects_has_the_version_that_the_apiserver_serves() {
        let text = manifest(workspace(), &["a.example".to_owned()], "v1beta1").expect("the manifests");
        let versions: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("apiVersion: ")).collect();
        let v1 = "admissionregistration.k8s.io/v1";
        assert_eq!(versions, [v1, v1, "admissionregistration.k8s.io/v1beta1", "admissionregistration.k8s.io/v1beta1"]);
    }

    /// 1.36 and newer have both versions, 1.34 and 1.35 have v1 without these policies, and v1beta1 if asked to.
    #[test]
    fn the_newest_version_that_is_served_is_taken() {
        let other = json!({"resources": [{"name": "validatingadmissionpolicies"}]});
        let both =
            json!({"resources": [{"name": "validatingadmissionpolicies"}, {"name": "mutatingadmissionpolicies"}]});
        let table = [
            (vec![("v1", &both), ("v1beta1", &both)], Some("v1")),
            (vec![("v1", &other), ("v1beta1", &both)], Some("v1beta1")),
            (vec![("v1", &other)], None),
        ];
        for (has, expected) in table {
            let found = served(|version| match has.iter().find(|(name, _)| *name == version) {
                Some((_, resources)) => Ok((*resources).clone()),
                None => Err(HttpError::Refused {
                    method: "GET",
                    path: version.to_owned(),
                    status: 404,
                    message: "404 page not found".to_owned(),
                }),
            });
            assert_eq!(found.ok(), expected);
        }
    }

    #[test]
    fn minors_before_graduation_are_told_to_serve_them() {
        for (minor, told) in [("v1.34", true), ("v1.35", true), ("v1.36", false), ("v1.37", false)] {
            let args = apiserver_args(&minor.parse().expect("a minor")).count();
            assert_eq!(args, if told { FLAGS.len() } else { 0 }, "{minor}");
        }
    }

    /// Both manifests spell the label as the contract does, and list the same groups.
    #[test]
    fn the_manifests_agree_with_the_contract_and_each_other() {
        let contract = fs::read_to_string(workspace().join("patches/contract.toml")).expect("the contract");
        let contract: toml::Value = toml::from_str(&contract).expect("TOML");
        let label = contract["labels"]["skip_metadata_caching"]["name"].as_str().expect("a name");
        let groups = |name: &str| {
            let text =
                fs::read_to_string(workspace().join("images/manifests/policies").join(name)).expect("a manifest");
            assert_eq!(text.matches("skip-controller-manager").count(), text.matches(label).count(), "{name}");
            assert!(text.contains(label));
            let list = text.split_once("request.resource.group in [").expect("a list").1;
            list.split_once(']').expect("its end").0.to_owned()
        };
        assert_eq!(groups("label-at-create.yaml"), groups("label-is-final.yaml"));
    }
}
