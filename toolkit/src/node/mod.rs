//! A Kubernetes node on this machine that runs Pods: an init in namespaces of its own, with containerd and the kubelet
//! below it, and a control plane that kubeadm makes from `images/manifests/kubeadm`.
//!
//! ```text
//! node.json      settings and port         root/   what the node has as its file system, /var/log in there
//! kubeconfig     for the user              lock    held by who starts or stops it
//! ```
//!
//! All processes are in one pid namespace and in one control group, and all mounts and interfaces are in namespaces
//! that end with them: when the init is killed, nothing is left but files in the folder. Which process the init is
//! stands in no file: the control group knows, whoever was killed when.

mod boot;
mod cgroup;
mod cmd;
mod files;
mod images;
mod kubeadm;
pub mod problem;
mod upgrade;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use self::cgroup::Group;
pub(crate) use self::cmd::Cmd;
pub use self::files::HOST_NETWORK;
pub use self::images::{Images, Wish, stock_control_plane};
use self::problem::{Busy, Ended, Foreign, NoNode, NotRoot, OtherKind, OtherMinor, StockUpgrade};
use crate::cluster::pid::Process;
use crate::cluster::port;
use crate::cluster::private;
use crate::cluster::wait::until;
use sluice_shell::error::{Attempt as _, Result};
use sluice_shell::minor::Minor;
use sluice_shell::process::{Limit, Run, THIS};

/// The node's name and its address in its own network.
const NAME: &str = "sluice-node";
const ADDRESS: &str = "10.77.0.1";

/// Where programs inside are looked for: those that were built, then those of Debian.
const PATH: &str = "/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long containerd may take to answer, and Kubernetes after it.
const RUNTIME_LIMIT: Duration = Duration::from_secs(60);
const READY_LIMIT: Duration = Duration::from_secs(240);

/// What the toolkit puts into a node's folder, and so may remove.
const CONTENTS: [&str; 7] =
    ["node.json", "node.unfinished", "kubeconfig", "kubeconfig.unfinished", "boot.log", "root", "lock"];

/// What is known of a node before it runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Saved {
    /// The Kubernetes minor.
    kubernetes: String,
    /// Whether it is upstream's, as it is.
    #[serde(default)]
    stock: bool,
    /// Where the API is on 127.0.0.1 of this machine.
    port: u16,
    /// The images that were loaded. None until kubeadm came to its end.
    images: Option<Vec<String>>,
}

/// A node that may or may not run.
pub struct Node {
    /// Where everything of it is; absolute.
    pub folder: PathBuf,
    saved: Saved,
    group: Group,
    /// Held while we may start and stop it.
    _lock: fs::File,
}

