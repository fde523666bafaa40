//! The git repository around a composed tree.
//!
//! The user's git configuration must not matter: blobs are written from the bytes on disk, and the repository's own
//! configuration and attributes override what changes content (line endings, filters), ignores files or runs programs.

use git2::{
    IndexEntry, IndexTime, Oid, Repository as Git, RepositoryInitOptions, Signature, Status, StatusOptions, Time,
};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

use sluice_shell::error::{Error, Explain, Result};

/// The branch of the untouched source.
const BASE: &str = "refs/heads/base";
/// The branch that takes patches and edits.
const WORK: &str = "refs/heads/sluice";
/// Who "wrote" the base commit: nobody, so that its id depends on the source alone.
const AUTHOR: (&str, &str) = ("Kubernetes source", "source@sluice.invalid");

/// A composed tree and its repository.
pub(crate) struct Repository {
    git: Git,
}

/// A difference between the tree and its last commit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    what: &'static str,
    path: String,
}

impl Change {
    /// The repository itself is damaged.
    pub(crate) fn unreadable(place: &Path) -> Self {
        Self { what: "unreadable", path: place.join(".git").display().to_string() }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.path)
    }
}

/// The person's own git works in the tree.
#[derive(Debug, thiserror::Error)]
#[error("git is at work in {} (process {pid})", place.display())]
struct AtWork {
    place: PathBuf,
    pid: i32,
}

impl Explain for AtWork {
    fn hint(&self) -> Option<String> {
        Some("let it come to its end (it may wait for an editor), and run the command again".into())
    }
}

impl Repository {
    /// The repository of the tree at `place`; none if there is no such tree or it is no repository (any more).
    pub(crate) fn open(place: &Path) -> Result<Option<Self>> {
        if !place.join(".git").is_dir() {
            return Ok(None);
        }
        match Git::open(place) {
            Ok(git) => Ok(Some(Self { git })),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the folder a repository with one commit of everything in it. Returns the commit's id.
    pub(crate) fn create(folder: &Path, message: &str, seconds: i64) -> Result<String> {
        let git = Git::init_opts(folder, RepositoryInitOptions::new().external_template(false).initial_head(WORK))?;
        isolate(&git, folder)?;
        add_all(&git, folder)?;
        let mut index = git.index()?;
        let tree = git.find_tree(index.write_tree()?)?;
        index.write()?;
        let who = Signature::new(AUTHOR.0, AUTHOR.1, &Time::new(seconds, 0))?;
        let commit = git.commit(Some(BASE), &who, &who, message, &tree, &[])?;
        git.reference(WORK, commit, true, "start of the patches")?;
        git.set_head(WORK)?;
        Ok(commit.to_string())
    }

    /// Commit id of the untouched source.
    pub(crate) fn base(&self) -> Result<String> {
        Ok(self.git.find_reference(BASE)?.peel_to_commit()?.id().to_string())
    }

    /// What differs from the last commit, in the index or on disk; ignored files count.
    pub(crate) fn changes(&self) -> Result<Vec<Change>> {
        self.git.head()?.peel_to_commit()?;
        let mut options = StatusOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(false).include_ignored(true).update_index(true);
        let statuses = self.git.statuses(Some(&mut options))?;
        let changed = statuses.iter().filter(|entry| entry.status() != Status::CURRENT).map(|entry| {
            let status = entry.status();
            let what = if status.intersects(Status::WT_NEW | Status::INDEX_NEW | Status::IGNORED) {
                "added"
            } else if status.intersects(Status::WT_DELETED | Status::INDEX_DELETED) {
                "removed"
            } else {
                "changed"
            };
            Change { what, path: String::from_utf8_lossy(entry.path_bytes()).into_owned() }
        });
        Ok(changed.collect())
    }

    /// Makes index and files those of the last commit and removes everything else.
    pub(crate) fn restore(&self) -> Result<()> {
        let mut options = git2::build::CheckoutBuilder::new();
        options.force().remove_untracked(true).remove_ignored(true).disable_filters(true);
        let head = self.git.head()?.peel_to_commit()?;
        self.git.reset(head.as_object(), git2::ResetType::Mixed, None)?;
        Ok(self.git.checkout_tree(head.as_object(), Some(&mut options))?)
    }

    /// Writes what differs from the last commit as one diff to a new file `<folder>/<name>-<n>.patch`; ignored files
    /// too, since [`Repository::restore`] removes them.
    pub(crate) fn save_edits(&self, folder: &Path, name: &str) -> Result<Option<PathBuf>> {
        let last = self.git.head()?.peel_to_tree()?;
        // A diff has no content of ignored files. The rule goes before those of .gitignore; git takes it only after one
        // that it takes back.
        self.git.add_ignore_rule("*\n!*\n")?;
        let mut options = git2::DiffOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true).show_untracked_content(true).show_binary(true);
        let diff = self.git.diff_tree_to_workdir_with_index(Some(&last), Some(&mut options))?;
        let mut text = Vec::new();
        diff.print(git2::DiffFormat::Patch, |_, _, line| {
            if matches!(line.origin(), '+' | '-' | ' ') {
                text.push(line.origin() as u8);
            }
            text.extend_from_slice(line.content());
            true
        })?;
        if text.is_empty() {
            return Ok(None);
        }
        fs_err::create_dir_all(folder)?;
        let free = (1..).map(|number| folder.join(format!("{name}-{number}.patch"))).find(|path| !path.exists());
        let file = free.ok_or_else(|| Error::input("no free file name"))?;
        fs_err::write(&file, text)?;
        Ok(Some(file))
    }
}

/// Removes git's lock files from the tree at `place`. The caller holds the lock of all trees, so they are of a run that
/// was killed, unless somebody's git runs there.
///
/// # Errors
/// [`AtWork`] if one does.
pub(crate) fn unlock(place: &Path) -> Result<()> {
    let git = place.join(".git");
    let top = ["index.lock", "HEAD.lock", "config.lock", "packed-refs.lock"].map(|name| git.join(name));
    let below = WalkDir::new(git.join("refs")).into_iter().filter_map(|entry| Some(entry.ok()?.into_path()));
    let is_lock = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "lock");
    let locks: Vec<PathBuf> = top.into_iter().filter(|path| path.exists()).chain(below.filter(is_lock)).collect();
    if locks.is_empty() {
        return Ok(());
    }
    if let Some(pid) = git_in(place) {
        return Err(AtWork { place: place.to_owned(), pid }.into());
    }
    for lock in locks {
        fs_err::remove_file(lock)?;
    }
    Ok(())
}

