//! `cargo xtask release` and `cargo xtask verify-release`: everything that a distribution takes, in one folder and one
//! archive.
//!
//! [`make`] puts a release of a [`commit`] together in a [`bundle`]: programs, OCI layouts ([`layouts`]), [`manifests`]
//! and patches, with a [`description`], the digests of all of it ([`sums`]), and what is inside of it ([`inventory`]):
//! licences, bills of materials ([`sbom`]), and the [`provenance`]. [`verify`] checks all that again. [`keys`] are
//! folders of key pairs; [`minisign`] signs files, [`dsse`] statements, [`cosign`] images. The same input, and the same
//! keys, give the same bytes. [`publish`] takes a release to a registry, and checks it there.

mod archive;
mod attached;
mod attestation;
mod bundle;
mod changes;
mod commit;
mod cosign;
mod description;
mod dsse;
mod inventory;
mod keys;
mod layouts;
mod make;
pub(crate) mod manifests;
mod minisign;
mod problem;
mod provenance;
mod publish;
mod sbom;
mod statement;
mod sums;
mod verify;
mod verify_release;

#[cfg(test)]
mod tests;

pub(crate) use self::verify_release::Verify;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use tempfile::TempDir;

use self::inventory::{Inventory, Sources};
use self::keys::{Password, Signer};
use self::make::{Made, Parts};
use self::problem::{Problem, Refused};
use self::provenance::Builder;
use crate::build::{self, Options, OtherGo};
use crate::images::{Definition, Definitions, Reference};
use crate::patch;
use crate::pipeline::{Built, Tested};
use crate::registry::{Access, Registry};
use crate::source::{Pins, Target};
use crate::{build_images, images};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Explain, Result};
use sluice_shell::platform::{Platform, Platforms};

/// Builds a release from the series that was verified in full: programs, images, manifests, patches, digests
///
/// The same commit makes the same bytes. Without `--sign` it is not signed, and whoever takes it has only digests.
#[derive(clap::Args)]
pub struct Cmd {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    platforms: Platforms,
    /// Sign with the keys in this folder
    #[arg(long, value_name = "DIR")]
    sign: Option<PathBuf>,
    /// Make new keys in this folder, and nothing else
    #[arg(long, value_name = "DIR", conflicts_with = "sign")]
    new_key: Option<PathBuf>,
    #[command(flatten)]
    password: Password,
    /// Build with this version of Go instead of the one that source.toml names
    #[arg(long, value_name = "VERSION")]
    allow_go: Option<String>,
    /// Refuse to make another version than this one, such as the tag that is released
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<String>,
    /// Write into this folder [default: out/release in the workspace]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Registry and path that the images are named for
    #[arg(long, value_name = "NAME", default_value = build_images::REGISTRY, env = "SLUICE_REGISTRY")]
    registry: String,
    /// Push the release too, to REGISTRY/PATH/<image> and REGISTRY/PATH/release
    #[arg(long, value_name = "REGISTRY/PATH", conflicts_with = "new_key")]
    push: Option<String>,
    #[command(flatten)]
    access: Access,
    /// Print a report in JSON: digests of all parts
    #[arg(long)]
    json: bool,
}

/// Another Go than the one that upstream releases with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotUpstreams(OtherGo);

impl Explain for NotUpstreams {
    fn hint(&self) -> Option<String> {
        let OtherGo { used, upstream } = &self.0;
        Some(format!(
            "install Go {upstream} (`cargo xtask doctor` says how), or take this one with `--allow-go {used}`"
        ))
    }
}

/// The pins are not those of the version that is wanted: with `--push` they would replace another release.
#[derive(Debug, thiserror::Error)]
#[error("the release would be {made}, and not {expected}")]
struct OtherVersion {
    made: String,
    expected: String,
}

impl Explain for OtherVersion {
    fn hint(&self) -> Option<String> {
        Some("source.toml of the minor has the version and, as `revision`, the number at its end".to_owned())
    }
}

#[derive(Serialize)]
struct Report<'a> {
    version: &'a str,
    folder: String,
    archive: String,
    archive_size: u64,
    archive_digest: images::Digest,
    signed: bool,
    pushed: Vec<String>,
}

