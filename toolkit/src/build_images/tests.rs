use std::cell::Cell;
use std::io::Read;

use fs_err as fs;
use tempfile::TempDir;

use sluice_shell::minor::Minor;

use super::*;
use crate::pipeline::Binary;
use crate::registry::{
    Transfer,
    tests::server::{PASSWORD, Server},
};
use crate::release::manifests::{VCLUSTER, renamed};
use sluice_shell::process::Run;

const EPOCH: i64 = 1_700_000_000;

const VERSION: &str = "v1.37.2+sluice.1";

/// A workspace with the real definitions and programs for both platforms: for this machine's, copies of busybox that
/// differ at their ends; for the other one, what looks like a static program.
struct Bench {
    dir: TempDir,
    shell: Context,
    definitions: Definitions,
    builds: Vec<Built>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shell = Context::for_test(dir.path());
        let definitions = Definitions::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../images")).unwrap();
        let builds = Platform::ALL.map(|platform| build(dir.path(), &definitions, platform)).to_vec();
        let packages = shell.paths.debian(other());
        for file in ["bin/busybox", "usr/share/doc/busybox-static/copyright"] {
            let file = packages.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, program_of(other())).unwrap();
        }
        Self { dir, shell, definitions, builds }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// A program of this machine's build.
    fn program(&self, name: &str) -> PathBuf {
        let built = self.builds.iter().find(|built| built.platform.is_host()).unwrap();
        built.path(name).unwrap().to_owned()
    }

    fn write(&self, only: &[&str]) -> Result<Report> {
        let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
        let chosen = self.definitions.select(&only)?;
        write(&self.shell, &self.builds, &self.definitions, &chosen, "ghcr.io/test", &self.out())
    }
}

/// The platform that this machine is not of.
fn other() -> Platform {
    Platform::ALL.into_iter().find(|platform| !platform.is_host()).unwrap()
}

fn program_of(platform: Platform) -> Vec<u8> {
    match platform {
        _ if platform.is_host() => fs::read("/bin/busybox").expect("the Debian package busybox-static"),
        Platform::Amd64 => images::program(62, 1),
        Platform::Arm64 => images::program(183, 1),
    }
}

fn build(dir: &Path, definitions: &Definitions, platform: Platform) -> Built {
    let all = definitions.select(&[]).unwrap();
    let programs: BTreeSet<_> = all.iter().flat_map(|image| definitions.binaries(image)).collect();
    let folder = dir.join(platform.arch());
    fs::create_dir(&folder).unwrap();
    let binary = |name: &String| {
        let bytes = [program_of(platform), name.clone().into_bytes()].concat();
        let path = folder.join(name);
        fs::write(&path, &bytes).unwrap();
        let version = if name == "sluice-shim" { "0.1.0" } else { VERSION };
        let (sha256, compiler) = (String::new(), "go1.26.10".to_owned());
        let (version, size) = (version.to_owned(), bytes.len() as u64);
        Binary { name: name.clone(), path, version, size, sha256, platform, compiler, seconds: 0.0 }
    };
    let binaries = programs.iter().map(binary).collect();
    let minor = Minor::DEFAULT.parse().unwrap();
    Built::new(minor, VERSION.to_owned(), platform, false, "1.26.10".to_owned(), EPOCH, binaries)
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
    two.builds.reverse();
    two.builds.iter_mut().for_each(|built| built.binaries.reverse());
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
    let tag = "v1.37.2_sluice.1";
    let both = |name: &str| {
        let name = format!("ghcr.io/test/{name}:{tag}");
        [(name.clone(), "0:0".to_owned()), (format!("{name}-rootless"), "65532:65532".to_owned())]
    };
    let shim = (format!("ghcr.io/test/sluice-shim:{tag}"), "65532:65532".to_owned());
    let expected: Vec<_> =
        ["kube-apiserver", "kube-controller-manager", "kubernetes"].into_iter().flat_map(both).chain([shim]).collect();
    assert_eq!(names, expected);
}

/// What the document `digest` of a layout says.
fn document(layout: &Path, digest: &images::Digest) -> serde_json::Value {
    serde_json::from_slice(&fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap()).unwrap()
}

#[test]
fn a_tag_stands_for_both_platforms() {
    let bench = Bench::new();
    let report = bench.write(&[]).unwrap();
    for line in &report.images {
        let index = document(&line.layout, &line.digest);
        let named: Vec<_> =
            index["manifests"].as_array().unwrap().iter().map(|entry| entry["platform"].clone()).collect();
        let platform = |arch: &str| serde_json::json!({ "architecture": arch, "os": "linux" });
        assert_eq!(named, [platform("amd64"), platform("arm64")], "{}", line.reference);
        let names: Vec<_> = line.platforms.iter().map(|part| part.platform).collect();
        assert_eq!(names, Platform::ALL);
        for part in &line.platforms {
            assert_eq!(document(&line.layout, &part.config)["architecture"], part.platform.arch());
            assert!(part.archive.to_str().unwrap().ends_with(&format!("-linux-{}.tar", part.platform.arch())));
        }
    }
    let files: BTreeSet<_> = report.images.iter().flat_map(|line| &line.platforms).map(|part| &part.archive).collect();
    assert_eq!(files.len(), 2 * report.images.len(), "each archive has a name of its own");
}

