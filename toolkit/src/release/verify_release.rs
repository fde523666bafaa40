//! The verb `verify-release`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::keys::PublicKeys;
use super::problem::Problem;
use super::publish::Published;
use super::verify::{self, Verdict};
use super::{refuse, scratch};
use crate::images::Reference;
use crate::registry::{Access, Registry};
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};

/// Checks a release: every digest, and with `--key` the signatures; names what was changed
#[derive(clap::Args)]
pub struct Verify {
    /// The folder of a release, its archive (.tar.zst), or the place in a registry that `release --push` was told, with
    /// the version as tag
    #[arg(value_name = "PATH|REGISTRY/PATH:TAG")]
    release: String,
    /// A folder with the public keys minisign.pub and ecdsa.pub, from another source than the release
    #[arg(long, value_name = "DIR")]
    key: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
    /// Print a report in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    whole: bool,
    version: Option<&'a str>,
    signatures_checked: bool,
    problems: &'a [Problem],
}

impl Verify {
    /// Checks the release; problems are the input's fault.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let keys = self.key.as_ref().map(|folder| PublicKeys::load(folder)).transpose()?;
        let verdict = self.verdict(shell, keys.as_ref())?;
        let version = verdict.description.as_ref().map(|description| description.version.as_str());
        if self.json {
            let problems = &verdict.problems;
            let whole = problems.is_empty();
            shell.out.json(&Report { whole, version, signatures_checked: keys.is_some(), problems })?;
        }
        let version = version.unwrap_or_default().to_owned();
        refuse(&self.release, verdict.problems)?;
        let signatures = match (keys.is_some(), verdict.description.is_some_and(|it| it.signed)) {
            (true, _) => "its signatures are those of the keys",
            (false, true) => "its signatures were not checked: --key DIR does",
            (false, false) => "it is not signed",
        };
        if self.json { Ok(()) } else { shell.out.data(format!("{version}: whole; {signatures}")) }
    }

    fn verdict(&self, shell: &Context, keys: Option<&PublicKeys>) -> Result<Verdict> {
        let path = Path::new(&self.release);
        if !path.exists()
            && let Some(at) = reference(&self.release)?
        {
            let name = at.repository().split('/').next().unwrap_or_default();
            let registry = Registry::open(name, &self.access)?;
            let scratch = scratch(shell)?;
            let progress = shell.out.spinner("fetch");
            let say = |what| progress.now(what);
            let verdict = Published { at: &at, registry: &registry, keys, say: &say }.check(scratch.path())?;
            progress.done("");
            return Ok(verdict);
        }
        self.access.only_with("a release in a registry")?;
        match fs_err::metadata(path)?.is_dir() {
            true => verify::folder(path, keys),
            false => verify::archive(path, keys, scratch(shell)?.path()),
        }
    }
}

/// What is no file may be a place in a registry: then its first part is a host.
fn reference(text: &str) -> Result<Option<Reference>> {
    let Some((host, rest)) = text.split_once('/') else { return Ok(None) };
    if Reference::new(&format!("{host}/x"), "x").is_err() {
        return Ok(None);
    }
    let Some((path, tag)) = rest.split_once(':') else {
        return Err(Error::input(format!(
            "{text} names no release: its version follows, as in {text}:v1.37.2_sluice.1"
        )));
    };
    Ok(Some(Reference::new(&format!("{host}/{path}"), tag)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_host_is_a_path() {
        for (text, expected) in [
            ("ghcr.io/sluice-project:v1.37.2_sluice.1", Ok(Some("ghcr.io/sluice-project:v1.37.2_sluice.1"))),
            ("127.0.0.1:5000/a/b:v1", Ok(Some("127.0.0.1:5000/a/b:v1"))),
            ("localhost/a:v1", Ok(Some("localhost/a:v1"))),
            ("out/release/v1.37.2+sluice.1", Ok(None)),
            ("./v1.tar.zst", Ok(None)),
            ("/tmp/ghcr.io/a:v1", Ok(None)),
            ("v1.tar.zst", Ok(None)),
            ("ghcr.io/sluice-project", Err(())),
            ("ghcr.io/Sluice:v1", Err(())),
        ] {
            let found = reference(text).map(|found| found.map(|it| it.to_string())).map_err(drop);
            assert_eq!(found.as_ref().map(Option::as_deref), expected.as_ref().copied(), "{text}");
        }
    }
}
