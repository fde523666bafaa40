//! `patches/<minor>/`: the file `series` is the only order, one patch file per line.

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::diff::Malformed;
use super::file::Patch;
use super::header;
use crate::source::Pins;
use sluice_shell::context::Context;
use sluice_shell::error::{Explain, Result};
use sluice_shell::minor::Minor;

/// Name of the file with the order.
const SERIES: &str = "series";
/// Name of the file with the pins.
const PINS: &str = "source.toml";

/// The patches of one minor, parsed.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// The folder.
    pub(super) dir: PathBuf,
    /// In the order in which they apply.
    pub(super) entries: Vec<Entry>,
    /// Comments and empty lines above the first patch in `series`.
    above: String,
}

/// One patch file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// File name.
    pub(super) name: String,
    /// The file as it is.
    pub(super) bytes: Vec<u8>,
    /// What it says.
    pub(super) patch: Patch,
    /// Comments and empty lines below it in `series`.
    pub(super) below: String,
}

/// A rule that a series breaks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Problem {
    /// File in the folder of the minor.
    pub(super) file: String,
    /// What is wrong, and how to mend it.
    pub(super) problem: String,
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
struct Unreadable {
    path: PathBuf,
    cause: Malformed,
}

impl Explain for Unreadable {
    fn hint(&self) -> Option<String> {
        Some("write patches with `cargo xtask patch new` and `cargo xtask patch refresh`".into())
    }
}

/// `series` and the folder don't say the same.
#[derive(Debug, thiserror::Error)]
pub(super) enum Mismatch {
    /// The folder has pins at most.
    #[error("there are no patches in {}", dir.display())]
    NoSeries {
        /// The folder.
        dir: PathBuf,
    },
    /// A line names no file.
    #[error("{} lists {name}, which is not there", dir.join(SERIES).display())]
    Missing {
        /// The folder.
        dir: PathBuf,
        /// The line.
        name: String,
    },
    /// Two lines name the same file.
    #[error("{} lists {name} twice, in lines {} and {}", dir.join(SERIES).display(), lines.0, lines.1)]
    Twice {
        /// The folder.
        dir: PathBuf,
        /// The file.
        name: String,
        /// The lines, from 1.
        lines: (usize, usize),
    },
    /// No line names these files.
    #[error("{} does not list what is in the folder:{}", dir.join(SERIES).display(), each_on_a_line(names))]
    Unlisted {
        /// The folder.
        dir: PathBuf,
        /// The files.
        names: Vec<String>,
    },
}

/// For the end of a sentence that names several things.
pub(super) fn each_on_a_line(names: &[String]) -> String {
    names.iter().map(|name| format!("\n  {name}")).collect()
}

impl Explain for Mismatch {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoSeries { .. } => "`cargo xtask patch list` shows the Kubernetes minors that have patches; \
                 `cargo xtask patch rebase --to MINOR` carries a series to another one"
                .into(),
            Self::Missing { dir, .. } => {
                format!("take the line out of {}, or bring the file back", dir.join(SERIES).display())
            }
            Self::Twice { .. } => "a patch can be applied only once: remove one of the lines".into(),
            Self::Unlisted { .. } => {
                "list each file at the place where the patch belongs, or move the file out of the folder: nothing was \
                 applied"
                    .into()
            }
        })
    }
}

impl Series {
    /// The series of a minor, before anything is done that takes time.
    ///
    /// # Errors
    /// The minor is not known or has no patches; those of [`Series::load`].
    pub(super) fn of(shell: &Context, minor: &Minor) -> Result<Self> {
        Pins::load(shell, minor)?;
        Self::load(&shell.paths.patches(minor))
    }

    /// Reads and parses all patches that `series` lists. Empty lines and lines that start with # are comments.
    ///
    /// # Errors
    /// A line without a file, a file without a line, a line that is there twice; a file that is no patch.
    pub(super) fn load(dir: &Path) -> Result<Self> {
        if !dir.join(SERIES).is_file() {
            return Err(Mismatch::NoSeries { dir: dir.to_owned() }.into());
        }
        let series = Self::parse(dir, &fs_err::read_to_string(dir.join(SERIES))?, |name| {
            let path = dir.join(name);
            if name.contains('/') || !path.is_file() { Ok(None) } else { Ok(Some(fs_err::read(path)?)) }
        })?;
        let mut names = patch_files(dir)?;
        names.retain(|name| !series.entries.iter().any(|entry| entry.name == *name));
        if names.is_empty() { Ok(series) } else { Err(Mismatch::Unlisted { dir: dir.to_owned(), names }.into()) }
    }

