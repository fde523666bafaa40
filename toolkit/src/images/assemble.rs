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
    elf, roots,
    tree::{Content, Entry, Node, Tree},
};
use crate::pipeline::Built;
use sluice_shell::platform::Platform;

/// One form of an image, ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    /// What its tag ends in; empty for the first form.
    pub(crate) suffix: String,
    /// The tagged image.
    pub(crate) index: Index,
}

/// What every image of one run has in common.
#[derive(Debug)]
pub(crate) struct Assembler {
    platform: Platform,
    created: Timestamp,
    registry: String,
    version: String,
    source: String,
    binaries: BTreeMap<String, PathBuf>,
    store: BlobStore,
}

impl Assembler {
    /// Images of the programs of `built`, named `registry/<name>:<tag>`, with their layers in `store`. `source` is the
    /// address of this project's source code.
    pub(crate) fn new(built: &Built, registry: &str, source: &str, store: BlobStore) -> Result<Self, Error> {
        let binary = |binary: &crate::pipeline::Binary| (binary.name.clone(), binary.path.clone());
        Ok(Self {
            platform: built.platform,
            created: Timestamp::new(built.source_date_epoch)?,
            registry: registry.to_owned(),
            version: built.version.clone(),
            source: source.to_owned(),
            binaries: built.binaries.iter().map(binary).collect(),
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

    /// Packs all variants of `image`. They share their layers.
    pub(crate) fn assemble(&self, definitions: &Definitions, image: &Definition) -> Result<Vec<Variant>, Error> {
        let mut trees: Vec<Tree> = vec![];
        let mut layers = vec![];
        for layer in definitions.layers(image) {
            let tree = self.tree(image, layer)?;
            let below: Vec<&Tree> = trees.iter().collect();
            layers.push(Layer::write(&tree, &below, self.created, &self.store)?);
            trees.push(tree);
        }
        image.variants.iter().map(|variant| self.variant(image, variant, &layers)).collect()
    }

    fn variant(&self, image: &Definition, variant: &definition::Variant, layers: &[Layer]) -> Result<Variant, Error> {
        let tag = format!("{}{}", self.version.replace('+', "-"), variant.suffix);
        let reference = Reference::new(&format!("{}/{}", self.registry, image.name), &tag)?;
        let empty = Image::empty(self.platform, self.created);
        let whole = layers
            .iter()
            .fold(empty, |image, layer| image.with_layer(layer.clone()))
            .with_config(config(image, variant))
            .with_annotations(self.annotations(image));
        Ok(Variant { suffix: variant.suffix.clone(), index: Index::empty(reference).with_image(whole) })
    }

    fn tree(&self, image: &Definition, layer: &definition::Layer) -> Result<Tree, Error> {
        let mut tree = Tree::default();
        for folder in &layer.folders {
            tree.insert(&folder.path, Entry { node: Node::Folder, mode: folder.mode, owner: folder.owner })?;
        }
        for link in &layer.links {
            // Linux gives every link these permissions.
            tree.insert(&link.path, Entry { node: Node::Link { target: link.target.clone() }, mode: 0o777, owner: 0 })?;
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
                let path = self.binaries.get(name).ok_or_else(|| Error::Definition {
                    path: image.path.clone(),
                    reason: format!("no such program was built: {name}"),
                })?;
                elf::require_static(path, self.platform)?;
                Ok(Content::File(path.clone()))
            }
            Source::Debian { package, path, program } => debian(image, package, path, *program, self.platform),
        }
    }

    /// The keys that registries and scanners read (OCI annotations.md).
    fn annotations(&self, image: &Definition) -> BTreeMap<String, String> {
        [
            (oci::ANNOTATION_TITLE, image.name.clone()),
            (oci::ANNOTATION_DESCRIPTION, image.description.clone()),
            (oci::ANNOTATION_LICENSES, image.licenses.clone()),
            (oci::ANNOTATION_VERSION, self.version.clone()),
            (oci::ANNOTATION_SOURCE, self.source.clone()),
            (oci::ANNOTATION_CREATED, self.created.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

/// Whether this machine has what `image` takes from it. Asked before the programs are built, which takes minutes.
pub(crate) fn check_machine(definitions: &Definitions, image: &Definition, platform: Platform) -> Result<(), Error> {
    for file in definitions.layers(image).flat_map(|layer| &layer.files) {
        if let Source::Debian { package, path, program } = &file.from {
            debian(image, package, path, *program, platform)?;
        }
    }
    Ok(())
}

fn debian(image: &Definition, package: &str, path: &Path, program: bool, platform: Platform) -> Result<Content, Error> {
    match fs::metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (image, path, package) = (image.name.clone(), path.to_owned(), package.to_owned());
            return Err(Error::MissingFile { image, path, package });
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
