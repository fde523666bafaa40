//! What an image is made of: the TOML files under `images/`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use fs_err as fs;
use serde::{Deserialize, de::DeserializeOwned};
use sluice_shell::minor::Minor;

use super::{Error, tree::Capability};

/// Every image definition of a folder, and the layers that they share.
#[derive(Clone, Debug)]
pub(crate) struct Definitions {
    images: Vec<Definition>,
    shared: BTreeMap<String, Layer>,
}

/// One image: `images/<name>.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    /// Last part of the image's name, and the name of its file.
    #[serde(skip)]
    pub(crate) name: String,
    /// The file it was read from.
    #[serde(skip)]
    pub(crate) path: PathBuf,
    /// One sentence for `org.opencontainers.image.description`.
    pub(crate) description: String,
    /// SPDX expression of everything inside.
    licenses: String,
    /// The same for minors whose programs have other modules.
    #[serde(default)]
    licenses_of: BTreeMap<String, String>,
    /// Shared layers at the bottom: names of files in `images/layers/`.
    #[serde(default)]
    pub(crate) base: Vec<String>,
    /// Layers of this image alone, lowest first.
    #[serde(default, rename = "layer")]
    pub(crate) layers: Vec<Layer>,
    /// How a container starts, unless it says otherwise.
    pub(crate) run: Run,
    /// Forms of the image that differ in the user: each has a tag of its own.
    #[serde(rename = "variant")]
    pub(crate) variants: Vec<Variant>,
}

/// Files that make one layer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layer {
    /// Regular files.
    #[serde(default, rename = "file")]
    pub(crate) files: Vec<File>,
    /// Folders, where the defaults (root, 755) are not right or nothing lies inside.
    #[serde(default, rename = "folder")]
    pub(crate) folders: Vec<Folder>,
    /// Symbolic links.
    #[serde(default, rename = "link")]
    pub(crate) links: Vec<Link>,
    /// Debian packages that are installed on this machine, whose programs and libraries go into the layer as they are.
    #[serde(default)]
    pub(crate) packages: Vec<String>,
}

/// A regular file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Absolute path in the image.
    pub(crate) path: String,
    /// Where its bytes come from.
    pub(crate) from: Source,
    /// Permission bits.
    pub(crate) mode: u32,
    /// User and group id.
    #[serde(default)]
    pub(crate) owner: u32,
    /// Linux capabilities that executing it gives.
    #[serde(default)]
    pub(crate) capabilities: Vec<Capability>,
}

/// Where the bytes of a file come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Source {
    /// A program that `cargo xtask build` made.
    Binary(String),
    /// The definition itself.
    Text(String),
    /// Mozilla's certificate authorities, see `roots.rs`.
    MozillaRoots,
    /// A file of a Debian package that is installed on this machine.
    Debian {
        /// The package.
        package: String,
        /// The file.
        path: PathBuf,
        /// It is a program, and must be static.
        #[serde(default)]
        program: bool,
    },
}

/// A folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Folder {
    /// Absolute path in the image.
    pub(crate) path: String,
    /// Permission bits.
    pub(crate) mode: u32,
    /// User and group id.
    #[serde(default)]
    pub(crate) owner: u32,
}

/// A symbolic link.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    /// Absolute path in the image.
    pub(crate) path: String,
    /// Where it points to.
    pub(crate) target: String,
}

/// How a container starts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    /// The program and its first arguments.
    #[serde(default)]
    pub(crate) entrypoint: Vec<String>,
    /// Arguments that a user replaces.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
    /// The folder it starts in.
    pub(crate) workdir: String,
    /// Ports that it listens on, as `2379/tcp`. For people: nothing is opened by it.
    #[serde(default)]
    pub(crate) ports: Vec<String>,
}

/// A form of an image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Variant {
    /// What the tag ends in.
    pub(crate) suffix: String,
    /// `uid:gid`. Numbers, because the kubelet can't check `runAsNonRoot` against a name.
    pub(crate) user: String,
}

impl Definition {
    /// SPDX expression of everything inside, with the programs of `minor`.
    pub(crate) fn licenses(&self, minor: &Minor) -> &str {
        self.licenses_of.get(minor.as_str()).unwrap_or(&self.licenses)
    }
}

