//! The part `images` of the tests: images of all platforms are built twice, programs of the platform that this machine
//! is not of are tried under qemu, a release of all platforms is made, checked and installed, and signatures of images
//! are checked by cosign and skopeo's library.
//!
//! It compiles Kubernetes for another platform, and the shim twice for each: half an hour on two processors. So it is
//! no part of all tests.

mod installed;
mod release;
mod standard;

use std::path::{Path, PathBuf};

use crate::choice;
use fs_err as fs;
use serde_json::Value;
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};
use sluice_shell::platform::Platform;
use sluice_shell::process::{Run, THIS};
use sluice_toolkit::build::{self, Program};
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};
use sluice_toolkit::source::Target;

/// What the images are made of, in the workspace.
const SOURCES: [&str; 7] = ["shim", "images", "patches", "Cargo.toml", "Cargo.lock", ".cargo", "rust-toolchain.toml"];

/// A step of this part.
pub(crate) type Step = fn(&Context, &Target) -> Result<()>;

/// The steps with their names.
const STEPS: [(&str, Step); 4] = [
    ("programs of another platform", emulated),
    ("images from two folders and two homes", twice),
    ("a release of both platforms", release::made),
    ("signatures by tools of others", checked),
];

/// The steps whose name contains `filter`.
///
/// # Errors
/// When there is none.
pub(crate) fn chosen(filter: Option<&str>) -> Result<Vec<(&'static str, Step)>> {
    choice::chosen("test of images", filter, STEPS, |(name, _)| name)
}

/// The images of the workspace and those of a clone of it, built by another user as it were, are the same. Compiled Go
/// packages are shared: Go itself keeps folders out of them.
fn twice(shell: &Context, target: &Target) -> Result<()> {
    let root = shell.paths.root();
    let changed = Run::new("git", root).args(["status", "--porcelain", "--"]).args(SOURCES).read()?;
    if !changed.is_empty() {
        return Err(Error::input(format!(
            "the second folder is a clone, so these must be committed first:\n{changed}"
        )));
    }
    let folder = shell.paths.cache().join("images-twice");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let (clone, home) = (folder.join("a-clone-with-a-longer-name"), folder.join("home"));
    let cargo = home.join(".cargo");
    fs::create_dir_all(&cargo)?;
    Run::new("git", root).args(["clone", "--quiet"]).args([root, &clone]).run()?;
    fs::create_dir_all(clone.join(".sluice"))?;
    fs::os::unix::fs::symlink(shell.paths.cache().join("debian"), clone.join(".sluice/debian"))?;
    // Not a link: compilers would see where it leads to.
    let registry = cargo_home()?.join("registry");
    Run::new("cp", root).args(["--archive", "--link"]).args([&registry, &cargo.join("registry")]).run()?;

    let mut elsewhere = images(&clone, target, &folder.join("second"))
        .env("HOME", &home)
        .env("CARGO_HOME", &cargo)
        .env_remove("SLUICE_CACHE");
    for (name, value) in toolchains(root)? {
        elsewhere = elsewhere.env(name, value);
    }
    let out = folder.join("first");
    let first = digests(&images(root, target, &out).read()?)?;
    // They take more than a gigabyte.
    fs::remove_dir_all(out)?;
    let second = digests(&elsewhere.read()?)?;
    ensure(!first.is_empty() && first == second, || format!("here\n{first:#?}\nin the clone\n{second:#?}"))?;
    Ok(fs::remove_dir_all(folder)?)
}

/// `build-images` for all platforms in the workspace `root`.
fn images(root: &Path, target: &Target, out: &Path) -> Run {
    Run::new(THIS, root)
        .args(["build-images", "--json", "--platform", &platforms()])
        .args(["--k8s", target.k8s.as_str(), "--source", &target.source.to_string()])
        .arg("--out")
        .arg(out)
        // The folder that it runs in says which workspace is meant.
        .env_remove("CARGO_MANIFEST_DIR")
}

/// All of them, as a flag.
fn platforms() -> String {
    Platform::ALL.map(|platform| platform.to_string()).join(",")
}

/// cosign, and the library that skopeo is made of, accept what a release pushes to a registry. They are built first.
fn checked(shell: &Context, _: &Target) -> Result<()> {
    let tools = build::build_tools(shell, &[Program::Cosign, Program::ImageCopy])?;
    let test = ["test", "--package", "sluice-toolkit", "--lib", "--", "release::tests::tools"];
    let run = Run::cargo(shell.paths.root()).args(test);
    run.env("SLUICE_TEST_COSIGN", &tools[0].path).env("SLUICE_TEST_IMAGE_COPY", &tools[1].path).run()
}

