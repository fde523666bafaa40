//! Puts a release together.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::bundle::{Bundle, Files};
use super::description::{self, Description, Program, SCHEMA};
use super::inventory::Inventory;
use super::keys::Signer;
use super::provenance::{self, Builder};
use super::{archive, attestation, changes, cosign, dsse, layouts, manifests, minisign, sbom, statement, sums};
use crate::pipeline::{Built, Tested};
use sluice_shell::error::{Error, Result};

/// What a release is made of.
pub(super) struct Parts<'a> {
    /// The workspace: manifests, licence, changelog.
    pub(super) root: &'a Path,
    /// Commit of the workspace.
    pub(super) commit: String,
    /// Upstream's version.
    pub(super) kubernetes: String,
    /// One for each platform, at least one. They can only be of a series that was verified in full.
    pub(super) builds: &'a [Built<Tested>],
    /// A folder with OCI layouts; some may be of images that are no more.
    pub(super) layouts: PathBuf,
    /// The names of the layouts that belong to the release.
    pub(super) images: BTreeSet<String>,
    /// What is inside of programs and images.
    pub(super) inventory: Inventory,
    /// How it was built.
    pub(super) builder: Builder,
    /// Names and contents of the patches, below `patches/`.
    pub(super) patches: Vec<(String, Vec<u8>)>,
}

/// A finished release.
pub(super) struct Made {
    /// What it holds.
    pub(super) description: Description,
    /// Its folder.
    pub(super) folder: PathBuf,
    /// Its archive.
    pub(super) archive: PathBuf,
}

/// Writes the release into a folder of `out` that is named for its version, and as an archive beside it. What an
/// earlier run wrote is replaced when all is complete.
pub(super) fn make(parts: &Parts<'_>, signer: Option<&Signer>, out: &Path) -> Result<Made> {
    fs::create_dir_all(out)?;
    let scratch = tempfile::Builder::new().prefix(".partial-").tempdir_in(out)?;
    let bundle = Bundle::create(&scratch.path().join("release"))?;
    let description = fill(&bundle, parts, signer)?;
    bundle.add(description::NAME, description.text()?)?;
    let text = sums::text(bundle.folder())?;
    bundle.add(sums::NAME, &text)?;
    if let Some(signer) = signer {
        bundle.add(sums::SIGNATURE, minisign::sign(signer, text.as_bytes(), &about(&description, sums::NAME)))?;
    }
    let folder = out.join(&description.version);
    let name = format!("{}{}", description.top(), archive::EXTENSION);
    let packed = scratch.path().join(&name);
    archive::write(bundle.folder(), &description.top(), description.source_date_epoch, &packed)?;
    let sum = sums::digest(&packed)?;
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(bundle.folder(), &folder)?;
    let archive = out.join(&name);
    fs::rename(&packed, &archive)?;
    fs::write(out.join(format!("{name}.sha256")), sums::line(&sum, &name))?;
    let signature = out.join(format!("{name}.minisig"));
    match signer {
        Some(signer) => {
            let bytes = fs::read(&archive)?;
            fs::write(signature, minisign::sign(signer, &bytes, &about(&description, &name)))?;
        }
        // One of an earlier run is none of this archive.
        None if signature.exists() => fs::remove_file(signature)?,
        None => {}
    }
    Ok(Made { description, folder, archive })
}

fn about(description: &Description, file: &str) -> String {
    format!("sluice {} {file}", description.version)
}

