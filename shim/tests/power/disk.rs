//! A disk that forgets what was not synced.
//!
//! It holds one folder twice: as programs see it, and as it is on the disk. Between the two are the changes that nobody
//! has synced. A file's `fsync` brings its own content and length to the disk, and nothing else. The folder's brings
//! the names. At a cut of the power each change that was not synced is on the disk or not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use crate::random::Random;

/// What a disk writes whole or not at all.
pub(crate) const SECTOR: usize = 512;

/// What becomes of unsynced changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Dropped,
    Kept,
    /// Of each file all, nothing, or some sectors in any order; of the names some.
    Torn,
}

impl Fate {
    pub(crate) fn any(random: &mut Random) -> Self {
        [Self::Dropped, Self::Kept, Self::Torn, Self::Torn][random.within(0..4) as usize]
    }
}

/// The number of a file.
pub(crate) type Number = u64;

/// A change of a file.
#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    pub(crate) seen: Vec<u8>,
    kept: Vec<u8>,
    unsynced: Vec<Change>,
}

/// What one call does to names: which file each has afterwards.
type Renaming = Vec<(OsString, Option<Number>)>;

#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) files: BTreeMap<Number, File>,
    pub(crate) names: BTreeMap<OsString, Number>,
    kept_names: BTreeMap<OsString, Number>,
    unsynced_names: Vec<Renaming>,
    made: Number,
}

fn write(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if file.len() < at + bytes.len() {
        file.resize(at + bytes.len(), 0);
    }
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Change {
    fn carry_out(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => write(file, *at, bytes),
            Self::Length(length) => file.resize(*length, 0),
        }
    }

    /// Carries some sectors of a write out, each with a chance of so many in ten.
    fn carry_out_some(&self, file: &mut Vec<u8>, chance: u64, random: &mut Random) {
        let Self::Write { at, bytes } = self else { return self.carry_out(file) };
        let mut from = *at;
        while from < at + bytes.len() {
            let end = (from / SECTOR * SECTOR + SECTOR).min(at + bytes.len());
            if random.within(0..10) < chance {
                write(file, from, &bytes[from - at..end - at]);
            }
            from = end;
        }
    }
}

impl File {
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        self.change(Change::Write { at, bytes: bytes.to_owned() });
    }

    pub(crate) fn cut(&mut self, length: usize) {
        self.change(Change::Length(length));
    }

    fn change(&mut self, change: Change) {
        change.carry_out(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(crate) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.carry_out(&mut self.kept);
        }
    }

    /// A sync that fails: the system takes the pages for written all the same (fsync(2), `EIO`), so that no later sync
    /// brings to the disk what this one did not.
    pub(crate) fn lose(&mut self, random: &mut Random) {
        self.tear(random);
        self.unsynced.clear();
    }

    /// Brings some of what was not synced to the disk. Lengths change in order, as in a file system with a journal;
    /// sectors that were written between two of these changes get there in any order.
    fn tear(&mut self, random: &mut Random) {
        let is_length = |change: &&Change| matches!(change, Change::Length(_));
        let mut lengths = random.within(0..1 + self.unsynced.iter().filter(is_length).count() as u64);
        let chance = [1, 5, 9][random.within(0..3) as usize];
        let mut longest = self.kept.len();
        for change in &self.unsynced {
            match change {
                Change::Length(_) if lengths == 0 => return,
                Change::Length(length) => (lengths, longest) = (lengths - 1, *length),
                Change::Write { at, bytes } => longest = longest.max(at + bytes.len()),
            }
            change.carry_out_some(&mut self.kept, chance, random);
        }
        if random.once_in(2) {
            // The length is there, and the sectors are not.
            self.kept.resize(longest.max(self.kept.len()), 0);
        }
    }

    fn end(&mut self, fate: Fate, random: &mut Random) {
        let fate = if fate == Fate::Torn { Fate::any(random) } else { fate };
        match fate {
            Fate::Dropped => {}
            Fate::Kept => self.sync(),
            Fate::Torn => self.tear(random),
        }
        self.unsynced.clear();
        self.seen.clone_from(&self.kept);
    }
}

impl Disk {
    /// Makes a file.
    pub(crate) fn make(&mut self, name: &OsStr) -> Number {
        // The folder is number 1.
        self.made = self.made.max(1) + 1;
        self.files.insert(self.made, File::default());
        self.rename(vec![(name.to_owned(), Some(self.made))]);
        self.made
    }

    /// Changes names, all of these at once.
    pub(crate) fn rename(&mut self, names: Renaming) {
        apply(&mut self.names, &names);
        self.unsynced_names.push(names);
    }

