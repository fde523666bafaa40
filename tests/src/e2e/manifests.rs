//! What users give to kubectl and to Helm: a real API server takes each object, without a warning, in a namespace whose
//! Pods must be `restricted`; charts are rendered as they were when somebody last looked, and wrong values are refused.

use std::path::{Path, PathBuf};

use super::lab::{Lab, Wish, folder};
use super::stores::tool;
use super::{Case, Column, Suite, Verdict};
use crate::kubectl::Kubectl;
use sluice_shell::error::{Error, Result};
use sluice_shell::process::Run;
use sluice_toolkit::build::{self, Program};
use sluice_toolkit::cluster::wait::ensure;

const CHARTS: &str = "images/charts";

/// What other programs read, or other cases install, below `images/manifests`.
const ELSEWHERE: [&str; 3] = ["kubeadm", "policies", VALUES];

/// Values for vCluster's own chart.
const VALUES: &str = "vcluster/chart-values.yaml";

/// API groups whose definitions only their operators bring.
const OPERATORS: [&str; 2] = ["apiVersion: cert-manager.io/", "apiVersion: monitoring.coreos.com/"];

/// Values that make no sense, and what the user is told. They stand in commands as they do here.
const REFUSED: [(&str, &str); 12] = [
    ("database.type=postgresql", "value must be one of"),
    ("database.type=postgres", "needs database.endpoint (a URL such as postgres://user@host/database)"),
    ("database.type=mysql,database.endpoint=postgres://a@b/c", "but database.endpoint is a URL of postgres://"),
    ("database.endpoint=mysql://a@b/c", "set database.type to postgres or mysql"),
    ("database.type=mysql,database.endpoint=mysql://a:b@c/d", "put it into a secret"),
    ("database.type=mysql,database.endpoint=mysql://a@b/c,database.endpointSecret.name=x", "not both"),
    ("image.digest=v1", "does not match pattern"),
    ("replicas=2", "so replicas must be 1, not 2: one process serves a file"),
    ("replicas=0", "minimum"),
    ("replica=2", "additional properties 'replica' not allowed"),
    ("tls.secretName=", "minLength"),
    // The Pod has this label: a second one would be the same key twice.
    (r"podLabels.app\.kubernetes\.io/name=x", "at '/podLabels/app.kubernetes.io~1name'"),
];

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("manifests/charts", charts).of(Column::OURS).on_files(),
        Case::new("manifests/dry-run", dry_run).of(Column::OURS).on_files(),
    ]
}

/// Helm, which works in a folder of its own.
struct Helm {
    program: PathBuf,
    folder: PathBuf,
}

impl Helm {
    /// Builds it, or takes the one beside the given programs; `None` if it is not there.
    fn of(suite: &Suite, folder: &Path) -> Result<Option<Self>> {
        Ok(tool(suite, Program::Helm)?.map(|program| Self { program, folder: folder.to_owned() }))
    }

    fn run(&self, args: &[&str]) -> Run {
        // Nothing of the user's: plugins, repositories, a cluster.
        let home = |name: &str| self.folder.join(name);
        let run = Run::new(&self.program, &self.folder).args(args).env("KUBECONFIG", home("none"));
        ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"]
            .iter()
            .fold(run, |run, name| run.env(name, home(name)))
    }

    /// A chart with one of the files of its folder `ci`, as text.
    fn template(&self, chart: &str, values: &str) -> Result<String> {
        self.run(&["template", "store", chart, "--namespace=charts", "--values", values]).read()
    }
}

/// The charts, and the files with values in their folders `ci`: what is tried of each.
fn tries(workspace: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut tries = Vec::new();
    for chart in fs_err::read_dir(workspace.join(CHARTS))? {
        let chart = chart?.path();
        for values in fs_err::read_dir(chart.join("ci"))? {
            tries.push((chart.clone(), values?.path()));
        }
    }
    tries.sort();
    ensure(!tries.is_empty(), || format!("{CHARTS} has no chart with values to try"))?;
    Ok(tries)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::input(format!("{} is not UTF-8", path.display())))
}

fn charts(suite: &Suite) -> Result<Verdict> {
    let folder = folder(suite, "charts");
    let Some(helm) = Helm::of(suite, &folder)? else {
        return Ok(Verdict::Skipped("needs helm beside etcd".to_owned()));
    };
    fs_err::create_dir_all(&folder)?;
    let tries = tries(&suite.workspace)?;
    for (chart, values) in &tries {
        let (chart, values) = (text(chart)?, text(values)?);
        helm.run(&["lint", "--strict", chart, "--values", values]).run()?;
        let rendered = without_files(Path::new(chart), &helm.template(chart, values)?)?;
        same_as_recorded(suite, &folder, chart, values, &rendered)?;
    }
    let chart = suite.workspace.join(CHARTS).join("sluice-shim");
    for (values, message) in REFUSED {
        let said = helm.run(&["template", "store", text(&chart)?, "--set", values]).outcome()?;
        ensure(!said.status.success(), || format!("{values} was taken"))?;
        ensure(said.stderr.contains(message), || format!("{values} was refused without {message:?}: {}", said.stderr))?;
    }
    fs_err::remove_dir_all(folder)?;
    Ok(Verdict::Passed(format!("{} renderings, {} refusals", tries.len(), REFUSED.len())))
}

