//! `cargo xtask build-images`: the images of `images/*.toml`, as OCI layouts and as archives for `docker load`.

mod packed;
mod push;
mod report;

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

pub(crate) use self::push::ask;
use self::report::{Line, Part, Report};
use clap::ValueEnum as _;

use crate::{
    build::{Options, OtherGo, Program, build_patched, is_changed, last_change},
    images::{
        self, Assembler, BlobStore, Definition, Definitions, Origin, Reference, archive, check_machine, layout,
        validate,
    },
    pipeline::{Built, Depth},
    source::Target,
};
use sluice_shell::context::Context;
use sluice_shell::doctor::{self, Purpose};
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_shell::platform::{Platform, Platforms};

/// Build the container images, without a container daemon.
#[derive(clap::Args)]
pub struct Cmd {
    /// Build these images alone: names of files in images/, without .toml
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Write the images into this folder [default: out/images in the workspace]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Registry and path that the images are named for
    #[arg(long, value_name = "NAME", default_value = REGISTRY, env = "SLUICE_REGISTRY")]
    registry: String,
    #[command(flatten)]
    push: push::Flags,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    platforms: Platforms,
    /// Without symbol tables and DWARF, as upstream's releases
    #[arg(long)]
    release_flags: bool,
    /// Print a report in JSON: names, digests, sizes, seconds
    #[arg(long)]
    json: bool,
}

/// Where the project publishes its images.
pub(crate) const REGISTRY: &str = "ghcr.io/sluice-project";

impl Cmd {
    /// Builds the programs that the images hold, then the images.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let definitions = Definitions::read(&shell.paths.root().join("images"))?;
        let chosen = definitions.select(&self.only)?;
        let out = self.out.unwrap_or_else(|| shell.paths.root().join("out").join("images"));
        let out = std::path::absolute(out)?;
        let platforms = self.platforms.chosen()?;
        check_all(shell, &definitions, &chosen, &platforms, &self.registry, &out)?;
        let destination = self.push.open(shell, &chosen)?;
        let programs = programs(&definitions, &chosen)?;
        let build = |platform: Platform| {
            let options = Options { release_flags: self.release_flags, platform };
            build_patched(shell, &self.target, options, &programs)
        };
        let builds = platforms.into_iter().map(build).collect::<Result<Vec<_>>>()?;
        if let Some(built) = builds.first()
            && let Some(other) = OtherGo::find(shell, &built.minor, &built.go)?
        {
            shell.out.note(format!("warning: {other}"));
        }
        let mut report = write(shell, &builds, &definitions, &chosen, &self.registry, &out)?;
        if let Some(mut destination) = destination {
            destination.push(shell, &mut report)?;
        }
        if self.json { shell.out.json(&report) } else { shell.out.data(report.table()) }
    }
}

/// Finds before the programs are built, which takes minutes, what would stop the images after it.
pub(crate) fn check_all(
    shell: &Context,
    definitions: &Definitions,
    chosen: &[&Definition],
    platforms: &[Platform],
    registry: &str,
    out: &Path,
) -> Result<()> {
    // All that another platform needs is said at once.
    let foreign: Vec<Platform> = platforms.iter().copied().filter(|platform| !platform.is_host()).collect();
    if !foreign.is_empty() {
        doctor::require_for(shell, &[Purpose::Images], &foreign, false)?;
    }
    platforms.iter().try_for_each(|platform| check(shell, definitions, chosen, *platform, registry, out))
}

fn check(
    shell: &Context,
    definitions: &Definitions,
    chosen: &[&Definition],
    platform: Platform,
    registry: &str,
    out: &Path,
) -> Result<()> {
    for image in chosen {
        check_machine(definitions, image, &shell.paths, platform)?;
        Reference::new(&format!("{registry}/{}", image.name), "tag")?;
    }
    fs_err::create_dir_all(out).map_err(images::Error::from)?;
    let fail = |source| images::Error::Write { path: out.to_owned(), source };
    tempfile::NamedTempFile::with_prefix_in(".partial-", out).map_err(fail)?;
    Ok(())
}

/// The programs that the images `chosen` hold.
pub(crate) fn programs(definitions: &Definitions, chosen: &[&Definition]) -> Result<Vec<Program>> {
    let names: BTreeSet<String> = chosen.iter().flat_map(|image| definitions.binaries(image)).collect();
    names.iter().map(|name| program(name)).collect()
}

