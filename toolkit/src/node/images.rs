//! The images that a node runs from the start: ours, and stand-ins for those that kubeadm takes from
//! `registry.k8s.io` and that virtual clusters take from elsewhere, all built here.

use std::path::{Path, PathBuf};

use super::Node;
use crate::build::{Options, Program, build_patched, build_stock};
use crate::build_images::{self, REGISTRY};
use crate::cluster::programs::{self, EndToEnd};
use crate::images::{Definition, Definitions};
use crate::pipeline::{Built, Depth};
use crate::release::manifests;
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::doctor::{self, Purpose};
use sluice_shell::error::{Error, Result};
use sluice_shell::platform::Platform;
use sluice_shell::process::Run;

/// Of the images that a release holds, those that kubeadm's patches name.
const OURS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", SHIM];

/// The image of what stands in the place of etcd.
const SHIM: &str = "sluice-shim";

/// What a virtual cluster needs besides: our image of its control plane, vCluster, and a client in the host cluster.
const FOR_VCLUSTERS: [&str; 3] = [CONTROL_PLANE, VCLUSTER, "kubectl"];

/// The image of a virtual cluster's control plane.
const CONTROL_PLANE: &str = "kubernetes";

/// The image of vCluster.
const VCLUSTER: &str = "vcluster";

/// What upstream's end-to-end specs of the API machinery run besides.
const FOR_SPECS: [&str; 2] = ["busybox", "sample-apiserver"];

/// Images of specs in whose place another one runs: their Pods have to run, and nobody asks the servers in them.
const IN_SPECS: [(&str, &str); 1] = [("nginx", "agnhost")];

/// What stands in for images of others in a virtual cluster: vCluster itself, as the manifests name it, and the name
/// server, as vCluster 0.30 names it for Kubernetes 1.37.
const IN_VCLUSTERS: [(&str, &str); 2] =
    [(VCLUSTER, manifests::VCLUSTER), ("coredns", "docker.io/coredns/coredns:1.12.1")];

/// What images of upstream's programs are named for: nothing is published under that name.
const NOWHERE: &str = "stock.invalid";

/// Where these images are, in the cache.
const STOCK_FOLDER: &str = "node-images-stock";

/// Programs that run on the node itself.
const PROGRAMS: [Program; 3] = [Program::Kubelet, Program::Kubeadm, Program::Kubectl];

/// What a node runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Upstream's Kubernetes as it is, on etcd, in the place of ours.
    pub stock: bool,
    /// Also what virtual clusters run.
    pub vclusters: bool,
    /// Also what upstream's end-to-end specs of the API machinery run.
    pub specs: bool,
}

impl Wish {
    /// The definitions of all images that such a node could have.
    fn definitions(self, folder: &Path) -> Result<Definitions> {
        let all = Definitions::read(folder)?.with(Definitions::read(&folder.join("cluster"))?);
        Ok(if self.stock || self.specs { all.with(Definitions::read(&folder.join("upstream"))?) } else { all })
    }

    /// Whether such a node has the image `name`.
    fn has(self, name: &str) -> bool {
        match name {
            SHIM => !self.stock,
            _ if FOR_SPECS.contains(&name) => self.specs,
            _ => self.vclusters || !FOR_VCLUSTERS.contains(&name),
        }
    }

    /// Whether the image `name` gets the name that kubeadm has for it: ours are named in kubeadm's patches instead.
    fn stands_in(self, name: &str) -> bool {
        self.stock || !OURS.contains(&name)
    }
}

/// What a node is made of.
pub struct Images {
    /// The programs for the node itself.
    pub(super) programs: Vec<PathBuf>,
    /// The image that holds the namespaces of Pods, by the name that kubeadm has for it.
    pub(super) pause: String,
    /// Upstream's version, `v1.37.2`.
    pub(super) kubernetes: String,
    /// Whether they are upstream's alone.
    pub(super) stock: bool,
    /// The workspace, with kubeadm's manifests.
    pub(super) workspace: PathBuf,
    images: Vec<Image>,
}

