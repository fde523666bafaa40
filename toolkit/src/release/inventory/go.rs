//! The Go modules in a program, from what the linker wrote into it (runtime/debug `BuildInfo`).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::licence::Licences;
use super::{Checksum, Component, Texts, purl};
use crate::source::Pins;
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};
use sluice_shell::process::Run;

/// Where the sources of a program's modules are.
pub(in super::super) struct Sources {
    /// Pins of the modules in the tree.
    pub(in super::super) pins: Pins,
    /// The composed tree, with Kubernetes' own modules.
    pub(in super::super) tree: PathBuf,
    /// All other modules (`GOMODCACHE`).
    cache: PathBuf,
    /// The compiler's folder, with the standard library (`GOROOT`).
    root: PathBuf,
    /// Tells what their texts are.
    licences: Licences,
}

#[derive(Deserialize)]
struct Environment {
    #[serde(rename = "GOMODCACHE")]
    cache: PathBuf,
    #[serde(rename = "GOROOT")]
    root: PathBuf,
}

impl Sources {
    /// Asks Go where they are.
    pub(in super::super) fn find(shell: &Context, pins: Pins, tree: PathBuf) -> Result<Self> {
        let run = Run::new("go", shell.paths.root()).args(["env", "-json", "GOMODCACHE", "GOROOT"]);
        let Environment { cache, root } = serde_json::from_str(&run.read()?)?;
        Ok(Self { pins, tree, cache, root, licences: Licences::load()? })
    }
}

/// `go version -m -json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BuildInfo {
    go_version: String,
    main: Module,
    #[serde(default)]
    deps: Vec<Module>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Module {
    /// Empty, as the version, for what is built from no module: Go's own programs.
    #[serde(default)]
    path: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    sum: Option<String>,
    /// Where its files were, if not where its path says.
    #[serde(default)]
    replace: Option<Box<Module>>,
}

/// The modules that are linked into `program`, with Go's standard library.
pub(super) fn linked(program: &Path, sources: &Sources) -> Result<Vec<Component>> {
    let folder = program.parent().unwrap_or(program);
    components(&Run::new("go", folder).args(["version", "-m", "-json"]).arg(program).read()?, sources)
}

fn components(info: &str, sources: &Sources) -> Result<Vec<Component>> {
    let info: BuildInfo = serde_json::from_str(info)?;
    let go = info.go_version.split_whitespace().next().unwrap_or_default().trim_start_matches("go");
    let mut found = vec![sources.component("stdlib", go, None, &sources.root)?];
    for module in std::iter::once(&info.main).chain(&info.deps) {
        found.push(of_module(module, sources)?);
    }
    found.sort();
    Ok(found)
}

fn of_module(module: &Module, sources: &Sources) -> Result<Component> {
    let pins = &sources.pins;
    if module.path == "k8s.io/kubernetes" {
        let sum = Checksum::GoModule(pins.kubernetes.sum.clone());
        return sources.component(&module.path, &pins.kubernetes.version, Some(sum), &sources.tree);
    }
    if let Some(pin) = pins.staging.iter().find(|pin| pin.module == module.path) {
        let folder = sources.tree.join("staging/src").join(&pin.module);
        return sources.component(&pin.module, &pin.version, Some(Checksum::GoModule(pin.sum.clone())), &folder);
    }
    // What is compiled is what replaces it.
    let real = module.replace.as_deref().unwrap_or(module);
    let sum = real.sum.clone().map(Checksum::GoModule);
    if sum.is_none() {
        return Err(Error::input(format!("{} {} is of no module with a checksum", module.path, module.version)));
    }
    let folder = sources.cache.join(format!("{}@{}", escaped(&real.path), escaped(&real.version)));
    sources.component(&real.path, &real.version, sum, &folder)
}

impl Sources {
    /// The module `name`, whose files are in `folder`.
    fn component(&self, name: &str, version: &str, checksum: Option<Checksum>, folder: &Path) -> Result<Component> {
        let texts = Texts::of(folder)?;
        if texts.licences().next().is_none() {
            return Err(Error::input(format!("{name} {version} has no licence in {}", folder.display())));
        }
        Ok(Component {
            // The type `golang` has lower-case names.
            purl: purl("golang", &name.to_lowercase(), version),
            name: name.to_owned(),
            version: version.to_owned(),
            checksum,
            licence: Some(self.licences.of(name, &texts)?),
            file: format!("go/{name}@{version}.txt"),
            text: texts.joined(),
        })
    }
}

