//! The node's first process: it goes into namespaces of its own, makes the node's view of the machine there, and
//! becomes busybox' init.

use std::path::Path;

use fs_err as fs;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::cgroup::Group;
use super::files::{HOST_NETWORK, SHARED};
use super::problem::Refused;
use super::{ADDRESS, NAME, environment};
use sluice_shell::error::Result;
use sluice_shell::process::{Run, THIS};

/// What Pods of kubeadm's default cluster reach as Services.
const SERVICES: &str = "10.96.0.0/12";

/// Devices of this machine that a node and its containers use.
const DEVICES: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "kmsg"];

/// Enters the control group and all namespaces but that of the network, and starts the first process there.
pub(super) fn enter(folder: &Path) -> Result<()> {
    let group = Group::of(folder)?;
    group.join()?;
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    refused("make namespaces", unshare(namespaces))?;
    group.make_room()?;
    // Only a child is in the new pid namespace. Its output goes where ours does.
    Run::new(THIS, "/").args(["cluster", "boot", "--first"]).arg(folder).spawn(&folder.join("boot.log"))?;
    Ok(())
}

/// What the first process does. Returns only if it can't become the init.
pub(super) fn first(folder: &Path) -> Result<()> {
    // Before other mounts hide where the groups are.
    let group = Group::of(folder)?;
    let root = folder.join("root");
    refused(
        "make mounts private",
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>),
    )?;
    bind(&root, &root)?;
    file_systems(&root)?;
    group.mount(&root.join("sys/fs/cgroup"))?;
    turn(&root)?;
    fs::write("/proc/sys/kernel/hostname", NAME)?;
    network()?;
    let init = environment().into_iter().chain(["busybox".to_owned(), "init".to_owned()]);
    let words: Vec<String> = init.collect();
    Err(Run::new(&words[0], "/").args(&words[1..]).replace())
}

/// Mounts what a Linux system expects, and this machine's programs, below `root`.
fn file_systems(root: &Path) -> Result<()> {
    let special = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let on = |kind: &str, at: &str, flags, options: Option<&str>| {
        refused(&format!("mount {kind} on /{at}"), mount(Some(kind), &root.join(at), Some(kind), flags, options))
    };
    on("tmpfs", "run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))?;
    on("tmpfs", "tmp", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=1777"))?;
    for folder in ["lock", "netns", "upper", "work"] {
        fs::create_dir_all(root.join("run").join(folder))?;
    }
    // kubeadm's manifests make folders in /usr, which must not come to this machine's.
    let (upper, work) = (root.join("run/upper"), root.join("run/work"));
    let options = format!("lowerdir=/usr,upperdir={},workdir={}", upper.display(), work.display());
    on("overlay", "usr", MsFlags::empty(), Some(&options))?;
    for folder in SHARED {
        bind(Path::new(folder), &root.join(folder.trim_start_matches('/')))?;
    }
    on("tmpfs", "dev", MsFlags::MS_NOSUID, Some("mode=755"))?;
    for device in DEVICES {
        let (here, there) = (Path::new("/dev").join(device), root.join("dev").join(device));
        if here.exists() {
            fs::write(&there, "")?;
            bind(&here, &there)?;
        }
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx"), ("stdout", "/proc/self/fd/1")] {
        fs::os::unix::fs::symlink(target, root.join("dev").join(name))?;
    }
    for folder in ["pts", "shm", "mqueue"] {
        fs::create_dir_all(root.join("dev").join(folder))?;
    }
    on("devpts", "dev/pts", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, Some("newinstance,ptmxmode=0666,mode=0620"))?;
    on("tmpfs", "dev/shm", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=1777"))?;
    // Its way back to this machine's network, for the one process that listens there.
    let network = root.join(HOST_NETWORK.trim_start_matches('/'));
    fs::write(&network, "")?;
    bind(Path::new("/proc/self/ns/net"), &network)?;
    refused("make a network namespace", unshare(CloneFlags::CLONE_NEWNET))?;
    on("proc", "proc", special, None)?;
    // Of the network namespace that we are in now.
    on("sysfs", "sys", special, None)
}

/// Makes `root` the root of all that run here. Nothing else of this machine can be reached after that.
fn turn(root: &Path) -> Result<()> {
    refused("enter the node's root", nix::unistd::chdir(root))?;
    refused("change the root", nix::unistd::pivot_root(".", "."))?;
    refused("leave the machine's root", umount2(".", MntFlags::MNT_DETACH))?;
    refused("enter the new root", nix::unistd::chdir("/"))?;
    // Volumes that a Pod mounts show up in others.
    refused("share mounts", mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>))
}

/// An interface with the node's address, and no way out: what is not there is refused at once.
fn network() -> Result<()> {
    let commands = [
        "link set lo up",
        "link add node0 type veth peer name node1",
        &format!("address add {ADDRESS}/24 dev node0"),
        "link set node0 up",
        "link set node1 up",
        // Addresses of Services need a route before kube-proxy's rules are asked.
        &format!("route add {SERVICES} dev node0"),
    ];
    for command in commands {
        Run::new("ip", "/").args(command.split(' ')).run()?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    let bridges = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if bridges.exists() {
        fs::write(bridges, "1")?;
    }
    Ok(())
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let what = format!("mount {} on {}", from.display(), to.display());
    refused(&what, mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>))
}

fn refused<T>(what: &str, done: nix::Result<T>) -> Result<T> {
    done.map_err(|cause| Refused { what: what.to_owned(), cause: cause.into() }.into())
}
