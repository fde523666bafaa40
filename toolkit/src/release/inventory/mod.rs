//! What is inside of programs and images: modules, crates, packages, with where they come from and their licences.
//!
//! [`go`] asks the program itself, [`cargo`] asks cargo what it links into the shim, [`debian`] asks the package
//! manager. Nothing is guessed from names. [`licence`] tells licences by their texts, and [`label`] compares those of
//! an image with what the image says of itself.

mod cargo;
mod debian;
mod go;
mod label;
mod licence;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fs_err as fs;

pub(super) use self::go::Sources;
use crate::build;
use crate::images::{Definition, Definitions};
use crate::pipeline::{Built, Tested};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_shell::minor::Minor;
use sluice_shell::platform::Platform;

/// A part that somebody else made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Component {
    /// Its package URL (github.com/package-url/purl-spec), which names it in one word.
    pub(super) purl: String,
    /// `golang.org/x/net`.
    pub(super) name: String,
    /// `v0.1.0`.
    pub(super) version: String,
    /// What its origin says of its bytes.
    pub(super) checksum: Option<Checksum>,
    /// SPDX expression: what its origin states, or else what its text is.
    pub(super) licence: Option<String>,
    /// Where its licence is in a release, below `licenses/`.
    pub(super) file: String,
    /// The text of its licence.
    pub(super) text: Vec<u8>,
}

/// A checksum by the rule of an ecosystem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Checksum {
    /// The file of a crate, hex.
    Sha256(String),
    /// The files of a Go module (golang.org/x/mod/sumdb/dirhash `Hash1`), `h1:…`.
    GoModule(String),
}

/// What an image holds.
pub(super) struct Content {
    /// Programs that were built.
    pub(super) programs: BTreeSet<String>,
    /// All else, by platform.
    pub(super) others: BTreeMap<String, Vec<Component>>,
}

/// What a release holds.
pub(super) struct Inventory {
    /// By platform and name of the program.
    pub(super) programs: BTreeMap<(String, String), Vec<Component>>,
    /// By name of the image.
    pub(super) images: BTreeMap<String, Content>,
}

impl Inventory {
    /// Without anything.
    pub(super) fn empty() -> Self {
        Self { programs: BTreeMap::new(), images: BTreeMap::new() }
    }

    /// Adds the programs of one platform.
    pub(super) fn add_programs(&mut self, shell: &Context, built: &Built<Tested>, sources: &Sources) -> Result<()> {
        for binary in &built.binaries {
            let components = if binary.name == build::Program::SluiceShim.name() {
                cargo::linked(shell, built.platform)
            } else {
                go::linked(&binary.path, sources)
            };
            let components = components.attempting(|| format!("cannot list what is in {}", binary.name))?;
            self.programs.insert((built.platform.to_string(), binary.name.clone()), components);
        }
        Ok(())
    }

    /// Adds the images, each for all `platforms`.
    pub(super) fn add_images(
        &mut self,
        shell: &Context,
        definitions: &Definitions,
        images: &[&Definition],
        platforms: &[Platform],
    ) -> Result<()> {
        for image in images {
            let mut content = Content { programs: definitions.binaries(image), others: BTreeMap::new() };
            for platform in platforms {
                let packages = definitions.packages(image);
                let packages = packages.iter().map(|package| debian::package(&shell.paths, *platform, package));
                let mut others = packages.collect::<Result<Vec<_>>>()?;
                if definitions.has_roots(image) {
                    others.push(cargo::roots(shell)?);
                }
                content.others.insert(platform.to_string(), others);
            }
            self.images.insert(image.name.clone(), content);
        }
        Ok(())
    }

    /// Refuses an image whose label names other licences than those of what is in it.
    pub(super) fn check_labels(&self, images: &[&Definition], minor: &Minor) -> Result<()> {
        for image in images {
            let Some(content) = self.images.get(&image.name) else { continue };
            let programs = self.programs.iter().filter(|((_, name), _)| content.programs.contains(name));
            let inside = programs.flat_map(|(_, parts)| parts).chain(content.others.values().flatten());
            label::problem(image.licenses(minor), inside)
                .map_err(|what| Error::input(format!("{}: licenses: {what}", image.path.display())))?;
        }
        Ok(())
    }

    /// Every component once, in the order of their package URLs.
    pub(super) fn all(&self) -> Vec<&Component> {
        let images = self.images.values().flat_map(|content| content.others.values().flatten());
        let all: BTreeMap<_, _> = self.programs.values().flatten().chain(images).map(|it| (&it.purl, it)).collect();
        all.into_values().collect()
    }
}

/// A package URL; `name` may have slashes.
fn purl(kind: &str, name: &str, version: &str) -> String {
    // What a version may have besides letters, digits, `.`, `-`, `_`, `~` (purl-spec, "Character encoding").
    let version = version.replace('%', "%25").replace('+', "%2B").replace(':', "%3A").replace('@', "%40");
    format!("pkg:{kind}/{name}@{version}")
}

/// The texts that say what others may do with something, by the names of their files.
struct Texts(BTreeMap<String, Vec<u8>>);

/// How the names of licences begin, in capitals.
const LICENCE: [&str; 4] = ["LICENSE", "LICENCE", "COPYING", "UNLICENSE"];

/// How those begin of what comes with a licence.
const BESIDE: [&str; 3] = ["COPYRIGHT", "NOTICE", "PATENTS"];

impl Texts {
    /// Those in `folder`.
    fn of(folder: &Path) -> Result<Self> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let upper = name.to_uppercase();
            let is_named = LICENCE.iter().chain(&BESIDE).any(|start| upper.starts_with(start));
            if entry.path().is_file() && is_named && !upper.ends_with(".GO") {
                found.insert(name, fs::read(entry.path())?);
            }
        }
        Ok(Self(found))
    }

    /// Those that are licences.
    fn licences(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let is_licence = |name: &str| LICENCE.iter().any(|start| name.to_uppercase().starts_with(start));
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_slice())).filter(move |(name, _)| is_licence(name))
    }

    /// All of them, each under its name.
    fn joined(&self) -> Vec<u8> {
        let mut text = vec![];
        for (name, bytes) in &self.0 {
            text.extend(format!("==> {name}\n").bytes());
            text.extend(bytes);
            text.extend(b"\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the other images are compared when a release is made: their programs name their modules.
    #[test]
    fn the_label_of_the_shims_image_is_true() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let shell = Context::for_test(root);
        let definitions = Definitions::read(&root.join("images")).unwrap();
        let image = definitions.select(&["sluice-shim".to_owned()]).unwrap()[0];
        let mut inside = cargo::linked(&shell, Platform::host().unwrap()).unwrap();
        inside.push(cargo::roots(&shell).unwrap());
        let label = image.licenses(&Minor::DEFAULT.parse().unwrap());
        assert_eq!(label::problem(label, &inside), Ok(()));
        let lacking = label.replace(" AND Zlib", "");
        assert!(label::problem(&lacking, &inside).unwrap_err().starts_with("it lacks Zlib of "));
    }

    #[test]
    fn versions_in_package_urls_are_escaped() {
        let url = purl("golang", "github.com/a/b", "v2.0.0+incompatible");
        assert_eq!(url, "pkg:golang/github.com/a/b@v2.0.0%2Bincompatible");
        assert_eq!(purl("deb", "debian/x", "1:2+b1"), "pkg:deb/debian/x@1%3A2%2Bb1");
    }
}
