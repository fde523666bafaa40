//! `cargo xtask build`: programs from the verified tree, stamped as upstream stamps its own.
//!
//! What is there already is not built again: each program has a stamp with a digest of everything it depends on and the
//! state of the file that was made.

mod cmd;
mod foreign;
mod golang;
mod kubernetes;
mod other_go;
mod plan;
mod revision;
mod shim;
mod stamp;
mod tools;

use clap::ValueEnum;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::patch;
use crate::pipeline::{Binary, Built, Depth, Form, Patched, Tested, Upstream, Verified};
use crate::source::{self, Pins, Purpose, Target};
pub use cmd::Cmd;
pub(crate) use other_go::OtherGo;
use plan::Plan;
pub(crate) use revision::{is_changed, last_change};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Explain, Result};
use sluice_shell::platform::Platform;
use sluice_shell::{doctor, minor::Minor};
use stamp::{Inputs, Stamp};
pub use tools::module_folder;

/// A program that the toolkit can build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// Kubernetes API server.
    KubeApiserver,
    /// Kubernetes controller manager.
    KubeControllerManager,
    /// Kubernetes scheduler.
    KubeScheduler,
    /// Upstream's entrypoint of its images.
    KubeLogRunner,
    /// Kubernetes node agent.
    Kubelet,
    /// Kubernetes cluster bootstrap.
    Kubeadm,
    /// Kubernetes' network proxy on each node.
    KubeProxy,
    /// What holds a Pod's namespaces: the `pause` image.
    Pause,
    /// The server and client that Kubernetes' own end-to-end tests run in Pods.
    Agnhost,
    /// Kubernetes command line client.
    Kubectl,
    /// Kubernetes' own end-to-end tests.
    E2eTest,
    /// What runs those tests side by side, of the version that they are compiled with.
    Ginkgo,
    /// The etcd server that stores in SQL.
    SluiceShim,
    /// Stock etcd, to compare with and to test against.
    Etcd,
    /// etcd's client.
    Etcdctl,
    /// etcd's offline tool.
    Etcdutl,
    /// kine, to compare with (needs cgo).
    Kine,
    /// Prometheus' tool, with which alerts and dashboards are evaluated.
    Promtool,
    /// The interpreter of the language that etcd's alerts are written in.
    Jsonnet,
    /// The linter of the workflows for GitHub in ci/.
    Actionlint,
    /// What signs and checks images, to check ours.
    Cosign,
    /// Copies images under a signature policy, with the library of skopeo.
    ImageCopy,
    /// A plugin of Kubernetes' KMS v2 API, for tests of encryption at rest.
    KmsPlugin,
    /// The name server of a cluster, which kubeadm installs.
    Coredns,
    /// What renders and installs charts.
    Helm,
    /// The control plane of a virtual cluster, which starts the programs of Kubernetes.
    Vcluster,
    /// vCluster's command line.
    VclusterCli,
    /// The API server of upstream's example, which its end-to-end specs run in a Pod.
    SampleApiserver,
    /// The SQL server TiDB, which speaks MySQL's protocol, to test the shim on.
    Tidb,
}

impl Program {
    /// What `build` makes unless told otherwise.
    pub(crate) const DEFAULT: [Self; 5] =
        [Self::KubeApiserver, Self::KubeControllerManager, Self::KubeScheduler, Self::Kubectl, Self::SluiceShim];

    /// Its file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::KubeLogRunner => "kube-log-runner",
            Self::Kubelet => "kubelet",
            Self::Kubeadm => "kubeadm",
            Self::KubeProxy => "kube-proxy",
            Self::Pause => "pause",
            Self::Agnhost => "agnhost",
            Self::Kubectl => "kubectl",
            Self::E2eTest => "e2e.test",
            Self::Ginkgo => "ginkgo",
            Self::SluiceShim => "sluice-shim",
            Self::Etcd => "etcd",
            Self::Etcdctl => "etcdctl",
            Self::Etcdutl => "etcdutl",
            Self::Kine => "kine",
            Self::Promtool => "promtool",
            Self::Jsonnet => "jsonnet",
            Self::Actionlint => "actionlint",
            Self::Cosign => "cosign",
            Self::ImageCopy => "image-copy",
            Self::KmsPlugin => "kms-plugin",
            Self::Coredns => "coredns",
            Self::Helm => "helm",
            Self::Vcluster => "vcluster",
            Self::VclusterCli => "vcluster-cli",
            Self::SampleApiserver => "sample-apiserver",
            Self::Tidb => "tidb-server",
        }
    }

    fn is_kubernetes(self) -> bool {
        !matches!(
            self,
            Self::SluiceShim
                | Self::Etcd
                | Self::Etcdctl
                | Self::Etcdutl
                | Self::Kine
                | Self::Promtool
                | Self::Jsonnet
                | Self::Actionlint
                | Self::Cosign
                | Self::ImageCopy
                | Self::KmsPlugin
                | Self::Coredns
                | Self::Helm
                | Self::Vcluster
                | Self::VclusterCli
                | Self::SampleApiserver
                | Self::Tidb
        )
    }
}

