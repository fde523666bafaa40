//! The crates in the shim: those that cargo links for its target, without what only builds or tests it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand, Package};
use fs_err as fs;
use serde::Deserialize;

use super::licence::Licences;
use super::{Checksum, Component, Texts, debian, purl};
use crate::build;
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_shell::platform::Platform;
use sluice_shell::process::Run;

/// Name and version.
type Crate = (String, String);

/// All that is linked into the shim for `platform`: crates, the C library SQLite in one of them, Rust's standard
/// library and the C library of the system.
pub(super) fn linked(shell: &Context, platform: Platform) -> Result<Vec<Component>> {
    let root = shell.paths.root();
    let packages = Packages::read(root)?;
    let mut found = vec![];
    for name in tree(root, &platform.triple())? {
        found.extend(packages.component(&name)?);
        if name.0 == "libsqlite3-sys" {
            found.push(sqlite(&packages.folder(&name)?)?);
        }
    }
    found.push(standard_library(root, &build::rustc(shell, platform)?)?);
    found.push(debian::libc(root, platform)?);
    found.sort();
    Ok(found)
}

/// Mozilla's certificate authorities, which the images hold as a file.
pub(super) fn roots(shell: &Context) -> Result<Component> {
    let packages = Packages::read(shell.paths.root())?;
    let name = packages.known.keys().find(|(name, _)| name == "webpki-root-certs").cloned();
    let name = name.ok_or_else(|| Error::input("Cargo.lock has no webpki-root-certs"))?;
    packages.component(&name)?.ok_or_else(|| Error::input("webpki-root-certs is no crate of a registry"))
}

/// The crates that are linked into the shim, without those that only build it.
fn tree(root: &Path, target: &str) -> Result<BTreeSet<Crate>> {
    let text = Run::cargo(root)
        .args(["tree", "--locked", "--package", "sluice-shim", "--target", target])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"])
        .read()?;
    Ok(text.lines().filter_map(package).collect())
}

/// A line of `cargo tree`: `ring v0.17.14` and what may follow.
fn package(line: &str) -> Option<Crate> {
    let mut words = line.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    /// Of the crate's file; none for crates of this workspace.
    checksum: Option<String>,
}

/// All crates of the lock file.
struct Packages {
    known: BTreeMap<Crate, Package>,
    checksums: BTreeMap<Crate, Option<String>>,
}

impl Packages {
    fn read(root: &Path) -> Result<Self> {
        let text = Run::cargo(root).args(["metadata", "--locked", "--format-version", "1"]).read()?;
        let Metadata { packages, .. } = MetadataCommand::parse(text).map_err(anyhow::Error::from)?;
        let path = root.join("Cargo.lock");
        let lock: Lock =
            toml::from_str(&fs::read_to_string(&path)?).attempting(|| format!("cannot read {}", path.display()))?;
        let name = |package: &Package| (package.name.to_string(), package.version.to_string());
        Ok(Self {
            known: packages.into_iter().map(|package| (name(&package), package)).collect(),
            checksums: lock.package.into_iter().map(|it| ((it.name, it.version), it.checksum)).collect(),
        })
    }

    fn get(&self, name: &Crate) -> Result<&Package> {
        self.known.get(name).ok_or_else(|| Error::input(format!("cargo does not know {} {}", name.0, name.1)))
    }

    fn folder(&self, name: &Crate) -> Result<PathBuf> {
        Ok(self.get(name)?.manifest_path.parent().map_or_else(|| "/".into(), Into::into))
    }

    /// The component, if the crate is from a registry; those of this workspace are the program itself.
    fn component(&self, name: &Crate) -> Result<Option<Component>> {
        let Some(checksum) = self.checksums.get(name).cloned().flatten() else { return Ok(None) };
        let (package, folder) = (self.get(name)?, self.folder(name)?);
        let (crate_name, version) = name;
        let mut texts = Texts::of(&folder)?;
        if let (true, Some(file)) = (texts.0.is_empty(), &package.license_file) {
            texts.0.insert("LICENSE".to_owned(), fs::read(folder.join(file))?);
        }
        let licence = match &package.license {
            Some(stated) => stated.replace('/', " OR ").replace("  ", " "),
            None => Licences::load()?.of(crate_name, &texts)?,
        };
        let mut text = texts.joined();
        // Some ship their texts in their repository alone, and state here what they are.
        if text.is_empty() {
            let origin = format!("https://crates.io/crates/{crate_name}/{version}");
            text = format!("{crate_name} {version}\nSPDX-License-Identifier: {licence}\n{origin}\n").into_bytes();
        }
        Ok(Some(Component {
            purl: purl("cargo", crate_name, version),
            name: crate_name.clone(),
            version: version.clone(),
            checksum: Some(Checksum::Sha256(checksum)),
            licence: Some(licence),
            file: format!("cargo/{crate_name}@{version}.txt"),
            text,
        }))
    }
}