/// One image.
struct Image {
    /// What it is called, without registry and tag.
    name: String,
    /// All of its name.
    reference: String,
    /// Other names that it gets on the node.
    others: Vec<String>,
    archive: PathBuf,
}

impl Images {
    /// Builds what is not up to date.
    ///
    /// # Errors
    /// When something is missing on this machine, or a build fails.
    pub fn build(shell: &Context, target: &Target, wish: Wish) -> Result<Self> {
        doctor::require(shell, &[Purpose::Images, Purpose::Cluster], false)?;
        let definitions = wish.definitions(&shell.paths.root().join("images"))?;
        let mut chosen = definitions.select(&[])?;
        chosen.retain(|image| wish.has(&image.name));
        let mut all = build_images::programs(&definitions, &chosen)?;
        all.extend(PROGRAMS);
        let mut plan = Plan { shell, wish, definitions: &definitions, chosen: &chosen, wanted: vec![] };
        plan.check()?;
        if wish.specs {
            plan.wanted = of_specs(&programs::end_to_end(shell, target)?)?;
        }
        let options = Options::host()?;
        match wish.stock {
            true => plan.write(build_stock(shell, target, options, &all)?),
            false => plan.write(build_patched(shell, target, options, &all)?),
        }
    }

    /// Puts them into a node that runs.
    pub(super) fn load(&self, node: &Node) -> Result<()> {
        let ctr = || Ok::<_, Error>(node.inside("ctr")?.arg("--namespace=k8s.io"));
        for image in &self.images {
            // The archive is outside: the node reads it from us.
            let archive = fs_err::read(&image.archive)?;
            ctr()?.args(["images", "import", "-"]).stdin(archive).run()?;
            for other in &image.others {
                // An older minor may have had it under the same name.
                ctr()?.args(["images", "tag", "--force", &image.reference, other]).run()?;
            }
        }
        Ok(())
    }

    /// Says what is wished for and can't run with the images of these names.
    pub(super) fn lacking(wish: Wish, references: &[String]) -> Option<&'static str> {
        let lacks =
            |names: &[&str]| names.iter().any(|name| !references.iter().any(|reference| last_part(reference) == *name));
        match wish {
            Wish { vclusters: true, .. } if lacks(&FOR_VCLUSTERS) => Some("virtual clusters"),
            Wish { specs: true, .. } if lacks(&FOR_SPECS) => Some("upstream's end-to-end specs"),
            _ => None,
        }
    }

    /// The names of all that are loaded.
    pub(super) fn references(&self) -> Vec<String> {
        self.images.iter().map(|image| image.reference.clone()).collect()
    }

    /// The whole name of the image `name`.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn reference(&self, name: &str) -> Result<&str> {
        let found = self.images.iter().find(|image| image.name == name);
        found.map(|image| image.reference.as_str()).ok_or_else(|| Error::input(format!("a node has no image {name}")))
    }
}

/// Upstream's control plane of a virtual cluster as an image, to compare ours with: its whole name, and the archive.
///
/// # Errors
/// When something is missing on this machine, or a build fails.
pub fn stock_control_plane(shell: &Context, target: &Target) -> Result<(String, PathBuf)> {
    let definitions = Definitions::read(&shell.paths.root().join("images"))?;
    let chosen = definitions.select(&[CONTROL_PLANE.to_owned()])?;
    let built = build_stock(shell, target, Options::host()?, &build_images::programs(&definitions, &chosen)?)?;
    let out = shell.paths.cache().join(STOCK_FOLDER);
    let report = build_images::write(shell, &[built], &definitions, &chosen, NOWHERE, &out)?;
    let line = report.images.into_iter().find(|line| line.suffix.is_empty());
    let found = line.and_then(|line| Some((line.reference.to_string(), line.platforms.into_iter().next()?.archive)));
    found.ok_or_else(|| Error::input(format!("no image {CONTROL_PLANE} was written")))
}

/// Images that are to be written.
struct Plan<'a> {
    shell: &'a Context,
    wish: Wish,
    definitions: &'a Definitions,
    chosen: &'a [&'a Definition],
    /// The images that others than kubeadm want, by their whole names.
    wanted: Vec<String>,
}

