//! Checks finished images: recomputes every digest and size, and reports everything that does not fit, not the first
//! alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, Read, Write},
    path::Path,
};

use flate2::write::GzDecoder;
use fs_err as fs;
use oci_spec::image as oci;
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Error,
    digest::{Digest, Hashed},
};

/// One thing that does not fit in a layout or archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file in the layout or archive.
    pub(crate) file: String,
    /// What is wrong with it.
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

/// Checks the OCI layout in `folder`.
pub(crate) fn layout(folder: &Path) -> Result<(), Error> {
    let mut files = Files::default();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.map_err(io::Error::from)?;
        if entry.file_type().is_file() {
            let name = entry.path().strip_prefix(folder).unwrap_or(entry.path()).display().to_string();
            files.add(name, fs::File::open(entry.path())?)?;
        }
    }
    verdict(folder, files, false)
}

/// Checks the archive `path` that `docker load` reads.
pub(crate) fn archive(path: &Path) -> Result<(), Error> {
    let mut files = Files::default();
    let fail = |source| Error::Write { path: path.to_owned(), source };
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(1 << 18, fs::File::open(path)?));
    for entry in archive.entries().map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if entry.header().entry_type().is_file() {
            let name = entry.path().map_err(fail)?.display().to_string();
            files.add(name, entry)?;
        }
    }
    verdict(path, files, true)
}

fn verdict(path: &Path, files: Files, docker: bool) -> Result<(), Error> {
    let mut check = Check { files: files.0, problems: vec![], used: BTreeSet::new() };
    check.names();
    check.index_json();
    if docker {
        check.manifest_json();
    }
    check.unused();
    if check.problems.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid { path: path.to_owned(), problems: check.problems })
}

/// What was read of one file.
struct File {
    digest: Digest,
    size: u64,
    /// The digest of what gzip decompresses it to, if it is gzip.
    diff_id: Option<Digest>,
    /// The bytes of a small file.
    bytes: Vec<u8>,
}

/// Documents are kept up to this size; real ones have a few kilobytes.
const DOCUMENT: usize = 4 << 20;

#[derive(Default)]
struct Files(BTreeMap<String, File>);

impl Files {
    fn add(&mut self, name: String, mut reader: impl Read) -> Result<(), Error> {
        let mut whole = Hashed::new(io::sink());
        let mut inside = GzDecoder::new(Hashed::new(io::sink()));
        let (mut bytes, mut is_gzip) = (vec![], true);
        let mut buffer = vec![0; 1 << 17];
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            let chunk = &buffer[..read];
            whole.write_all(chunk)?;
            is_gzip = is_gzip && inside.write_all(chunk).is_ok();
            if bytes.len() < DOCUMENT {
                bytes.extend_from_slice(chunk);
            }
        }
        let (_, digest, size) = whole.finish();
        let diff_id = if is_gzip { inside.finish().ok().map(|hashed| hashed.finish().1) } else { None };
        self.0.insert(name, File { digest, size, diff_id, bytes });
        Ok(())
    }
}

/// Whether an entry has the tag of a signature or of attestations in cosign's form.
fn is_attached(entry: &oci::Descriptor) -> bool {
    let tag = entry.annotations().as_ref().and_then(|map| map.get(oci::ANNOTATION_REF_NAME));
    tag.is_some_and(|tag| tag.starts_with("sha256-") && [".sig", ".att"].iter().any(|end| tag.ends_with(end)))
}

struct Check {
    files: BTreeMap<String, File>,
    problems: Vec<Problem>,
    used: BTreeSet<String>,
}

