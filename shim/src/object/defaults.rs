//! Labels that kube-apiserver adds when it reads an object.
//!
//! A selector is compared with the object after defaults have been set, so these labels count though they are not
//! stored. Custom resources can't have such defaults: a schema must not give any for metadata.

use super::{Label, ObjectMeta};

/// The label that every namespace has (api: `LabelMetadataName` in core/v1/well_known_labels.go).
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Kinds that take their template's labels when they have none of their own (kubernetes: `SetDefaults_…` in
/// pkg/apis/{core/v1,batch/v1,apps/v1beta1,extensions/v1beta1}/defaults.go). A job's template always has labels.
const TAKE_LABELS_OF_TEMPLATE: [(&str, &str); 7] = [
    ("v1", "ReplicationController"),
    ("batch/v1", "Job"),
    ("apps/v1beta1", "Deployment"),
    ("apps/v1beta1", "StatefulSet"),
    ("extensions/v1beta1", "DaemonSet"),
    ("extensions/v1beta1", "Deployment"),
    ("extensions/v1beta1", "ReplicaSet"),
];

impl<'a> ObjectMeta<'a> {
    /// The labels that selectors are compared with, sorted by key; `None` if they may be others than those stored.
    pub fn selectable_labels(&self) -> Option<&[Label<'a>]> {
        let kind = (self.api_version.as_ref(), self.kind.as_ref());
        let stored = match kind {
            // `SetDefaults_Namespace`, which leaves out those without a name.
            ("v1", "Namespace") => self.name.is_empty() || self.label(NAMESPACE_NAME) == Some(&self.name),
            _ if self.labels.is_empty() => !TAKE_LABELS_OF_TEMPLATE.contains(&kind),
            _ => true,
        };
        stored.then_some(&self.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_come_from_defaults_are_not_relied_on() {
        let table = [
            ("v1", "Namespace", "kubernetes.io/metadata.name=a", true),
            ("v1", "Namespace", "kubernetes.io/metadata.name=b", false),
            ("v1", "Namespace", "x=y", false),
            ("v1", "Pod", "", true),
            ("v1", "ReplicationController", "", false),
            ("batch/v1", "Job", "", false),
            ("batch/v1", "Job", "x=y", true),
            ("batch/v1", "CronJob", "", true),
            ("example.com/v1", "Job", "", true),
        ];
        for (api_version, kind, label, stored) in table {
            let labels: Vec<Label<'_>> =
                label.split_once('=').map(|(key, value)| (key.into(), value.into())).into_iter().collect();
            let (api_version, kind, name) = (api_version.into(), kind.into(), "a".into());
            let meta = ObjectMeta { api_version, kind, name, labels, ..ObjectMeta::default() };
            assert_eq!(meta.selectable_labels(), stored.then_some(&meta.labels[..]), "{meta:?}");
        }
    }
}