    /// Syncs the folder.
    pub(crate) fn sync_names(&mut self) {
        self.unsynced_names.clear();
        self.kept_names.clone_from(&self.names);
    }

    /// What is left when the power comes back.
    pub(crate) fn cut(mut self, fate: Fate, random: &mut Random) -> Self {
        let mut dropped = BTreeSet::new();
        for names in std::mem::take(&mut self.unsynced_names) {
            let keeps = match fate {
                Fate::Dropped => false,
                Fate::Kept => true,
                // What comes after a change of the same name that was dropped would not be what was asked for.
                Fate::Torn => random.once_in(2) && !names.iter().any(|(name, _)| dropped.contains(name)),
            };
            if keeps {
                apply(&mut self.kept_names, &names);
            } else {
                dropped.extend(names.into_iter().map(|(name, _)| name));
            }
        }
        self.names.clone_from(&self.kept_names);
        let named: BTreeSet<Number> = self.names.values().copied().collect();
        self.files.retain(|number, _| named.contains(number));
        for file in self.files.values_mut() {
            file.end(fate, random);
        }
        self
    }

    /// How long each file is, by name.
    pub(crate) fn lengths(&self) -> String {
        let lengths = self.names.iter().map(|(name, number)| format!("{name:?} {}", self.files[number].seen.len()));
        lengths.collect::<Vec<_>>().join(", ")
    }

    /// Writes all files into a folder elsewhere.
    pub(crate) fn write_to(&self, folder: &std::path::Path) {
        for (name, number) in &self.names {
            std::fs::write(folder.join(name), &self.files[number].seen).unwrap();
        }
    }
}

fn apply(to: &mut BTreeMap<OsString, Number>, names: &Renaming) {
    for (name, number) in names {
        match number {
            Some(number) => to.insert(name.clone(), *number),
            None => to.remove(name),
        };
    }
}

#[test]
fn what_was_not_synced_is_dropped_or_kept() {
    let random = &mut Random::new(1, 0);
    let mut disk = Disk::default();
    let number = disk.make(OsStr::new("a"));
    disk.files.get_mut(&number).unwrap().write(0, &[1; 2000]);
    disk.files.get_mut(&number).unwrap().sync();
    assert!(disk.clone().cut(Fate::Dropped, random).names.is_empty(), "nobody synced the folder");
    disk.sync_names();
    disk.files.get_mut(&number).unwrap().write(1000, &[2; 2000]);
    disk.rename(vec![("a".into(), None), ("b".into(), Some(number))]);
    let content = |disk: &Disk, name: &str| disk.files[&disk.names[OsStr::new(name)]].seen.clone();
    let dropped = disk.clone().cut(Fate::Dropped, random);
    assert_eq!(content(&dropped, "a"), [1; 2000]);
    let kept = disk.clone().cut(Fate::Kept, random);
    assert_eq!(content(&kept, "b"), [&[1_u8; 1000][..], &[2; 2000]].concat());
    assert_eq!(kept.names.len(), 1);
}

#[test]
fn sectors_are_torn_apart_and_each_is_whole() {
    let (mut partly, mut lengths) = (0, BTreeSet::new());
    for seed in 0..200 {
        let random = &mut Random::new(seed, 0);
        let mut disk = Disk::default();
        let number = disk.make(OsStr::new("a"));
        disk.sync_names();
        let file = disk.files.get_mut(&number).unwrap();
        file.write(0, &[1; 8 * SECTOR]);
        file.sync();
        file.write(0, &[2; 16 * SECTOR]);
        file.cut(4 * SECTOR);
        file.write(4 * SECTOR, &[3; SECTOR]);
        let left = &disk.cut(Fate::Torn, random).files[&number].seen;
        for sector in left.chunks(SECTOR) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn");
        }
        partly += usize::from(left[..4 * SECTOR].contains(&1) && left[..4 * SECTOR].contains(&2));
        assert!(left.len() > 5 * SECTOR || !left[4 * SECTOR..].contains(&1), "what was cut off came back");
        lengths.insert(left.len() / SECTOR);
    }
    assert!(partly > 10, "{partly}");
    assert!(lengths.contains(&4) && lengths.contains(&5) && lengths.contains(&8) && lengths.len() > 4, "{lengths:?}");
}

#[test]
fn what_a_failed_sync_lost_no_later_sync_brings() {
    let random = &mut Random::new(1, 0);
    let mut file = File::default();
    file.write(0, &[1; 64 * SECTOR]);
    file.lose(random);
    file.sync();
    let seen = file.seen.clone();
    file.end(Fate::Kept, random);
    assert_ne!(file.seen, seen);
}
