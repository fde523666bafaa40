//! `patch export`: the series for those who build Kubernetes with other tools.

use std::path::{Path, PathBuf};

use super::engine;
use super::series::Series;
use super::tree::WorkTree;
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};
use sluice_shell::minor::Minor;

/// Writes the series for other tools
#[derive(clap::Args)]
pub(super) struct Cmd {
    #[command(flatten)]
    target: Target,
    /// quilt: `series` and one patch per file; git: numbered mails for `git am`; single: one diff for `patch -p1` or
    /// `git apply`
    #[arg(long, value_enum, default_value_t = Format::Git)]
    format: Format,
    /// Folder to write to; must be empty or new
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Forms of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A folder `patches/` as quilt reads it.
    Quilt,
    /// Numbered files for `git am *.patch`.
    Git,
    /// One file.
    Single,
}

impl Cmd {
    pub(super) fn run(self, shell: &Context) -> Result<()> {
        let series = Series::of(shell, &self.target.k8s)?;
        let fetched = self.target.open(shell)?;
        let tree = WorkTree::open(shell, &fetched)?;
        let files = export(&tree, &series, &fetched.minor, &fetched.version, self.format)?;
        write(&self.out, &files)?;
        shell.out.note(format!("wrote {} files to {}", files.len(), self.out.display()));
        shell.out.data(
            files.iter().map(|(name, _)| self.out.join(name).display().to_string()).collect::<Vec<_>>().join("\n"),
        )
    }
}

/// The series in all forms, for a release, with the pins of the source that they are for.
pub(crate) fn exported(shell: &Context, target: &Target) -> Result<Vec<(String, Vec<u8>)>> {
    let series = Series::of(shell, &target.k8s)?;
    let fetched = target.open(shell)?;
    let mut files = all_forms(&WorkTree::open(shell, &fetched)?, &series, &fetched.minor, &fetched.version)?;
    files.push(("source.toml".to_owned(), fs_err::read(shell.paths.pins(&target.k8s))?));
    Ok(files)
}

/// A folder for quilt, a mailbox for `git am`, one diff.
pub(super) fn all_forms(
    tree: &WorkTree,
    series: &Series,
    minor: &Minor,
    version: &str,
) -> Result<Vec<(String, Vec<u8>)>> {
    let files = |format| export(tree, series, minor, version, format);
    let quilt = files(Format::Quilt)?.into_iter().map(|(name, bytes)| (name.replacen("patches", "quilt", 1), bytes));
    let mails = files(Format::Git)?.into_iter().flat_map(|(_, bytes)| bytes);
    let mailbox = (format!("sluice-{minor}.mbox"), mails.collect());
    Ok(quilt.chain([mailbox]).chain(files(Format::Single)?).collect())
}

/// Names and contents. They depend on the patches and the source alone, not on the time, the machine, or settings of
/// git.
pub(super) fn export(
    tree: &WorkTree,
    series: &Series,
    minor: &Minor,
    version: &str,
    format: Format,
) -> Result<Vec<(String, Vec<u8>)>> {
    let patches = series.entries.iter().map(|entry| (entry.name.as_str(), &entry.patch));
    let steps = engine::commit_series(&tree.repo, tree.base, patches)?;
    let mut files = Vec::new();
    if format == Format::Single {
        let head = steps.last().map_or(tree.base, |step| step.commit);
        let (old, new) = (tree.repo.find_commit(tree.base)?.tree()?, tree.repo.find_commit(head)?.tree()?);
        let mut text = format!("Sluice's patches for Kubernetes {version}, as one:\n").into_bytes();
        for entry in &series.entries {
            text.extend(format!("  {}\n", entry.patch.subject).bytes());
        }
        text.push(b'\n');
        for file in engine::differences(&tree.repo, &old, &new)? {
            file.write(&mut text);
        }
        return Ok(vec![(format!("sluice-{minor}.patch"), text)]);
    }
    for (number, (entry, step)) in series.entries.iter().zip(steps).enumerate() {
        // From the commit, not from the file: line numbers are those of this very source.
        let bytes = engine::to_patch(&tree.repo, step.commit)?.to_bytes();
        let name = match format {
            Format::Git => format!("{:04}-{}", number + 1, entry.name),
            _ => format!("patches/{}", entry.name),
        };
        files.push((name, bytes));
    }
    if format == Format::Quilt {
        let list: String = series.entries.iter().map(|entry| format!("{} -p1\n", entry.name)).collect();
        files.push(("patches/series".into(), list.into_bytes()));
    }
    Ok(files)
}

fn write(out: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    if out.exists() && fs_err::read_dir(out)?.next().is_some() {
        // A file of an older series left in the folder would be applied too.
        return Err(Error::input(format!("{} is not empty: choose a new folder for --out", out.display())));
    }
    for (name, bytes) in files {
        let path = out.join(name);
        if let Some(folder) = path.parent() {
            fs_err::create_dir_all(folder)?;
        }
        fs_err::write(path, bytes)?;
    }
    Ok(())
}