impl Cmd {
    /// Builds, packs, checks.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        if let Some(folder) = &self.new_key {
            keys::generate(folder, self.password.read()?.as_deref())?;
            shell.out.note("keep the two files .key secret; give the two files .pub to those who check releases");
            return shell.out.data(folder.display().to_string());
        }
        // Before anything that takes minutes.
        let signer =
            self.sign.as_ref().map(|folder| Signer::load(folder, self.password.read()?.as_deref())).transpose()?;
        let commit = commit::of(shell.paths.root())?;
        let pins = Pins::load(shell, &self.target.k8s)?;
        expect(self.expect_version.as_deref(), pins.ours(&self.target.version(shell)?))?;
        self.check_go(shell)?;
        let definitions = Definitions::read(&shell.paths.root().join("images"))?;
        let chosen = definitions.select(&[])?;
        let layouts = shell.paths.cache().join("release").join(self.target.k8s.as_str());
        let platforms = self.platforms.chosen()?;
        let registry = self.registry(shell, &chosen)?;
        build_images::check_all(shell, &definitions, &chosen, &platforms, &self.registry, &layouts)?;
        let programs = build_images::programs(&definitions, &chosen)?;
        let build = |platform: Platform| {
            build::build_tested(shell, &self.target, Options { release_flags: true, platform }, &programs)
        };
        let builds = platforms.iter().copied().map(build).collect::<Result<Vec<_>>>()?;
        build_images::write(shell, &builds, &definitions, &chosen, &self.registry, &layouts)?;
        let sources = Sources::find(shell, pins.clone(), self.target.open(shell)?.tree)?;
        let mut inventory = Inventory::empty();
        for built in &builds {
            inventory.add_programs(shell, built, &sources)?;
        }
        inventory.add_images(shell, &definitions, &chosen, &platforms)?;
        inventory.check_labels(&chosen, &self.target.k8s)?;
        commit::still(shell.paths.root(), &commit)?;
        let parts = Parts {
            root: shell.paths.root(),
            commit,
            kubernetes: self.target.version(shell)?,
            builds: &builds,
            layouts,
            images: chosen.iter().map(|image| image.name.clone()).collect(),
            inventory,
            builder: self.builder(shell, pins, &builds)?,
            patches: patch::exported(shell, &self.target)?,
        };
        let out = self.out.clone().unwrap_or_else(|| shell.paths.root().join("out/release"));
        let progress = shell.out.spinner("pack the release");
        let made = make::make(&parts, signer.as_ref(), &std::path::absolute(out)?)?;
        progress.done(&made.description.version);
        let verdict = verify::folder(&made.folder, None)?;
        refuse(&made.folder.display().to_string(), verdict.problems).attempting(|| "the new release is not whole")?;
        let pushed = match (registry, &self.push) {
            (Some(mut registry), Some(base)) => push(shell, &made, signer.as_ref(), &mut registry, base)?,
            _ => vec![],
        };
        self.report(shell, &made, pushed)
    }

    /// The registry to push to, which answers and accepts the login.
    fn registry(&self, shell: &Context, chosen: &[&Definition]) -> Result<Option<Registry>> {
        let Some(base) = &self.push else {
            self.access.only_with("--push")?;
            return Ok(None);
        };
        Reference::new(base, "latest")?;
        let images = chosen.iter().map(|image| format!("{base}/{}", image.name));
        let repositories = images.chain([publish::repository(base)]);
        let repositories = repositories.map(|name| Reference::new(&name, "latest")).collect::<Result<Vec<_>, _>>()?;
        build_images::ask(shell, base, &self.access, &repositories).map(Some)
    }

    /// What the provenance says of this run. Not the folders and keys: they change nothing in the programs.
    fn builder(&self, shell: &Context, pins: Pins, builds: &[Built<Tested>]) -> Result<Builder> {
        let platforms = builds.iter().map(|built| built.platform.to_string()).collect::<Vec<_>>().join(",");
        let Self { target, registry, .. } = self;
        let mut command =
            format!("cargo xtask release --k8s {} --platform {platforms} --registry {registry}", target.k8s);
        if let Some(version) = &self.allow_go {
            command.push_str(&format!(" --allow-go {version}"));
        }
        let root = shell.paths.root();
        let mut files = BTreeMap::new();
        for path in [root.join("Cargo.lock"), shell.paths.pins(&self.target.k8s)] {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            files.insert(name, sums::digest(&path)?);
        }
        let go = build::go_version(shell)?;
        Ok(Builder { command, go, rust: provenance::rust(builds), pins, files })
    }

    fn check_go(&self, shell: &Context) -> Result<()> {
        match OtherGo::find(shell, &self.target.k8s, &build::go_version(shell)?)? {
            Some(other) if self.allow_go.as_ref() != Some(&other.used) => Err(NotUpstreams(other).into()),
            _ => Ok(()),
        }
    }

    fn report(&self, shell: &Context, made: &Made, pushed: Vec<String>) -> Result<()> {
        let digest = sums::digest(&made.archive)?;
        let size = fs_err::metadata(&made.archive)?.len();
        if !made.description.signed {
            shell.out.note("it is not signed: --sign DIR signs with the keys that --new-key DIR makes");
        }
        if self.json {
            return shell.out.json(&Report {
                version: &made.description.version,
                folder: made.folder.display().to_string(),
                archive: made.archive.display().to_string(),
                archive_size: size,
                archive_digest: digest,
                signed: made.description.signed,
                pushed,
            });
        }
        let (folder, archive) = (made.folder.display(), made.archive.display());
        let lines = [folder.to_string(), format!("{archive}  {digest}  {:.1} MB", size as f64 / 1e6)];
        shell.out.data(lines.into_iter().chain(pushed).collect::<Vec<_>>().join("\n"))
    }
}

/// Pushes a release that was made.
fn push(
    shell: &Context,
    made: &Made,
    signer: Option<&Signer>,
    registry: &mut Registry,
    base: &str,
) -> Result<Vec<String>> {
    let scratch = scratch(shell)?;
    let progress = shell.out.spinner("push");
    let pushed = publish::push(made, signer, registry, base, scratch.path(), |what| progress.now(what))?;
    progress.done(format!("{} names", pushed.len()));
    Ok(pushed)
}

/// A folder for the time of a command, on the disk of the workspace: a release is large.
fn scratch(shell: &Context) -> Result<TempDir> {
    let cache = shell.paths.cache().join("tmp");
    fs_err::create_dir_all(&cache)?;
    Ok(tempfile::Builder::new().prefix("release-").tempdir_in(cache)?)
}

/// Refuses to make another version than the expected one, if there is one.
fn expect(expected: Option<&str>, made: String) -> Result<(), OtherVersion> {
    match expected {
        Some(expected) if expected != made => Err(OtherVersion { made, expected: expected.to_owned() }),
        _ => Ok(()),
    }
}

fn refuse(path: &str, problems: Vec<Problem>) -> Result<()> {
    if problems.is_empty() { Ok(()) } else { Err(Refused { path: path.to_owned(), problems }.into()) }
}
