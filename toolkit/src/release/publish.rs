//! A release in a registry: `PATH/<image>` has the images with what is attached to them, as the layouts of the release
//! have it, and `PATH/release` the archive, under the version as tag.
//!
//! The archive is an artifact of the OCI image specification (manifest.md, "Guidelines for Artifact Usage"): its files
//! are the layers, named by their titles, so that tools of the field fetch them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use fs_err as fs;
use oci_spec::image as oci;
use serde_json::json;

use super::archive::EXTENSION;
use super::description::{Description, Image};
use super::keys::{PublicKeys, Signer};
use super::make::Made;
use super::problem::Problem;
use super::verify::{self, Verdict};
use super::{attached, cosign, layouts};
use crate::images::{Blob, BlobStore, Digest, Reference, layout};
use crate::registry::Registry;
use sluice_shell::error::{Attempt as _, Result};

/// The last part of the repository with the archive.
const REPOSITORY: &str = "release";

/// What the artifact is, as its manifest says.
const KIND: &str = "application/vnd.sluice-project.release.v1";

/// A layer that is the archive.
const ARCHIVE: &str = "application/vnd.sluice-project.release.v1.tar+zstd";

/// A layer that is a file beside it.
const BESIDE: &str = "text/plain";

/// The repository with the archives below `base`.
pub(super) fn repository(base: &str) -> String {
    format!("{base}/{REPOSITORY}")
}

/// The tag of a version: tags have no `+`.
fn tag(version: &str) -> String {
    version.replace('+', "_")
}

/// Pushes a release to the repositories below `base`. `scratch` is an empty folder. Returns the names of all that a
/// person pulls, with their digests; the archive is the last.
pub(super) fn push(
    made: &Made,
    signer: Option<&Signer>,
    registry: &mut Registry,
    base: &str,
    scratch: &Path,
    say: impl Fn(String),
) -> Result<Vec<String>> {
    let artifact = pack(made, scratch)?;
    if let Some(signer) = signer {
        cosign::sign(scratch, &[&signed(&made.description, artifact)], signer)?;
    }
    let mut pushed = vec![];
    let layouts = made.description.layouts().into_keys().map(|layout| (name(layout), made.folder.join(layout)));
    for (image, folder) in layouts.chain([(REPOSITORY, scratch.to_owned())]) {
        for (tag, attached) in tags(&folder)? {
            let to = Reference::new(&format!("{base}/{image}"), &tag)?;
            let (digest, _) = registry
                .push(&folder, &tag, std::slice::from_ref(&to), &say)
                .attempting(|| format!("cannot push {to}"))?;
            if !attached {
                pushed.push(format!("{to}@{digest}"));
            }
        }
    }
    Ok(pushed)
}

/// The last part of an image's repository, which is that of its layout.
fn name(layout: &str) -> &str {
    layout.rsplit('/').next().unwrap_or(layout)
}

/// The tags of a layout, and whether they are of something attached: these come first, so that nobody finds an image
/// without them.
fn tags(folder: &Path) -> Result<Vec<(String, bool)>> {
    let attached = attached::tags(folder)?;
    let index = layouts::index(&folder.join("index.json"))?;
    let names = index.manifests().iter().filter_map(|entry| entry.annotations().as_ref());
    let names = names.filter_map(|all| all.get(oci::ANNOTATION_REF_NAME)).cloned();
    let is_attached = |name: &String| attached.contains_key(name) && name.starts_with("sha256-");
    let mut tags: Vec<_> = names.map(|name| (name.clone(), is_attached(&name))).collect();
    tags.sort_by_key(|(_, attached)| !attached);
    Ok(tags)
}

/// Makes `folder` the layout with the artifact of a release: its archive, and what lies beside that.
fn pack(made: &Made, folder: &Path) -> Result<Digest> {
    let store = BlobStore::open(folder)?;
    let archive = made.archive.file_name().unwrap_or_default().to_string_lossy();
    let files = ["", ".sha256", ".minisig"].map(|extension| format!("{archive}{extension}"));
    let mut layers = vec![];
    for title in files {
        let path = made.archive.with_file_name(&title);
        if !path.exists() {
            continue;
        }
        let mut writer = store.writer()?;
        io::copy(&mut fs::File::open(path)?, &mut writer)?;
        let Blob { digest, size } = writer.commit()?;
        let kind = if title.ends_with(EXTENSION) { ARCHIVE } else { BESIDE };
        let annotations = BTreeMap::from([(oci::ANNOTATION_TITLE, title)]);
        layers.push(json!({"mediaType": kind, "digest": digest, "size": size, "annotations": annotations}));
    }
    let config = store.put(b"{}")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": oci::MediaType::ImageManifest.to_string(),
        "artifactType": KIND,
        "config": {
            "mediaType": oci::MediaType::EmptyJSON.to_string(), "digest": config.digest, "size": config.size,
        },
        "layers": layers,
        "annotations": {
            oci::ANNOTATION_VERSION: made.description.version,
            oci::ANNOTATION_REVISION: made.description.commit,
        },
    });
    let manifest = store.put(&serde_json::to_vec(&manifest)?)?;
    layout::seal(
        folder,
        vec![layout::entry(oci::MediaType::ImageManifest, &manifest, &tag(&made.description.version))?],
    )?;
    Ok(manifest.digest)
}

/// The artifact of a release as what cosign signs: it is released for the same registry as the images.
fn signed(release: &Description, digest: Digest) -> Image {
    let image = release.images.first().map(|image| image.reference.as_str()).unwrap_or_default();
    let base = image.rsplit_once('/').map_or(image, |(base, _)| base);
    let reference = format!("{}:{}", repository(base), tag(&release.version));
    Image { reference, layout: REPOSITORY.to_owned(), digest, manifests: vec![] }
}

