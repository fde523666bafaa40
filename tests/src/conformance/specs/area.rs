//! `ci/conformance/e2e/<area>.toml`: which of upstream's end-to-end specs run, and which can't.

use serde::Deserialize;
use std::path::Path;

use super::ground::Ground;
use crate::conformance::suite::Entry;
use sluice_shell::error::{Attempt as _, Error, Result};

/// An area of the specs, as its file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Area {
    /// The file's name without `.toml`.
    #[serde(skip)]
    pub(super) name: String,
    /// One line for people.
    pub(super) about: String,
    /// Regular expression that the names of its specs fit.
    pub(super) focus: String,
    /// Regular expression of those among them that are not meant.
    pub(super) skip: String,
    /// Minutes that all of it may take on one control plane.
    pub(super) timeout: u64,
    /// Specs that need a Pod which runs.
    #[serde(default)]
    pods: Vec<Entry>,
    /// Specs that say nothing without what is missing here: they do not run and are not counted. Without a node that
    /// runs Pods, also those that need one.
    #[serde(default)]
    pub(super) outside: Vec<Entry>,
    /// Specs that can't pass on any of the systems. They run, to see that they still do not.
    #[serde(default)]
    pub(super) cannot: Vec<Entry>,
}

impl Area {
    /// Reads a file, for systems that stand there.
    ///
    /// # Errors
    /// When it has another form, or an entry has no reason.
    pub(super) fn load(path: &Path, ground: Ground) -> Result<Self> {
        let text = fs_err::read_to_string(path)?;
        let mut area: Self = toml::from_str(&text).attempting(|| format!("cannot read {}", path.display()))?;
        area.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bare = |entry: &&Entry| entry.reason.trim().is_empty() || entry.package.is_some() || !entry.only.is_empty();
        if let Some(entry) = area.pods.iter().chain(&area.outside).chain(&area.cannot).find(bare) {
            let names = entry.tests.join(", ");
            return Err(Error::input(format!("{}: {names}: an entry has `tests` and a `reason`", path.display())));
        }
        let pods = std::mem::take(&mut area.pods);
        if ground == Ground::Processes {
            area.outside.splice(0..0, pods);
        }
        Ok(area)
    }

    /// The flags that choose its specs; `filter`: only those with this text after what the area's names begin with.
    pub(super) fn flags(&self, filter: Option<&str>) -> Vec<String> {
        let focus = match filter {
            Some(text) => format!("{}.*{}", self.focus, quoted(text)),
            None => self.focus.clone(),
        };
        let outside = self.outside.iter().flat_map(|entry| &entry.tests).map(|name| match name.strip_suffix('*') {
            Some(start) => quoted(start),
            None => format!("{}$", quoted(name)),
        });
        let skip = std::iter::once(self.skip.clone()).chain(outside).map(|pattern| format!("--skip={pattern}"));
        std::iter::once(format!("--focus={focus}")).chain(skip).collect()
    }

    /// Whether a spec is not to run.
    pub(super) fn is_outside(&self, spec: &str) -> bool {
        self.outside.iter().any(|entry| entry.covering("", spec).is_some())
    }

    /// Names of specs outside that are no names of `specs`.
    pub(super) fn gone<'a>(&'a self, specs: impl Iterator<Item = &'a str> + Clone) -> Vec<&'a str> {
        let mut gone = Vec::new();
        for entry in &self.outside {
            let met: Vec<usize> = specs.clone().filter_map(|spec| entry.covering("", spec)).collect();
            let names = entry.tests.iter().enumerate().filter(|(place, _)| !met.contains(place));
            gone.extend(names.map(|(_, name)| name.as_str()));
        }
        gone
    }
}

/// As a regular expression of Go that fits this text alone.
fn quoted(text: &str) -> String {
    let special = |letter: char| letter.is_ascii_punctuation() && letter != '_';
    text.chars().flat_map(|letter| special(letter).then_some('\\').into_iter().chain([letter])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area() -> Area {
        let entry = |tests: &[&str]| Entry {
            package: None,
            tests: tests.iter().map(|&test| test.to_owned()).collect(),
            only: vec![],
            reason: "because".to_owned(),
        };
        Area {
            name: "a".to_owned(),
            about: "About a.".to_owned(),
            focus: r"\[a\]".to_owned(),
            skip: "Slow".to_owned(),
            timeout: 1,
            pods: vec![],
            outside: vec![entry(&["[a] b", "[a] c*"])],
            cannot: vec![],
        }
    }

    #[test]
    fn the_area_of_the_repository_can_be_read() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/conformance/e2e/api-machinery.toml");
        let [alone, on_a_node] = [Ground::Processes, Ground::Node].map(|ground| Area::load(&file, ground).unwrap());
        assert_eq!(alone.name, "api-machinery");
        let webhook = "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing";
        assert!(alone.is_outside(webhook) && !on_a_node.is_outside(webhook));
    }

    #[test]
    fn names_become_patterns() {
        let all = [r"--focus=\[a\]", "--skip=Slow", r"--skip=\[a\] b$", r"--skip=\[a\] c"];
        assert_eq!(area().flags(None), all);
        assert_eq!(area().flags(Some("x.y"))[0], r"--focus=\[a\].*x\.y");
    }

    #[test]
    fn a_name_that_fits_no_spec_is_gone() {
        assert_eq!(area().gone(["[a] b", "[a] cd"].into_iter()), Vec::<&str>::new());
        assert_eq!(area().gone(["[a] bc", "[a] cd"].into_iter()), ["[a] b"]);
        assert!(area().is_outside("[a] cd") && !area().is_outside("[a] bc"));
    }
}