/// A path as the module cache writes it: `!a` for `A` (golang.org/x/mod/module `EscapePath`).
fn escaped(path: &str) -> String {
    let letter = |letter: char| match letter.is_ascii_uppercase() {
        true => format!("!{}", letter.to_ascii_lowercase()),
        false => letter.to_string(),
    };
    path.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Pins;
    use fs_err as fs;

    const PINS: &str = "[kubernetes]\nversion = 'v1.37.2'\nsum = 'h1:k'\ngo = '1.26.10'\ntime = \
                        '2026-10-27T12:01:04Z'\n[sluice]\nrevision = 1\n[[staging]]\nmodule = 'k8s.io/api'\nversion = \
                        'v0.37.2'\nsum = 'h1:a'\n";

    fn sources(dir: &Path) -> Sources {
        let (tree, cache, root) = (dir.join("tree"), dir.join("cache"), dir.join("go"));
        for folder in
            [&tree, &tree.join("staging/src/k8s.io/api"), &root, &cache.join("github.com/!a/b@v2.0.0+incompatible")]
        {
            fs::create_dir_all(folder).unwrap();
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../LICENSE"), folder.join("LICENSE")).unwrap();
        }
        let licences = Licences::load().unwrap();
        Sources { pins: Pins::parse(PINS).unwrap(), tree, cache, root, licences }
    }

    #[test]
    fn modules_of_the_tree_have_the_checksums_of_the_pins_and_others_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let sources = sources(dir.path());
        let info = r#"{"GoVersion": "go1.26.8 X:aliastypeparams", "Main": {"Path": "k8s.io/kubernetes", "Version": "(devel)"},
            "Deps": [{"Path": "github.com/A/b", "Version": "v2.0.0+incompatible", "Sum": "h1:b"},
            {"Path": "k8s.io/api", "Version": "v0.0.0", "Replace": {"Path": "./staging/src/k8s.io/api", "Version": "(devel)"}}]}"#;
        let found = components(info, &sources).unwrap();
        let short: Vec<_> = found.iter().map(|it| (it.purl.as_str(), it.checksum.clone())).collect();
        let sum = |text: &str| Some(Checksum::GoModule(text.to_owned()));
        assert_eq!(
            short,
            [
                ("pkg:golang/github.com/a/b@v2.0.0%2Bincompatible", sum("h1:b")),
                ("pkg:golang/k8s.io/api@v0.37.2", sum("h1:a")),
                ("pkg:golang/k8s.io/kubernetes@v1.37.2", sum("h1:k")),
                ("pkg:golang/stdlib@1.26.8", None),
            ]
        );
        assert!(found.iter().all(|component| component.text.starts_with(b"==> LICENSE\n")));
        assert!(found.iter().all(|component| component.licence.as_deref() == Some("Apache-2.0")));
        assert_eq!(found[0].file, "go/github.com/A/b@v2.0.0+incompatible.txt");
    }

    #[test]
    fn a_module_without_a_checksum_or_a_licence_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let sources = sources(dir.path());
        let with = |dep: &str| {
            let main = r#""Main": {"Path": "k8s.io/kubernetes", "Version": "(devel)"}"#;
            components(&format!(r#"{{"GoVersion": "go1.26.8", {main}, "Deps": [{dep}]}}"#), &sources)
                .unwrap_err()
                .to_string()
        };
        assert!(with(r#"{"Path": "a.b/c", "Version": "v1.0.0"}"#).contains("no module with a checksum"));
        fs::create_dir_all(dir.path().join("cache/a.b/c@v1.0.0")).unwrap();
        assert!(with(r#"{"Path": "a.b/c", "Version": "v1.0.0", "Sum": "h1:c"}"#).contains("has no licence"));
    }

    #[test]
    fn what_go_says_of_a_program_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = Run::new("go", dir.path()).args(["env", "GOROOT"]).read().unwrap();
        let info =
            Run::new("go", dir.path()).args(["version", "-m", "-json"]).arg(format!("{root}/bin/go")).read().unwrap();
        let info: BuildInfo = serde_json::from_str(&info).unwrap();
        assert!(info.go_version.starts_with("go1."), "{}", info.go_version);
    }
}
