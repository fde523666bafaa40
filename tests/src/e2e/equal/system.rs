//! One of the two systems that are compared.

use super::edit::Edit;
use super::kind::{Kind, NAMESPACES};
use super::timeline::{Event, Timeline};
use crate::e2e::lab::Lab;
use serde_json::json;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::wait::{LIMIT, until};

/// A running control plane, and what is known of its order of changes.
pub(super) struct System {
    pub(super) lab: Lab,
    timeline: Timeline,
    /// Of the changes, in order.
    revisions: Vec<u64>,
}

impl System {
    /// Makes the resources; the first edits come before the default of a field does.
    ///
    /// # Errors
    /// When the API refuses.
    pub(super) fn prepare(lab: Lab, early: &[Edit]) -> Result<Self> {
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        for kind in Kind::ALL {
            lab.api.create(definitions, &kind.definition(false))?;
        }
        for name in NAMESPACES {
            lab.api.create("/api/v1/namespaces", &json!({"metadata": {"name": name}}))?;
        }
        for kind in Kind::ALL {
            for version in kind.versions() {
                served(&lab, kind, version)?;
            }
        }
        for edit in early {
            edit.apply(&lab.api)?;
        }
        lab.api.merge(&format!("{definitions}/{}", Kind::Hats.definition_name()), &Kind::Hats.definition(true))?;
        defaulted(&lab)?;
        let timeline = Timeline::follow(&lab.api)?;
        Ok(Self { lab, timeline, revisions: Vec::new() })
    }

    /// Makes the changes in order; returns the statuses.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn apply(&self, edits: &[Edit]) -> Result<Vec<u16>> {
        edits.iter().map(|edit| Ok(edit.apply(&self.lab.api)?)).collect()
    }

    /// Waits for the change of both kinds with that mark; returns all changes up to it.
    ///
    /// # Errors
    /// When it does not come.
    pub(super) fn catch_up(&mut self, mark: &str) -> Result<Vec<Event>> {
        let events = self.timeline.until(mark)?;
        self.revisions = events.iter().map(|event| event.object.revision).collect();
        Ok(events)
    }

    /// How many changes there were up to a revision.
    pub(super) fn position(&self, revision: u64) -> usize {
        self.revisions.partition_point(|known| *known <= revision)
    }

    /// The revision of the change at a position, which counts from 1.
    pub(super) fn revision(&self, position: usize) -> u64 {
        self.revisions[position.clamp(1, self.revisions.len()) - 1]
    }
}

fn served(lab: &Lab, kind: Kind, version: &str) -> Result<()> {
    let path = format!("{}?limit=1", kind.path(version, None));
    until("serving the custom resources", LIMIT, || match lab.api.get(&path) {
        Ok(_) => Ok(Some(())),
        Err(error) if matches!(error.status(), Some(404 | 429 | 503)) => Ok(None),
        Err(error) => Err(error.into()),
    })
}

/// Waits until both versions of the hats are served with the new default: a changed definition replaces their storage.
fn defaulted(lab: &Lab) -> Result<()> {
    let probe = Kind::Hats.object("probe");
    for version in Kind::Hats.versions() {
        until("serving the default", LIMIT, || {
            let mut probe = probe.clone();
            probe["apiVersion"] = json!(format!("equal.example.com/{version}"));
            let path = format!("{}?dryRun=All", Kind::Hats.path(version, None));
            match lab.api.create(&path, &probe) {
                Ok(hat) => Ok(hat["spec"]["fit"].is_string().then_some(())),
                Err(error) if matches!(error.status(), Some(404 | 429 | 503)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })?;
    }
    Ok(())
}
