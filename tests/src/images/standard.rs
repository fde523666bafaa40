//! A release by the tools of others: the commands of docs/release.md, and skopeo. They accept it, and refuse it when a
//! bit of it is flipped. `verify-release` does the same.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::Value;
use sluice_shell::error::Result;
use sluice_shell::platform::Platform;
use sluice_shell::process::Run;
use sluice_toolkit::build::Program;
use sluice_toolkit::cluster::wait::ensure;

/// The name that the commands of the documentation have for the folder in the archive.
const DOCUMENTED: &str = "sluice-v1.37.2+sluice.1";

/// A release on the disk, as whoever takes it has it: the archive, and what comes out of it.
pub(super) struct Taken {
    archive: PathBuf,
    /// The folder of the archive holds this one, and `keys`.
    pub(super) unpacked: PathBuf,
    commands: Vec<String>,
    verify: Run,
}

impl Taken {
    /// Unpacks `archive` with the commands of the documentation in the workspace `root`. `verify` takes a path.
    pub(super) fn new(root: &Path, archive: &Path, keys: &Path, verify: Run) -> Result<Self> {
        let (folder, name) = (archive.parent().unwrap_or(root), archive.file_name().unwrap_or_default());
        let name = name.to_string_lossy();
        let top = name.strip_suffix(".tar.zst").unwrap_or_default();
        fs::os::unix::fs::symlink(keys, folder.join("keys"))?;
        let text = fs::read_to_string(root.join("docs/release.md"))?;
        let marked = text.split("<!-- commands -->").nth(1).and_then(|it| it.split("<!-- end of commands -->").next());
        let lines = marked.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("$ "));
        let commands: Vec<_> = lines.map(|line| line.replace(DOCUMENTED, top)).collect();
        let taken = Self { archive: archive.to_owned(), unpacked: folder.join(top), commands, verify };
        ensure(taken.commands.iter().any(|line| line.contains(top)), || format!("no commands: {:?}", taken.commands))?;
        taken.script(folder, &taken.commands).run()?;
        Ok(taken)
    }

    /// What the release says of itself.
    pub(super) fn description(&self) -> Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(self.unpacked.join("release.json"))?)?)
    }

    /// Both kinds of tools accept the release, and find each flipped bit.
    pub(super) fn is_accepted_and_refused(&self) -> Result<()> {
        self.verify(&self.archive).run()?;
        self.verify(&self.unpacked).run()?;
        self.images_are_read()?;

        let [outside, inside] = self.parts();
        let folder = self.archive.parent().unwrap_or(&self.archive);
        let name = self.archive.file_name().unwrap_or_default().to_string_lossy();
        self.flipped(&self.archive, &self.archive, &self.script(folder, outside), &name)?;
        let mut files = vec!["SHA256SUMS".to_owned(), "provenance.dsse.json".to_owned()];
        files.extend(Platform::ALL.map(|it| format!("bin/linux-{}/{}", it.arch(), Program::SluiceShim.name())));
        for name in files {
            let theirs = self.script(&self.unpacked, inside);
            self.flipped(&self.unpacked.join(&name), &self.unpacked, &theirs, &name)?;
        }
        // The statement alone, without the digests.
        let alone = inside.iter().position(|line| line.starts_with("sed ")).unwrap_or_default();
        let theirs = self.script(&self.unpacked, &inside[alone..]);
        self.flipped(&self.unpacked.join("provenance.dsse.json"), &self.unpacked, &theirs, "provenance.dsse.json")?;
        self.verify(&self.unpacked).run()
    }

    /// The first command, and those in the folder.
    fn parts(&self) -> [&[String]; 2] {
        let entered = self.commands.iter().position(|line| line.starts_with("cd ")).unwrap_or_default();
        [&self.commands[..1], &self.commands[entered + 1..]]
    }

    fn script(&self, folder: &Path, commands: &[String]) -> Run {
        Run::new("sh", folder).arg("-c").arg(format!("set -eu\n{}\n", commands.join("\n")))
    }

    fn verify(&self, path: &Path) -> Run {
        self.verify.clone().arg(path)
    }

    /// With a bit in the middle of `file` flipped `verify-release` refuses `whole` and says why, and so do the tools of
    /// others.
    fn flipped(&self, file: &Path, whole: &Path, theirs: &Run, named: &str) -> Result<()> {
        let bytes = fs::read(file)?;
        let mut bad = bytes.clone();
        bad[bytes.len() / 2] ^= 1;
        fs::write(file, bad)?;
        let ours = self.verify(whole).outcome()?;
        ensure(ours.status.code() == Some(1) && ours.stderr.contains(named), || format!("{named}: {ours:?}"))?;
        let theirs = theirs.outcome()?;
        ensure(!theirs.status.success(), || format!("with a flipped bit, {named}: {theirs:?}"))?;
        Ok(fs::write(file, bytes)?)
    }

    /// skopeo copies each image, which compares the digests of all blobs.
    fn images_are_read(&self) -> Result<()> {
        let images = self.description()?["images"].as_array().cloned().unwrap_or_default();
        ensure(!images.is_empty(), || "the release has no images".to_owned())?;
        let copies = tempfile::tempdir_in(self.archive.parent().unwrap_or(&self.archive))?;
        for image in images {
            let reference = image["reference"].as_str().unwrap_or_default();
            let tag = reference.rsplit(':').next().unwrap_or_default();
            let layout = image["layout"].as_str().unwrap_or_default();
            let (from, to) = (format!("oci:{layout}:{tag}"), copies.path().join(layout.replace('/', "_")));
            let skopeo = Run::new("skopeo", &self.unpacked).args(["--insecure-policy", "copy", "--all", "--quiet"]);
            skopeo.arg(from).arg(format!("dir:{}", to.display())).run()?;
            let index = sha256(&to.join("manifest.json"))?;
            let same = image["digest"].as_str() == Some(index.as_str());
            ensure(same, || format!("{reference} is {index} for skopeo"))?;
        }
        Ok(())
    }
}

fn sha256(file: &Path) -> Result<String> {
    let said = Run::new("sha256sum", "/").arg(file).read()?;
    Ok(format!("sha256:{}", said.split(' ').next().unwrap_or_default()))
}
