//! Turns definitions into images.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use fs_err as fs;
use oci_spec::image as oci;

use super::{
    BlobStore, Definitions, Error, Image, Index, Layer, Reference, Timestamp,
    definition::{self, Definition, Source},
    elf, package, roots,
    tree::{Content, Entry, Node, Tree},
};
use crate::pipeline::{Binary, Built, Depth};
use sluice_shell::minor::Minor;
use sluice_shell::paths::Paths;
use sluice_shell::platform::Platform;

/// One form of an image, ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    /// What its tag ends in; empty for the first form.
    pub(crate) suffix: String,
    /// The tagged image.
    pub(crate) index: Index,
}

/// Where the software in the images comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The address of the source code.
    pub(crate) source: String,
    /// The commit, if it is known.
    pub(crate) revision: Option<String>,
}

/// What every image of one run has in common.
#[derive(Debug)]
pub(crate) struct Assembler {
    /// In the order of the platforms.
    parts: Vec<Part>,
    created: Timestamp,
    minor: Minor,
    registry: String,
    /// Of Kubernetes with ours, for the tags.
    version: String,
    origin: Origin,
    store: BlobStore,
}

/// The programs of one platform.
#[derive(Debug)]
struct Part {
    platform: Platform,
    binaries: BTreeMap<String, Binary>,
    /// Where files of Debian packages are.
    debian: PathBuf,
}

impl Part {
    fn new<D: Depth>(built: &Built<D>, paths: &Paths) -> Self {
        let binary = |binary: &Binary| (binary.name.clone(), binary.clone());
        let binaries = built.binaries.iter().map(binary).collect();
        Self { platform: built.platform, binaries, debian: debian_root(paths, built.platform) }
    }
}

/// Where files of a platform's Debian packages are on this machine.
fn debian_root(paths: &Paths, platform: Platform) -> PathBuf {
    if platform.is_host() { "/".into() } else { paths.debian(platform) }
}

impl Assembler {
    /// Images of programs, a build for each platform, named `registry/<name>:<tag>`, with their layers in `store`.
    ///
    /// # Errors
    /// When there is no build.
    pub(crate) fn new<D: Depth>(
        builds: &[Built<D>],
        paths: &Paths,
        registry: &str,
        origin: Origin,
        store: BlobStore,
    ) -> Result<Self, Error> {
        let first = builds.first().ok_or(Error::NoPlatform)?;
        let mut parts: Vec<Part> = builds.iter().map(|built| Part::new(built, paths)).collect();
        parts.sort_by_key(|part| part.platform);
        Ok(Self {
            parts,
            created: Timestamp::new(first.source_date_epoch)?,
            minor: first.minor.clone(),
            registry: registry.to_owned(),
            version: first.version.clone(),
            origin,
            store,
        })
    }

    /// The moment that every file carries.
    pub(crate) fn created(&self) -> Timestamp {
        self.created
    }

    /// Where the layers are.
    pub(crate) fn store(&self) -> &BlobStore {
        &self.store
    }

    /// Packs all variants of `image` for all platforms. Variants share their layers.
    pub(crate) fn assemble(&self, definitions: &Definitions, image: &Definition) -> Result<Vec<Variant>, Error> {
        let layers = self.parts.iter().map(|part| Ok((part, self.layers(definitions, image, part)?)));
        let layers = layers.collect::<Result<Vec<_>, Error>>()?;
        image.variants.iter().map(|variant| self.variant(definitions, image, variant, &layers)).collect()
    }

    fn layers(&self, definitions: &Definitions, image: &Definition, part: &Part) -> Result<Vec<Layer>, Error> {
        let mut trees: Vec<Tree> = vec![];
        let mut layers = vec![];
        for layer in definitions.layers(image) {
            let tree = part.tree(image, layer)?;
            let below: Vec<&Tree> = trees.iter().collect();
            layers.push(Layer::write(&tree, &below, self.created, &self.store)?);
            trees.push(tree);
        }
        Ok(layers)
    }

    fn variant(
        &self,
        definitions: &Definitions,
        image: &Definition,
        variant: &definition::Variant,
        layers: &[(&Part, Vec<Layer>)],
    ) -> Result<Variant, Error> {
        // A tag has no `+`. kubeadm writes `_` for it, as upstream's releases do (kubernetes: cmd/kubeadm/app/util
        // `KubernetesVersionToImageTag`).
        let tag = format!("{}{}", self.version.replace('+', "_"), variant.suffix);
        let reference = Reference::new(&format!("{}/{}", self.registry, image.name), &tag)?;
        let mut index = Index::empty(reference);
        for (part, layers) in layers {
            let annotations = self.annotations(definitions, image, part);
            let empty = Image::empty(part.platform, self.created);
            let whole = layers.iter().fold(empty, |image, layer| image.with_layer(layer.clone()));
            let whole = whole.with_config(config(image, variant)).with_annotations(annotations.clone());
            index = index.with_image(whole).with_annotations(annotations);
        }
        Ok(Variant { suffix: variant.suffix.clone(), index })
    }

