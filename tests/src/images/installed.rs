//! What `install.sh` of a release installs, started where there is nothing else: below a root of its own, in a network
//! of its own. systemd's part is done by hand: the commands of the units.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::Value;
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};
use sluice_shell::process::{Run, THIS};
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};
use sluice_toolkit::source::Target;

/// A root folder with what was installed, and a network in which its ports are free.
struct Machine {
    root: PathBuf,
    /// Enters the network.
    network: PathBuf,
    guards: Vec<Guard>,
}

/// Installs `release` below `root`, and tries the control plane that it makes: an object is stored, and the controller
/// manager does its work. Then all of it goes away.
pub(super) fn works(shell: &Context, target: &Target, release: &Path, root: &Path) -> Result<()> {
    ensure(nix::unistd::geteuid().is_root(), || "only root can make a root folder and a network".to_owned())?;
    let install = Run::new(release.join("install/install.sh"), "/").env("DESTDIR", root);
    let said = install.read()?;
    ensure(said == "export KUBECONFIG=/etc/sluice/admin.conf", || format!("install.sh says {said:?}"))?;
    let kubectl = kubectl(shell, target)?;

    let mut machine = Machine::new(root)?;
    let ask = |machine: &Machine, words: &[&str]| {
        let run = machine.enter().arg(&kubectl).arg("--kubeconfig").arg(root.join("etc/sluice/admin.conf"));
        // Its cache is none of the installation.
        run.args(words).env("HOME", root.join("log")).outcome()
    };
    machine.start("sluice-shim")?;
    machine.start("sluice-apiserver")?;
    until("an answer of the API server", LIMIT, || {
        Ok(ask(&machine, &["get", "--raw", "/readyz"])?.status.success().then_some(()))
    })?;
    machine.start("sluice-controller-manager")?;
    // The namespace comes a moment later.
    until("the creation of an object", LIMIT, || {
        let made = ask(&machine, &["create", "configmap", "of-a-release", "--from-literal=a=1"])?;
        Ok(made.status.success().then_some(()))
    })?;
    until("the controller manager's object in the namespace", LIMIT, || {
        let found = ask(&machine, &["get", "configmaps", "--output=name"])?.stdout;
        let all = ["configmap/kube-root-ca.crt", "configmap/of-a-release"];
        Ok(all.iter().all(|name| found.lines().any(|line| line == *name)).then_some(()))
    })?;
    drop(machine);

    install.arg("uninstall").arg("--purge").run()?;
    let left = walkdir::WalkDir::new(root).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    let left: Vec<_> = left.map(|entry| entry.into_path()).filter(|path| !path.starts_with(root.join("log"))).collect();
    ensure(left.is_empty(), || format!("install.sh uninstall --purge leaves {left:?}"))
}

/// A release has none: it is not a part of a control plane.
fn kubectl(shell: &Context, target: &Target) -> Result<PathBuf> {
    let built = Run::new(THIS, shell.paths.root())
        .args(["build", "kubectl", "--json"])
        .args(["--k8s", target.k8s.as_str(), "--source", &target.source.to_string()])
        .read()?;
    let built: Value = serde_json::from_str(&built)?;
    let path = built["binaries"][0]["path"].as_str();
    path.map(PathBuf::from).ok_or_else(|| Error::input("`build kubectl` names no file"))
}

impl Machine {
    /// Starts the process that holds the network, and completes the root folder.
    fn new(root: &Path) -> Result<Self> {
        // Each machine has them: without them a static program has no random numbers.
        fs::create_dir_all(root.join("dev"))?;
        for (name, minor) in [("random", "8"), ("urandom", "9")] {
            Run::new("mknod", root.join("dev")).args(["-m", "666", name, "c", "1", minor]).run()?;
        }
        fs::create_dir_all(root.join("tmp"))?;
        fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777))?;
        fs::create_dir_all(root.join("log"))?;
        let hold = Run::new("unshare", "/").args(["--net", "sleep", "infinity"]);
        let holder = launch("the network", &hold, &root.join("log/network.log"))?;
        let network = PathBuf::from(format!("/proc/{}/ns/net", holder.pid));
        let guards = vec![Guard::new(Leftover::Process(holder))];
        let own = fs::read_link("/proc/self/ns/net")?;
        until("a network of its own", LIMIT, || Ok((fs::read_link(&network)? != own).then_some(())))?;
        let machine = Self { root: root.to_owned(), network, guards };
        // Of the package that images are made with: not every machine has iproute2.
        machine.enter().args(["/bin/busybox", "ip", "link", "set", "lo", "up"]).run()?;
        Ok(machine)
    }

    fn enter(&self) -> Run {
        Run::new("nsenter", "/").arg(format!("--net={}", self.network.display()))
    }

    /// Starts what the unit of a service starts, with the variables that it sets.
    fn start(&mut self, service: &str) -> Result<()> {
        let unit = fs::read_to_string(self.root.join(format!("etc/systemd/system/{service}.service")))?;
        let values = |name: &str| {
            let prefix = format!("{name}=");
            unit.lines()
                .filter_map(move |line| line.strip_prefix(prefix.as_str()).map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let command = values("ExecStart").pop().ok_or_else(|| Error::input(format!("{service} starts nothing")))?;
        // The last word stands for what the file of the administrator adds, which is not there.
        let words = command.split(' ').filter(|word| !word.starts_with('$'));
        let run = self.enter().arg("chroot").arg(&self.root).args(words);
        let set = values("Environment");
        let set = set.iter().filter_map(|pair| pair.split_once('='));
        let run = set.fold(run, |run, (name, value)| run.env(name, value));
        let process = launch(service, &run, &self.root.join(format!("log/{service}.log")))?;
        self.guards.push(Guard::new(Leftover::Process(process)));
        Ok(())
    }
}