impl Node {
    /// Takes the node of a folder in hand; makes one if there is none. What an unfinished `up` left is removed.
    ///
    /// # Errors
    /// [`NotRoot`], [`Busy`], [`Foreign`], [`OtherMinor`], [`OtherKind`]; file errors.
    pub fn prepare(folder: &Path, minor: &Minor, stock: bool) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        may()?;
        refuse_foreign(&folder)?;
        fs::create_dir_all(&folder)?;
        let lock = lock(&folder)?;
        let group = Group::of(&folder)?;
        let saved = match load(&folder)? {
            Some(saved) if saved.images.is_some() && saved.kubernetes != minor.as_str() => {
                return Err(OtherMinor { folder, is: saved.kubernetes, wanted: minor.clone() }.into());
            }
            Some(saved) if saved.images.is_some() && saved.stock != stock => {
                return Err(OtherKind { folder, stock: saved.stock }.into());
            }
            Some(saved) if saved.images.is_some() => saved,
            _ => {
                end(&group)?;
                remove_contents(&folder, false)?;
                Saved { kubernetes: minor.to_string(), stock, port: port::free()?, images: None }
            }
        };
        Ok(Self { folder, saved, group, _lock: lock })
    }

    /// Takes a node in hand that was started before, whether its start came to an end or not.
    ///
    /// # Errors
    /// [`NoNode`], [`NotRoot`], [`Busy`]; file errors.
    pub fn open(folder: &Path) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        may()?;
        if !folder.join("lock").is_file() {
            return Err(NoNode(folder).into());
        }
        let lock = lock(&folder)?;
        let group = Group::of(&folder)?;
        // There is nothing to know of one that was never started.
        let saved = load(&folder)?.unwrap_or_default();
        Ok(Self { folder, saved, group, _lock: lock })
    }

    /// Starts it and waits until it is ready: from nothing with the images that `build` makes, or as it was when it
    /// ended. Says whether there was anything to do. On failure what was started is ended, and its files stay.
    ///
    /// # Errors
    /// [`Ended`] with the last lines of the log; those of the build, of containerd and of kubeadm.
    pub fn start(&mut self, build: impl FnOnce() -> Result<Images>, progress: impl FnMut(&str)) -> Result<bool> {
        if self.saved.images.is_some() && self.init()?.is_some() {
            self.wait_ready()?;
            return Ok(false);
        }
        let images = if self.saved.images.is_none() { Some(build()?) } else { None };
        if let Err(error) = self.start_all(images.as_ref(), progress) {
            self.kill()?;
            return Err(error);
        }
        Ok(true)
    }

    /// With `images` from nothing.
    fn start_all(&mut self, images: Option<&Images>, mut progress: impl FnMut(&str)) -> Result<()> {
        if let Some(images) = images {
            self.save()?;
            files::make(&self.root(), &self.settings(images))?;
        }
        let port = self.saved.port;
        port::bind(port).attempting(|| format!("the port of the API, {port} on 127.0.0.1, can't be listened on"))?;
        progress("starting the node");
        self.boot()?;
        if let Some(images) = images {
            progress("loading images");
            images.load(self)?;
            progress("kubeadm init");
            kubeadm::init(self, images)?;
            self.write_kubeconfig()?;
            self.saved.images = Some(images.references());
            self.save()?;
        }
        progress("waiting for the node to be ready");
        self.wait_ready()
    }

    /// Refuses a node that can't be taken to another minor, before minutes are spent on images for that.
    ///
    /// # Errors
    /// [`StockUpgrade`]; [`Ended`] if it does not run.
    pub fn check_upgrade(&self) -> Result<()> {
        if self.saved.stock {
            return Err(StockUpgrade(self.folder.clone()).into());
        }
        self.inside("true")?.run()
    }

    /// Takes it to another minor with the images of that minor, while it runs.
    ///
    /// # Errors
    /// [`Ended`] if it does not run; those of containerd and of kubeadm, which refuses a minor that is not the next.
    pub fn upgrade(&mut self, minor: &Minor, images: &Images, progress: impl FnMut(&str)) -> Result<()> {
        upgrade::run(self, images, progress)?;
        self.saved.kubernetes = minor.to_string();
        let fresh = images.references().into_iter().filter(|image| !self.images().contains(image));
        let all = fresh.chain(self.images().to_vec()).collect();
        self.saved.images = Some(all);
        self.save()
    }

    /// Ends all of its processes, as a power failure would; its files stay.
    ///
    /// # Errors
    /// When a process can't be killed or the control group can't be removed.
    pub fn kill(&self) -> Result<()> {
        end(&self.group)
    }

    /// Ends it and removes everything that the toolkit put into the folder, and the folder itself if nothing else is in
    /// it.
    ///
    /// # Errors
    /// As [`Node::kill`]; when a file can't be removed.
    pub fn remove(self) -> Result<()> {
        self.kill()?;
        remove_contents(&self.folder, true)
    }

    /// The images that Pods can run: there is no registry. None before it was ready for the first time.
    pub fn images(&self) -> &[String] {
        self.saved.images.as_deref().unwrap_or_default()
    }

    /// The kubeconfig of the admin, for programs outside.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// Where containerd, the kubelet and all containers log.
    pub fn logs(&self) -> PathBuf {
        self.root().join("var/log")
    }

    /// A program of the node, or one that the toolkit put there, to be run inside.
    ///
    /// # Errors
    /// [`Ended`] if the node does not run.
    pub fn inside(&self, program: &str) -> Result<Run> {
        let init = self.init()?.ok_or_else(|| Ended::of(&self.boot_log()))?;
        let run = Run::new("nsenter", "/").args(["--target", &init.pid.to_string()]);
        let namespaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--wd=/", "--"];
        Ok(run.args(namespaces).args(environment()).arg(program).limit(Limit::HUNG))
    }

    /// kubectl as admin, inside.
    ///
    /// # Errors
    /// As [`Node::inside`].
    pub fn kubectl(&self, args: &[&str]) -> Result<Run> {
        Ok(self.inside("kubectl")?.arg("--kubeconfig=/etc/kubernetes/admin.conf").args(args))
    }

    /// The kubectl that was built with the node's programs, for use outside.
    pub fn kubectl_program(&self) -> PathBuf {
        self.root().join("opt/bin/kubectl")
    }

    /// What the node has as its file system.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    fn boot_log(&self) -> PathBuf {
        self.folder.join("boot.log")
    }

    fn settings<'a>(&self, images: &'a Images) -> files::Settings<'a> {
        files::Settings { port: self.saved.port, programs: &images.programs, pause: &images.pause }
    }

    /// Its first process, if it runs.
    fn init(&self) -> Result<Option<Process>> {
        self.group.init()
    }

    /// Starts the init, and waits for containerd.
    fn boot(&self) -> Result<()> {
        let runs = || Ok::<_, sluice_shell::error::Error>(self.init()?.is_some());
        if !runs()? {
            let log = self.boot_log();
            self.group.make()?;
            let mut child = Run::new(THIS, "/").args(["cluster", "boot"]).arg(&self.folder).spawn(&log)?;
            // It ends as soon as the init is on its way.
            child.wait()?;
        }
        until("containerd's start", RUNTIME_LIMIT, || {
            if !runs()? {
                return Err(Ended::of(&self.boot_log()).into());
            }
            Ok(self.inside("ctr")?.arg("version").outcome()?.status.success().then_some(()))
        })
        .attempting(|| format!("cannot start the node; logs are in {}", self.logs().display()))
    }

    /// Waits for the node, and for the cluster's name server.
    fn wait_ready(&self) -> Result<()> {
        let limit = format!("--timeout={}s", READY_LIMIT.as_secs());
        until("the API server's readiness", READY_LIMIT, || {
            Ok(self.kubectl(&["get", "--raw=/readyz"])?.outcome()?.status.success().then_some(()))
        })?;
        let conditions: [&[&str]; 3] = [
            &["wait", "--for=condition=Ready", "node", NAME],
            &["--namespace=kube-system", "rollout", "status", "daemonset/kube-proxy"],
            &["--namespace=kube-system", "rollout", "status", "deployment/coredns"],
        ];
        for condition in conditions {
            let done = self.kubectl(condition)?.arg(&limit).limit(Limit::ANSWER).run();
            done.attempting(|| format!("the node does not get ready; logs are in {}", self.logs().display()))?;
        }
        Ok(())
    }

    /// The admin's kubeconfig as kubeadm wrote it, with the address at which the API is outside.
    fn write_kubeconfig(&self) -> Result<()> {
        let text = fs::read_to_string(self.root().join("etc/kubernetes/admin.conf"))?;
        let inside = format!("server: https://{ADDRESS}:6443");
        // The certificate is not for 127.0.0.1.
        let outside = format!("server: https://127.0.0.1:{}\n    tls-server-name: kubernetes", self.saved.port);
        private::write(&self.kubeconfig(), text.replace(&inside, &outside).as_bytes())
    }

    fn save(&self) -> Result<()> {
        let path = self.folder.join("node.json");
        let fresh = path.with_extension("unfinished");
        fs::write(&fresh, serde_json::to_vec_pretty(&self.saved)?)?;
        Ok(fs::rename(fresh, path)?)
    }
}