#[test]
fn annotations_and_labels_say_what_is_there() {
    let bench = Bench::new();
    let report = bench.write(&[]).unwrap();
    for line in &report.images {
        let version = if line.name == "sluice-shim" { "0.1.0" } else { VERSION };
        let index = document(&line.layout, &line.digest);
        for part in &line.platforms {
            let manifest = document(&line.layout, &part.manifest);
            let annotations = &manifest["annotations"];
            let of = |key: &str| annotations[format!("org.opencontainers.image.{key}")].as_str();
            assert_eq!(of("version"), Some(version), "{}", line.reference);
            assert_eq!(of("base.name"), Some("scratch"));
            assert_eq!(of("created"), Some("2023-11-14T22:13:20Z"));
            assert_eq!(of("source"), Some(env!("CARGO_PKG_REPOSITORY")));
            assert!(of("licenses").is_some_and(|licenses| licenses.contains("Apache-2.0")));
            assert_eq!(of("revision"), None, "the workspace of this test is no checkout");
            assert_eq!(*annotations, document(&line.layout, &part.config)["config"]["Labels"]);
            assert_eq!(*annotations, index["annotations"]);
        }
    }
}

/// Minors have other modules in their programs.
#[test]
fn the_licences_of_an_image_are_those_of_its_minor() {
    let mut bench = Bench::new();
    let mut labels = vec![];
    for minor in ["v1.37", "v1.34"] {
        bench.builds.iter_mut().for_each(|built| built.minor = minor.parse().unwrap());
        let report = bench.write(&["kube-apiserver"]).unwrap();
        let index = document(&report.images[0].layout, &report.images[0].digest);
        labels.push(index["annotations"]["org.opencontainers.image.licenses"].as_str().unwrap().to_owned());
    }
    assert_eq!(labels[0], format!("{} AND MPL-2.0", labels[1]));
}

/// Registries answer with the digests of the report, whoever pushes.
#[test]
fn other_tools_keep_the_digests() {
    let bench = Bench::new();
    let report = bench.write(&["sluice-shim"]).unwrap();
    let (line, tag) = (&report.images[0], report.images[0].reference.tag());
    let copied = |from: String, to: &str| {
        let to = bench.dir.path().join(to);
        let run = Run::new("skopeo", bench.dir.path()).args(["--insecure-policy", "copy", "--quiet", "--all"]);
        run.arg(from).arg(format!("oci:{}:x", to.display())).run().unwrap();
        let index: serde_json::Value = serde_json::from_slice(&fs::read(to.join("index.json")).unwrap()).unwrap();
        index["manifests"][0]["digest"].as_str().unwrap().to_owned()
    };
    let layout = format!("oci:{}:{tag}", line.layout.display());
    assert_eq!(copied(layout, "of-layout"), line.digest.to_string());
    for part in &line.platforms {
        let archive = format!("oci-archive:{}:{tag}", part.archive.display());
        assert_eq!(copied(archive, part.platform.arch()), part.manifest.to_string(), "{}", part.platform);
    }
}

#[test]
fn what_another_platform_lacks_is_said_before_anything_is_built() {
    let bench = Bench::new();
    let chosen = bench.definitions.select(&["kubernetes".to_owned()]).unwrap();
    let checked = || check(&bench.shell, &bench.definitions, &chosen, other(), "ghcr.io/test", &bench.out());
    checked().unwrap();
    fs::remove_file(bench.shell.paths.debian(other()).join("bin/busybox")).unwrap();
    let error = format!("{:?}", checked().unwrap_err());
    assert!(error.contains(&format!("doctor --for images --platform {} --install", other())), "{error}");
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
    let archive = &report.images[0].platforms[0].archive;
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
    fs::copy(std::env::current_exe().unwrap(), bench.program("sluice-shim")).unwrap();
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
        check(&bench.shell, &bench.definitions, &[], other(), "ghcr.io/test", Path::new("/sys/no")).unwrap_err();
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
    let program = bench.program("sluice-shim");
    fs::write(&program, [fs::read(&program).unwrap().as_slice(), b"newer"].concat()).unwrap();
    bench.write(&["sluice-shim"]).unwrap();
    assert_eq!(packed(), before + 1, "a run for one image keeps what the others need");
    bench.write(&[]).unwrap();
    assert_eq!(packed(), before);
}

