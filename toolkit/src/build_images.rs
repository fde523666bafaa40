//! `cargo xtask build-images`: the images of `images/*.toml`, as OCI layouts and as archives for `docker load`.

mod report;

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use self::report::{Line, Report};
use clap::ValueEnum as _;

use crate::{
    build::{Options, Program, build_patched},
    images::{
        self, Assembler, BlobStore, Definition, Definitions, Reference, archive, check_machine, layout, validate,
    },
    pipeline::Built,
    source::Target,
};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_shell::platform::Platform;

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
    target: Target,
    /// Without symbol tables and DWARF, as upstream's releases
    #[arg(long)]
    release_flags: bool,
    /// Print a report in JSON: names, digests, sizes, seconds
    #[arg(long)]
    json: bool,
}

/// Where the project publishes its images.
const REGISTRY: &str = "ghcr.io/sluice-project";

impl Cmd {
    /// Builds the programs that the images hold, then the images.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let definitions = Definitions::read(&shell.paths.root().join("images"))?;
        let chosen = definitions.select(&self.only)?;
        let out = self.out.unwrap_or_else(|| shell.paths.root().join("out").join("images"));
        let out = std::path::absolute(out)?;
        check(&definitions, &chosen, Platform::host()?, &self.registry, &out)?;
        let names: BTreeSet<String> = chosen.iter().flat_map(|image| definitions.binaries(image)).collect();
        let programs = names.iter().map(|name| program(name)).collect::<Result<Vec<_>>>()?;
        let options = Options { release_flags: self.release_flags, platform: Platform::host()? };
        let built = build_patched(shell, &self.target, options, &programs)?;
        let report = write(shell, &built, &definitions, &chosen, &self.registry, &out)?;
        if self.json { shell.out.json(&report) } else { shell.out.data(report.table()) }
    }
}

/// Finds before the programs are built, which takes minutes, what would stop the images after it.
fn check(
    definitions: &Definitions,
    chosen: &[&Definition],
    platform: Platform,
    registry: &str,
    out: &Path,
) -> Result<()> {
    for image in chosen {
        check_machine(definitions, image, platform)?;
        Reference::new(&format!("{registry}/{}", image.name), "tag")?;
    }
    fs_err::create_dir_all(out).map_err(images::Error::from)?;
    let fail = |source| images::Error::Write { path: out.to_owned(), source };
    tempfile::NamedTempFile::with_prefix_in(".partial-", out).map_err(fail)?;
    Ok(())
}

fn program(name: &str) -> Result<Program> {
    Program::from_str(name, false).map_err(|_| {
        Error::input(format!("a definition in images/ asks for the program {name}, which `build` does not know"))
    })
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
    let _lock = shell.lock("images")?;
    let store = BlobStore::open(&shell.paths.cache().join("images"))?;
    let assembler = Assembler::new(built, registry, env!("CARGO_PKG_REPOSITORY"), store)?;
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
        // Packed layers of older programs are of no use to the next run.
        let used: BTreeSet<_> = images.iter().flat_map(|line| &line.layers).map(|layer| layer.digest.hex()).collect();
        assembler.store().prune(|name| used.contains(name))?;
    }
    progress.done(format!("{} in {}", images.len(), out.display()));
    let (version, platform, go) = (built.version.clone(), built.platform, built.go.clone());
    Ok(Report { version, platform, go, images, seconds: started.elapsed().as_secs_f64() })
}

fn crashed() -> Error {
    anyhow::anyhow!("a worker thread ended with a panic").into()
}

