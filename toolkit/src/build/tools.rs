//! Programs of other projects, or of their libraries, from Go modules whose versions and checksums are pinned in
//! `toolkit/go/<module>/go.{mod,sum}`.

use std::path::{Path, PathBuf};

use super::stamp::{Inputs, digest, sha256_of};
use super::{Program, golang};
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};
use sluice_shell::platform::Platform;
use sluice_shell::process::Run;

const VCLUSTER: &str = "github.com/loft-sh/vcluster";

const TIDB: &str = "github.com/pingcap/tidb";

const SAMPLE_APISERVER: &str = "k8s.io/sample-apiserver";

/// Where vCluster's programs have their version.
const VCLUSTER_VERSION: &str = "github.com/loft-sh/vcluster/pkg/telemetry.SyncerVersion";

/// Linker flags of all of them: some have to be told their version (kine: pkg/version; prometheus/common: version;
/// release-utils: version; helm: internal/version; vCluster: .goreleaser.yaml, without the `v`).
fn ldflags(shell: &Context, program: Program) -> Result<String> {
    let strip = "-s -w";
    let (of, variables) = match program {
        Program::Kine => ("github.com/k3s-io/kine", &["github.com/k3s-io/kine/pkg/version.Version"][..]),
        Program::Promtool => {
            ("github.com/prometheus/prometheus", &["github.com/prometheus/common/version.Version"][..])
        }
        Program::Cosign => ("github.com/sigstore/cosign/v3", &["sigs.k8s.io/release-utils/version.gitVersion"][..]),
        Program::Helm => ("helm.sh/helm/v4", &["helm.sh/helm/v4/internal/version.version"][..]),
        Program::Vcluster => (VCLUSTER, &[VCLUSTER_VERSION][..]),
        Program::VclusterCli => (VCLUSTER, &[VCLUSTER_VERSION, "main.version"][..]),
        _ => return Ok(strip.to_owned()),
    };
    let (folder, ..) = recipe(program);
    let version = golang::go(&module(shell, folder), false)?.args(["list", "-m", "-f", "{{.Version}}", of]).read()?;
    let version = if of == VCLUSTER { version.trim().trim_start_matches('v') } else { version.trim() };
    let mut flags = strip.to_owned();
    for variable in variables {
        flags.push_str(&format!(" -X {variable}={version}"));
    }
    if program == Program::Kine {
        // Static, as upstream's releases: an image holds nothing else.
        flags.push_str(" -linkmode external -extldflags -static");
    }
    Ok(flags)
}

/// Where the Go command keeps a module that a folder of `toolkit/go` pins; fetches it if need be.
///
/// # Errors
/// When it can't be fetched, or its checksum is another one.
pub fn module_folder(workspace: &Path, folder: &str, module: &str) -> Result<PathBuf> {
    let pins = workspace.join("toolkit/go").join(folder);
    let text = golang::go(&pins, false)?.args(["mod", "download", "-json", module]).read()?;
    let downloaded: serde_json::Value = serde_json::from_str(&text)?;
    let dir = downloaded["Dir"].as_str();
    dir.map(PathBuf::from).ok_or_else(|| Error::input(format!("go mod download {module} names no folder: {text}")))
}

/// Folder below `toolkit/go`, package, and whether it needs cgo.
fn recipe(program: Program) -> (&'static str, &'static str, bool) {
    match program {
        Program::Etcdctl => ("etcd", "go.etcd.io/etcd/etcdctl/v3", false),
        Program::Etcdutl => ("etcd", "go.etcd.io/etcd/etcdutl/v3", false),
        Program::Kine => ("kine", "github.com/k3s-io/kine", true),
        Program::Promtool => ("prometheus", "github.com/prometheus/prometheus/cmd/promtool", false),
        Program::Jsonnet => ("prometheus", "github.com/google/go-jsonnet/cmd/jsonnet", false),
        Program::Actionlint => ("actionlint", "github.com/rhysd/actionlint/cmd/actionlint", false),
        Program::Cosign => ("cosign", "github.com/sigstore/cosign/v3/cmd/cosign", false),
        Program::ImageCopy => ("containers-image", ".", false),
        Program::KmsPlugin => ("kms-plugin", ".", false),
        Program::Coredns => ("coredns", "github.com/coredns/coredns", false),
        Program::Helm => ("helm", "helm.sh/helm/v4/cmd/helm", false),
        Program::Vcluster => ("vcluster", "github.com/loft-sh/vcluster/cmd/vcluster", false),
        Program::VclusterCli => ("vcluster", "github.com/loft-sh/vcluster/cmd/vclusterctl", false),
        Program::SampleApiserver => ("sample-apiserver", SAMPLE_APISERVER, false),
        Program::Tidb => ("tidb", "github.com/pingcap/tidb/cmd/tidb-server", false),
        _ => ("etcd", "go.etcd.io/etcd/server/v3", false),
    }
}