    /// The keys that registries and scanners read (OCI annotations.md).
    fn annotations(&self, definitions: &Definitions, image: &Definition, part: &Part) -> BTreeMap<String, String> {
        let mut annotations = BTreeMap::from([
            (oci::ANNOTATION_TITLE, image.name.clone()),
            (oci::ANNOTATION_DESCRIPTION, image.description.clone()),
            (oci::ANNOTATION_LICENSES, image.licenses(&self.minor).to_owned()),
            (oci::ANNOTATION_SOURCE, self.origin.source.clone()),
            (oci::ANNOTATION_CREATED, self.created.to_string()),
            // As Docker's own images say that there is nothing below.
            (oci::ANNOTATION_BASE_IMAGE_NAME, "scratch".to_owned()),
        ]);
        annotations.extend(self.origin.revision.clone().map(|revision| (oci::ANNOTATION_REVISION, revision)));
        // Kubernetes' programs have one version; the shim, alone in its image, has its own.
        let programs = definitions.binaries(image);
        let version = programs.iter().find_map(|name| part.binaries.get(name)).map(|binary| binary.version.clone());
        annotations.extend(version.map(|version| (oci::ANNOTATION_VERSION, version)));
        annotations.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

impl Part {
    fn tree(&self, image: &Definition, layer: &definition::Layer) -> Result<Tree, Error> {
        let mut tree = Tree::default();
        for folder in &layer.folders {
            tree.insert(&folder.path, Entry { node: Node::Folder, mode: folder.mode, owner: folder.owner })?;
        }
        for link in &layer.links {
            // Linux gives every link these permissions.
            tree.insert(&link.path, Entry { node: Node::Link { target: link.target.clone() }, mode: 0o777, owner: 0 })?;
        }
        for name in &layer.packages {
            for (path, entry) in package::entries(image, name, &self.debian, self.platform)? {
                tree.insert(&path, entry)?;
            }
        }
        for file in &layer.files {
            let content = self.content(image, &file.from)?;
            let node = Node::File { content, capabilities: file.capabilities.clone() };
            tree.insert(&file.path, Entry { node, mode: file.mode, owner: file.owner })?;
        }
        Ok(tree)
    }

    fn content(&self, image: &Definition, source: &Source) -> Result<Content, Error> {
        match source {
            Source::Text(text) => Ok(Content::Bytes(text.clone().into_bytes())),
            Source::MozillaRoots => Ok(Content::Bytes(roots::pem_bundle())),
            Source::Binary(name) => {
                let binary = self.binaries.get(name).ok_or_else(|| Error::Definition {
                    path: image.path.clone(),
                    reason: format!("no such program was built: {name}"),
                })?;
                elf::require_static(&binary.path, self.platform)?;
                Ok(Content::File(binary.path.clone()))
            }
            Source::Debian { package, path, program } => {
                debian(image, package, &below(&self.debian, path), *program, self.platform)
            }
        }
    }
}

/// Whether this machine has what `image` takes from it. Asked before the programs are built, which takes minutes.
pub(crate) fn check_machine(
    definitions: &Definitions,
    image: &Definition,
    paths: &Paths,
    platform: Platform,
) -> Result<(), Error> {
    let root = debian_root(paths, platform);
    for file in definitions.layers(image).flat_map(|layer| &layer.files) {
        if let Source::Debian { package, path, program } = &file.from {
            debian(image, package, &below(&root, path), *program, platform)?;
        }
    }
    for name in definitions.layers(image).flat_map(|layer| &layer.packages) {
        package::entries(image, name, &root, platform)?;
    }
    Ok(())
}

/// The absolute `path` below another root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn debian(image: &Definition, package: &str, path: &Path, program: bool, platform: Platform) -> Result<Content, Error> {
    match fs::metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (image, path, package) = (image.name.clone(), path.to_owned(), package.to_owned());
            return Err(Error::MissingFile { image, path, package, platform });
        }
        Err(error) => return Err(error.into()),
    }
    if program {
        elf::require_static(path, platform)?;
    }
    Ok(Content::File(path.to_owned()))
}

fn config(image: &Definition, variant: &definition::Variant) -> oci::Config {
    let some = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    let env = image.run.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
    let mut config = oci::Config::default();
    config
        .set_user(Some(variant.user.clone()))
        .set_env(some(&env))
        .set_entrypoint(some(&image.run.entrypoint))
        .set_cmd(some(&image.run.command))
        .set_exposed_ports(some(&image.run.ports))
        .set_working_dir(Some(image.run.workdir.clone()));
    config
}