/// SQLite, whose source lies in the crate that binds it.
fn sqlite(folder: &Path) -> Result<Component> {
    let header = fs::read_to_string(folder.join("sqlite3/sqlite3.h"))?;
    let line = header.lines().find_map(|line| line.strip_prefix("#define SQLITE_VERSION "));
    let version = line.map(|rest| rest.trim().trim_matches('"').to_owned());
    let version = version.ok_or_else(|| Error::input("sqlite3.h does not say its version"))?;
    let blessing: String =
        header.lines().take_while(|line| !line.starts_with("*****")).map(|it| format!("{it}\n")).collect();
    Ok(Component {
        purl: purl("generic", "sqlite", &version),
        name: "sqlite".to_owned(),
        licence: Some("blessing".to_owned()),
        file: format!("other/sqlite@{version}.txt"),
        text: blessing.into_bytes(),
        checksum: None,
        version,
    })
}

/// Rust's standard library, of the compiler that builds for the platform.
fn standard_library(root: &Path, rustc: &Path) -> Result<Component> {
    let line = Run::new(rustc, root).arg("--version").read()?;
    let version = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let folder = Run::new(rustc, root).args(["--print", "sysroot"]).read()?;
    let documents = [Path::new(&folder).join("share/doc/rust"), PathBuf::from("/usr/share/doc/rustc")];
    let licence = "MIT OR Apache-2.0".to_owned();
    let mut text = vec![];
    for folder in documents.iter().filter(|folder| folder.is_dir()) {
        text.extend(Texts::of(folder)?.joined());
    }
    if text.is_empty() {
        text = format!("Rust's standard library {version}\nSPDX-License-Identifier: {licence}\n").into_bytes();
    }
    Ok(Component {
        purl: purl("generic", "rust-std", &version),
        name: "rust-std".to_owned(),
        licence: Some(licence),
        file: format!("other/rust-std@{version}.txt"),
        checksum: None,
        version,
        text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The other platform's may be Debian's, of another version than rustup's.
    #[test]
    fn the_standard_library_is_that_of_the_platforms_compiler() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let shell = Context::for_test(root);
        for platform in Platform::ALL {
            let found = match linked(&shell, platform) {
                Err(error) if !platform.is_host() && error.to_string().contains("Debian's package") => {
                    eprintln!(
                        "skipped for {platform}: {error}; `cargo xtask doctor --for images` says what is missing"
                    );
                    continue;
                }
                found => found.unwrap(),
            };
            let library = found.iter().find(|component| component.name == "rust-std").unwrap();
            let line = Run::new(build::rustc(&shell, platform).unwrap(), root).arg("--version").read().unwrap();
            assert!(
                line.starts_with(&format!("rustc {} ", library.version)),
                "{platform}: {line:?}, {}",
                library.version
            );
        }
    }

    #[test]
    fn the_shims_crates_are_those_that_are_linked() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let found = linked(&Context::for_test(root), Platform::Amd64).unwrap();
        let names: BTreeSet<_> = found.iter().map(|component| component.name.as_str()).collect();
        for linked in ["tokio", "rustls", "libsqlite3-sys", "sqlite", "rust-std", "glibc"] {
            assert!(names.contains(linked), "{linked} is not among {names:?}");
        }
        // It derives code, compiles C, is of the tests, is of the toolkit, is ours.
        for other in ["serde_derive", "cc", "proptest", "git2", "sluice-shim", "sluice-wal"] {
            assert!(!names.contains(other), "{other} is among {names:?}");
        }
        for component in &found {
            let from_registry = component.purl.starts_with("pkg:cargo/");
            assert_eq!(from_registry, component.checksum.is_some(), "{}", component.purl);
            assert!(!component.text.is_empty(), "{}", component.purl);
        }
    }
}
