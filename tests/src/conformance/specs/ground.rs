//! What the control planes stand on.

use super::system::System;
use crate::conformance::report::{END_TO_END, ON_A_NODE};

/// What the control planes stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conformance) enum Ground {
    /// Processes of this machine, and a Node without a kubelet.
    Processes,
    /// A node that runs Pods, whose control plane kubeadm makes.
    Node,
}

impl Ground {
    /// The systems that stand on it.
    pub(in crate::conformance) fn systems(self) -> &'static [System] {
        match self {
            Self::Processes => &[System::Stock, System::Sluice, System::SluiceUncached],
            Self::Node => &[System::Stock, System::SluiceAnnotated],
        }
    }

    /// What files of a system are named for.
    pub(super) fn name(self, system: System) -> String {
        match self {
            Self::Processes => system.name().to_owned(),
            Self::Node => format!("node-{}", system.name()),
        }
    }

    /// The heading of the results in docs/conformance.md.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Processes => END_TO_END,
            Self::Node => ON_A_NODE,
        }
    }

    /// What docs/conformance.md says of it.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Processes => concat!(
                "`cargo xtask test conformance e2e --write-docs` writes this section, and with `--database postgres` ",
                "or `mariadb` the line of that server. The specs are those of upstream's `e2e.test`, compiled as they ",
                "are, against a control plane without a kubelet. There is one Node, which a lease keeps ready.\n",
            ),
            Self::Node => concat!(
                "`cargo xtask test conformance e2e-node --write-docs` writes this section. The specs are the same and ",
                "those that need Pods, against the node of [clusters.md](clusters.md), which runs Pods. The stock ",
                "node is made of upstream's Kubernetes in the same way. Our node has the policy ",
                "[watch-cache-off.yaml](../images/manifests/policies/watch-cache-off.yaml), so that all custom ",
                "resources are out of the watch cache. What the Pods run is built here, and named as the specs name ",
                "it.\n",
            ),
        }
    }
}
