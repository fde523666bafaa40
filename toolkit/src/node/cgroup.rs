//! The control group of a node, in every hierarchy of this machine, whichever version of the interface they have.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;
use nix::mount::{MsFlags, mount};
use sha2::{Digest as _, Sha256};

use super::problem::{NoControlGroups, Refused};
use crate::cluster::pid::{POLL, Process};
use sluice_shell::error::Result;

/// What a kubelet does not start without.
const NEEDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// How long the kernel may take to forget processes that were killed.
const GONE_LIMIT: Duration = Duration::from_secs(20);

/// Where the first process of a node is, so that its own group can have groups below it (version 2).
const LEAF: &str = "init";

/// A node's group.
pub(super) struct Group {
    hierarchies: Vec<Hierarchy>,
    name: String,
}

/// One mounted tree of groups.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Where it is mounted.
    mount: PathBuf,
    /// What is mounted there: controllers as mount options, or all of them (version 2).
    controllers: Option<String>,
    /// The group below which a node's is made.
    parent: PathBuf,
}

impl Group {
    /// The group of the node in that folder.
    ///
    /// # Errors
    /// [`NoControlGroups`].
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
        let name = digest.iter().take(6).fold("sluice-node-".to_owned(), |name, byte| format!("{name}{byte:02x}"));
        let (mounts, own) = (fs::read_to_string("/proc/self/mountinfo")?, fs::read_to_string("/proc/self/cgroup")?);
        Ok(Self { hierarchies: hierarchies(&mounts, &own)?, name })
    }

    /// Makes it, if need be.
    pub(super) fn make(&self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            let group = hierarchy.group(&self.name);
            if hierarchy.controllers.is_none() {
                enable(&hierarchy.parent)?;
                fs::create_dir_all(group.join(LEAF))?;
                continue;
            }
            fs::create_dir_all(&group)?;
            // A group without processors and memory nodes takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let above = hierarchy.parent.join(file);
                if above.is_file() {
                    fs::write(group.join(file), fs::read(above)?)?;
                }
            }
        }
        Ok(())
    }

    /// Moves this process, which has one thread, into it.
    pub(super) fn join(&self) -> Result<()> {
        for hierarchy in &self.hierarchies {
            fs::write(hierarchy.group(&self.name).join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Leaves the group itself, for a process in a control group namespace that begins at it: in version 2 a group with
    /// processes in it gives no controllers to those below.
    pub(super) fn make_room(&self) -> Result<()> {
        for hierarchy in self.hierarchies.iter().filter(|hierarchy| hierarchy.controllers.is_none()) {
            fs::write(hierarchy.group(&self.name).join(LEAF).join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// Mounts the hierarchies below `target`, for a process whose control group namespace begins at this group.
    pub(super) fn mount(&self, target: &Path) -> Result<()> {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let mount = |kind: &str, on: &Path, options: Option<&str>| {
            mount(Some(kind), on, Some(kind), flags, options)
                .map_err(|cause| Refused { what: format!("mount {kind} on {}", on.display()), cause: cause.into() })
        };
        for hierarchy in &self.hierarchies {
            let Some(controllers) = &hierarchy.controllers else {
                mount("cgroup2", target, None)?;
                return enable(target);
            };
            if target.read_dir().is_ok_and(|mut entries| entries.next().is_none()) {
                mount("tmpfs", target, Some("mode=755"))?;
            }
            let on = target.join(hierarchy.mount.file_name().unwrap_or_default());
            fs::create_dir_all(&on)?;
            mount("cgroup", &on, Some(controllers))?;
        }
        Ok(())
    }

    /// The first process of the pid namespace whose processes are in the group.
    pub(super) fn init(&self) -> Result<Option<Process>> {
        let Some(hierarchy) = self.hierarchies.first() else { return Ok(None) };
        let group = hierarchy.group(&self.name);
        let of = |folder: PathBuf| fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        let pids = format!("{}\n{}", of(group.clone()), of(group.join(LEAF)));
        let first = pids.lines().filter_map(|line| line.parse().ok()).find(|pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            is_first(&status)
        });
        Ok(first.and_then(Process::of).filter(Process::is_alive))
    }

    /// Removes it with all groups below, from which the last process has gone or is just going.
    pub(super) fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + GONE_LIMIT;
        for hierarchy in &self.hierarchies {
            while let Err(error) = remove_below(&hierarchy.group(&self.name)) {
                if Instant::now() >= deadline {
                    return Err(error.into());
                }
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }
}

impl Hierarchy {
    fn group(&self, name: &str) -> PathBuf {
        self.parent.join(name)
    }
}

/// The hierarchies that `/proc/self/mountinfo` and `/proc/self/cgroup` tell of: those of version 1 if controllers are
/// there, and else the one of version 2.
fn hierarchies(mounts: &str, own: &str) -> Result<Vec<Hierarchy>> {
    let mounted = mounts.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let (mount, mut after) = (before.split(' ').nth(4)?, after.split(' '));
        Some((after.next()?, PathBuf::from(mount), after.nth(1)?))
    });
    let mounted: Vec<_> = mounted.filter(|(kind, ..)| kind.starts_with("cgroup")).collect();
    let first: Vec<Hierarchy> = mounted
        .iter()
        .filter(|(kind, ..)| *kind == "cgroup")
        .map(|(_, mount, options)| {
            let controllers: Vec<&str> = options.split(',').filter(|option| is_controller(option)).collect();
            let controllers = controllers.join(",");
            let parent = mount.join(own_group(own, &controllers).trim_start_matches('/'));
            Hierarchy { mount: mount.clone(), controllers: Some(controllers), parent }
        })
        .collect();
    let has = |controller: &&str| {
        first.iter().any(|it| it.controllers.iter().any(|all| all.split(',').any(|it| it == *controller)))
    };
    if NEEDED.iter().all(&has) {
        return Ok(first);
    }
    let second = mounted.into_iter().find(|(kind, ..)| *kind == "cgroup2");
    let Some((_, mount, _)) = second.filter(|_| !NEEDED.iter().any(&has)) else {
        let missing: Vec<&str> = NEEDED.into_iter().filter(|controller| !has(controller)).collect();
        return Err(NoControlGroups(missing.join(", ")).into());
    };
    // Processes and groups are not side by side in this version, and we are in a group of our own.
    Ok(vec![Hierarchy { parent: mount.clone(), mount, controllers: None }])
}

/// Options of a mount that say what it is of; the others say how it is mounted.
fn is_controller(option: &str) -> bool {
    !matches!(option, "rw" | "ro" | "xattr" | "none" | "clone_children" | "noprefix" | "relatime")
        && !option.starts_with("release_agent=")
}

/// Our group in the hierarchy of these controllers.
fn own_group<'a>(own: &'a str, controllers: &str) -> &'a str {
    let fields = own.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    fields.into_iter().find(|(of, _)| *of == controllers).map_or("/", |(_, group)| group)
}

/// Gives all controllers of a group of version 2 to those below it.
fn enable(group: &Path) -> Result<()> {
    let names = fs::read_to_string(group.join("cgroup.controllers"))?;
    let given = fs::read_to_string(group.join("cgroup.subtree_control"))?;
    let missing: Vec<&str> =
        NEEDED.into_iter().filter(|name| !names.split_whitespace().any(|it| it == *name)).collect();
    if !missing.is_empty() {
        return Err(NoControlGroups(missing.join(", ")).into());
    }
    for name in names.split_whitespace().filter(|name| !given.split_whitespace().any(|it| it == *name)) {
        fs::write(group.join("cgroup.subtree_control"), format!("+{name}"))?;
    }
    Ok(())
}

/// Whether `/proc/PID/status` is that of the first process in a pid namespace directly below ours (proc_pid_status(5)).
fn is_first(status: &str) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| matches!(numbers.split_whitespace().collect::<Vec<_>>()[..], [_, "1"]))
}