/// How to build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Without symbol tables and DWARF.
    pub(crate) release_flags: bool,
    /// What the programs are for.
    pub(crate) platform: Platform,
}

impl Options {
    /// Programs to run on this machine.
    pub(crate) fn host() -> Result<Self> {
        Ok(Self { release_flags: false, platform: Platform::host()? })
    }

    /// Folder of these programs: builds with other flags, or for another platform, do not replace each other.
    fn folder(self, shell: &Context, minor: &Minor, tree: &str) -> PathBuf {
        let flavor = if self.release_flags { format!("{tree}-release") } else { tree.to_owned() };
        shell.paths.binaries(minor, &flavor, self.platform)
    }
}

/// Kubernetes programs of one tree: where from, where to, stamped as what.
struct Job<'a> {
    shell: &'a Context,
    minor: &'a Minor,
    /// The source tree, at commit `head`.
    tree: &'a Path,
    head: &'a str,
    /// What the Go command says of its version.
    go: String,
    /// The version to stamp.
    version: &'a str,
    /// Seconds since 1970 of the stamped build date.
    epoch: i64,
    options: Options,
    folder: PathBuf,
    /// What the person was told already.
    announced: &'a [Program],
}

/// Only the source of a minor is pinned.
#[derive(Debug, thiserror::Error)]
#[error("there are no patches for Kubernetes {0}, only the checksums of its source")]
struct NoPatches(Minor);

impl Explain for NoPatches {
    fn hint(&self) -> Option<String> {
        Some(format!("take it as it is with `--stock`, or the patched {} without `--k8s`", Minor::DEFAULT))
    }
}

/// The whole way from pins and patches to `programs`. The series is applied strictly and linted; whether it compiles
/// shows here, and its tests are `patch verify`'s.
pub(crate) fn build_patched(
    shell: &Context,
    target: &Target,
    options: Options,
    programs: &[Program],
) -> Result<Built<Form>> {
    build_verified(shell, target, options, programs, patch::verify_form)
}

/// [`build_patched`] after all that `patch verify` does.
pub(crate) fn build_tested(
    shell: &Context,
    target: &Target,
    options: Options,
    programs: &[Program],
) -> Result<Built<Tested>> {
    build_verified(shell, target, options, programs, patch::verify_all)
}

fn build_verified<D: Depth>(
    shell: &Context,
    target: &Target,
    options: Options,
    programs: &[Program],
    verify: fn(&Context, Patched) -> Result<Verified<D>>,
) -> Result<Built<D>> {
    // `Pins` says it if the minor is not known at all.
    Pins::load(shell, &target.k8s)?;
    if !shell.paths.patches(&target.k8s).join("series").is_file() {
        return Err(NoPatches(target.k8s.clone()).into());
    }
    let folder = options.folder(shell, &target.k8s, "patched");
    let announced = announce(shell, target, Purpose::Patching, &folder, options.platform, programs)?;
    let patched = patch::apply(shell, target.open(shell)?)?;
    build(shell, &verify(shell, patched)?, options, programs, &announced)
}

/// What the programs that `up` needs take with empty caches, about: source, objects of both compilers, programs.
const FIRST_BUILD_GIGABYTES: u64 = 10;

/// Says what there is to do if the source tree is not there yet. Else [`Job::all`] does, which knows it exactly.
/// Returns the programs that were named.
fn announce(
    shell: &Context,
    target: &Target,
    purpose: Purpose,
    folder: &Path,
    platform: Platform,
    programs: &[Program],
) -> Result<Vec<Program>> {
    if target.is_composed(shell, purpose)? {
        return Ok(Vec::new());
    }
    doctor::require_for(shell, &[doctor::Purpose::Build], &[platform], false)?;
    let place = |program: Program| match program.is_kubernetes() {
        true => folder.join(program.name()),
        false => shell.paths.tools(platform).join(program.name()),
    };
    let missing: Vec<Program> = distinct(programs).into_iter().filter(|program| !place(*program).exists()).collect();
    Plan::new(Some(&target.version(shell)?), &missing).announce(&shell.out);
    doctor::warn_if_scarce(shell, "a first build", FIRST_BUILD_GIGABYTES);
    Ok(missing)
}

