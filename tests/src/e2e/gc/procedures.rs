//! The procedures of docs/garbage-collection.md, step by step, with the commands that stand there: "Turn it on" for a
//! cluster that has objects already, and "Turn it off".

use serde_json::{Value, json};

use super::super::lab::{Lab, Wish};
use super::super::{Column, Suite, Verdict};
use super::side::{self, HOLD, Policy, Side, blocking, is_deleting, reference};
use crate::kubectl::Kubectl;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::component::Component;
use sluice_toolkit::cluster::policies;
use sluice_toolkit::cluster::shirts::SKIP_LABEL;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

const HOLD_OF_SHIM: &str = "storage-gc.sluice-project.github.io/dependents";

/// On and off again: at each stage owners are deleted, and what should go goes, by whose turn it is.
pub(super) fn run(suite: &Suite) -> Result<Verdict> {
    let wish = Wish::new(Column::OURS).apiserver_arg(side::NO_WATCH_CACHE);
    let mut lab = Lab::start(suite, policies::apiserver_args(&suite.minor).fold(wish, Wish::apiserver_arg))?;
    // It knows from its start on what is there then.
    lab.cluster.stop_one(Component::ControllerManager)?;
    side::define(&lab.api)?;
    lab.cluster.start_one(Component::ControllerManager)?;
    turn_on(&lab, suite)?;
    turn_off(&mut lab)?;
    take_labels_away(&lab, suite)?;
    lab.finish()?;
    Ok(Verdict::PASSED)
}

/// An owner with a dependent, and one that both share with an owner that stays.
fn family(side: &Side<'_>, owner: &str) -> Result<()> {
    let living = match side.get("shirts", "living")? {
        Some(living) => living,
        None => side.visible("living", &[])?,
    };
    let of = reference(&side.visible(owner, &[])?);
    side.visible(&format!("{owner}-child"), std::slice::from_ref(&of))?;
    side.visible(&format!("{owner}-shared"), &[of, reference(&living)])?;
    Ok(())
}

fn turn_on(lab: &Lab, suite: &Suite) -> Result<()> {
    let (side, kubectl) = (Side::new(lab, true).in_namespace("procedures")?, lab.kubectl());
    for owner in ["before", "while", "old"] {
        family(&side, owner)?;
    }
    side.delete("shirts", "before", Policy::Background)?;
    side.until_left("shirts", "before-shared living old old-child old-shared while while-child while-shared")?;
    ensure(side.collected()? == 0, || "the shim collected objects without the label".to_owned())?;

    apply(&kubectl, suite, "label-is-final.yaml")?;
    apply(&kubectl, suite, "label-at-create.yaml")?;
    until_new_shirts(&side, "get the label", |labels| labels[SKIP_LABEL] == "true")?;
    family(&side, "new")?;
    side.delete("shirts", "new", Policy::Background)?;
    let left = "before-shared living new-shared old old-child old-shared while while-child while-shared";
    side.until_left("shirts", left)?;
    ensure(side.collected()? > 0, || "the shim collected nothing that has the label".to_owned())?;

    // Objects that exist already.
    lab.cluster.stop_one(Component::ControllerManager)?;
    // Its dependents are nobody's until they get the label.
    side.delete("shirts", "while", Policy::Background)?;
    relabel(&side, &kubectl, "skip-controller-manager-metadata-caching=true")?;
    apply(&kubectl, suite, "label-is-final.yaml")?;
    lab.cluster.start_one(Component::ControllerManager)?;
    let left = "before-shared living new-shared old old-child old-shared while-shared";
    side.until_left("shirts", left)?;
    until_labels_stay(&side)?;
    side.delete("shirts", "old", Policy::Background)?;
    side.until_left("shirts", "before-shared living new-shared old-shared while-shared")
}

