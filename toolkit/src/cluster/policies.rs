//! The admission policies of the label that hides objects from the controller manager, put into a cluster.

use std::path::Path;
use std::time::{Duration, Instant};

use fs_err as fs;
use serde_json::json;

use super::Cluster;
use super::client::{Client, HttpError};
use super::pid::POLL;
use sluice_shell::error::{Error, Result};
use sluice_shell::process::{Limit, Run};

/// The group that the manifest's binding names.
const EXAMPLE: &str = r#"["stable.example.com"]"#;

/// How long the apiserver may take to follow new policies. It looks every second.
const LIMIT: Duration = Duration::from_secs(60);

/// Installs the policies, with the label put on all kinds of these groups, and waits until the apiserver follows them.
/// Fine if they are there already.
///
/// # Errors
/// When there is no kubectl, or the apiserver refuses (before Kubernetes 1.36 it does not know such policies).
pub fn install(cluster: &Cluster, workspace: &Path, groups: &[String]) -> Result<()> {
    let Some(kubectl) = &cluster.settings.programs.kubectl else {
        return Err(Error::input("`--with-policies` needs a kubectl beside the other programs"));
    };
    let apply = Run::new(kubectl, &cluster.folder)
        .limit(Limit::ANSWER)
        .env("KUBECONFIG", cluster.kubeconfig())
        .arg(format!("--cache-dir={}", cluster.folder.join("kubectl/cache").display()))
        .args(["apply", "-f", "-"])
        .stdin(manifest(workspace, groups)?);
    apply.read()?;
    wait_followed(&cluster.client()?)
}

/// The manifests, with the binding's group replaced.
fn manifest(workspace: &Path, groups: &[String]) -> Result<String> {
    let folder = workspace.join("images/manifests/policies");
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let label = read("label-at-create.yaml")?;
    if label.matches(EXAMPLE).count() != 1 {
        return Err(anyhow::anyhow!("{}/label-at-create.yaml does not name {EXAMPLE} once", folder.display()).into());
    }
    let label = label.replace(EXAMPLE, &json!(groups).to_string());
    Ok(format!("{}---\n{label}", read("label-is-final.yaml")?))
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
        let text = manifest(workspace(), &["a.example".to_owned(), "b.example".to_owned()]).expect("the manifests");
        assert!(text.contains(r#"- apiGroups: ["a.example","b.example"]"#), "{text}");
        assert!(!text.contains(EXAMPLE));
        let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
        let expected = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
        assert_eq!(kinds[..2], expected);
        assert_eq!(kinds[2..], ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"]);
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
