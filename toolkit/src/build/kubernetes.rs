//! Kubernetes programs, compiled and stamped as upstream does (kubernetes: hack/lib/golang.sh
//! `kube::golang::build_binaries`, hack/lib/version.sh `kube::version::ldflags`).

use serde::Deserialize;
use std::path::Path;

use super::stamp::{Inputs, digest};
use super::{Job, Program, foreign, golang};
use crate::calendar;
use sluice_shell::error::{Explain, Result};
use sluice_shell::process::Run;

/// Upstream's build tags of non-debug builds.
const TAGS: &str = "selinux,notest,grpcnotrace";

/// The packages whose variables carry the version.
const STAMPED: [&str; 2] = ["k8s.io/client-go/pkg/version", "k8s.io/component-base/version"];

/// A program reports another version than was stamped.
#[derive(Debug, thiserror::Error)]
#[error("{program} reports version {found:?} instead of {expected}")]
struct NotStamped {
    program: &'static str,
    expected: String,
    found: String,
}

impl Explain for NotStamped {
    fn hint(&self) -> Option<String> {
        Some(foreign::MOVED.into())
    }
}

/// Digest of what the program is made from.
pub(super) fn inputs(job: &Job<'_>, program: Program) -> Result<Inputs> {
    let arch = job.options.platform.arch();
    if program == Program::Pause {
        let compiler = job.options.platform.gnu("gcc");
        let version = Run::new(&compiler, job.tree).arg("--version").read()?;
        let compiler = version.lines().next().unwrap_or_default().to_owned();
        let digest = digest(["pause", arch, job.head, &compiler, job.version]);
        return Ok(Inputs { digest, platform: job.options.platform, compiler });
    }
    let digest = digest(["kubernetes", program.name(), arch, job.head, &job.go, TAGS, &ldflags(job, program)]);
    Ok(Inputs { digest, platform: job.options.platform, compiler: golang::release(&job.go).to_owned() })
}

/// Compiles `program` to the file `to`.
pub(super) fn build(job: &Job<'_>, program: Program, to: &Path) -> Result<()> {
    if program == Program::Pause {
        return build_pause(job, to);
    }
    let (name, platform) = (program.name(), job.options.platform);
    let progress = job.shell.out.spinner(format!("build {name} {} for {platform}", job.version));
    let scratch = golang::scratch(job.shell, &job.name())?;
    let go = golang::go(job.tree, false)?;
    let go = match program {
        // For a test `-v` is a flag of the test's own run.
        Program::E2eTest => go.args(["test", "-c"]).args(with_sample(job, &scratch)?),
        _ => go.args(["build", "-v"]),
    };
    go.args(["-tags", TAGS, "-ldflags", &ldflags(job, program), "-o"])
        .arg(to)
        .arg(package(program))
        .env("GOOS", "linux")
        .env("GOARCH", platform.arch())
        .env("GOTMPDIR", &scratch)
        .log(job.shell.paths.log(&format!("{}-{name}", job.name())))
        .watch(|package| progress.now(package))?;
    progress.done("");
    Ok(())
}

/// Flags that take the module of the sample API server, which the end-to-end tests import, from where it is published:
/// the tree is without it. They name a copy of go.mod in `folder`; Go completes the copy of go.sum, and its checksum
/// database says what the module's checksum is.
fn with_sample(job: &Job<'_>, folder: &Path) -> Result<[String; 2]> {
    for name in ["go.mod", "go.sum"] {
        fs_err::copy(job.tree.join(name), folder.join(name))?;
    }
    let copy = folder.join("go.mod");
    let upstream = job.version.split('+').next().unwrap_or_default();
    let sample = format!("-require=k8s.io/sample-apiserver@{}", upstream.replacen("v1.", "v0.", 1));
    golang::go(job.tree, false)?.args(["mod", "edit", &sample]).arg(&copy).run()?;
    Ok(["-mod=mod".into(), format!("-modfile={}", copy.display())])
}

/// The one program that is written in C (kubernetes: build/pause/Makefile).
fn build_pause(job: &Job<'_>, to: &Path) -> Result<()> {
    Run::new(job.options.platform.gnu("gcc"), job.tree)
        .args(["-Os", "-Wall", "-Werror", "-static", "-s"])
        .arg(format!("-DVERSION={}", job.version))
        .arg("-o")
        .arg(to)
        .arg("build/pause/linux/pause.c")
        .run()
}

/// Where the program's source is, as upstream's list of targets names it (hack/lib/golang.sh
/// `kube::golang::server_targets`, `kube::golang::test_targets`).
fn package(program: Program) -> String {
    match program {
        Program::KubeLogRunner => "k8s.io/component-base/logs/kube-log-runner".into(),
        Program::Agnhost => "./test/images/agnhost".into(),
        Program::E2eTest => "./test/e2e".into(),
        Program::Ginkgo => "github.com/onsi/ginkgo/v2/ginkgo".into(),
        _ => format!("./cmd/{}", program.name()),
    }
}

/// The version that the program reports, if it is the one that was stamped. A program of another platform is not asked:
/// it holds that version.
pub(super) fn reported(job: &Job<'_>, program: Program, path: &Path) -> Result<String> {
    let platform = job.options.platform;
    if !platform.is_host() {
        // These carry no version of Kubernetes.
        let unstamped = matches!(program, Program::KubeLogRunner | Program::Ginkgo);
        let stamped = if unstamped { "" } else { job.version };
        foreign::check(program.name(), path, platform, stamped)?;
        return Ok(job.version.to_owned());
    }
    let run = Run::new(path, &job.folder);
    let found = match program {
        // It carries no version; what it does is to run its arguments.
        Program::KubeLogRunner => run.args(["echo", job.version]).read()?.lines().last().unwrap_or_default().to_owned(),
        // Its version is its own: that of a module which Kubernetes names.
        Program::Ginkgo => run.arg("version").read().map(|_| job.version.to_owned())?,
        Program::Kubectl | Program::Kubeadm => {
            let client = if program == Program::Kubectl { "--client=true" } else { "--v=0" };
            let versions: Versions = serde_json::from_str(&run.args(["version", client, "--output=json"]).read()?)?;
            versions.client_version.git_version
        }
        Program::Pause => run.arg("-v").read()?.rsplit(' ').next().unwrap_or_default().to_owned(),
        _ => run.arg("--version").read()?.rsplit(' ').next().unwrap_or_default().to_owned(),
    };
    if found != job.version {
        return Err(NotStamped { program: program.name(), expected: job.version.into(), found }.into());
    }
    Ok(found)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    client_version: ClientVersion,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientVersion {
    git_version: String,
}

/// Upstream's stamping; `-s -w` as in its releases if asked for.
pub(super) fn ldflags(job: &Job<'_>, program: Program) -> String {
    let (major, minor) = job.minor.numbers();
    let date = calendar::rfc3339(job.epoch);
    let values = [
        ("buildDate", date.as_str()),
        ("gitCommit", job.head),
        ("gitTreeState", "clean"),
        ("gitVersion", job.version),
        ("gitMajor", major),
        ("gitMinor", minor),
    ];
    let mut flags: Vec<String> = Vec::new();
    for (name, value) in values {
        flags.extend(STAMPED.iter().map(|package| format!("-X '{package}.{name}={value}'")));
    }
    if program == Program::Agnhost {
        flags.push(format!("-X main.Version={}", job.version));
    }
    if job.options.release_flags {
        flags.push("-s -w".into());
    }
    flags.join(" ")
}