/// For new objects, then altogether, with an owner in the middle of a deletion that the shim holds up.
fn turn_off(lab: &mut Lab) -> Result<()> {
    {
        let (side, kubectl) = (Side::new(lab, true).in_namespace("procedures")?, lab.kubectl());
        family(&side, "labelled")?;
        let map = blocking(&side.config_map("map", &[], &[])?);
        side.hidden("shirts", "held", &[map], &[HOLD])?;
        side.delete("configmaps", "map", Policy::Foreground)?;
        side.until_is("configmaps", "map", "being held by the shim alone", |map| is_held_by_shim(map?).then_some(()))?;
        kubectl.run("delete mutatingadmissionpolicybinding sluice-label-at-create")?;
        until_new_shirts(&side, "get no label", |labels| labels[SKIP_LABEL].is_null())?;
    }
    lab.cluster.settings.controller_manager_args.push("--metadata-caching-skip-label=".to_owned());
    lab.cluster.stop_one(Component::ControllerManager)?;
    lab.cluster.start_one(Component::ControllerManager)?;
    lab.cluster.settings.store_args.push("--gc=off".to_owned());
    lab.cluster.stop_one(Component::Store)?;
    lab.cluster.start_one(Component::Store)?;

    let side = Side::new(lab, true).in_namespace("procedures")?;
    // Nothing but the shim held it: it goes before its dependent.
    side.until_left("configmaps", "")?;
    let let_go = side.collected()?;
    // The controller manager sees what has the label.
    side.delete("shirts", "labelled", Policy::Background)?;
    side.until_left("shirts", "before-shared held labelled-shared living new-shared old-shared while-shared")?;
    side.until_is("shirts", "held", "being deleted", |held| is_deleting(held?).then_some(()))?;
    side.finalizers("shirts", "held", &[])?;
    side.until_left("shirts", "before-shared labelled-shared living new-shared old-shared while-shared")?;
    ensure(let_go <= 1 && side.collected()? == let_go, || "the shim collects though it is off".to_owned())
}

fn take_labels_away(lab: &Lab, suite: &Suite) -> Result<()> {
    let (side, kubectl) = (Side::new(lab, true).in_namespace("procedures")?, lab.kubectl());
    lab.cluster.stop_one(Component::ControllerManager)?;
    relabel(&side, &kubectl, "skip-controller-manager-metadata-caching-")?;
    apply(&kubectl, suite, "label-is-final.yaml")?;
    lab.cluster.start_one(Component::ControllerManager)?;
    side.delete("shirts", "living", Policy::Background)?;
    side.until_left("shirts", "")
}

/// `kubectl apply` of one of the manifests, whose binding names the group of the tests.
fn apply(kubectl: &Kubectl, suite: &Suite, name: &str) -> Result<()> {
    let manifest = fs_err::read_to_string(suite.workspace.join("images/manifests/policies").join(name))?;
    kubectl.apply(&policies::in_version(&manifest, policies::version_of(&suite.minor)))?;
    Ok(())
}

/// Steps 2 and 3.
fn relabel(side: &Side<'_>, kubectl: &Kubectl, label: &str) -> Result<()> {
    kubectl.run("delete validatingadmissionpolicybinding sluice-label-is-final")?;
    let patch = json!({"metadata": {"labels": {SKIP_LABEL: "probe"}}});
    let probe = format!("{}/living?dryRun=All", side.path("shirts"));
    until("the end of the policy", LIMIT, || Ok(side.api.merge(&probe, &patch).ok()))?;
    kubectl.run(&format!("label shirts --all --all-namespaces {label}"))?;
    Ok(())
}

/// Waits until the policy is followed again.
fn until_labels_stay(side: &Side<'_>) -> Result<()> {
    let patch = json!({"metadata": {"labels": {SKIP_LABEL: null}}});
    let probe = format!("{}/living?dryRun=All", side.path("shirts"));
    until("refusing to take a label away", LIMIT, || match side.api.merge(&probe, &patch) {
        Ok(_) => Ok(None),
        Err(error) if error.status() == Some(422) => Ok(Some(())),
        Err(error) => Err(error.into()),
    })
}

/// Waits until new shirts have the labels that they should.
fn until_new_shirts(side: &Side<'_>, what: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
    let shirt = json!({"apiVersion": "stable.example.com/v1", "kind": "Shirt", "metadata": {"name": "probe"}});
    until(&format!("that new shirts {what}"), LIMIT, || {
        match side.api.create(&format!("{}?dryRun=All", side.path("shirts")), &shirt) {
            Ok(shirt) => Ok(is(&shirt["metadata"]["labels"]).then_some(())),
            Err(error) if error.status() == Some(503) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
}

/// Whether the shim alone still holds it: the controller manager sees no dependents, and has let it go.
fn is_held_by_shim(map: &Value) -> bool {
    map["metadata"]["finalizers"] == json!([HOLD_OF_SHIM])
}
