//! `cargo xtask clean`: removes source trees that nobody needs any more. A tree takes half a gigabyte, and each change
//! of the pins makes another one.

use serde::Serialize;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use crate::{patch, source};
use sluice_shell::context::Context;
use sluice_shell::error::{Explain, Result};
use sluice_shell::output::table;

/// Removes source trees that no pins name any more; what they hold is composed again when it is needed
#[derive(clap::Args)]
pub struct Cmd {
    /// Instead those that were not used for so long, whether pins name them or not: 12h, 30d
    #[arg(long, value_name = "AGE")]
    older_than: Option<Age>,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print a report for programs
    #[arg(long)]
    json: bool,
}

/// A number of hours or days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Age(Duration);

/// The text is no age.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a number of hours or days such as 12h or 30d")]
struct NotAnAge(String);

impl Explain for NotAnAge {}

impl FromStr for Age {
    type Err = NotAnAge;

    fn from_str(text: &str) -> Result<Self, NotAnAge> {
        let hours = |number: &str, unit: u32| number.parse::<u32>().ok()?.checked_mul(unit);
        let found = match (text.strip_suffix('h'), text.strip_suffix('d')) {
            (Some(number), _) => hours(number, 1),
            (_, Some(number)) => hours(number, 24),
            _ => None,
        };
        let hours = found.ok_or_else(|| NotAnAge(text.to_owned()))?;
        Ok(Self(Duration::from_secs(u64::from(hours) * 3600)))
    }
}

#[derive(Debug, Serialize)]
struct Report {
    trees: Vec<Tree>,
}

#[derive(Debug, Serialize)]
struct Tree {
    tree: String,
    bytes: u64,
    removed: bool,
    /// Why it stays, though it may go.
    kept: Option<String>,
}

impl Cmd {
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let current = source::current(shell)?;
        let mut trees = Vec::new();
        for folder in source::trees(shell)? {
            let may_go = match self.older_than {
                Some(Age(age)) => idle(&folder)? >= age,
                None => !current.contains(&folder),
            };
            if may_go {
                trees.push(self.remove(shell, &folder)?);
            }
        }
        if self.json {
            return shell.out.json(&Report { trees });
        }
        if trees.is_empty() {
            shell.out.note("there is nothing to remove");
            return Ok(());
        }
        let mut rows = vec![["TREE", "SIZE", "WHAT"].map(String::from).to_vec()];
        for Tree { tree, bytes, removed, kept } in trees {
            let what = match kept {
                Some(why) => format!("kept: {why}"),
                None => if removed { "removed" } else { "would be removed" }.to_owned(),
            };
            rows.push(vec![tree, format!("{} MB", bytes / 1_000_000), what]);
        }
        shell.out.data(table(&rows))
    }

    /// Removes a tree, unless somebody's work is in it.
    fn remove(&self, shell: &Context, folder: &Path) -> Result<Tree> {
        let mut bytes = 0;
        for entry in walkdir::WalkDir::new(folder) {
            bytes += entry?.metadata()?.len();
        }
        let kept = patch::remove_tree(shell, folder, self.dry_run)?;
        let removed = kept.is_none() && !self.dry_run;
        Ok(Tree { tree: folder.display().to_string(), bytes, removed, kept })
    }
}

/// How long nobody has used a tree.
fn idle(folder: &Path) -> Result<Duration> {
    let used = fs_err::metadata(source::used(folder)).or_else(|_| fs_err::metadata(folder))?.modified()?;
    // A moment in the future is one of a calendar that was set: then it is new.
    Ok(SystemTime::now().duration_since(used).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (text, hours) in [
            ("12h", Some(12)),
            ("30d", Some(720)),
            ("0h", Some(0)),
            ("1", None),
            ("d", None),
            ("-1d", None),
            ("9999999999d", None),
        ] {
            let age = hours.map(|hours: u64| Age(Duration::from_secs(hours * 3600)));
            assert_eq!(text.parse::<Age>().ok(), age, "{text}");
        }
    }
}