/// To compress the layers of one platform takes half a minute.
#[test]
fn a_run_for_one_platform_another_minor_or_a_release_keeps_what_the_others_packed() {
    let mut bench = Bench::new();
    let packed = || files(&bench.shell.paths.cache().join("images/blobs/sha256"));
    bench.write(&[]).unwrap();
    let both = packed();
    let builds = bench.builds.clone();
    bench.builds.retain(|built| built.platform.is_host());
    bench.write(&[]).unwrap();
    assert!(packed() == both, "a run for this machine's platform alone");

    let program = bench.program("kube-apiserver");
    let bytes = fs::read(&program).unwrap();
    let mut before = both;
    for (minor, release_flags) in [("v1.34", false), ("v1.37", true)] {
        (bench.builds[0].minor, bench.builds[0].release_flags) = (minor.parse().unwrap(), release_flags);
        fs::write(&program, [bytes.as_slice(), minor.as_bytes()].concat()).unwrap();
        bench.write(&[]).unwrap();
        let now = packed();
        let kept = now.len() > before.len() && before.iter().all(|layer| now.contains(layer));
        assert!(kept, "a run for {minor}, release: {release_flags}");
        before = now;
    }
    fs::write(&program, bytes).unwrap();
    bench.builds = builds;
    bench.write(&[]).unwrap();
    assert!(packed() == before, "a run for both platforms");
}

/// The manifests name images that exist, by the tag that this tree gives them.
#[test]
fn manifests_use_the_images_of_this_tree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let shell = Context::for_test(root);
    let pins = crate::source::Pins::load(&shell, &Minor::DEFAULT.parse().unwrap()).unwrap();
    let tag = format!("{}_sluice.{}", pins.kubernetes.version, pins.sluice.revision);
    let definitions = Definitions::read(&root.join("images")).unwrap();
    let all = definitions.select(&[]).unwrap();
    let names = all.iter().flat_map(|image| {
        image.variants.iter().map(|variant| format!("{REGISTRY}/{}:{tag}{}", image.name, variant.suffix))
    });
    let names: BTreeSet<_> = names.collect();
    let found = Cell::new(0);
    for (path, bytes) in files(&root.join("images/manifests")) {
        let text = String::from_utf8(bytes).unwrap();
        let named = |image: &str| {
            assert!(image == VCLUSTER || names.contains(image), "{}: {image} is none of {names:?}", path.display());
            found.set(found.get() + usize::from(image != VCLUSTER));
            Ok(image.to_owned())
        };
        renamed(&text, &pins.kubernetes.version, named).unwrap();
    }
    assert!(found.get() >= 9, "{found:?}");
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

    let host = rootless.platforms.iter().find(|part| part.platform.is_host()).unwrap();
    let archive = format!("docker-archive:{}", host.archive.display());
    let policy = ["--insecure-policy", "copy", "--quiet"];
    run("skopeo").args(policy).args([&archive, "oci:copy:x"]).run().unwrap();
    let copied = run("skopeo").args(["inspect", "--config", "oci:copy:x"]).read().unwrap();
    let copied: serde_json::Value = serde_json::from_str(&copied).unwrap();
    assert_eq!(copied["rootfs"], config["rootfs"]);

    let root = nix::unistd::geteuid().is_root();
    // umoci knows no images of several platforms; skopeo takes this machine's.
    run("skopeo").args(policy).args([&layout, "oci:one:x"]).run().unwrap();
    let rootless_flag = if root { None } else { Some("--rootless") };
    run("umoci").arg("unpack").args(rootless_flag).args(["--image", "one:x", "bundle"]).run().unwrap();
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
        assert_eq!(bytes, fs::read(bench.program(name)).unwrap());
    }
}

#[test]
fn a_push_reports_the_digests_that_the_registry_gives() {
    let (bench, server) = (Bench::new(), Server::start());
    let mut report = bench.write(&["sluice-shim", "kube-apiserver", "kubernetes"]).unwrap();
    let base = format!("{}/team", server.name());
    let tags = ["v1".to_owned(), "latest".to_owned()];
    let push = |tags: &[String], report: &mut Report| {
        push::Destination::new(&base, tags, server.open(PASSWORD)).push(&bench.shell, report)
    };
    push(&tags, &mut report).unwrap();
    for line in &report.images {
        let suffix = if line.reference.tag().ends_with("-rootless") { "-rootless" } else { "" };
        let digest = line.digest;
        let names = tags.iter().map(|tag| format!("{base}/{}:{tag}{suffix}@{digest}", line.name));
        assert_eq!(line.pushed, names.collect::<Vec<_>>());
    }
    let first = report.transferred();
    // A variant has the layers of its image, and kubernetes has those of kube-apiserver.
    let sum = |one: fn(&Transfer) -> usize| -> usize {
        report.images.iter().filter_map(|line| line.transfer.as_ref()).map(one).sum()
    };
    assert!(sum(|it| it.mounted) > 0 && sum(|it| it.present) > 0, "{first}");

    push(&[], &mut report).unwrap();
    let (text, sent) = (report.table(), report.images.iter().filter_map(|line| line.transfer));
    assert_eq!(sent.map(|it| it.sent + it.mounted).sum::<usize>(), 0);
    for line in &report.images {
        let name = format!("{base}/{}:{}@{}", line.name, line.reference.tag(), line.digest);
        assert!(text.contains(&format!("\npushed {name}")), "{text}");
        assert_eq!(serde_json::to_value(line).unwrap()["pushed"], serde_json::json!([name]));
    }
}
