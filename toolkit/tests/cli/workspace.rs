//! A workspace in a temporary folder, and the environment of a user who likes to configure git.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Git settings that would change a tree, if they had a say.
const GITCONFIG: &str = "[core]
\tautocrlf = true
\tsafecrlf = true
\teol = crlf
\texcludesFile = ~/ignore
\tattributesFile = ~/attributes
\thooksPath = ~/hooks
\tquotePath = false
\tfileMode = false
\tsymlinks = false
[commit]
\tgpgSign = true
[init]
\tdefaultBranch = trunk
\ttemplateDir = ~/template
[diff]
\tnoprefix = true
";

/// Removes itself at the end.
pub(crate) struct Workspace {
    dir: tempfile::TempDir,
}

impl Workspace {
    /// With an empty contract and no minors.
    pub(crate) fn new() -> Self {
        let workspace = Self { dir: tempfile::tempdir().unwrap() };
        workspace.write("patches/contract.toml", "");
        workspace.write("home/.gitconfig", GITCONFIG);
        workspace.write("home/ignore", "*\n");
        workspace.write("home/attributes", "* text eol=crlf filter=rot13\n");
        workspace.write("home/template/info/attributes", "* text eol=crlf\n");
        workspace
    }

    /// A path in the workspace.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file in the workspace, with its folders.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(path, content).unwrap();
    }

    /// Exit code, stdout and stderr of a command, with paths, times and hashes replaced.
    pub(crate) fn xtask(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let text = format!(
            "exit code: {}\n----- stdout -----\n{}----- stderr -----\n{}",
            output.status.code().unwrap(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let text = text.replace(self.dir.path().to_str().unwrap(), "[ROOT]");
        let mut words = Vec::new();
        for word in text.split_inclusive([' ', '\n', '/']) {
            words.push(if word.starts_with('(') && word.trim_end().parse_seconds() {
                "([TIME] ".into()
            } else {
                word.to_owned()
            });
        }
        words.concat().replace("([TIME] s)", "[TIME]")
    }

    /// stdout of a command that must succeed.
    pub(crate) fn stdout(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn output(&self, args: &[&str]) -> std::process::Output {
        self.command(args).output().unwrap()
    }

    /// A command that is not started yet.
    #[expect(clippy::disallowed_types, reason = "the wrapper is part of what is tested")]
    pub(crate) fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sluice-toolkit"));
        for name in ["SLUICE_CACHE", "CARGO_MANIFEST_DIR", "SOURCE_DATE_EPOCH", "GOFLAGS"] {
            command.env_remove(name);
        }
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("HOME", self.path("home"))
            .env("CI", "1")
            .env("NO_COLOR", "1");
        command.env("GOPROXY", format!("file://{}", self.path("proxy").display())).env("GOSUMDB", "off");
        command.env("GOMODCACHE", self.path("modules")).env("GOCACHE", self.path("go-cache")).env("GOTELEMETRY", "off");
        command
    }
}

trait ParseSeconds {
    fn parse_seconds(&self) -> bool;
}

impl ParseSeconds for str {
    /// `(0.1` of `(0.1 s)`.
    fn parse_seconds(&self) -> bool {
        self.trim_start_matches('(').parse::<f64>().is_ok()
    }
}

impl Drop for Workspace {
    /// Go makes its module cache read-only.
    fn drop(&mut self) {
        for entry in WalkDir::new(self.path("modules")).into_iter().flatten() {
            if entry.file_type().is_dir() {
                let _ = fs_err::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o755));
            }
        }
    }
}

/// Everything below `folder` but `.git`: name, executable or not, content.
pub(crate) fn files(folder: &Path) -> Vec<(String, bool, Vec<u8>)> {
    let walk = WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(|entry| entry.file_name() != ".git");
    let files = walk.map(Result::unwrap).filter(|entry| !entry.file_type().is_dir());
    let file = |entry: walkdir::DirEntry| {
        let name = entry.path().strip_prefix(folder).unwrap().display().to_string();
        if entry.file_type().is_symlink() {
            return (name, false, fs_err::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes());
        }
        let executable = entry.metadata().unwrap().permissions().mode() & 0o111 != 0;
        (name, executable, fs_err::read(entry.path()).unwrap())
    };
    files.map(file).collect()
}
