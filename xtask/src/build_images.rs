//! `cargo xtask build-images`: the images of `images/*.toml`, as OCI layouts and as archives for `docker load`.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use fs_err as fs;
use serde::Serialize;

use crate::{
    context::Context,
    error::{Attempt as _, Error, Explain, Result},
    images::{Arch, Assembler, BlobStore, Definition, Definitions, Digest, Reference, Variant, archive, layout, validate},
    output::table,
    pipeline::{Built, Minor},
};

/// Build the container images, without a container daemon.
#[derive(clap::Args)]
pub(crate) struct Cmd {
    /// Build these images alone: names of files in images/, without .toml
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Write the images into this folder [default: out/images in the workspace]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Registry and path that the images are named for
    #[arg(long, value_name = "NAME", default_value = REGISTRY, env = "SLUICE_REGISTRY")]
    registry: String,
    /// Kubernetes minor
    #[arg(long, value_name = "MINOR", default_value = Minor::DEFAULT)]
    k8s: Minor,
    /// Print a report in JSON: names, digests, sizes, seconds
    #[arg(long)]
    json: bool,
}

/// Where the project publishes its images.
const REGISTRY: &str = "ghcr.io/sluice-project";

/// This machine has a processor that Kubernetes is not built for here.
#[derive(Debug, thiserror::Error)]
#[error("images can't be built for this machine's processor ({})", std::env::consts::ARCH)]
struct UnknownArch;

impl Explain for UnknownArch {
    fn hint(&self) -> Option<String> {
        Some("use a machine with x86_64 or aarch64".to_owned())
    }
}

/// Everything about a run of `build-images`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Version of Kubernetes with Sluice's suffix.
    version: String,
    /// `linux/<architecture>`.
    platform: String,
    /// In the order of their names.
    images: Vec<Line>,
    /// Time for the images, without the programs in them.
    seconds: f64,
}

/// One variant of one image.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    reference: Reference,
    /// `uid:gid` that a container runs as.
    user: Option<String>,
    /// Digest of the multi-architecture index: what a registry answers for the tag.
    digest: Digest,
    /// Digest of the manifest for this platform.
    manifest: Digest,
    /// Digest of the configuration, which is docker's image id.
    config: Digest,
    /// Bytes that a pull transfers.
    size: u64,
    layers: Vec<LayerLine>,
    /// OCI layout; holds all variants of the image.
    layout: PathBuf,
    /// Archive for `docker load`.
    archive: PathBuf,
    archive_size: u64,
    /// Time for all variants of the image together.
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct LayerLine {
    digest: Digest,
    diff_id: Digest,
    size: u64,
}

impl Cmd {
    /// Builds the programs that the images hold, then the images.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let definitions = Definitions::read(&shell.paths.root().join("images"))?;
        let chosen = definitions.select(&self.only)?;
        let programs: BTreeSet<String> = chosen.iter().flat_map(|image| definitions.binaries(image)).collect();
        let built = crate::build::patched(shell, &self.k8s, programs)?;
        let out = self.out.unwrap_or_else(|| shell.paths.root().join("out").join("images"));
        let report = write(shell, &built, &definitions, &chosen, &self.registry, &out)?;
        if self.json { shell.out.json(&report) } else { shell.out.data(report.table()) }
    }
}

/// Writes the images `chosen` into `out`.
pub(crate) fn write(
    shell: &Context,
    built: &Built,
    definitions: &Definitions,
    chosen: &[&Definition],
    registry: &str,
    out: &Path,
) -> Result<Report> {
    let started = Instant::now();
    let arch = Arch::host().ok_or(UnknownArch)?;
    let store = BlobStore::open(&shell.paths.cache().join("images"))?;
    let assembler = Assembler::new(built, arch, registry, env!("CARGO_PKG_REPOSITORY"), store)?;
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
                    .attempting(|| format!("cannot write the image {}", image.name))?;
                lines.lock().unwrap_or_else(PoisonError::into_inner).extend(done);
                progress.advance(1);
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(chosen.len());
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(crashed()))).collect::<Result<()>>()
    })?;
    let mut images: Vec<Line> = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    images.sort_by(|a, b| a.reference.cmp(&b.reference));
    progress.done(format!("{} in {}", images.len(), out.display()));
    let platform = format!("linux/{}", arch.oci());
    Ok(Report { version: built.version.clone(), platform, images, seconds: started.elapsed().as_secs_f64() })
}

fn crashed() -> Error {
    anyhow::anyhow!("a worker thread ended with a panic").into()
}

/// One layout for all variants, and one archive for each; both are checked when they are written.
fn write_image(
    assembler: &Assembler,
    definitions: &Definitions,
    image: &Definition,
    out: &Path,
) -> Result<Vec<Line>> {
    let started = Instant::now();
    let variants = assembler.assemble(definitions, image)?;
    let folder = out.join(&image.name);
    let indexes: Vec<_> = variants.iter().map(|variant| variant.index.clone()).collect();
    layout::write(&folder, assembler.store(), &indexes)?;
    validate::layout(&folder)?;
    let mut lines = vec![];
    for variant in &variants {
        let archive = out.join(format!("{}{}.tar", image.name, variant.suffix));
        archive::write(&archive, assembler.store(), &variant.index, assembler.created())?;
        validate::archive(&archive)?;
        lines.extend(line(image, variant, &folder, archive)?);
    }
    for line in &mut lines {
        line.seconds = started.elapsed().as_secs_f64();
    }
    Ok(lines)
}

fn line(definition: &Definition, variant: &Variant, layout: &Path, archive: PathBuf) -> Result<Option<Line>> {
    let Some(image) = variant.index.images().first() else { return Ok(None) };
    let (manifest, config) = (image.manifest()?, image.config()?);
    let layers = image.layers().iter().map(|layer| LayerLine {
        digest: layer.blob().digest,
        diff_id: *layer.diff_id(),
        size: layer.blob().size,
    });
    let layers: Vec<_> = layers.collect();
    Ok(Some(Line {
        name: definition.name.clone(),
        reference: variant.index.reference().clone(),
        user: image.user().map(ToOwned::to_owned),
        digest: variant.index.document()?.blob().digest,
        manifest: manifest.blob().digest,
        config: config.blob().digest,
        size: manifest.blob().size + config.blob().size + layers.iter().map(|layer| layer.size).sum::<u64>(),
        layers,
        layout: layout.to_owned(),
        archive_size: fs::metadata(&archive)?.len(),
        archive,
        seconds: 0.0,
    }))
}

impl Report {
    fn table(&self) -> String {
        let heading = ["IMAGE", "DIGEST", "MB", "SECONDS", "FILE FOR docker load"].map(str::to_owned).to_vec();
        let rows = self.images.iter().map(|line| {
            vec![
                line.reference.to_string(),
                line.digest.to_string(),
                format!("{:.1}", line.size as f64 / 1e6),
                format!("{:.1}", line.seconds),
                line.archive.display().to_string(),
            ]
        });
        table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests;