/// Builds `programs` from a verified tree; those in `announced` need no announcement.
fn build<D: Depth>(
    shell: &Context,
    verified: &Verified<D>,
    options: Options,
    programs: &[Program],
    announced: &[Program],
) -> Result<Built<D>> {
    let fetched = &verified.patched.fetched;
    let pins = Pins::load(shell, &fetched.minor)?;
    let version = pins.ours(&fetched.version);
    let job = Job {
        shell,
        minor: &fetched.minor,
        tree: &fetched.tree,
        head: &verified.patched.head,
        go: golang::version(&fetched.tree)?,
        version: &version,
        epoch: epoch(&pins)?,
        options,
        folder: options.folder(shell, &fetched.minor, "patched"),
        announced,
    };
    job.built(programs)
}

/// Builds `programs` from the tree as upstream ships it.
pub(crate) fn build_stock(
    shell: &Context,
    target: &Target,
    options: Options,
    programs: &[Program],
) -> Result<Built<Upstream>> {
    let pins = Pins::load(shell, &target.k8s)?;
    let folder = options.folder(shell, &target.k8s, "stock");
    let announced = announce(shell, target, Purpose::Stock, &folder, options.platform, programs)?;
    let fetched = target.fetch(shell, Purpose::Stock)?;
    let job = Job {
        shell,
        minor: &fetched.minor,
        tree: &fetched.tree,
        head: &fetched.base,
        go: golang::version(&fetched.tree)?,
        version: &fetched.version,
        epoch: epoch(&pins)?,
        options,
        folder,
        announced: &announced,
    };
    job.built(programs)
}

/// The version of the Go compiler, `1.26.10`.
pub(crate) fn go_version(shell: &Context) -> Result<String> {
    let line = golang::version(shell.paths.root())?;
    let version = line.split_whitespace().find_map(|word| word.strip_prefix("go1"));
    version.map(|rest| format!("1{rest}")).ok_or_else(|| Error::input(format!("`go version` says {line:?}")))
}

/// The rustc that compiles the shim for a platform.
pub(crate) fn rustc(shell: &Context, platform: Platform) -> Result<PathBuf> {
    shim::rustc(shell.paths.root(), platform)
}

/// The build date: `SOURCE_DATE_EPOCH` as upstream honours it, else the date of upstream's tag, never the clock.
fn epoch(pins: &Pins) -> Result<i64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => {
            text.parse().map_err(|_| Error::input(format!("SOURCE_DATE_EPOCH is {text:?}, not seconds since 1970")))
        }
        Err(_) => pins.seconds(),
    }
}

/// Programs that are not part of Kubernetes and so depend on no tree: the shim, etcd's, kine. They are in
/// `.sluice/bin/tools`.
///
/// # Errors
/// Besides those of the compilers: a Kubernetes program among `programs`.
pub fn build_tools(shell: &Context, programs: &[Program]) -> Result<Vec<Binary>> {
    build_tools_for(shell, Platform::host()?, programs)
}

fn build_tools_for(shell: &Context, platform: Platform, programs: &[Program]) -> Result<Vec<Binary>> {
    if let Some(program) = programs.iter().find(|program| program.is_kubernetes()) {
        return Err(Error::input(format!("{} needs a source tree", program.name())));
    }
    let wanted = |program: Program| tool(shell, program, platform);
    let tools = distinct(programs).into_iter().map(wanted).collect::<Result<Vec<_>>>()?;
    prepare(shell, &tools, platform, &[])?;
    make_tools(shell, &tools, platform)
}

fn make_tools(shell: &Context, tools: &[Wanted], platform: Platform) -> Result<Vec<Binary>> {
    fs_err::create_dir_all(shell.paths.tools(platform))?;
    let _lock = shell.lock("build-tools")?;
    let each = tools.iter().map(|Wanted { program, path, inputs }| {
        let build = |to: &Path| match program {
            Program::SluiceShim => shim::build(shell, platform, to),
            _ => tools::build(shell, *program, to),
        };
        let reported = |path: &Path| match program {
            Program::SluiceShim => shim::reported(shell, platform, path),
            _ => tools::reported(*program, path),
        };
        make(path, inputs, build, reported).attempting(|| format!("cannot build {}", program.name()))
    });
    each.collect()
}

/// A program, where it shall be, and what it is made from.
struct Wanted {
    program: Program,
    path: PathBuf,
    inputs: Inputs,
}

fn tool(shell: &Context, program: Program, platform: Platform) -> Result<Wanted> {
    if program != Program::SluiceShim && !platform.is_host() {
        let name = program.name();
        return Err(Error::input(format!("{name} is for tests on this machine: it is not built for {platform}")));
    }
    let inputs = match program {
        Program::SluiceShim => shim::inputs(shell, platform)?,
        _ => tools::inputs(shell, program, platform)?,
    };
    Ok(Wanted { program, path: shell.paths.tools(platform).join(program.name()), inputs })
}

