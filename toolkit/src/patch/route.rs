//! From which source to which a series is carried, and where the new pins are until the patches stand.

use std::path::PathBuf;
use std::str::FromStr;

use crate::source::{self, Origin, Pins, Target};
use sluice_shell::context::Context;
use sluice_shell::error::{Explain, Result};
use sluice_shell::minor::Minor;

/// Where a series goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct To {
    /// The minor.
    pub(super) minor: Minor,
    /// `v1.37.3`; none for the pinned one.
    pub(super) version: Option<String>,
}

/// Neither a minor nor a version.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither a Kubernetes minor such as v1.38 nor a version such as v1.37.3")]
pub(super) struct Nowhere(String);

impl Explain for Nowhere {}

impl FromStr for To {
    type Err = Nowhere;

    fn from_str(text: &str) -> Result<Self, Nowhere> {
        let nowhere = || Nowhere(text.to_owned());
        if let Ok(minor) = text.parse() {
            return Ok(Self { minor, version: None });
        }
        let (minor, patch) = text.rsplit_once('.').ok_or_else(nowhere)?;
        // v1.38.0-rc.1 has a dot more.
        let (minor, patch) = match minor.split_once('-') {
            Some((version, _)) => version.rsplit_once('.').ok_or_else(nowhere)?,
            None => (minor, patch),
        };
        let minor = minor.parse().map_err(|_| nowhere())?;
        let number = patch.split('-').next().unwrap_or_default();
        number.parse::<u32>().map_err(|_| nowhere())?;
        Ok(Self { minor, version: Some(text.to_owned()) })
    }
}

/// The version is the one that is pinned.
#[derive(Debug, thiserror::Error)]
#[error("the patches of {} are for {} already", .0.minor, .0.version.as_deref().unwrap_or_default())]
struct Arrived(To);

impl Explain for Arrived {}

/// From where to where.
pub(super) struct Route {
    /// The source that the patches are for.
    pub(super) from: Target,
    /// The source that they go to.
    pub(super) to: Target,
    /// Of that source.
    pub(super) pins: Pins,
    /// Where these pins are until the minor has them; none if it does.
    staged: Option<PathBuf>,
}

impl Route {
    /// The way to `to`, whose source is `source`: from `target`, or from the older version of the same minor.
    pub(super) fn find(shell: &Context, to: &To, source: Origin, target: &Target) -> Result<Self> {
        let To { minor, version } = to;
        let to = Target { k8s: minor.clone(), source };
        let Some(version) = version else {
            return Ok(Self { from: target.clone(), to, pins: Pins::load(shell, minor)?, staged: None });
        };
        // The patches of a minor go on to its next release; to a minor without patches they come from another one.
        let has_series = shell.paths.patches(minor).join("series").is_file();
        let k8s = if has_series { minor } else { &target.k8s };
        let from = Target { k8s: k8s.clone(), source: target.source.clone() };
        if let Some(pins) = Pins::load(shell, minor).ok().filter(|pins| pins.kubernetes.version == *version) {
            return Ok(Self { from, to, pins, staged: None });
        }
        // Beside the old ones, which are the ancestor until all patches stand.
        let staged = shell.paths.cache().join("rebase").join(format!("{version}.toml"));
        if !staged.exists() {
            source::pins_of(shell, minor, version)?.store(&staged)?;
        }
        Ok(Self { from, to, pins: Pins::read(&staged)?, staged: Some(staged) })
    }

    /// The minor gets new pins with its patches.
    pub(super) fn is_release(&self) -> bool {
        self.staged.is_some()
    }

    /// Refuses to go where the patches are.
    pub(super) fn refuse_arrived(&self, to: &To) -> Result<()> {
        let same = to.version.is_some() && self.from.k8s == self.to.k8s && !self.is_release();
        if same { Err(Arrived(to.clone()).into()) } else { Ok(()) }
    }

    /// The minor has the pins, or nobody wants them.
    pub(super) fn forget(&self) -> Result<()> {
        match &self.staged {
            Some(file) => Ok(fs_err::remove_file(file)?),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minors_and_versions() {
        for (text, minor, version) in [
            ("v1.38", "v1.38", None),
            ("v1.37.3", "v1.37", Some("v1.37.3")),
            ("v1.38.0-rc.1", "v1.38", Some("v1.38.0-rc.1")),
        ] {
            let version = version.map(str::to_owned);
            assert_eq!(text.parse::<To>().unwrap(), To { minor: minor.parse().unwrap(), version }, "{text}");
        }
        for bad in ["", "1.37", "v1", "v1.37.", "v1.37.x", "v1.37.3.4", "v1.37-rc.1"] {
            assert!(bad.parse::<To>().is_err(), "{bad}");
        }
    }
}