/// A release in a registry that is checked.
pub(super) struct Published<'a> {
    /// What the repositories of the images are below, and the version as tag.
    pub(super) at: &'a Reference,
    /// Where that is.
    pub(super) registry: &'a Registry,
    /// The keys that the person has.
    pub(super) keys: Option<&'a PublicKeys>,
    /// Hears what is being done.
    pub(super) say: &'a dyn Fn(String),
}

impl Published<'_> {
    /// Checks the archive as any archive, and that the repositories of the images have what is in it. `scratch` is an
    /// empty folder.
    pub(super) fn check(&self, scratch: &Path) -> Result<Verdict> {
        let from = Reference::new(&repository(self.at.repository()), self.at.tag())?;
        let fetched = scratch.join("artifact");
        let wrong = |what: String| Verdict { description: None, problems: vec![Problem::new(from.to_string(), what)] };
        let digest = match self.registry.fetch(&from, &fetched, self.say) {
            Ok(digest) => digest,
            Err(error) if error.is_about_content() && !error.is_missing() => return Ok(wrong(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let archive = match unpack(&fetched, &digest, scratch)? {
            Ok(archive) => archive,
            Err(what) => return Ok(wrong(what)),
        };
        let inside = scratch.join("inside");
        fs::create_dir(&inside)?;
        let mut verdict = verify::archive(&archive, self.keys, &inside)?;
        let Some(release) = &verdict.description else { return Ok(verdict) };
        if tag(&release.version) != self.at.tag() {
            verdict.problems.push(Problem::new(from.to_string(), format!("it is the release {}", release.version)));
        }
        // If something is wrong already, nobody knows what the images are to be.
        if verdict.problems.is_empty() {
            verdict.problems = self.images(release, &inside.join(release.top()), &fetched)?;
        }
        if release.signed {
            let artifact = signed(release, digest);
            let wrong = self.signature(&artifact, &fetched)?;
            verdict.problems.extend(wrong.into_iter().map(|what| Problem::new(from.to_string(), what)));
        }
        Ok(verdict)
    }

    /// What is wrong with the images in the registry, and with what is attached to them. `folder` has the release.
    fn images(&self, release: &Description, folder: &Path, scratch: &Path) -> Result<Vec<Problem>> {
        let mut problems = vec![];
        for layout in release.layouts().into_keys() {
            let folder = folder.join(layout);
            let attached = attached::tags(&folder)?;
            for (tag, _) in tags(&folder)? {
                let theirs = Reference::new(&format!("{}/{}", self.at.repository(), name(layout)), &tag)?;
                let wrong = match attached.get(&tag) {
                    Some(digest) => self.attached((&folder, digest), &theirs, scratch)?.into_iter().collect(),
                    None => self.registry.compare(&folder, &tag, &theirs, self.say).attempting(|| compare(&theirs))?,
                };
                problems.extend(wrong.into_iter().map(|what| Problem::new(theirs.to_string(), what)));
            }
        }
        Ok(problems)
    }

    /// What is wrong with `theirs`, which is to hold all that is attached in `ours`.
    fn attached(&self, ours: (&Path, &Digest), theirs: &Reference, scratch: &Path) -> Result<Option<String>> {
        Ok(match self.registry.fetch(theirs, scratch, self.say) {
            Ok(digest) if attached::are_in(ours, (scratch, &digest))? => None,
            Ok(_) => Some("it lacks what the release has there".to_owned()),
            Err(error) if error.is_missing() => Some("it is missing".to_owned()),
            Err(error) if error.is_about_content() => Some(error.to_string()),
            Err(error) => return Err(error).attempting(|| compare(theirs)),
        })
    }

    /// What is wrong with the signature of the artifact, which was fetched into the layout `fetched`.
    fn signature(&self, artifact: &Image, fetched: &Path) -> Result<Vec<String>> {
        let place = Reference::new(&repository(self.at.repository()), &cosign::tag(&artifact.digest))?;
        match self.registry.fetch(&place, fetched, self.say) {
            Err(error) if !error.is_about_content() => return Err(error.into()),
            Err(error) if !error.is_missing() => return Ok(vec![format!("its signature: {error}")]),
            _ => {}
        }
        Ok(cosign::verify(fetched, &[artifact], &mut attached::tags(fetched)?, self.keys))
    }
}

/// Gives the files of the artifact their names. Returns where the archive is, or what is wrong.
fn unpack(fetched: &Path, artifact: &Digest, into: &Path) -> Result<Result<PathBuf, String>> {
    let manifest: oci::ImageManifest = match serde_json::from_slice(&fs::read(layout::blob(fetched, artifact))?) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Err(format!("its manifest can't be read: {error}"))),
    };
    let mut archive = None;
    for layer in manifest.layers() {
        let title = layer.annotations().as_ref().and_then(|all| all.get(oci::ANNOTATION_TITLE));
        let title = title.map(String::as_str).unwrap_or_default();
        let stem = title.trim_end_matches(".sha256").trim_end_matches(".minisig");
        if !stem.ends_with(EXTENSION) || !super::bundle::is_name(title) || title.contains('/') {
            return Ok(Err(format!("it holds {title:?}, which is no file of a release")));
        }
        let place = into.join(title);
        if place.exists() {
            return Ok(Err(format!("it holds {title:?} twice")));
        }
        fs::hard_link(layout::blob(fetched, &layouts::digest(layer)?), &place)?;
        if stem == title && archive.replace(place).is_some() {
            return Ok(Err("it holds two archives".to_owned()));
        }
    }
    Ok(archive.ok_or_else(|| "it holds no archive".to_owned()))
}

/// What was attempted.
fn compare(theirs: &Reference) -> String {
    format!("cannot compare {theirs} with the release")
}