impl Definitions {
    /// Reads `folder/*.toml` and, if there are any, `folder/layers/*.toml`.
    pub(crate) fn read(folder: &Path) -> Result<Self, Error> {
        let mut images = vec![];
        for (name, path) in files(folder)? {
            let definition = Definition { name, path: path.clone(), ..parse(&path)? };
            images.push(definition);
        }
        let (layers, mut shared) = (folder.join("layers"), BTreeMap::new());
        if layers.is_dir() {
            for (name, path) in files(&layers)? {
                shared.insert(name, parse(&path)?);
            }
        }
        let definitions = Self { images, shared };
        for image in &definitions.images {
            definitions.check(image).map_err(|reason| Error::Definition { path: image.path.clone(), reason })?;
        }
        Ok(definitions)
    }

    /// These and those of another folder, whose shared layers are its own.
    pub(crate) fn with(mut self, other: Self) -> Self {
        self.images.extend(other.images);
        self.images.sort_by(|a, b| a.name.cmp(&b.name));
        self.shared.extend(other.shared);
        self
    }

    /// The images in the order of their names: all of them, or those that `only` names.
    pub(crate) fn select(&self, only: &[String]) -> Result<Vec<&Definition>, Error> {
        let known = || self.images.iter().map(|image| image.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = only.iter().find(|name| !self.images.iter().any(|image| image.name == **name)) {
            return Err(Error::UnknownImage { name: unknown.clone(), known: known() });
        }
        Ok(self.images.iter().filter(|image| only.is_empty() || only.contains(&image.name)).collect())
    }

    /// All layers of `image`, lowest first.
    pub(crate) fn layers<'a>(&'a self, image: &'a Definition) -> impl Iterator<Item = &'a Layer> {
        image.base.iter().filter_map(|name| self.shared.get(name)).chain(&image.layers)
    }

    /// The programs that `image` holds.
    pub(crate) fn binaries(&self, image: &Definition) -> BTreeSet<String> {
        let files = self.layers(image).flat_map(|layer| &layer.files);
        let name = |file: &File| if let Source::Binary(name) = &file.from { Some(name.clone()) } else { None };
        files.filter_map(name).collect()
    }

    /// The Debian packages that files of `image` are from.
    pub(crate) fn packages(&self, image: &Definition) -> BTreeSet<String> {
        let package = |file: &File| match &file.from {
            Source::Debian { package, .. } => Some(package.clone()),
            _ => None,
        };
        let of_files = self.layers(image).flat_map(|layer| &layer.files).filter_map(package);
        of_files.chain(self.layers(image).flat_map(|layer| layer.packages.clone())).collect()
    }

    /// Whether `image` holds Mozilla's certificate authorities.
    pub(crate) fn has_roots(&self, image: &Definition) -> bool {
        self.layers(image).flat_map(|layer| &layer.files).any(|file| matches!(file.from, Source::MozillaRoots))
    }

    fn check(&self, image: &Definition) -> Result<(), String> {
        if let Some(unknown) = image.base.iter().find(|name| !self.shared.contains_key(*name)) {
            return Err(format!("there is no layers/{unknown}.toml"));
        }
        if image.variants.is_empty() {
            return Err("it needs a [[variant]]".to_owned());
        }
        let mut suffixes = BTreeSet::new();
        for variant in &image.variants {
            if !suffixes.insert(&variant.suffix) {
                return Err(format!("two variants have the suffix {:?}", variant.suffix));
            }
            let number = |text: &str| text.parse::<u32>().is_ok();
            if !variant.user.split_once(':').is_some_and(|(user, group)| number(user) && number(group)) {
                return Err(format!("user {:?} is not uid:gid in numbers", variant.user));
            }
        }
        let modes = self.layers(image).flat_map(|layer| {
            let files = layer.files.iter().map(|file| (&file.path, file.mode));
            files.chain(layer.folders.iter().map(|folder| (&folder.path, folder.mode)))
        });
        for (path, mode) in modes {
            if mode > 0o7777 {
                return Err(format!("{path} has the mode {mode}; write it in octal, as 0o755"));
            }
        }
        Ok(())
    }
}

/// The definitions in `folder` by name.
fn files(folder: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            files.insert(name.to_owned(), path);
        }
    }
    Ok(files)
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = fs::read_to_string(path)?;
    toml::from_str(&text).map_err(|source| Error::Syntax { path: path.to_owned(), source: Box::new(source) })
}