/// The number of a git process whose folder is in the tree.
fn git_in(place: &Path) -> Option<i32> {
    let place = fs_err::canonicalize(place).ok()?;
    fs_err::read_dir("/proc").ok()?.find_map(|entry| {
        let process = entry.ok()?.path();
        let pid = process.file_name()?.to_str()?.parse().ok()?;
        let name = fs_err::read_to_string(process.join("comm")).ok()?;
        let inside = fs_err::read_link(process.join("cwd")).ok()?.starts_with(&place);
        (inside && name.starts_with("git")).then_some(pid)
    })
}

/// Settings of the repository that win over the user's.
fn isolate(git: &Git, folder: &Path) -> Result<()> {
    let mut config = git.config()?;
    for (name, value) in [
        ("core.autocrlf", "false"),
        ("core.safecrlf", "false"),
        ("core.excludesFile", "/dev/null"),
        ("core.attributesFile", "/dev/null"),
        ("core.hooksPath", "/dev/null"),
        ("core.fsmonitor", "false"),
        ("core.quotePath", "true"),
        ("core.fileMode", "true"),
        ("core.symlinks", "true"),
        ("core.ignoreCase", "false"),
        ("core.precomposeUnicode", "false"),
        ("commit.gpgSign", "false"),
        ("tag.gpgSign", "false"),
        ("gc.auto", "0"),
    ] {
        config.set_str(name, value)?;
    }
    // Wins over every .gitattributes in the tree: upstream has `* text=auto eol=lf` and golden files with CRLF.
    let info = folder.join(".git/info");
    fs_err::create_dir_all(&info)?;
    fs_err::write(info.join("attributes"), "* -text -eol -filter -ident -working-tree-encoding\n")?;
    Ok(())
}

/// Puts every file into the index, ignored ones too, with the stat that makes the next status cheap.
fn add_all(git: &Git, folder: &Path) -> Result<()> {
    let mut index = git.index()?;
    let walk = WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| entry.depth() > 1 || entry.file_name() != ".git") {
        let entry = entry?;
        let meta = entry.metadata()?;
        let (mode, blob) = if meta.is_dir() {
            continue;
        } else if meta.is_symlink() {
            (0o120_000, git.blob(fs_err::read_link(entry.path())?.as_os_str().as_bytes())?)
        } else {
            let mode = if meta.mode() & 0o111 == 0 { 0o100_644 } else { 0o100_755 };
            (mode, git.blob(&fs_err::read(entry.path())?)?)
        };
        let name = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        index.add(&index_entry(name, mode, blob, &meta))?;
    }
    index.write()?;
    Ok(())
}