/// Adds everything but the description and the sums.
fn fill(bundle: &Bundle, parts: &Parts<'_>, signer: Option<&Signer>) -> Result<Description> {
    let first = parts.builds.first().ok_or_else(|| Error::input("a release needs programs"))?;
    let mut description = Description {
        schema: SCHEMA,
        version: first.version.clone(),
        kubernetes: parts.kubernetes.clone(),
        commit: parts.commit.clone(),
        source_date_epoch: u64::try_from(first.source_date_epoch)
            .map_err(|_| Error::input("SOURCE_DATE_EPOCH is before 1970"))?,
        signed: signer.is_some(),
        programs: vec![],
        images: vec![],
    };
    for built in parts.builds {
        description.programs.extend(add_programs(bundle, built)?);
    }
    for layout in &parts.images {
        let name = format!("images/{layout}");
        bundle.add_folder(&name, &parts.layouts.join(layout))?;
        let folder = bundle.folder().join(&name);
        let images = layouts::images(&folder, &name)?;
        if let Some(signer) = signer {
            cosign::sign(&folder, &images.iter().collect::<Vec<_>>(), signer)?;
        }
        description.images.extend(images);
    }
    add_texts(bundle, parts, &description)?;
    add_statements(bundle, parts, &description, signer)?;
    if signer.is_some() {
        for (layout, images) in description.layouts() {
            attestation::add(bundle.folder(), &bundle.folder().join(layout), &images)?;
        }
    }
    Ok(description)
}

/// Adds patches, manifests, charts, the installer, licences and the changelog.
fn add_texts(bundle: &Bundle, parts: &Parts<'_>, description: &Description) -> Result<()> {
    for (name, bytes) in &parts.patches {
        bundle.add(&format!("patches/{name}"), bytes)?;
    }
    let from = parts.root.join("images/manifests");
    for file in Files::of(&from)?.all()? {
        let text = fs::read_to_string(from.join(&file))?;
        bundle.add(&format!("manifests/{file}"), manifests::pinned(&text, description)?)?;
    }
    let from = parts.root.join("images/charts");
    for path in Files::of(&from)?.all()? {
        let text = fs::read_to_string(from.join(&path))?;
        let (name, file) = path.split_once('/').unwrap_or((&path, ""));
        bundle.add(&format!("charts/{path}"), manifests::chart(name, file, &text, description)?)?;
    }
    for component in parts.inventory.all() {
        bundle.add(&format!("licenses/{}", component.file), &component.text)?;
    }
    let from = parts.root.join("install");
    for file in Files::of(&from)?.all()? {
        let name = format!("install/{file}");
        match name == description::INSTALLER {
            true => bundle.add_program(&name, &from.join(&file))?,
            false => bundle.add(&name, fs::read(from.join(&file))?)?,
        }
    }
    bundle.add("LICENSE", fs::read(parts.root.join("LICENSE"))?)?;
    let changelog = fs::read_to_string(parts.root.join("CHANGELOG.md"))?;
    bundle.add("CHANGELOG.md", changes::newest(&changelog, &description.version)?)
}

/// Adds what is stated about programs and images; signed, if there is a key.
fn add_statements(
    bundle: &Bundle,
    parts: &Parts<'_>,
    description: &Description,
    signer: Option<&Signer>,
) -> Result<()> {
    let subjects = sbom::subjects(description);
    for (name, bill) in sbom::all(description, &parts.inventory)? {
        bundle.add(&name, serde_json::to_string_pretty(&bill)? + "\n")?;
        if let (Some(signer), Some(digest)) = (signer, subjects.get(&name)) {
            let payload = serde_json::to_vec(&sbom::statement(&name, digest, &bill))?;
            bundle.add(&statement::envelope(&name), dsse::sign(signer, &payload)?)?;
        }
    }
    let text = serde_json::to_string_pretty(&provenance::of(description, &parts.builder, &parts.inventory)?)? + "\n";
    bundle.add(provenance::NAME, &text)?;
    if let Some(signer) = signer {
        bundle.add(&statement::envelope(provenance::NAME), dsse::sign(signer, text.as_bytes())?)?;
    }
    Ok(())
}

fn add_programs(bundle: &Bundle, built: &Built<Tested>) -> Result<Vec<Program>> {
    let platform = built.platform.to_string();
    let mut binaries: Vec<_> = built.binaries.iter().collect();
    binaries.sort_by_key(|binary| &binary.name);
    let add = |binary: &&crate::pipeline::Binary| {
        let file = format!("bin/{}/{}", platform.replace('/', "-"), binary.name);
        bundle.add_program(&file, &binary.path)?;
        let digest = sums::digest(&bundle.folder().join(&file))?;
        let (name, version) = (binary.name.clone(), binary.version.clone());
        Ok(Program { name, platform: platform.clone(), version, file, digest })
    };
    binaries.iter().map(add).collect()
}