/// Removes a group and those below it. Their files can't be removed, and need not be.
fn remove_below(group: &Path) -> std::io::Result<()> {
    if !group.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "\
27 19 0:23 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
30 27 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:5 - cgroup cgroup rw,cpu,cpuacct
31 27 0:27 / /sys/fs/cgroup/cpuset rw shared:6 master:1 - cgroup cgroup rw,cpuset,clone_children
32 27 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 27 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
34 27 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
35 27 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn version_1_is_used_where_the_controllers_are_there() {
        let own = "9:name=systemd:/user\n4:memory:/a:b/c\n2:cpu,cpuacct:/\n0::/d\n";
        let found = hierarchies(FIRST, own).unwrap();
        let found: Vec<_> =
            found.iter().map(|it| (it.controllers.as_deref().unwrap(), it.parent.to_str().unwrap())).collect();
        let expected = [
            ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/"),
            ("cpuset", "/sys/fs/cgroup/cpuset/"),
            ("memory", "/sys/fs/cgroup/memory/a:b/c"),
            ("pids", "/sys/fs/cgroup/pids/"),
            ("name=systemd", "/sys/fs/cgroup/systemd/user"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn version_2_is_used_alone() {
        let second = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        let found = hierarchies(second, "0::/user.slice\n").unwrap();
        let mount = PathBuf::from("/sys/fs/cgroup");
        assert_eq!(found, [Hierarchy { parent: mount.clone(), mount, controllers: None }]);
    }

    #[test]
    fn what_is_missing_is_said() {
        let without = |word: &str| FIRST.lines().filter(|line| !line.contains(word)).collect::<Vec<_>>().join("\n");
        let error = hierarchies(&without("/cpuset"), "").unwrap_err();
        assert_eq!(error.to_string(), "this machine lacks what containers are limited with: cpuset");
        assert!(hierarchies(&without("cgroup/"), "").unwrap_err().to_string().ends_with(": cpu, cpuset, memory, pids"));
    }

    #[test]
    fn the_init_is_the_first_in_its_namespace_and_no_container() {
        for (numbers, first) in [("70\t1", true), ("70", false), ("70\t2", false), ("70\t9\t1", false)] {
            assert_eq!(is_first(&format!("Name:\tx\nNSpid:\t{numbers}\nVmRSS: 1 kB\n")), first, "{numbers}");
        }
    }
}