/// What was rendered with the name of a file of the chart instead of its text: that is recorded once.
fn without_files(chart: &Path, rendered: &str) -> Result<String> {
    let mut short = rendered.to_owned();
    for file in fs_err::read_dir(chart.join("files"))? {
        let file = file?;
        let text = fs_err::read_to_string(file.path())?;
        for indent in ["  ", "    "] {
            let lines: Vec<_> = text.trim().lines().map(|line| format!("{indent}{line}")).collect();
            let name = format!("{indent}# files/{}", file.file_name().to_string_lossy());
            short = short.replace(&lines.join("\n"), &name);
        }
    }
    Ok(short + "\n")
}

/// What was rendered is the file of the same name in `tests/src/e2e/charts`.
fn same_as_recorded(suite: &Suite, folder: &Path, chart: &str, values: &str, rendered: &str) -> Result<()> {
    let name = |path: &str| Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = format!("{}-{}", name(chart), name(values).replace("-values", ""));
    let recorded = suite.workspace.join("tests/src/e2e/charts").join(&name);
    let is_same = fs_err::read_to_string(&recorded).is_ok_and(|recorded| recorded == rendered);
    if !is_same {
        fs_err::write(folder.join(&name), rendered)?;
    }
    ensure(is_same, || {
        let now = folder.join(&name);
        format!(
            "the chart is rendered otherwise than in {0}: if it should be, cp {1} {0}",
            recorded.display(),
            now.display()
        )
    })
}

fn dry_run(suite: &Suite) -> Result<Verdict> {
    let lab = Lab::start(suite, Wish::new(Column::OURS))?;
    let kubectl = lab.kubectl();
    let folder = folder(suite, "manifests");
    let Some(helm) = Helm::of(suite, &folder)? else {
        return Ok(Verdict::Skipped("needs helm beside etcd".to_owned()));
    };
    fs_err::create_dir_all(&folder)?;
    restricted_namespace(&kubectl, "charts")?;
    let mut objects = 0;
    for (chart, values) in tries(&suite.workspace)? {
        objects += taken(&kubectl, &folder, &helm.template(text(&chart)?, text(&values)?)?)?;
    }
    let manifests = suite.workspace.join("images/manifests");
    for entry in walkdir::WalkDir::new(&manifests).sort_by_file_name() {
        let entry = entry.map_err(anyhow::Error::from)?;
        let below = entry.path().strip_prefix(&manifests).unwrap_or(entry.path());
        let elsewhere = ELSEWHERE.iter().any(|folder| below.starts_with(folder));
        if !elsewhere && entry.path().extension().is_some_and(|extension| extension == "yaml") {
            objects += taken(&kubectl, &folder, &fs_err::read_to_string(entry.path())?)?;
        }
    }
    let chart = build::module_folder(&suite.workspace, "vcluster", "github.com/loft-sh/vcluster")?.join("chart");
    let rendered = helm.template(text(&chart)?, text(&manifests.join(VALUES))?)?;
    objects += taken(&kubectl, &folder, &rendered)?;
    lab.finish()?;
    fs_err::remove_dir_all(folder)?;
    Ok(Verdict::Passed(format!("{objects} objects")))
}

/// A namespace in which a Pod that is not `restricted` is refused, and the template of one raises a warning.
fn restricted_namespace(kubectl: &Kubectl, name: &str) -> Result<()> {
    kubectl.run(&format!("create namespace {name}"))?;
    let label = |mode| format!("pod-security.kubernetes.io/{mode}=restricted");
    kubectl.run(&format!("label namespace {name} {} {}", label("enforce"), label("warn")))?;
    Ok(())
}

/// The API server would take the objects, without a warning; says how many. Those of operators are left out. Namespaces
/// are made: objects in one that is not there can't be tried.
fn taken(kubectl: &Kubectl, folder: &Path, manifest: &str) -> Result<usize> {
    let documents = manifest.split("\n---\n").filter(|document| document.contains("\nkind: "));
    let ours: Vec<_> = documents.filter(|text| !OPERATORS.iter().any(|group| text.contains(group))).collect();
    for namespace in ours.iter().filter(|document| document.contains("\nkind: Namespace\n")) {
        kubectl.apply(namespace)?;
    }
    let file = folder.join("objects.yaml");
    fs_err::write(&file, ours.join("\n---\n"))?;
    let namespace = if manifest.contains("\n  namespace: ") { "" } else { "--namespace=charts" };
    let command = format!("apply --dry-run=server --warnings-as-errors {namespace} -f {}", text(&file)?);
    kubectl.run(&command)?;
    Ok(ours.len())
}
