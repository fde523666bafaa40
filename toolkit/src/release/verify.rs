//! Whether a release is as it was made. Nothing in it is trusted: not its paths, not its sizes, not its own list.
//!
//! All problems are reported, not the first alone.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fs_err as fs;

use super::bundle::{Files, is_name};
use super::description::{self, Description, Image, SCHEMA};
use super::keys::PublicKeys;
use super::problem::Problem;
use super::{archive, attached, attestation, cosign, dsse, layouts, minisign, provenance, sbom, statement, sums};
use crate::images::{self, Digest, validate};
use sluice_shell::error::Result;

/// What was found.
pub(super) struct Verdict {
    /// What the release says of itself, if that can be read.
    pub(super) description: Option<Description>,
    /// What is wrong; nothing, if it is whole.
    pub(super) problems: Vec<Problem>,
}

/// A release in a folder that is checked.
struct Check<'a> {
    folder: &'a Path,
    keys: Option<&'a PublicKeys>,
    problems: Vec<Problem>,
}

/// Documents are read up to this size; real ones have some hundred kilobytes.
const DOCUMENT: u64 = 64 << 20;

/// Checks the release in `folder`; its signatures as well, if there are keys.
pub(super) fn folder(folder: &Path, keys: Option<&PublicKeys>) -> Result<Verdict> {
    let mut check = Check { folder, keys, problems: vec![] };
    let sums = check.sums()?;
    let description = check.description();
    if let Some(description) = &description {
        check.signature(description);
        check.programs(description, &sums);
        check.images(description)?;
        check.bills(description, &sums);
        check.provenance(description);
    }
    check.problems.sort();
    check.problems.dedup();
    Ok(Verdict { description, problems: check.problems })
}

/// Checks the archive `path`, which is unpacked into the empty folder `scratch`, and what lies beside it.
pub(super) fn archive(path: &Path, keys: Option<&PublicKeys>, scratch: &Path) -> Result<Verdict> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = |extension: &str| path.with_file_name(format!("{name}{extension}"));
    let mut problems = vec![];
    if let Ok(text) = fs::read_to_string(beside(".sha256"))
        && sums::parse(&text).ok().and_then(|sums| sums.get(&name).copied()) != Some(sums::digest(path)?)
    {
        problems.push(Problem::new(&name, format!("its digest is not the one in {name}.sha256")));
    }
    if let (Some(keys), Ok(text)) = (keys, fs::read_to_string(beside(".minisig"))) {
        problems.extend(
            minisign::verify(keys, &fs::read(path)?, &text)
                .err()
                .map(|reason| Problem::new(format!("{name}.minisig"), reason)),
        );
    }
    if !problems.is_empty() {
        // What follows is the unpacking of what nobody vouches for.
        return Ok(Verdict { description: None, problems });
    }
    let (top, packed) = match archive::unpack(path, scratch) {
        Ok(unpacked) => unpacked,
        Err(error) => {
            let problems = vec![Problem::new(name, error.to_string())];
            return Ok(Verdict { description: None, problems });
        }
    };
    let mut verdict = folder(&scratch.join(&top), keys)?;
    if let Some(description) = &verdict.description {
        let whole = archive::digest(&scratch.join(&top), &description.top(), description.source_date_epoch)?;
        if whole != packed {
            let what = "names, times or modes in it are not those that a release has";
            verdict.problems.push(Problem::new(&name, what));
        }
        let named = format!("{}{}", description.top(), archive::EXTENSION);
        // Some places know no `+`.
        if name.replace('+', "_") != named.replace('+', "_") {
            verdict.problems.push(Problem::new(&name, format!("it is the release that is named {named}")));
        }
    }
    Ok(verdict)
}