/// If something is to be built: makes sure of the compilers, and says what, unless that was `announced`.
fn prepare(shell: &Context, wanted: &[Wanted], platform: Platform, announced: &[Program]) -> Result<()> {
    let stale = wanted.iter().filter(|it| Stamp::current(&it.path, &it.inputs).is_none()).map(|it| it.program);
    let stale: Vec<Program> = stale.collect();
    if !stale.is_empty() {
        doctor::require_for(shell, &[doctor::Purpose::Build], &[platform], false)?;
    }
    if stale.iter().any(|program| !announced.contains(program)) {
        Plan::new(None, &stale).announce(&shell.out);
    }
    Ok(())
}

impl Job<'_> {
    /// What this job locks, so that two runs never build the same programs, and where its compiler works: a build of
    /// another minor, of other flags, or for another platform goes on meanwhile.
    fn name(&self) -> String {
        let flavor = self.folder.file_name().unwrap_or_default().to_string_lossy();
        format!("build-{}-{flavor}", self.minor)
    }

    /// Kubernetes programs from the tree, the others from where they come.
    fn all(&self, programs: &[Program]) -> Result<Vec<Binary>> {
        fs_err::create_dir_all(&self.folder)?;
        let _lock = self.shell.lock(&self.name())?;
        let wanted = |program: Program| match program.is_kubernetes() {
            true => Ok(Wanted {
                program,
                path: self.folder.join(program.name()),
                inputs: kubernetes::inputs(self, program)?,
            }),
            false => tool(self.shell, program, self.options.platform),
        };
        let wanted = distinct(programs).into_iter().map(wanted).collect::<Result<Vec<_>>>()?;
        prepare(self.shell, &wanted, self.options.platform, self.announced)?;
        let mut binaries = Vec::new();
        for it in &wanted {
            let name = it.program.name();
            if it.program.is_kubernetes() {
                binaries.push(self.one(it).attempting(|| format!("cannot build {name}"))?);
            } else {
                binaries.extend(make_tools(self.shell, std::slice::from_ref(it), self.options.platform)?);
            }
        }
        Ok(binaries)
    }

    /// All of them, as a stage of the pipeline.
    fn built<D: Depth>(&self, programs: &[Program]) -> Result<Built<D>> {
        let binaries = self.all(programs)?;
        let go = golang::release(&self.go).trim_start_matches("go").to_owned();
        let Options { release_flags, platform } = self.options;
        let (minor, version) = (self.minor.clone(), self.version.to_owned());
        Ok(Built::new(minor, version, platform, release_flags, go, self.epoch, binaries))
    }

    /// The tree still holds the commit that this job is about.
    fn unchanged(&self) -> Result<()> {
        let repository = git2::Repository::open(self.tree)?;
        let head = repository.head()?.peel_to_commit()?.id().to_string();
        if head == self.head {
            return Ok(());
        }
        Err(Error::input(format!("another run changed {} meanwhile; build again", self.tree.display())))
    }

    fn one(&self, Wanted { program, path, inputs }: &Wanted) -> Result<Binary> {
        let program = *program;
        make(
            path,
            inputs,
            |to| {
                // Nobody may exchange the files under the compiler.
                let _tree = source::lock(self.shell, self.tree)?;
                self.unchanged()?;
                kubernetes::build(self, program, to)
            },
            |path| kubernetes::reported(self, program, path),
        )
    }
}

/// The program at `path`: the one that is there if it was made from `inputs`, else a new one. `reported` asks it for
/// its version, which shows that it runs.
fn make(
    path: &Path,
    inputs: &Inputs,
    build: impl FnOnce(&Path) -> Result<()>,
    reported: impl FnOnce(&Path) -> Result<String>,
) -> Result<Binary> {
    if let Some(binary) = Stamp::current(path, inputs) {
        return Ok(binary);
    }
    let started = Instant::now();
    // Built under another name, so that a program that is running, or a build that fails, keeps the old file.
    let fresh = path.with_file_name(format!("{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
    build(&fresh)?;
    let version = reported(&fresh)?;
    fs_err::rename(&fresh, path)?;
    Stamp::make(path, inputs, version, started.elapsed().as_secs_f64())
}

fn distinct(programs: &[Program]) -> Vec<Program> {
    let mut seen = Vec::new();
    for program in programs {
        if !seen.contains(program) {
            seen.push(*program);
        }
    }
    seen
}

#[cfg(test)]
mod tests;
