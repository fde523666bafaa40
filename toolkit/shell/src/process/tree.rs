//! The processes that a program consists of: itself, its group, and whatever these have started, in their groups or in
//! others.

use std::collections::{BTreeMap, BTreeSet};

/// One process of this machine: proc_pid_stat(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Its number.
    pub(super) pid: i32,
    /// It ended, and nobody asked for its exit code yet.
    pub(super) ended: bool,
    parent: i32,
    /// Its process group.
    pub(super) group: i32,
    /// Processor time, its own and that of the children that it waited for. Clock ticks of 10 ms.
    ticks: u64,
    /// When it started, in clock ticks since the machine booted: a number is given to another process one day.
    pub(super) started: u64,
}

impl Stat {
    /// Of a process; none if there is no such process.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// "PID (name) STATE PARENT GROUP …"; the name may hold blanks and brackets.
    fn parse(text: &str) -> Option<Self> {
        let (pid, _) = text.split_once(' ')?;
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field)?.parse::<u64>().ok();
        Some(Self {
            pid: pid.parse().ok()?,
            ended: matches!(*fields.first()?, "Z" | "X" | "x"),
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            ticks: number(11)? + number(12)? + number(13)? + number(14)?,
            started: number(19)?,
        })
    }

    /// All processes that we may see.
    pub(super) fn all() -> Vec<Self> {
        let Ok(entries) = fs_err::read_dir("/proc") else { return Vec::new() };
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers.filter_map(Self::of).collect()
    }
}

/// Those of `all` that are in the group `leader`, or descend from one that is.
pub(super) fn members(all: &[Stat], leader: i32) -> Vec<&Stat> {
    let mut inside: BTreeSet<i32> = BTreeSet::new();
    loop {
        let before = inside.len();
        let belongs = |stat: &&Stat| stat.group == leader || inside.contains(&stat.parent);
        let found: Vec<i32> = all.iter().filter(belongs).map(|stat| stat.pid).collect();
        inside.extend(found);
        if inside.len() == before {
            return all.iter().filter(|stat| inside.contains(&stat.pid)).collect();
        }
    }
}

/// What a program has done since it was last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Processor time in clock ticks of 10 ms.
    pub(super) ticks: u64,
    /// Bytes read and written, by system calls and by the disk.
    pub(super) bytes: u64,
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, more: Self) {
        self.ticks += more.ticks;
        self.bytes += more.bytes;
    }
}

/// The processes of one program, as they were when they were last looked at: by number and start.
pub(super) struct Tree {
    leader: i32,
    seen: BTreeMap<(i32, u64), Work>,
}

impl Tree {
    /// Of the program that leads a group.
    pub(super) fn new(leader: i32) -> Self {
        Self { leader, seen: BTreeMap::new() }
    }

    /// The work since the last look. A process that ended meanwhile is counted through the parent that waited for it.
    pub(super) fn look(&mut self) -> Work {
        let all = Stat::all();
        let mut work = Work::default();
        let mut now = BTreeMap::new();
        for stat in members(&all, self.leader) {
            let key = (stat.pid, stat.started);
            let total = Work { ticks: stat.ticks, bytes: bytes(stat.pid) };
            let before = self.seen.get(&key).copied().unwrap_or_default();
            work += Work {
                ticks: total.ticks.saturating_sub(before.ticks),
                bytes: total.bytes.saturating_sub(before.bytes),
            };
            now.insert(key, total);
        }
        self.seen = now;
        work
    }
}

/// All that a process has read and written: proc_pid_io(5).
fn bytes(pid: i32) -> u64 {
    let text = fs_err::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let counted = ["rchar", "wchar", "read_bytes", "write_bytes"];
    let number = |line: &str| {
        let (name, number) = line.split_once(": ")?;
        counted.contains(&name).then(|| number.parse::<u64>().ok())?
    };
    text.lines().filter_map(number).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(pid: i32, parent: i32, group: i32) -> Stat {
        Stat { pid, ended: false, parent, group, ticks: 0, started: 1 }
    }

    #[test]
    fn the_name_may_hold_anything() {
        let text = "7 (a) b (c)) S 3 5 7 0 -1 4194560 1 0 0 0 10 20 30 40 20 0 1 0 4242 0 0";
        let expected = Stat { pid: 7, ended: false, parent: 3, group: 5, ticks: 100, started: 4242 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert!(Stat::parse("7 (x) Z 3 5 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0").unwrap().ended);
        assert_eq!(Stat::parse("7 (x) S 1"), None);
    }

    #[test]
    fn a_tree_is_the_group_and_all_that_descend_from_it() {
        let all = [
            stat(10, 1, 10), // the leader
            stat(14, 13, 13),
            stat(13, 12, 13), // left the group
            stat(12, 10, 10),
            stat(15, 1, 10), // its parent has ended
            stat(20, 1, 20),
            stat(21, 20, 20),
        ];
        let pids: Vec<i32> = members(&all, 10).iter().map(|stat| stat.pid).collect();
        assert_eq!(pids, [10, 14, 13, 12, 15]);
    }
}