impl Check<'_> {
    fn report(&mut self, file: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem::new(file, what));
    }

    /// The bytes of a document.
    fn read(&mut self, name: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(name);
        let size = fs::symlink_metadata(&path).ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
        match size {
            None => self.report(name, "it is missing"),
            Some(size) if size > DOCUMENT => self.report(name, format!("it has {size} bytes")),
            Some(_) => match fs::read(path) {
                Ok(bytes) => return Some(bytes),
                Err(error) => self.report(name, error.to_string()),
            },
        }
        None
    }

    /// The document `name` as JSON.
    fn json<T: serde::de::DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let bytes = self.read(name)?;
        serde_json::from_slice(&bytes).map_err(|error| self.report(name, format!("it can't be read: {error}"))).ok()
    }

    /// Every file is in the list with its digest, and there is no other. Returns the digests as they are.
    fn sums(&mut self) -> Result<BTreeMap<String, Digest>> {
        let Files { regular, odd } = Files::of(self.folder)?;
        for name in odd {
            self.report(name, "it is no regular file that a release can hold");
        }
        let listed = match self.read(sums::NAME).map(String::from_utf8) {
            Some(Ok(text)) => sums::parse(&text).map_err(|what| self.report(sums::NAME, what)).unwrap_or_default(),
            Some(Err(_)) => {
                self.report(sums::NAME, "it is no text");
                BTreeMap::new()
            }
            None => BTreeMap::new(),
        };
        let mut found = BTreeMap::new();
        for name in regular.iter().filter(|name| *name != sums::NAME && *name != sums::SIGNATURE) {
            let digest = sums::digest(&self.folder.join(name))?;
            match listed.get(name) {
                None => self.report(name, "it is not in SHA256SUMS"),
                Some(expected) if *expected != digest => {
                    self.report(name, format!("it has the digest {digest}, SHA256SUMS says {expected}"));
                }
                Some(_) => {}
            }
            found.insert(name.clone(), digest);
        }
        for name in listed.keys().filter(|name| !regular.contains(*name)) {
            self.report(name, "it is missing");
        }
        Ok(found)
    }

    fn description(&mut self) -> Option<Description> {
        let description: Description = self.json(description::NAME)?;
        if description.schema != SCHEMA {
            self.report(description::NAME, format!("this toolkit knows schema {SCHEMA}, not {}", description.schema));
            return None;
        }
        let names = description.programs.iter().map(|program| &program.file);
        let names = names.chain(description.images.iter().map(|image| &image.layout)).cloned();
        let outside: Vec<_> =
            names.chain(sbom::subjects(&description).into_keys()).filter(|name| !is_name(name)).collect();
        for name in &outside {
            self.report(description::NAME, format!("{name:?} is no name for a file of a release"));
        }
        if !is_name(&description.top()) || description.top().contains('/') {
            self.report(description::NAME, format!("{:?} is no version", description.version));
            return None;
        }
        outside.is_empty().then_some(description)
    }

    /// The list of digests is signed by the keys that the person has.
    fn signature(&mut self, description: &Description) {
        let there = self.folder.join(sums::SIGNATURE).exists();
        match self.keys {
            _ if description.signed && !there => self.report(sums::SIGNATURE, "it is missing"),
            _ if !description.signed && there => {
                self.report(sums::SIGNATURE, "release.json says that nothing is signed");
            }
            Some(_) if !description.signed => self.report(sums::SIGNATURE, "the release is not signed"),
            None => {}
            Some(keys) => {
                let (Some(list), Some(text)) = (self.read(sums::NAME), self.read(sums::SIGNATURE)) else { return };
                let text = String::from_utf8_lossy(&text).into_owned();
                if let Err(reason) = minisign::verify(keys, &list, &text) {
                    self.report(sums::SIGNATURE, reason);
                }
            }
        }
    }

    fn programs(&mut self, description: &Description, sums: &BTreeMap<String, Digest>) {
        for program in &description.programs {
            match sums.get(&program.file) {
                None => self.report(&program.file, "it is missing"),
                Some(digest) if *digest != program.digest => {
                    self.report(&program.file, format!("release.json names another program, {}", program.digest));
                }
                Some(_) => {}
            }
        }
        let named: BTreeSet<_> = description.programs.iter().map(|program| &program.file).collect();
        for name in sums.keys() {
            let expected = named.contains(name) || name == description::INSTALLER;
            match fs::metadata(self.folder.join(name)) {
                Ok(meta) if (meta.permissions().mode() & 0o111 != 0) == expected => {}
                Ok(_) if expected => self.report(name, "it can't be executed"),
                Ok(_) => self.report(name, "it can be executed"),
                Err(error) => self.report(name, error.to_string()),
            }
        }
        for name in sums.keys().filter(|name| name.starts_with("bin/") && !named.contains(name)) {
            self.report(name, "release.json does not name it");
        }
    }

    /// Each program and image has a bill of materials that is about it, and there is no other.
    fn bills(&mut self, description: &Description, sums: &BTreeMap<String, Digest>) {
        let subjects = sbom::subjects(description);
        for (name, digest) in &subjects {
            let Some(bill) = self.json(name) else { continue };
            if let Err(what) = sbom::fits(&bill, digest) {
                self.report(name, what);
            }
            let payload = serde_json::to_vec(&sbom::statement(name, digest, &bill)).unwrap_or_default();
            self.envelope(description, name, &payload);
        }
        let signed = |name: &String| description.signed.then(|| statement::envelope(name));
        let known: BTreeSet<String> =
            subjects.keys().flat_map(|name| [Some(name.clone()), signed(name)]).flatten().collect();
        for name in sums.keys().filter(|name| name.starts_with("sbom/") && !known.contains(*name)) {
            self.report(name, "nothing in the release belongs to it");
        }
    }

    /// The provenance is about these programs and images.
    fn provenance(&mut self, description: &Description) {
        let Some(bytes) = self.read(provenance::NAME) else { return };
        let read = serde_json::from_slice(&bytes).map_err(|error| format!("it can't be read: {error}"));
        if let Err(what) = read.and_then(|statement| provenance::fits(&statement, description)) {
            self.report(provenance::NAME, what);
        }
        self.envelope(description, provenance::NAME, &bytes);
    }

    /// The envelope of the document `name` carries `payload`, and is signed, if the release is.
    fn envelope(&mut self, description: &Description, name: &str, payload: &[u8]) {
        let name = statement::envelope(name);
        if !description.signed {
            return;
        }
        let Some(bytes) = self.read(&name) else { return };
        match dsse::open(&bytes, self.keys) {
            Err(what) => self.report(name, what),
            Ok(inner) if inner != payload => self.report(name, "it carries another document than the one beside it"),
            Ok(_) => {}
        }
    }

    /// Each layout is whole, and holds the images that the release names, no others.
    fn images(&mut self, description: &Description) -> Result<()> {
        for (layout, named) in description.layouts() {
            let folder = self.folder.join(layout);
            match validate::layout(&folder) {
                Ok(()) => {}
                Err(images::Error::Invalid { problems, .. }) => {
                    for problem in problems {
                        self.report(format!("{layout}/{}", problem.file), problem.what);
                    }
                    continue;
                }
                Err(error) => {
                    self.report(layout, error.to_string());
                    continue;
                }
            }
            let found = match layouts::images(&folder, layout) {
                Ok(found) => found,
                Err(error) => {
                    self.report(layout, error.to_string());
                    continue;
                }
            };
            match self.attached(&folder, &named, description.signed) {
                Ok(wrong) => wrong.into_iter().for_each(|what| self.report(format!("{layout}/index.json"), what)),
                Err(error) => self.report(layout, error.to_string()),
            }
            for image in &found {
                if !description.images.contains(image) {
                    let what =
                        format!("release.json does not name {} with the digest {}", image.reference, image.digest);
                    self.report(format!("{layout}/index.json"), what);
                }
            }
            for image in named.iter().filter(|image| !found.contains(image)) {
                let what = format!("it lacks {} with the digest {}", image.reference, image.digest);
                self.report(format!("{layout}/index.json"), what);
            }
        }
        Ok(())
    }

    /// What is wrong with signatures and attestations of `images` in the layout in `folder`. None may be there if the
    /// release is not signed.
    fn attached(&self, folder: &Path, images: &[&Image], signed: bool) -> Result<Vec<String>> {
        let mut found = attached::tags(folder)?;
        let mut wrong = vec![];
        if signed {
            wrong.extend(cosign::verify(folder, images, &mut found, self.keys));
            wrong.extend(attestation::verify(self.folder, images, &mut found)?);
        }
        wrong.extend(found.keys().map(|tag| format!("{tag} belongs to nothing in the release")));
        Ok(wrong)
    }
}
