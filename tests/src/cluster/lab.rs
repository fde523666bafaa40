//! The node under test.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::machine::Machine;
use super::up::{self, Report};
use crate::kubectl::Kubectl;
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};
use sluice_shell::process::{Run, THIS};
use sluice_toolkit::build::{self, Program};
use sluice_toolkit::node::{self, Node};
use sluice_toolkit::source::Target;

/// A node that is ready. Dropping it ends its processes; its files stay until [`Lab::finish`].
pub(super) struct Lab {
    /// Folders of nodes.
    pub(super) scratch: PathBuf,
    /// What the verb printed when it had started the node.
    pub(super) report: Report,
    /// What was on this machine before.
    pub(super) before: Machine,
    /// The workspace.
    pub(super) workspace: PathBuf,
    /// The Kubernetes that is tested.
    pub(super) target: Target,
    /// vCluster's command line, if virtual clusters are tested.
    vcluster: Option<PathBuf>,
    /// Helm and etcdctl, if charts are tested.
    release_tools: Option<[PathBuf; 2]>,
    /// The control plane of a virtual cluster in an older minor, if upgrades are tested.
    older: Option<Image>,
    /// Upstream's control plane of a virtual cluster, if ours is compared with it.
    stock: Option<Image>,
    up: Run,
}

/// What the cases need beside a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// vCluster's image on the node, and its command line.
    pub(super) vclusters: bool,
    /// Helm, and etcdctl.
    pub(super) charts: bool,
    /// The image of a virtual cluster's control plane in the minor [`OLDER`].
    pub(super) upgrade: bool,
    /// The image of a virtual cluster's control plane as upstream has it.
    pub(super) stock: bool,
}

/// The minor that upgrades begin with: Kubernetes goes one minor at a time.
const OLDER: &str = "v1.36";

/// An image that was built, and that no node has from the start.
struct Image {
    reference: String,
    archive: PathBuf,
}

impl Lab {
    /// Has the verb `cluster up` build what is missing and start a node.
    ///
    /// # Errors
    /// Those of the verb.
    pub(super) fn start(shell: &Context, target: &Target, wish: Wish) -> Result<Self> {
        let scratch = up::scratch(shell)?;
        let before = Machine::look()?;
        let folder = scratch.join(format!("node-{}-0", std::process::id()));
        let flags: &[&str] = if wish.vclusters { &["--with-vcluster"] } else { &[] };
        let up = up::verb(shell, target, flags, &folder);
        let vcluster = match wish.vclusters {
            true => Some(build::build_tools(shell, &[Program::VclusterCli])?.remove(0).path),
            false => None,
        };
        let release_tools = match wish.charts {
            true => {
                let built = build::build_tools(shell, &[Program::Helm, Program::Etcdctl])?;
                <[PathBuf; 2]>::try_from(built.into_iter().map(|built| built.path).collect::<Vec<_>>()).ok()
            }
            false => None,
        };
        let older = if wish.upgrade { Some(build_older(shell)?) } else { None };
        let stock = match wish.stock {
            true => {
                let (reference, archive) = node::stock_control_plane(shell, target)?;
                Some(Image { reference, archive })
            }
            false => None,
        };
        let report = up::start(shell, &up, &folder)?;
        let workspace = shell.paths.root().to_owned();
        let target = target.clone();
        Ok(Self { scratch, report, before, workspace, target, vcluster, release_tools, older, stock, up })
    }

    /// Has the verb start it again, or say that it runs.
    pub(super) fn up(&self) -> Result<Report> {
        up::read(&self.up.read()?)
    }

    /// A kubectl outside, as the verb says how.
    pub(super) fn kubectl(&self) -> Kubectl {
        self.report.client()
    }

    /// The node, for what only its owner may do. Nobody else can have it meanwhile.
    pub(super) fn node(&self) -> Result<Node> {
        Node::open(&self.report.folder)
    }

    /// vCluster's command line.
    pub(super) fn vcluster(&self) -> Result<&Path> {
        self.vcluster.as_deref().ok_or_else(|| Error::input("vCluster's command line was not built"))
    }

    /// Helm and etcdctl.
    pub(super) fn release_tools(&self) -> Result<&[PathBuf; 2]> {
        self.release_tools.as_ref().ok_or_else(|| Error::input("Helm and etcdctl were not built"))
    }

    /// Loads the image of a virtual cluster's control plane in an older minor; returns its whole name.
    pub(super) fn load_older(&self) -> Result<&str> {
        let older = self.older.as_ref().ok_or_else(|| Error::input("no image of an older minor was built"))?;
        self.load(older)
    }

    /// Loads the image of a virtual cluster's control plane as upstream has it; returns its whole name.
    pub(super) fn load_stock(&self) -> Result<&str> {
        let stock = self.stock.as_ref().ok_or_else(|| Error::input("no image of upstream's programs was built"))?;
        self.load(stock)
    }

    fn load<'a>(&self, image: &'a Image) -> Result<&'a str> {
        let archive = fs_err::read(&image.archive)?;
        self.node()?.inside("ctr")?.args(["--namespace=k8s.io", "images", "import", "-"]).stdin(archive).run()?;
        Ok(&image.reference)
    }

    /// The node's address, which its Pods reach.
    pub(super) fn address(&self) -> Result<String> {
        let address = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
        self.kubectl().run_words(&["get", "nodes", "--output", address])
    }

    /// The whole name of the image `name` on the node.
    pub(super) fn image(&self, name: &str) -> Result<&str> {
        image(&self.report.images, name)
    }

    /// Removes the node and all that the cases left, because all went well.
    pub(super) fn finish(self) -> Result<()> {
        if self.report.folder.exists() {
            self.node()?.remove()?;
        }
        remove(&self.report.folder.with_extension("socat"))?;
        remove(&self.report.cache())
    }
}

/// The whole name of the image `name` among those of a node.
pub(super) fn image<'a>(images: &'a [String], name: &str) -> Result<&'a str> {
    let found = images.iter().find(|image| image.contains(&format!("/{name}:")));
    found.map(String::as_str).ok_or_else(|| Error::input(format!("the node has no image {name}")))
}

impl Drop for Lab {
    fn drop(&mut self) {
        up::end_active();
    }
}

/// Has the verb `build-images` build the image of an older minor.
fn build_older(shell: &Context) -> Result<Image> {
    let run = Run::new(THIS, shell.paths.root()).args(["build-images", "--only=kubernetes", "--k8s", OLDER, "--json"]);
    let progress = shell.out.spinner("build-images");
    let out = shell.paths.cache().join("node-images-older");
    let report = run.arg("--out").arg(out).read_with(|line| progress.now(line))?;
    progress.done(OLDER);
    let report: Value = serde_json::from_str(&report)?;
    // The first variant is the one that the manifests name.
    let image = &report["images"][0];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (reference, archive) = (text(&image["reference"]), text(&image["platforms"][0]["archive"]));
    let found = reference.zip(archive).map(|(reference, archive)| Image { reference, archive: archive.into() });
    found.ok_or_else(|| Error::input("build-images reports no image"))
}

pub(super) fn remove(folder: &Path) -> Result<()> {
    if folder.exists() { Ok(fs_err::remove_dir_all(folder)?) } else { Ok(()) }
}