    /// Parses the text of `series` and the files that it lists, as `read` gives them.
    pub(super) fn parse(dir: &Path, list: &str, read: impl Fn(&str) -> Result<Option<Vec<u8>>>) -> Result<Self> {
        let (mut above, mut entries, mut seen) = (String::new(), Vec::<Entry>::new(), BTreeMap::new());
        for (index, name) in list.lines().map(str::trim).enumerate() {
            if name.is_empty() || name.starts_with('#') {
                let remarks = entries.last_mut().map_or(&mut above, |entry| &mut entry.below);
                remarks.push_str(&format!("{name}\n"));
                continue;
            }
            if let Some(first) = seen.insert(name, index + 1) {
                let lines = (first, index + 1);
                return Err(Mismatch::Twice { dir: dir.to_owned(), name: name.to_owned(), lines }.into());
            }
            let Some(bytes) = read(name)? else {
                return Err(Mismatch::Missing { dir: dir.to_owned(), name: name.to_owned() }.into());
            };
            let patch = Patch::parse(&bytes).map_err(|cause| Unreadable { path: dir.join(name), cause })?;
            entries.push(Entry { name: name.to_owned(), bytes, patch, below: String::new() });
        }
        Ok(Self { dir: dir.to_owned(), entries, above })
    }

    /// Like [`Series::load`], but a folder without `series` is one without patches.
    pub(super) fn load_or_empty(dir: &Path) -> Result<Self> {
        if dir.join(SERIES).exists() {
            return Self::load(dir);
        }
        Ok(Self { dir: dir.to_owned(), entries: Vec::new(), above: String::new() })
    }

    /// sha256 (hex) of names, order and contents.
    pub(super) fn digest(&self) -> String {
        let mut sum = Sha256::new();
        for entry in &self.entries {
            sum.update(format!("{}\0{}\0", entry.name, entry.bytes.len()));
            sum.update(&entry.bytes);
        }
        hex(&sum.finalize())
    }

    /// Which house rules the series breaks; see patches in STYLE and CONTRIBUTING.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |file: &str, problem: String| problems.push(Problem { file: file.to_owned(), problem });
        for entry in &self.entries {
            let named = entry.patch.file_name();
            if named != entry.name {
                add(&entry.name, format!("the subject {:?} makes the file name {named}", entry.patch.subject));
            }
            if entry.patch.files.is_empty() {
                add(&entry.name, "changes nothing".into());
            }
            if entry.patch.to_bytes() != entry.bytes {
                let line = first_difference(&entry.patch.to_bytes(), &entry.bytes);
                add(
                    &entry.name,
                    format!("line {line} is not in the form that we write; run `cargo xtask patch refresh`"),
                );
            }
            for problem in header::problems(&entry.patch) {
                add(&entry.name, problem);
            }
        }
        problems
    }

    /// Makes the folder hold exactly these patches, in this order. Files that have the right bytes are not touched.
    /// So is source.toml, where there are new `pins`. Every new file is complete on the disk before the first one takes
    /// its place.
    pub(super) fn replace(&self, entries: &[(String, Vec<u8>)], pins: Option<&Pins>) -> Result<Vec<Change>> {
        let mut files: Vec<(&str, Vec<u8>)> =
            entries.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
        if let Some(pins) = pins {
            files.push((PINS, pins.text()?.into_bytes()));
        }
        let same = self.dir.join(SERIES).exists()
            && self.entries.iter().map(|entry| &entry.name).eq(entries.iter().map(|(name, _)| name));
        if !same {
            files.push((SERIES, self.list(entries).into_bytes()));
        }
        let (mut staged, mut changes) = (Vec::new(), Vec::new());
        for (name, bytes) in files {
            let path = self.dir.join(name);
            let before = if path.exists() { Some(fs_err::read(&path)?) } else { None };
            if before.as_deref() == Some(&bytes) {
                continue;
            }
            let temporary = self.dir.join(format!(".{name}.new"));
            fs_err::write(&temporary, bytes)?;
            changes.push(Change { file: name.to_owned(), change: if before.is_some() { "changed" } else { "new" } });
            staged.push((temporary, path));
        }
        for (temporary, path) in staged {
            fs_err::rename(temporary, path)?;
        }
        for old in self.entries.iter().filter(|old| !entries.iter().any(|(name, _)| *name == old.name)) {
            if self.dir.join(&old.name).exists() {
                fs_err::remove_file(self.dir.join(&old.name))?;
                changes.push(Change { file: old.name.clone(), change: "removed" });
            }
        }
        Ok(changes)
    }

    /// The text of `series` for these patches. Comments and empty lines stay below the patch that they are below; those
    /// of a patch that is gone go to the one above it.
    pub(super) fn list(&self, entries: &[(String, Vec<u8>)]) -> String {
        let (mut list, mut last, mut below) = (self.above.clone(), None, BTreeMap::<_, String>::new());
        for old in &self.entries {
            last = entries.iter().map(|(name, _)| name).find(|name| **name == old.name).or(last);
            last.map_or(&mut list, |name| below.entry(name).or_default()).push_str(&old.below);
        }
        for (name, _) in entries {
            list.push_str(&format!("{name}\n{}", below.get(name).map_or("", String::as_str)));
        }
        list
    }
}

/// The files of a folder that may be patches, sorted.
fn patch_files(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = name == SERIES || Path::new(&name).extension().is_some_and(|extension| extension == "toml");
        if !known && !name.starts_with('.') && !entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// What happened to a file of the series.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Change {
    /// File name.
    pub(super) file: String,
    /// `new`, `changed` or `removed`.
    pub(super) change: &'static str,
}

/// Line (from 1) where two texts part.
fn first_difference(a: &[u8], b: &[u8]) -> usize {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    a[..same].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
