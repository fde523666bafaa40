//! `cargo xtask codegen`: the constants of the wire contract, from patches/contract.toml, and the manifests of virtual
//! clusters, from images/vcluster.yaml.
//!
//! [`contract`] reads the first file, [`go`] and [`rust`] write it as code. Nothing of the contract is typed by hand in
//! either language. [`vcluster`] writes the manifests.

mod contract;
mod go;
mod rust;
mod vcluster;

use std::path::PathBuf;

use crate::patch;
use contract::Contract;
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Explain, Result};

/// Writes the constants of patches/contract.toml as Go (in a patch) and as Rust (in the shim), and the manifests of
/// virtual clusters
#[derive(clap::Args)]
pub struct Cmd {
    /// Write nothing; fail if a generated file is not what would be written
    #[arg(long)]
    check: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("generated files are not what patches/contract.toml and images/vcluster.yaml make:{}", .0.iter().map(|path| format!("\n  {}", path.display())).collect::<String>())]
struct Stale(Vec<PathBuf>);

impl Explain for Stale {
    fn hint(&self) -> Option<String> {
        Some("write them anew with\ncargo xtask codegen".into())
    }
}

impl Cmd {
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let mut stale = Vec::new();
        for (path, text) in outputs(shell)? {
            let current = if path.exists() { Some(fs_err::read(&path)?) } else { None };
            if current.as_deref() != Some(&text) {
                stale.push((path, text));
            }
        }
        if self.check {
            let paths: Vec<PathBuf> = stale.into_iter().map(|(path, _)| path).collect();
            return if paths.is_empty() { Ok(()) } else { Err(Stale(paths).into()) };
        }
        for (path, text) in stale {
            fs_err::create_dir_all(path.parent().unwrap_or(&path))?;
            fs_err::write(&path, text)?;
            shell.out.data(path.display().to_string())?;
        }
        Ok(())
    }
}

/// Every generated file with its text.
fn outputs(shell: &Context) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let patches = shell.paths.root().join("patches");
    let source = patches.join("contract.toml");
    let contract: Contract =
        toml::from_str(&fs_err::read_to_string(&source)?).attempting(|| format!("cannot read {}", source.display()))?;
    let mut outputs =
        vec![(shell.paths.root().join("shim/wire/src/contract.rs"), rust::module(&contract).into_bytes())];
    for minor in patch::minors(&patches)? {
        let (name, text) = go::patch(&contract)?;
        outputs.push((patches.join(minor.as_str()).join(name), text));
    }
    let manifests = vcluster::manifests(shell.paths.root())?;
    outputs.extend(manifests.into_iter().map(|(path, text)| (path, text.into_bytes())));
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: &str = r#"
version = 3
[metadata.label_selector]
name = "x-labels"
doc = "The label requirements, in a sentence that is long enough to need a second line in the comment of either language."
[response_metadata.collected]
name = "x-collected"
doc = "The label of what is collected."
[paths.collected]
name = "/x/collected"
doc = "Shows the response metadata."
[labels.skip]
name = "skip-me"
doc = "Objects with this label are skipped."
[limits.selector_bytes]
value = 4096
doc = "Longer selectors are not sent. Bytes."
[[builtin]]
api_version = "batch/v1"
kind = "Job"
resource = "jobs"
fields = [
    { name = "status.successful", path = "status.succeeded", protobuf = [3, 5], value = "integer" },
    { name = "spec.x", protobuf = [2, 16], value = "defaulted_string" },
]
"#;

    #[test]
    fn both_languages_say_the_same() {
        let contract: Contract = toml::from_str(CONTRACT).unwrap();
        insta::assert_snapshot!(format!("{}\n=====\n{}", go::file(&contract), rust::module(&contract)));
    }

    #[test]
    fn a_stale_file_fails_the_check_and_is_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let shell = Context::for_test(dir.path());
        for folder in ["patches/v1.37", "shim/wire/src", "images"] {
            fs_err::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs_err::write(dir.path().join("images/vcluster.yaml"), "kind: Namespace\n").unwrap();
        fs_err::write(dir.path().join("patches/contract.toml"), CONTRACT).unwrap();
        fs_err::write(dir.path().join("patches/v1.37/series"), "").unwrap();
        let check = || Cmd { check: true }.run(&shell);
        let error = format!("{:?}", check().unwrap_err());
        for part in ["shim/wire/src/contract.rs", "vcluster/vcluster-mysql.yaml", "cargo xtask codegen"] {
            assert!(error.contains(part), "{error}");
        }
        Cmd { check: false }.run(&shell).unwrap();
        check().unwrap();
        let patch = dir.path().join("patches/v1.37/apiserver-selector-contract.patch");
        let text = fs_err::read_to_string(&patch).unwrap();
        fs_err::write(&patch, text.replace("4096", "8192")).unwrap();
        assert!(format!("{:?}", check().unwrap_err()).contains("apiserver-selector-contract.patch"));
    }

    #[test]
    fn a_name_that_grpc_would_refuse_is_refused() {
        for bad in ["X-Upper", "", "with blank", "grpc-status"] {
            let text = CONTRACT.replace("x-labels", bad);
            assert!(toml::from_str::<Contract>(&text).is_err(), "{bad}");
        }
        assert!(toml::from_str::<Contract>(&CONTRACT.replace("doc =", "dok =")).is_err());
    }

    /// What the repository holds is what the contract makes.
    #[test]
    fn the_repository_is_up_to_date() {
        let shell = Context::from_env().unwrap();
        Cmd { check: true }.run(&shell).unwrap();
    }
}