/// Each image's name with its digest and those of its platforms.
fn digests(report: &str) -> Result<Vec<String>> {
    let report: Value = serde_json::from_str(report)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let line = |image: &Value| {
        let platforms = list(&image["platforms"]);
        let parts = platforms.iter().map(|part| format!("{} {}", text(&part["platform"]), text(&part["manifest"])));
        [text(&image["reference"]), text(&image["digest"])].into_iter().chain(parts).collect::<Vec<_>>().join(" ")
    };
    Ok(list(&report["images"]).iter().map(line).collect())
}

/// Where compilers and their caches are, so that another home does not hide them.
fn toolchains(root: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let go = |name: &str| -> Result<PathBuf> { Ok(Run::new("go", root).args(["env", name]).read()?.into()) };
    let mut variables = vec![("GOCACHE", go("GOCACHE")?), ("GOMODCACHE", go("GOMODCACHE")?)];
    let rustup = std::env::var_os("RUSTUP_HOME")
        .map_or_else(|| Ok(own_home()?.join(".rustup")), |it| Ok::<_, Error>(it.into()))?;
    variables.push(("RUSTUP_HOME", rustup));
    Ok(variables)
}

fn cargo_home() -> Result<PathBuf> {
    std::env::var_os("CARGO_HOME").map_or_else(|| Ok(own_home()?.join(".cargo")), |home| Ok(home.into()))
}

fn own_home() -> Result<PathBuf> {
    std::env::home_dir().ok_or_else(|| Error::input("there is no HOME in the environment"))
}

/// Kubernetes' programs of another platform say their version there, and the shim serves etcdctl.
fn emulated(shell: &Context, target: &Target) -> Result<()> {
    let foreign = Platform::ALL.into_iter().filter(|platform| !platform.is_host());
    for platform in foreign {
        let built = Run::new(THIS, shell.paths.root())
            .args(["build", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "sluice-shim", "--json"])
            .args(["--platform", &platform.to_string()])
            .args(["--k8s", target.k8s.as_str(), "--source", &target.source.to_string()])
            .read()?;
        let built: Value = serde_json::from_str(&built)?;
        for binary in built["binaries"].as_array().into_iter().flatten() {
            let (path, version) = (binary["path"].as_str(), binary["version"].as_str());
            let (path, version) = (path.unwrap_or_default(), version.unwrap_or("?"));
            says_version(Path::new(path), platform, version)?;
            if binary["name"] == Program::SluiceShim.name() {
                serves_etcdctl(shell, &started(Path::new(path), platform))?;
            }
        }
    }
    Ok(())
}

/// The program at `path`, under qemu if this machine is not of its platform.
fn started(path: &Path, platform: Platform) -> Run {
    match platform.is_host() {
        true => Run::new(path, "/"),
        false => Run::new(format!("qemu-{}-static", platform.cpu()), "/").arg(path),
    }
}

/// The program at `path` runs, and says that it is of this version.
fn says_version(path: &Path, platform: Platform, version: &str) -> Result<()> {
    let said = started(path, platform).arg("--version").read()?;
    let says = said.split([' ', '\n']).any(|word| word == version);
    ensure(says, || format!("{} says {said:?}, not {version}", path.display()))
}

fn serves_etcdctl(shell: &Context, shim: &Run) -> Result<()> {
    let etcdctl = build::build_tools(shell, &[Program::Etcdctl])?.remove(0).path;
    let folder = tempfile::tempdir()?;
    let address = format!("http://127.0.0.1:{}", port::free()?);
    let endpoint = format!("sqlite://{}", folder.path().join("state.db").display());
    let shim = shim.clone().args(["--endpoint", &endpoint, "--listen-client-urls", &address]);
    let process = launch("sluice-shim", &shim, &folder.path().join("shim.log"))?;
    let _process = Guard::new(Leftover::Process(process));
    let ask = |args: &[&str]| Run::new(&etcdctl, folder.path()).args(["--endpoints", &address]).args(args).outcome();
    until("an answer of the shim", LIMIT, || Ok(ask(&["endpoint", "health"])?.status.success().then_some(())))?;
    for (args, expected) in
        [(&["put", "a", "1"][..], "OK\n"), (&["get", "a"], "a\n1\n"), (&["del", "a"], "1\n"), (&["get", "a"], "")]
    {
        let said = ask(args)?;
        ensure(said.status.success() && said.stdout == expected, || format!("etcdctl {args:?}: {said:?}"))?;
    }
    Ok(())
}