/// As git fills it in from lstat(2); git keeps the low 32 bits only.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the index format has 32 bits for each")]
fn index_entry(name: &Path, mode: u32, blob: Oid, meta: &std::fs::Metadata) -> IndexEntry {
    IndexEntry {
        ctime: IndexTime::new(meta.ctime() as i32, meta.ctime_nsec() as u32),
        mtime: IndexTime::new(meta.mtime() as i32, meta.mtime_nsec() as u32),
        dev: meta.dev() as u32,
        ino: meta.ino() as u32,
        mode,
        uid: meta.uid(),
        gid: meta.gid(),
        file_size: meta.size() as u32,
        id: blob,
        flags: 0,
        flags_extended: 0,
        path: name.as_os_str().as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> (tempfile::TempDir, Repository) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, content).unwrap();
        };
        write(".gitattributes", "* text=auto eol=lf\n");
        write(".gitignore", "*.test\n/kubernetes/\n");
        write("a/golden.txt", "one\r\ntwo\r\n");
        write("a/ignored.test", "swallowed by nobody\n");
        write("kubernetes/b.go", "package b\n");
        fs_err::os::unix::fs::symlink("a/golden.txt", folder.path().join("link")).unwrap();
        Repository::create(folder.path(), "Kubernetes v0\n", 1_000_000_000).unwrap();
        let repository = Repository::open(folder.path()).unwrap().unwrap();
        (folder, repository)
    }

    #[test]
    fn the_commit_holds_every_byte_and_its_id_is_the_contents() {
        let ((folder, one), (_other, two)) = (tiny(), tiny());
        assert_eq!(one.base().unwrap(), two.base().unwrap());
        assert_eq!(one.changes().unwrap(), []);
        let tree = one.git.find_reference(BASE).unwrap().peel_to_tree().unwrap();
        for name in ["a/golden.txt", "a/ignored.test", "kubernetes/b.go"] {
            let blob = tree.get_path(Path::new(name)).unwrap().to_object(&one.git).unwrap().peel_to_blob().unwrap();
            assert_eq!(blob.content(), fs_err::read(folder.path().join(name)).unwrap(), "{name}");
        }
        assert_eq!(tree.get_path(Path::new("link")).unwrap().filemode(), 0o120_000);
    }

    #[test]
    fn every_kind_of_change_is_seen_saved_and_undone() {
        let ((folder, repository), saved_in) = (tiny(), tempfile::tempdir().unwrap());
        fs_err::write(folder.path().join("a/golden.txt"), "one\ntwo\n").unwrap();
        fs_err::remove_file(folder.path().join("kubernetes/b.go")).unwrap();
        fs_err::write(folder.path().join("new.go"), "package new\n").unwrap();
        fs_err::create_dir_all(folder.path().join(".idea")).unwrap();
        fs_err::write(folder.path().join(".idea/x.test"), "").unwrap();
        fs_err::write(folder.path().join("a/mine.test"), "ignored\n").unwrap();
        fs_err::write(folder.path().join("kubernetes/mine.go"), "package mine\n").unwrap();
        let mut changes: Vec<String> = repository.changes().unwrap().iter().map(Change::to_string).collect();
        changes.sort();
        // git does not look for more in an ignored folder of which it has files.
        assert_eq!(changes[..3], ["added .idea/", "added a/mine.test", "added new.go"]);
        assert_eq!(changes[3..], ["changed a/golden.txt", "removed kubernetes/b.go"]);

        let saved = repository.save_edits(saved_in.path(), "edits").unwrap().unwrap();
        let text = fs_err::read_to_string(&saved).unwrap();
        assert!(
            ["+package new\n", "+ignored\n", "+package mine\n", ".idea/x.test"].iter().all(|line| text.contains(line)),
            "{text}"
        );
        assert!(text.contains("-package b") && text.contains("-two\r\n+one\n"), "{text}");

        repository.restore().unwrap();
        assert_eq!(repository.changes().unwrap(), []);
        assert_eq!(fs_err::read(folder.path().join("a/golden.txt")).unwrap(), b"one\r\ntwo\r\n");
    }

    #[test]
    fn a_damaged_repository_is_not_a_tree() {
        let (folder, repository) = tiny();
        drop(repository);
        fs_err::remove_file(folder.path().join(".git/HEAD")).unwrap();
        assert!(Repository::open(folder.path()).unwrap().is_none());
    }
}
