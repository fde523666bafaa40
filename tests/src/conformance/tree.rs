//! Upstream's source with the one file exchanged that starts a server.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

use super::suite::{Suite, Upstream};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_shell::process::Run;
use sluice_toolkit::source::{self, Purpose, Target};

/// Where the go command compiles the tests of a suite.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// Upstream's version.
    pub(super) version: String,
    /// The main module.
    dir: PathBuf,
    /// Arguments of every go command that reads packages.
    flags: Vec<String>,
}

impl Prepared {
    /// `go <verb>` with the exchanged file in place.
    pub(super) fn go(&self, verb: &str) -> Run {
        go(&self.dir, "-mod=mod -buildvcs=false -trimpath").arg(verb).args(&self.flags)
    }
}

/// The file of a project that is exchanged, and what stands in for it, both below their roots.
fn exchange(upstream: Upstream) -> (&'static str, &'static str) {
    match upstream {
        Upstream::Kubernetes => (
            "staging/src/k8s.io/apiserver/pkg/storage/etcd3/testserver/test_server.go",
            "ci/conformance/kubernetes_test_server.go",
        ),
        Upstream::Etcd => ("server/etcdserver/api/v3rpc/grpc.go", "ci/conformance/etcd_grpc_server.go"),
    }
}

/// Composes the tree if need be, and writes the overlay.
pub(super) fn prepare(shell: &Context, target: &Target, suite: &Suite) -> Result<Prepared> {
    let (root, version) = match suite.upstream {
        Upstream::Kubernetes => {
            let fetched = target.fetch(shell, Purpose::Stock)?;
            (fetched.tree, fetched.version)
        }
        Upstream::Etcd => etcd(shell)?,
    };
    let scratch = folder(shell).join(&suite.name);
    fs_err::create_dir_all(&scratch)?;
    let (theirs, ours) = exchange(suite.upstream);
    let theirs = root.join(theirs);
    if !theirs.is_file() {
        return Err(Error::input(format!(
            "{} is not there: upstream has moved what starts its server",
            theirs.display()
        )));
    }
    let overlay = scratch.join("overlay.json");
    let replace = serde_json::json!({ "Replace": { theirs.display().to_string(): shell.paths.root().join(ours) } });
    fs_err::write(&overlay, replace.to_string())?;
    let mut flags = vec![format!("-overlay={}", overlay.display())];
    if !suite.tags.is_empty() {
        flags.push(format!("-tags={}", suite.tags.join(",")));
    }
    let dir = match suite.upstream {
        Upstream::Etcd => root.join("tests"),
        Upstream::Kubernetes => {
            // The tree stays as it is: go completes copies of go.mod and go.sum.
            for name in ["go.mod", "go.sum"] {
                fs_err::copy(root.join(name), scratch.join(name))?;
            }
            flags.push(format!("-modfile={}", scratch.join("go.mod").display()));
            root
        }
    };
    Ok(Prepared { version, dir, flags })
}

/// What a run writes.
pub(super) fn folder(shell: &Context) -> PathBuf {
    shell.paths.cache().join("conformance")
}

fn go(dir: &Path, flags: &str) -> Run {
    Run::new("go", dir).env("GOWORK", "off").env("CGO_ENABLED", "0").env("GOFLAGS", flags)
}

/// The modules of etcd's repository, with their folders in it.
const MODULES: [(&str, &str); 7] = [
    ("go.etcd.io/etcd/api/v3", "api"),
    ("go.etcd.io/etcd/client/pkg/v3", "client/pkg"),
    ("go.etcd.io/etcd/client/v3", "client/v3"),
    ("go.etcd.io/etcd/etcdctl/v3", "etcdctl"),
    ("go.etcd.io/etcd/etcdutl/v3", "etcdutl"),
    ("go.etcd.io/etcd/pkg/v3", "pkg"),
    ("go.etcd.io/etcd/server/v3", "server"),
];
const TESTS: (&str, &str) = ("go.etcd.io/etcd/tests/v3", "tests");

/// The module of etcd's client-side cache is not published for every version; the tests of it are left out, and this
/// stands in its place for `tests/go.mod`.
const NO_CACHE: &str = "module go.etcd.io/etcd/cache/v3\n\ngo 1.26.0\n";
/// The tests of that cache.
const OF_THE_CACHE: &str = "tests/integration/cache_test.go";

/// Symbolic links of etcd's repository that a Go module can't hold: the tests read their certificates through them.
const FIXTURES: [&str; 3] = [
    "tests/integration/fixtures",
    "tests/integration/clientv3/fixtures",
    "tests/integration/clientv3/experimental/fixtures",
];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Download {
    path: String,
    version: String,
    dir: PathBuf,
}

/// etcd's repository from its Go modules, laid out as upstream does, so that the `replace` lines of `tests/go.mod`
/// hold. Which versions is pinned, with checksums, in `toolkit/go/etcd-tests`.
fn etcd(shell: &Context) -> Result<(PathBuf, String)> {
    let pins = shell.paths.root().join("toolkit/go/etcd-tests");
    let mut hash = Sha256::new();
    for name in ["go.mod", "go.sum"] {
        hash.update(fs_err::read(pins.join(name))?);
    }
    let modules: Vec<(&str, &str)> = MODULES.into_iter().chain([TESTS]).collect();
    let listing = go(&pins, "-mod=readonly")
        .args(["mod", "download", "-json"])
        .args(modules.iter().map(|(module, _)| module))
        .read()
        .attempting(|| "cannot download etcd's modules")?;
    let downloads: Vec<Download> =
        serde_json::Deserializer::from_str(&listing).into_iter().collect::<std::result::Result<_, _>>()?;
    let find = |module: &str| {
        let found = downloads.iter().find(|download| download.path == module);
        found.ok_or_else(|| Error::input(format!("{module} is not pinned in {}", pins.display())))
    };
    let version = find(TESTS.0)?.version.clone();
    let digest: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let place = shell.paths.cache().join("trees").join(format!("etcd-{version}-{digest}"));
    let _lock = source::lock(shell, &place)?;
    if !place.is_dir() {
        let partial = source::partial(&place);
        if partial.exists() {
            fs_err::remove_dir_all(&partial)?;
        }
        for (module, folder) in modules {
            copy(&find(module)?.dir, &partial.join(folder))?;
        }
        fs_err::create_dir_all(partial.join("cache"))?;
        fs_err::write(partial.join("cache/go.mod"), NO_CACHE)?;
        fs_err::remove_file(partial.join(OF_THE_CACHE))?;
        for link in FIXTURES {
            let up = "../".repeat(link.split('/').count() - 2);
            fs_err::os::unix::fs::symlink(format!("{up}fixtures"), partial.join(link))?;
        }
        fs_err::rename(&partial, &place)?;
    }
    Ok((place, version))
}

/// Copies a module. The module cache is read-only; the copy is not.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in WalkDir::new(from) {
        let entry = entry?;
        let place = to.join(entry.path().strip_prefix(from).unwrap_or(entry.path()));
        if entry.file_type().is_dir() {
            fs_err::create_dir_all(&place)?;
        } else {
            fs_err::write(&place, fs_err::read(entry.path())?)?;
        }
    }
    Ok(())
}