fn program(name: &str) -> Result<Program> {
    Program::from_str(name, false).map_err(|_| {
        Error::input(format!("a definition in images/ asks for the program {name}, which `build` does not know"))
    })
}

/// The folders and files that what is in the images comes from, besides Kubernetes.
const SOURCES: [&str; 6] = ["shim", "images", "Cargo.toml", "Cargo.lock", ".cargo", "rust-toolchain.toml"];

/// Where what is in the images comes from.
fn origin<D: Depth>(shell: &Context, built: &Built<D>) -> Origin {
    let patches = format!("patches/{}", built.minor);
    let paths = [&SOURCES[..], &[patches.as_str()]].concat();
    let root = shell.paths.root();
    let revision = last_change(root, &paths).map(|commit| match is_changed(root, &paths) {
        true => format!("{commit}-dirty"),
        false => commit,
    });
    Origin { source: env!("CARGO_PKG_REPOSITORY").to_owned(), revision }
}

/// Writes the images `chosen` into `out`, with the programs of a build for each platform.
pub(crate) fn write<D: Depth>(
    shell: &Context,
    builds: &[Built<D>],
    definitions: &Definitions,
    chosen: &[&Definition],
    registry: &str,
    out: &Path,
) -> Result<Report> {
    let started = Instant::now();
    let _lock = shell.lock("images")?;
    let store = BlobStore::open(&shell.paths.cache().join("images"))?;
    let first = builds.first().ok_or(images::Error::NoPlatform)?;
    let origin = origin(shell, first);
    let revision = origin.revision.clone();
    let assembler = Assembler::new(builds, &shell.paths, registry, origin, store)?;
    let progress = shell.out.bar("images", chosen.len() as u64);
    let queue = Mutex::new(chosen.iter().copied().collect::<VecDeque<_>>());
    let lines = Mutex::new(vec![]);
    // Compression is what takes the time: one image for each processor at once.
    thread::scope(|scope| {
        let work = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(image) = next else { return Ok(()) };
                progress.now(&image.name);
                let done = write_image(&assembler, definitions, image, out)
                    .attempting(|| format!("cannot write the image {}", image.name))
                    // The others would fail likewise, minutes later.
                    .inspect_err(|_| queue.lock().unwrap_or_else(PoisonError::into_inner).clear())?;
                lines.lock().unwrap_or_else(PoisonError::into_inner).extend(done);
                progress.advance(1);
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(chosen.len());
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(crashed())))
    })?;
    let mut images: Vec<Line> = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    images.sort_by(|a, b| a.reference.cmp(&b.reference));
    if chosen.len() == definitions.select(&[])?.len() {
        packed::keep(assembler.store(), &shell.paths.cache().join("images/newest"), builds, &images)?;
    }
    progress.done(format!("{} in {}", images.len(), out.display()));
    let (version, go) = (first.version.clone(), first.go.clone());
    Ok(Report { version, go, revision, images, seconds: started.elapsed().as_secs_f64() })
}

fn crashed() -> Error {
    anyhow::anyhow!("a worker thread ended with a panic").into()
}

/// One layout for all variants and platforms, and one archive for each; both are checked when they are written.
fn write_image(assembler: &Assembler, definitions: &Definitions, image: &Definition, out: &Path) -> Result<Vec<Line>> {
    let started = Instant::now();
    let variants = assembler.assemble(definitions, image)?;
    let folder = out.join(&image.name);
    let indexes: Vec<_> = variants.iter().map(|variant| variant.index.clone()).collect();
    layout::write(&folder, assembler.store(), &indexes)?;
    validate::layout(&folder)?;
    let mut lines = vec![];
    for variant in &variants {
        let mut parts = vec![];
        for whole in variant.index.images() {
            let arch = whole.platform().arch();
            let archive = out.join(format!("{}{}-linux-{arch}.tar", image.name, variant.suffix));
            archive::write(&archive, assembler.store(), variant.index.reference(), whole, assembler.created())?;
            validate::archive(&archive)?;
            parts.push(Part::of(whole, archive)?);
        }
        lines.push(Line::of(image, variant, &folder, parts)?);
    }
    for line in &mut lines {
        line.seconds = started.elapsed().as_secs_f64();
    }
    Ok(lines)
}

#[cfg(test)]
mod tests;