/// What programs inside see of the environment: nothing of ours, such as proxies of this machine.
fn environment() -> [String; 4] {
    ["env".into(), "-i".into(), format!("PATH={PATH}"), "HOME=/root".into()]
}

/// Ends the processes of the node in that folder, whoever has it in hand; fine if there are none.
///
/// # Errors
/// As [`Node::kill`].
pub fn end_in(folder: &Path) -> Result<()> {
    end(&Group::of(&std::path::absolute(folder)?)?)
}

/// Ends all processes of the group, and removes it.
fn end(group: &Group) -> Result<()> {
    if let Some(init) = group.init()? {
        init.kill()?;
    }
    group.remove()
}

fn may() -> Result<()> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(NotRoot.into()) }
}

fn load(folder: &Path) -> Result<Option<Saved>> {
    match fs::read(folder.join("node.json")) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn lock(folder: &Path) -> Result<fs::File> {
    let file = fs::OpenOptions::new().create(true).append(true).open(folder.join("lock"))?;
    file.try_lock().map_err(|_| Busy(folder.to_owned()))?;
    Ok(file)
}

/// Refuses a folder that has files of somebody else where a node has its own: `down` would remove those.
fn refuse_foreign(folder: &Path) -> Result<()> {
    if folder.join("lock").exists() {
        return Ok(());
    }
    let files: Vec<&str> = CONTENTS.into_iter().filter(|name| folder.join(name).symlink_metadata().is_ok()).collect();
    if files.is_empty() { Ok(()) } else { Err(Foreign { folder: folder.to_owned(), files }.into()) }
}

/// Removes what the toolkit put into the folder; the lock, and with it the folder, only if `all`.
fn remove_contents(folder: &Path, all: bool) -> Result<()> {
    for name in CONTENTS.into_iter().filter(|name| all || *name != "lock") {
        let path = folder.join(name);
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path)?,
            Ok(_) => fs::remove_file(&path)?,
            Err(_) => {}
        }
    }
    if all && fs::read_dir(folder)?.next().is_none() {
        fs::remove_dir(folder)?;
    }
    Ok(())
}