/// An entry of docker's manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl Check {
    fn report(&mut self, file: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem { file: file.into(), what: what.into() });
    }

    /// Every blob has the name that its bytes give it.
    fn names(&mut self) {
        let wrong: Vec<_> = self
            .files
            .iter()
            .filter(|(name, file)| name.strip_prefix("blobs/sha256/").is_some_and(|name| name != file.digest.hex()))
            .map(|(name, file)| (name.clone(), format!("its content has the digest {}", file.digest)))
            .collect();
        for (name, what) in wrong {
            self.report(name, what);
        }
    }

    fn document<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        self.used.insert(name.to_owned());
        let parsed = match self.files.get(name) {
            None => Err("it is missing".to_owned()),
            Some(file) => serde_json::from_slice(&file.bytes).map_err(|error| format!("it can't be read: {error}")),
        };
        parsed.map_err(|what| self.report(name, what)).ok()
    }

    /// The file that `descriptor` names; its size is checked here, its digest by [`Check::names`].
    fn blob(&mut self, descriptor: &oci::Descriptor) -> String {
        let name = format!("blobs/sha256/{}", descriptor.digest().digest());
        self.used.insert(name.clone());
        match self.files.get(&name).map(|file| file.size) {
            None => self.report(&name, "it is missing"),
            Some(size) if size != descriptor.size() => {
                self.report(&name, format!("it has {size} bytes, its descriptor says {}", descriptor.size()));
            }
            Some(_) => {}
        }
        name
    }

    fn index_json(&mut self) {
        #[derive(Deserialize)]
        struct Marker {
            #[serde(rename = "imageLayoutVersion")]
            version: String,
        }
        if let Some(marker) = self.document::<Marker>("oci-layout")
            && marker.version != "1.0.0"
        {
            self.report("oci-layout", format!("unknown version {}", marker.version));
        }
        let Some(index) = self.document::<oci::ImageIndex>("index.json") else { return };
        for entry in index.manifests() {
            let tagged = entry.annotations().as_ref().is_some_and(|map| map.contains_key(oci::ANNOTATION_REF_NAME));
            if !tagged {
                self.report("index.json", format!("{} has no tag", entry.digest()));
            }
            // An archive names the manifest of its one platform; what is attached has none.
            if *entry.media_type() == oci::MediaType::ImageManifest {
                if entry.platform().is_some() || !is_attached(entry) {
                    self.manifest(entry);
                } else {
                    let name = self.blob(entry);
                    self.attached(&name);
                }
                continue;
            }
            let name = self.blob(entry);
            let Some(platforms) = self.document::<oci::ImageIndex>(&name) else { continue };
            for descriptor in platforms.manifests() {
                self.manifest(descriptor);
            }
        }
    }

    /// A signature, or an attestation, is an image beside those that it is about, without a platform; its layers are
    /// what is signed.
    fn attached(&mut self, name: &str) {
        let Some(manifest) = self.document::<oci::ImageManifest>(name) else { return };
        for part in manifest.layers().iter().chain([manifest.config()]) {
            self.blob(part);
        }
    }

    fn manifest(&mut self, descriptor: &oci::Descriptor) {
        let name = self.blob(descriptor);
        let Some(manifest) = self.document::<oci::ImageManifest>(&name) else { return };
        let layers: Vec<_> = manifest.layers().iter().map(|layer| self.blob(layer)).collect();
        let config_name = self.blob(manifest.config());
        let Some(config) = self.document::<oci::ImageConfiguration>(&config_name) else { return };
        match descriptor.platform() {
            Some(platform) if platform.architecture() == config.architecture() && platform.os() == config.os() => {}
            _ => self.report(&name, "the platform in the index is not that of the configuration"),
        }
        self.diff_ids(&config_name, config.rootfs().diff_ids(), &layers);
    }

    fn diff_ids(&mut self, config: &str, diff_ids: &[String], layers: &[String]) {
        if diff_ids.len() != layers.len() {
            self.report(config, format!("it names {} layers, the manifest {}", diff_ids.len(), layers.len()));
        }
        for (diff_id, layer) in diff_ids.iter().zip(layers) {
            let actual = self.files.get(layer).map(|file| file.diff_id);
            match actual {
                None => {}
                Some(None) => self.report(layer, "it is not a gzip file"),
                Some(Some(actual)) if actual.to_string() != *diff_id => {
                    self.report(
                        layer,
                        format!("its archive has the digest {actual}, the configuration says {diff_id}"),
                    );
                }
                Some(Some(_)) => {}
            }
        }
    }

    fn manifest_json(&mut self) {
        self.used.insert("repositories".to_owned());
        let Some(entries) = self.document::<Vec<DockerEntry>>("manifest.json") else { return };
        if entries.is_empty() {
            self.report("manifest.json", "it names no image");
        }
        for entry in entries {
            if entry.repo_tags.is_empty() {
                self.report("manifest.json", "its image has no name");
            }
            for name in entry.layers.iter().filter(|name| !self.used.contains(*name)).cloned().collect::<Vec<_>>() {
                self.report("manifest.json", format!("{name} is a layer of no image in index.json"));
            }
            let Some(config) = self.document::<oci::ImageConfiguration>(&entry.config) else { continue };
            self.diff_ids(&entry.config, config.rootfs().diff_ids(), &entry.layers);
        }
    }

    fn unused(&mut self) {
        let unused: Vec<_> = self.files.keys().filter(|name| !self.used.contains(*name)).cloned().collect();
        for name in unused {
            self.report(name, "no image needs it");
        }
    }
}