impl Plan<'_> {
    fn registry(&self) -> &'static str {
        if self.wish.stock { NOWHERE } else { REGISTRY }
    }

    fn out(&self) -> PathBuf {
        self.shell.paths.cache().join(if self.wish.stock { STOCK_FOLDER } else { "node-images" })
    }

    /// Finds what would stop the images, before minutes are spent on the programs in them.
    fn check(&self) -> Result<()> {
        let platforms = [Platform::host()?];
        build_images::check_all(self.shell, self.definitions, self.chosen, &platforms, self.registry(), &self.out())
    }

    /// Writes them, with the programs of a build.
    fn write<D: Depth>(&self, built: Built<D>) -> Result<Images> {
        let kubernetes = built.version.split('+').next().unwrap_or_default().to_owned();
        let paths = |program: Program| {
            let found = built.binaries.iter().find(|binary| binary.name == program.name());
            found.map(|binary| binary.path.clone())
        };
        let programs: Vec<PathBuf> = PROGRAMS.into_iter().filter_map(paths).collect();
        let of_kubeadm = of_kubeadm(&programs, &kubernetes)?;
        let (definitions, chosen, out) = (self.definitions, self.chosen, self.out());
        let report = build_images::write(self.shell, &[built], definitions, chosen, self.registry(), &out)?;
        let lines = report.images.iter().filter(|line| line.suffix.is_empty());
        let images: Vec<Image> = lines
            .filter_map(|line| {
                let others = if self.wish.stands_in(&line.name) { &of_kubeadm[..] } else { &[][..] };
                let others = others.iter().chain(&self.wanted).filter(|other| stand_in(other) == line.name).cloned();
                let inside = IN_VCLUSTERS.iter().filter(|(name, _)| self.wish.vclusters && *name == line.name);
                Some(Image {
                    name: line.name.clone(),
                    reference: line.reference.to_string(),
                    others: others.chain(inside.map(|(_, other)| (*other).to_owned())).collect(),
                    archive: line.platforms.first()?.archive.clone(),
                })
            })
            .collect();
        let pause = of_kubeadm.into_iter().find(|name| last_part(name) == "pause");
        let pause = pause.ok_or_else(|| Error::input("kubeadm names no image called pause"))?;
        let (stock, workspace) = (self.wish.stock, self.shell.paths.root().to_owned());
        Ok(Images { programs, pause, kubernetes, stock, workspace, images })
    }
}

/// The images that kubeadm wants for a version of Kubernetes.
fn of_kubeadm(programs: &[PathBuf], kubernetes: &str) -> Result<Vec<String>> {
    let kubeadm = programs.iter().find(|path| path.ends_with(Program::Kubeadm.name()));
    let kubeadm = kubeadm.ok_or_else(|| Error::input("kubeadm was not built"))?;
    // With a version it asks no server which is the newest.
    let list = Run::new(kubeadm, "/").args(["config", "images", "list", "--kubernetes-version", kubernetes]).read()?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// The images that upstream's end-to-end specs want.
fn of_specs(suite: &EndToEnd) -> Result<Vec<String>> {
    let list = Run::new(&suite.tests, "/").arg("--list-images").read()?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// The name of the image that stands in for another one.
fn stand_in(reference: &str) -> &str {
    let name = last_part(reference);
    IN_SPECS.iter().find(|(of_spec, _)| *of_spec == name).map_or(name, |(_, ours)| ours)
}

/// `coredns` of `registry.k8s.io/coredns/coredns:v1.14.6`.
fn last_part(reference: &str) -> &str {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    name.split(':').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_stands_in_for_one_of_the_same_name() {
        let names = ["registry.k8s.io/coredns/coredns:v1.14.6", "registry.k8s.io:443/pause:3.10.2", "pause"];
        assert_eq!(names.map(stand_in), ["coredns", "pause", "pause"]);
        assert_eq!(stand_in("registry.k8s.io/e2e-test-images/nginx:1.28.0-2"), "agnhost");
    }
}
