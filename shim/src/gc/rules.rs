//! What the operator may decide about the collector, and whose object is whose.

use std::collections::BTreeSet;

use super::Node;

/// The groups that kube-controller-manager watches with typed informers, which the label does not filter: their objects
/// stay its business, labelled or not (client-go: `ForResource` in informers/generic.go, Kubernetes 1.37).
pub const TYPED_GROUPS: [&str; 21] = [
    "",
    "admissionregistration.k8s.io",
    "apps",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "lifecycle.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// The stable versions that kube-apiserver serves of its own groups, none of which was ever taken away; `None` for
/// other groups (kubernetes 1.37: `stableAPIGroupVersionsEnabledByDefault` in pkg/controlplane/instance.go and
/// apiserver.go).
pub(super) fn stable_versions(group: &str) -> Option<&'static [&'static str]> {
    match group {
        "autoscaling" => Some(&["v1", "v2"]),
        "extensions" | "internal.apiserver.k8s.io" | "lifecycle.k8s.io" => Some(&[]),
        "apiextensions.k8s.io" | "apiregistration.k8s.io" => Some(&["v1"]),
        _ => TYPED_GROUPS.contains(&group).then_some(&["v1"]),
    }
}

/// Kinds that own nothing and are owned by nothing, as `group/Kind` (pkg/controller/garbagecollector/graph_builder.go,
/// `ignoredResources`).
pub const IGNORED: [&str; 2] = ["/Event", "events.k8s.io/Event"];

/// The group of CustomResourceDefinitions, which no collector may remove: the API server does that when it has deleted
/// their objects, for which it adds a finalizer as the deletion begins (apiextensions-apiserver: `Delete` in
/// pkg/registry/customresourcedefinition/etcd.go).
pub const DEFINITIONS: &str = "apiextensions.k8s.io";

/// The rules that a collector follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Groups whose labelled objects the controller manager sees all the same.
    pub typed_groups: BTreeSet<String>,
    /// Kinds that are left out of the graph, as `group/Kind`.
    pub ignored: BTreeSet<String>,
    /// Whether an object that the controller manager deletes in the foreground is held until hidden dependents that
    /// block it are gone.
    pub strict_foreground: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            typed_groups: TYPED_GROUPS.iter().map(ToString::to_string).collect(),
            ignored: IGNORED.iter().map(ToString::to_string).collect(),
            strict_foreground: true,
        }
    }
}

impl Rules {
    /// Whether the controller manager does not see an object of the group that has the label, or has it not.
    pub fn hides(&self, group: &str, labelled: bool) -> bool {
        labelled && !self.typed(group)
    }

    /// Whether objects of the group are always visible.
    pub fn typed(&self, group: &str) -> bool {
        self.typed_groups.contains(group)
    }

    /// Whether the object is no part of the graph.
    pub fn ignores(&self, node: &Node) -> bool {
        self.ignored.iter().any(|ignored| {
            ignored.rsplit_once('/').is_some_and(|(group, kind)| group == &*node.group && kind == &*node.kind)
        })
    }
}