/// One layout for all variants, and one archive for each; both are checked when they are written.
fn write_image(assembler: &Assembler, definitions: &Definitions, image: &Definition, out: &Path) -> Result<Vec<Line>> {
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
        lines.extend(Line::of(image, variant, &folder, archive)?);
    }
    for line in &mut lines {
        line.seconds = started.elapsed().as_secs_f64();
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use fs_err as fs;
    use tempfile::TempDir;

    use sluice_shell::minor::Minor;

    use super::*;
    use crate::pipeline::Binary;
    use sluice_shell::process::Run;

    const EPOCH: i64 = 1_700_000_000;

    /// A workspace with the real definitions and, as programs, copies of busybox that differ at their ends.
    struct Bench {
        dir: TempDir,
        shell: Context,
        definitions: Definitions,
        built: Built,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let shell = Context::for_test(dir.path());
            let definitions = Definitions::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../images")).unwrap();
            let all = definitions.select(&[]).unwrap();
            let programs: BTreeSet<_> = all.iter().flat_map(|image| definitions.binaries(image)).collect();
            let mut busybox = fs::read("/bin/busybox").expect("the Debian package busybox-static");
            let length = busybox.len();
            let binary = |name: &String| {
                busybox.truncate(length);
                busybox.extend_from_slice(name.as_bytes());
                let path = dir.path().join(name);
                fs::write(&path, &busybox).unwrap();
                let (version, size) = ("v1.37.2+sluice.1".to_owned(), busybox.len() as u64);
                let (sha256, compiler) = (String::new(), "go1.26.10".to_owned());
                let platform = Platform::host().unwrap();
                Binary { name: name.clone(), path, version, size, sha256, platform, compiler, seconds: 0.0 }
            };
            let binaries = programs.iter().map(binary).collect();
            let minor = Minor::DEFAULT.parse().unwrap();
            let (version, go) = ("v1.37.2+sluice.1".to_owned(), "1.26.10".to_owned());
            let built = Built::new(minor, version, Platform::host().unwrap(), go, EPOCH, binaries);
            Self { dir, shell, definitions, built }
        }

        fn out(&self) -> PathBuf {
            self.dir.path().join("out")
        }

        fn write(&self, only: &[&str]) -> Result<Report> {
            let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
            let chosen = self.definitions.select(&only)?;
            write(&self.shell, &self.built, &self.definitions, &chosen, "ghcr.io/test", &self.out())
        }
    }

    /// Every file below `folder` with its bytes.
    fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().is_file());
        files
            .map(|entry| (entry.path().strip_prefix(folder).unwrap().to_owned(), fs::read(entry.path()).unwrap()))
            .collect()
    }

    #[test]
    fn the_same_programs_make_the_same_bytes() {
        let (one, mut two) = (Bench::new(), Bench::new());
        two.built.binaries.reverse();
        let report = one.write(&[]).unwrap();
        two.write(&[]).unwrap();
        let written = files(&one.out());
        assert!(written == files(&two.out()), "two runs differ");
        assert!(!report.images.is_empty());

        // A third run over the finished folder, from packed layers, changes nothing.
        one.write(&[]).unwrap();
        assert!(written == files(&one.out()), "a second run into the same folder differs");
    }

    #[test]
    fn images_have_the_names_and_users_of_their_definitions() {
        let report = Bench::new().write(&[]).unwrap();
        let names: Vec<_> =
            report.images.iter().map(|line| (line.reference.to_string(), line.user.clone().unwrap())).collect();
        let tag = "v1.37.2-sluice.1";
        let both = |name: &str| {
            let name = format!("ghcr.io/test/{name}:{tag}");
            [(name.clone(), "0:0".to_owned()), (format!("{name}-rootless"), "65532:65532".to_owned())]
        };
        let shim = (format!("ghcr.io/test/sluice-shim:{tag}"), "65532:65532".to_owned());
        let expected: Vec<_> = ["kube-apiserver", "kube-controller-manager", "kubernetes"]
            .into_iter()
            .flat_map(both)
            .chain([shim])
            .collect();
        assert_eq!(names, expected);
    }

    fn problems(result: Result<(), images::Error>) -> Vec<String> {
        match result {
            Ok(()) => vec![],
            Err(images::Error::Invalid { problems, .. }) => problems.iter().map(ToString::to_string).collect(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_check_finds_every_damaged_file() {
        let bench = Bench::new();
        bench.write(&["sluice-shim"]).unwrap();
        let layout = bench.out().join("sluice-shim");
        let whole = files(&layout);
        for (name, bytes) in &whole {
            let mut bad = bytes.clone();
            let middle = bad.len() / 2;
            bad[middle] ^= 0x20;
            fs::write(layout.join(name), &bad).unwrap();
            let found = problems(validate::layout(&layout));
            assert!(!found.is_empty(), "a flipped byte in {} was not found", name.display());
            fs::remove_file(layout.join(name)).unwrap();
            let found = problems(validate::layout(&layout));
            assert!(found.iter().any(|problem| problem.ends_with("it is missing")), "{} {found:?}", name.display());
            fs::write(layout.join(name), bytes).unwrap();
        }
        assert_eq!(problems(validate::layout(&layout)), [""; 0]);

        // All of them in one report.
        for (name, bytes) in whole.iter().filter(|(name, _)| name.starts_with("blobs")) {
            fs::write(layout.join(name), [bytes.as_slice(), b" "].concat()).unwrap();
        }
        fs::write(layout.join("blobs/sha256/left-over"), "").unwrap();
        let blobs = whole.iter().filter(|(name, _)| name.starts_with("blobs")).count();
        assert!(problems(validate::layout(&layout)).len() > blobs);

        bench.write(&["sluice-shim"]).unwrap();
        assert!(files(&layout) == whole, "a new run repairs the folder");
    }

    #[test]
    fn the_check_finds_a_damaged_archive() {
        let bench = Bench::new();
        let report = bench.write(&["sluice-shim"]).unwrap();
        let archive = &report.images[0].archive;
        let whole = fs::read(archive).unwrap();
        let mut tar = tar::Archive::new(whole.as_slice());
        let places: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap())
            .collect::<Vec<_>>()
            .iter()
            .filter(|entry| entry.size() > 0 && entry.path().unwrap() != Path::new("repositories"))
            .map(|entry| entry.raw_file_position() + entry.size() / 2)
            .collect();
        assert!(places.len() > 5);
        for place in places {
            let mut bad = whole.clone();
            bad[place as usize] ^= 0x20;
            fs::write(archive, bad).unwrap();
            assert!(!problems(validate::archive(archive)).is_empty(), "a flipped byte at {place} was not found");
        }
    }

    #[test]
    fn a_program_that_needs_libraries_is_refused() {
        let bench = Bench::new();
        fs::copy(std::env::current_exe().unwrap(), bench.built.path("sluice-shim").unwrap()).unwrap();
        let error = bench.write(&["sluice-shim"]).unwrap_err();
        assert!(error.to_string().contains("linked dynamically"), "{error}");
    }

    #[test]
    fn an_unknown_image_and_a_bad_folder_are_the_users_mistake() {
        let bench = Bench::new();
        let error = bench.write(&["kube-proxy"]).unwrap_err();
        let text =
            "there is no image kube-proxy; there are kube-apiserver, kube-controller-manager, kubernetes, sluice-shim";
        assert_eq!(error.to_string(), text);

        let sysfs =
            check(&bench.definitions, &[], bench.built.platform, "ghcr.io/test", Path::new("/sys/no")).unwrap_err();
        assert!(format!("{sysfs:?}").contains("with --out"), "{sysfs:?}");

        fs::write(bench.out(), "a file").unwrap();
        let error = bench.write(&["sluice-shim"]).unwrap_err();
        assert_eq!(error.fault(), sluice_shell::error::Fault::Input);
        assert!(error.to_string().contains(&bench.out().display().to_string()), "{error}");
    }

    #[test]
    fn layers_of_older_programs_leave_the_cache() {
        let bench = Bench::new();
        let packed = || files(&bench.shell.paths.cache().join("images/blobs/sha256")).len();
        bench.write(&[]).unwrap();
        let before = packed();
        let program = bench.built.path("sluice-shim").unwrap();
        fs::write(program, [fs::read(program).unwrap().as_slice(), b"newer"].concat()).unwrap();
        bench.write(&["sluice-shim"]).unwrap();
        assert_eq!(packed(), before + 1, "a run for one image keeps what the others need");
        bench.write(&[]).unwrap();
        assert_eq!(packed(), before);
    }

    /// The manifests name images that exist, by the tag that this tree gives them.
    #[test]
    fn manifests_use_the_images_of_this_tree() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let shell = Context::for_test(root);
        let pins = crate::source::Pins::load(&shell, &Minor::DEFAULT.parse().unwrap()).unwrap();
        let tag = format!("{}-sluice.{}", pins.kubernetes.version, pins.sluice.revision);
        let definitions = Definitions::read(&root.join("images")).unwrap();
        let all = definitions.select(&[]).unwrap();
        let names = all.iter().flat_map(|image| {
            image.variants.iter().map(|variant| format!("{REGISTRY}/{}:{tag}{}", image.name, variant.suffix))
        });
        let names: BTreeSet<_> = names.collect();
        let mut found = 0;
        for (path, bytes) in files(&root.join("images/manifests")) {
            let text = String::from_utf8(bytes).unwrap();
            for image in text.lines().filter_map(|line| line.trim().strip_prefix("image: ")) {
                assert!(names.contains(image), "{}: {image} is none of {names:?}", path.display());
                found += 1;
            }
        }
        assert!(found >= 4, "{found}");
    }

    /// skopeo reads both forms and finds one image in them; umoci unpacks it; the result does what vCluster's init
    /// container asks of it.
    #[test]
    fn other_tools_read_the_images_and_they_run() {
        let bench = Bench::new();
        let report = bench.write(&["kubernetes"]).unwrap();
        let rootless = report.images.iter().find(|line| line.reference.tag().ends_with("-rootless")).unwrap();
        let run = |program: &str| Run::new(program, bench.dir.path());
        let layout = format!("oci:{}:{}", rootless.layout.display(), rootless.reference.tag());
        let inspected = run("skopeo").args(["inspect", "--config", &layout]).read().unwrap();
        let config: serde_json::Value = serde_json::from_str(&inspected).unwrap();
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");

        let archive = format!("docker-archive:{}", rootless.archive.display());
        let policy = ["--insecure-policy", "copy", "--quiet"];
        run("skopeo").args(policy).args([&archive, "oci:copy:x"]).run().unwrap();
        let copied = run("skopeo").args(["inspect", "--config", "oci:copy:x"]).read().unwrap();
        let copied: serde_json::Value = serde_json::from_str(&copied).unwrap();
        assert_eq!(copied["rootfs"], config["rootfs"]);

        let root = nix::unistd::geteuid().is_root();
        let image = format!("{}:{}", rootless.layout.display(), rootless.reference.tag());
        let rootless_flag = if root { None } else { Some("--rootless") };
        run("umoci").arg("unpack").args(rootless_flag).args(["--image", &image, "bundle"]).run().unwrap();
        let rootfs = bench.dir.path().join("bundle/rootfs");
        fs::create_dir(rootfs.join("binaries")).unwrap();
        let enter = if root { run("chroot") } else { run("unshare").args(["--map-root-user", "chroot"]) };
        enter.arg(&rootfs).args(["/bin/cp", "-a", "/kubernetes/.", "/binaries/"]).run().unwrap();
        for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
            let mut copied = fs::File::open(rootfs.join("binaries").join(name)).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::mode(&copied.metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o755);
            let mut bytes = vec![];
            copied.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, fs::read(bench.built.path(name).unwrap()).unwrap());
        }
    }
}