fn tags(program: Program) -> &'static str {
    match program {
        // None of Prometheus' ways to discover targets.
        Program::Promtool => "remove_all_sd",
        // No libraries in C: gpgme and Btrfs.
        Program::ImageCopy => "containers_image_openpgp,exclude_graphdriver_btrfs",
        // What a static program can't do: load libraries, and ask the C library for names.
        Program::Kine => "netgo,osusergo,sqlite_omit_load_extension",
        _ => "",
    }
}

fn module(shell: &Context, folder: &str) -> PathBuf {
    shell.paths.root().join("toolkit/go").join(folder)
}

/// Digest of the pins and the compiler.
pub(super) fn inputs(shell: &Context, program: Program, platform: Platform) -> Result<Inputs> {
    let (folder, package, cgo) = recipe(program);
    let module = module(shell, folder);
    // A program of other projects has no source of ours.
    let files = ["go.mod", "go.sum", "main.go"].map(|name| module.join(name)).into_iter().filter(|path| path.exists());
    let files = files.map(|path| sha256_of(&path)).collect::<Result<Vec<_>>>()?;
    let go = golang::version(&module)?;
    let (cgo, files) = (cgo.to_string(), files.iter().map(String::as_str));
    let tags = Some(tags(program)).filter(|tags| !tags.is_empty());
    let digest = digest(["go", package, &cgo, &go].into_iter().chain(files).chain(tags));
    Ok(Inputs { digest, platform, compiler: golang::release(&go).to_owned() })
}

/// Compiles `program` to the file `to`.
pub(super) fn build(shell: &Context, program: Program, to: &Path) -> Result<()> {
    let (folder, package, cgo) = recipe(program);
    let progress = shell.out.spinner(format!("build {}", program.name()));
    golang::go(&module(shell, folder), cgo)?
        .args(["build", "-v", "-tags", tags(program), "-ldflags", &ldflags(shell, program)?, "-o"])
        .arg(to)
        .arg(package)
        .env("GOTMPDIR", golang::scratch(shell, "build-tools")?)
        .log(shell.paths.log(&format!("build-{}", program.name())))
        .watch(|line| progress.now(line))?;
    progress.done("");
    Ok(())
}

/// The version that the program reports.
pub(super) fn reported(program: Program, path: &Path) -> Result<String> {
    let run = Run::new(path, "/");
    let text = match program {
        Program::Etcdctl | Program::Etcdutl | Program::Cosign => run.arg("version").read()?,
        Program::Helm => run.args(["version", "--short"]).read()?,
        // They say their versions in their logs alone, or what stands for one.
        Program::Vcluster | Program::Tidb | Program::SampleApiserver => {
            Run::new("go", "/").args(["version", "-m"]).arg(path).read()?
        }
        _ => run.arg("--version").read()?,
    };
    // "etcd Version: 3.7.3", "etcdctl version: 3.7.3", "kine version v0.17.5 (…)", "sluice-shim 0.1.0", "promtool,
    // version v0.316.0 (…)", "v1.7.12", "CoreDNS-1.14.6", "vcluster version 0.30.0"; cosign paints its name first:
    // "GitVersion: v3.1.3"
    let module =
        |line: &str| [VCLUSTER, TIDB, SAMPLE_APISERVER].iter().any(|name| line.contains(&format!("\t{name}\t")));
    let says = |line: &&str| line.starts_with("GitVersion:") || module(line);
    let line = text.lines().find(says).or(text.lines().next());
    let words = line.unwrap_or_default().split_whitespace();
    let version = words
        .map(|word| word.trim_start_matches("CoreDNS-").trim_start_matches('v'))
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let version = version.map(str::to_owned);
    version.ok_or_else(|| Error::input(format!("{} reports no version: {text:?}", program.name())))
}
