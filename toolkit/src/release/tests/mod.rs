//! Releases of stand-ins: programs that are copies of busybox, in the real images, manifests and definitions.

mod attacks;
mod install;
mod registry;
mod tampering;
mod tools;

use std::path::{Path, PathBuf};

use fs_err as fs;
use tempfile::TempDir;

use super::inventory::{Checksum, Component};
use super::keys::{PublicKeys, Signer};
use super::make::{Made, Parts, make};
use super::*;
use crate::pipeline::Binary;
use sluice_shell::minor::Minor;
use sluice_shell::process::Run;

const EPOCH: i64 = 1_700_000_000;

/// Programs and the layouts of their images.
pub(super) struct Bench {
    pub(super) dir: TempDir,
    built: Built<Tested>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shell = Context::for_test(dir.path());
        let definitions = Definitions::read(&root().join("images")).unwrap();
        let chosen = definitions.select(&[]).unwrap();
        let busybox = fs::read("/bin/busybox").expect("the Debian package busybox-static");
        let programs = build_images::programs(&definitions, &chosen).unwrap();
        let binary = |program: &build::Program| {
            let (name, path) = (program.name().to_owned(), dir.path().join(program.name()));
            fs::write(&path, [&busybox, name.as_bytes()].concat()).unwrap();
            let version = "v1.37.2+sluice.1".to_owned();
            Binary {
                name,
                path,
                version,
                size: 0,
                sha256: String::new(),
                platform: Platform::Amd64,
                compiler: format!("compiler of {}", program.name()),
                seconds: 0.0,
            }
        };
        let minor: Minor = Minor::DEFAULT.parse().unwrap();
        let built = Built::new(
            minor,
            "v1.37.2+sluice.1".into(),
            Platform::Amd64,
            true,
            "1.26.10".into(),
            EPOCH,
            programs.iter().map(binary).collect(),
        );
        let layouts = dir.path().join("layouts");
        build_images::write(&shell, std::slice::from_ref(&built), &definitions, &chosen, "ghcr.io/test", &layouts)
            .unwrap();
        Self { dir, built }
    }

    pub(super) fn make(&self, signer: Option<&Signer>) -> Made {
        let parts = Parts {
            root: root(),
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            kubernetes: "v1.37.2".into(),
            builds: std::slice::from_ref(&self.built),
            layouts: self.dir.path().join("layouts"),
            images: Definitions::read(&root().join("images")).unwrap().select(&[]).unwrap().iter().map(named).collect(),
            inventory: self.inventory(),
            builder: Builder {
                command: "cargo xtask release".into(),
                go: "1.26.10".into(),
                rust: provenance::rust(std::slice::from_ref(&self.built)),
                pins: Pins::load(&Context::for_test(root()), &self.built.minor).unwrap(),
                files: BTreeMap::new(),
            },
            patches: vec![("sluice-v1.37.patch".into(), b"a patch\n".to_vec())],
        };
        make(&parts, signer, &self.dir.path().join("out")).unwrap()
    }

    /// Stand-ins of the inventory too: one module for each program.
    fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::empty();
        let component = |name: &str| Component {
            purl: format!("pkg:golang/{name}@v1.0.0"),
            name: name.to_owned(),
            version: "v1.0.0".to_owned(),
            checksum: Some(Checksum::GoModule("h1:Khu2En+0gcYPZ2kuIihfswbzxv/mIHXgzPZ018Oty48=".to_owned())),
            licence: Some("Apache-2.0".to_owned()),
            file: format!("go/{name}@v1.0.0.txt"),
            text: b"do as you like\n".to_vec(),
        };
        for binary in &self.built.binaries {
            let components = vec![component("example.org/both"), component(&format!("example.org/{}", binary.name))];
            inventory.programs.insert(("linux/amd64".to_owned(), binary.name.clone()), components);
        }
        let definitions = Definitions::read(&root().join("images")).unwrap();
        let (shell, all) = (Context::for_test(root()), definitions.select(&[]).unwrap());
        inventory.add_images(&shell, &definitions, &all, &[self.built.platform]).unwrap();
        inventory
    }

    /// New keys in a folder of the name.
    pub(super) fn keys(&self, name: &str) -> (Signer, PublicKeys) {
        let folder = self.dir.path().join(name);
        keys::generate(&folder, None).unwrap();
        (Signer::load(&folder, None).unwrap(), PublicKeys::load(&folder).unwrap())
    }
}

fn named(image: &&Definition) -> String {
    image.name.clone()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Copies a folder.
pub(super) fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let place = to.join(entry.path().strip_prefix(from).unwrap());
        match entry.file_type().is_dir() {
            true => fs::create_dir_all(place).unwrap(),
            false => drop(fs::copy(entry.path(), place).unwrap()),
        }
    }
}

/// Every file of a folder with its bytes.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let names = bundle::Files::of(folder).unwrap().all().unwrap();
    names.iter().map(|name| (name.into(), fs::read(folder.join(name)).unwrap())).collect()
}

#[test]
fn the_same_parts_make_the_same_bytes() {
    let (one, mut two) = (Bench::new(), Bench::new());
    two.built.binaries.reverse();
    let (signer, _) = one.keys("keys");
    for signer in [None, Some(&signer)] {
        let (first, second) = (one.make(signer), two.make(signer));
        assert!(contents(&first.folder) == contents(&second.folder), "two folders differ");
        assert!(fs::read(&first.archive).unwrap() == fs::read(&second.archive).unwrap(), "two archives differ");
        let beside = |made: &Made| contents(made.archive.parent().unwrap()).into_iter().map(|file| file.0).collect();
        let (first, second): (Vec<_>, Vec<_>) = (beside(&first), beside(&second));
        assert_eq!(first, second, "something else lies beside them");
    }
    // Nothing of the signed one is left.
    let made = one.make(None);
    assert!(verify::folder(&made.folder, None).unwrap().problems.is_empty());
    assert!(!made.archive.with_extension("zst.minisig").exists());
}

#[test]
fn an_image_that_is_no_more_is_not_in_a_release() {
    let bench = Bench::new();
    let layouts = bench.dir.path().join("layouts");
    copy(&layouts.join("sluice-shim"), &layouts.join("renamed"));
    let made = bench.make(None);
    assert!(made.folder.join("images/sluice-shim").exists() && !made.folder.join("images/renamed").exists());
}

#[test]
fn standard_tools_read_a_release() {
    let bench = Bench::new();
    let (signer, _) = bench.keys("keys");
    let made = bench.make(Some(&signer));
    let out = made.archive.parent().unwrap();
    let run = |program: &str| Run::new(program, out);
    let name = made.archive.file_name().unwrap().to_str().unwrap();
    run("sha256sum").args(["--check", "--strict", &format!("{name}.sha256")]).run().unwrap();
    run("minisign").args(["-V", "-p", "../keys/minisign.pub", "-m", name]).run().unwrap();
    run("tar").args(["--zstd", "-xf", name]).run().unwrap();
    let unpacked = out.join(made.description.top());
    assert!(contents(&unpacked) == contents(&made.folder));
    let run = |program: &str| Run::new(program, &unpacked);
    run("minisign").args(["-V", "-p", "../../keys/minisign.pub", "-m", "SHA256SUMS"]).run().unwrap();
    run("sha256sum").args(["--check", "--strict", "--quiet", "SHA256SUMS"]).run().unwrap();
    run("bin/linux-amd64/kube-apiserver").arg("true").run().unwrap_err();
    let tag = "oci:images/kube-apiserver:v1.37.2_sluice.1";
    run("skopeo").args(["inspect", "--raw", tag]).run().unwrap();
}

#[test]
fn manifests_of_a_release_name_images_by_their_digests() {
    let bench = Bench::new();
    let made = bench.make(None);
    let images: Vec<String> =
        made.description.images.iter().map(|image| format!("{}@{}", image.reference, image.digest)).collect();
    let mut found = 0;
    for (name, bytes) in contents(&made.folder.join("manifests")) {
        let text = String::from_utf8(bytes).unwrap();
        let named = text.lines().filter_map(|line| line.trim().strip_prefix("image: "));
        for image in named.filter(|image| *image != manifests::VCLUSTER) {
            assert!(images.iter().any(|known| known == image), "{}: {image} is none of {images:?}", name.display());
            found += 1;
        }
    }
    assert!(found >= 4, "{found}");
}

#[test]
fn a_release_is_of_the_version_that_is_expected() {
    let pins = Pins::load(&Context::for_test(root()), &Minor::DEFAULT.parse().unwrap()).unwrap();
    let made = pins.ours("v1.37.2");
    assert_eq!(made, format!("v1.37.2+sluice.{}", pins.sluice.revision));
    expect(None, made.clone()).unwrap();
    expect(Some(&made), made.clone()).unwrap();
    let other = expect(Some("v1.37.2+sluice.99"), made.clone()).unwrap_err();
    assert_eq!(other.to_string(), format!("the release would be {made}, and not v1.37.2+sluice.99"));
}

/// The crate knows the rules of the specification; whether the bills are true is tested beside [`inventory`].
#[test]
fn bills_of_materials_are_valid() {
    use cyclonedx_bom::models::bom::{Bom, SpecVersion};
    use cyclonedx_bom::validation::Validate as _;

    let bench = Bench::new();
    let made = bench.make(None);
    let bills: Vec<String> = sbom::subjects(&made.description).into_keys().collect();
    assert_eq!(bills.len(), made.description.programs.len() + made.description.images.len());
    for name in bills {
        let bytes = fs::read(made.folder.join(&name)).unwrap();
        let bill = Bom::parse_from_json_with_version(bytes.as_slice(), SpecVersion::V1_5).unwrap();
        let result = bill.validate_version(SpecVersion::V1_5);
        assert!(result.passed(), "{name}: {result:?}");
    }
    // Two programs with a module of the same name and version: one component, on which both depend.
    let bytes = fs::read(made.folder.join("sbom/image-kubernetes_v1.37.2_sluice.1_linux-amd64.cdx.json")).unwrap();
    let bill: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let named = |name: &str| bill["components"].as_array().unwrap().iter().filter(|it| it["name"] == name).count();
    let all =
        ["example.org/both", "example.org/kube-scheduler", "kube-apiserver", "busybox-static", "webpki-root-certs"];
    assert_eq!(all.map(named), [1; 5]);
    assert_eq!(named("example.org/sluice-shim"), 0);
}

/// A distribution may have another compiler for another platform than for its own.
#[test]
fn the_provenance_names_the_compiler_of_each_platform() {
    let (bench, mut builds) = (Bench::new(), vec![]);
    for (platform, compiler) in [(Platform::Amd64, "rustc 1.95.0"), (Platform::Arm64, "rustc 1.96.0")] {
        let mut built = bench.built.clone();
        built.platform = platform;
        let shim = built.binaries.iter_mut().find(|binary| binary.name == "sluice-shim").unwrap();
        shim.compiler = compiler.to_owned();
        builds.push(built);
    }
    let expected = [("linux/amd64", "rustc 1.95.0"), ("linux/arm64", "rustc 1.96.0")];
    assert_eq!(provenance::rust(&builds), expected.map(|(a, b)| (a.to_owned(), b.to_owned())).into());

    let made = bench.make(None);
    let text = fs::read(made.folder.join("provenance.json")).unwrap();
    let statement: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let versions = &statement["predicate"]["runDetails"]["builder"]["version"];
    assert_eq!(versions["rust for linux/amd64"], "compiler of sluice-shim");
    assert_eq!(versions["go"], "1.26.10");
}

#[test]
fn the_licence_of_every_component_is_in_the_release() {
    let made_by = Bench::new();
    let made = made_by.make(None);
    for name in sbom::subjects(&made.description).into_keys() {
        let bill: serde_json::Value = serde_json::from_slice(&fs::read(made.folder.join(&name)).unwrap()).unwrap();
        let properties =
            bill["components"].as_array().unwrap().iter().flat_map(|it| it["properties"].as_array().unwrap());
        let files: Vec<_> = properties.filter(|it| it["name"] == "sluice:licence-file").collect();
        assert!(!files.is_empty(), "{name}");
        for file in files {
            assert!(made.folder.join(file["value"].as_str().unwrap()).is_file(), "{name}: {file}");
        }
    }
}

#[test]
fn the_commands_of_the_documentation_accept_a_release() {
    let bench = Bench::new();
    let (signer, _) = bench.keys("keys");
    let made = bench.make(Some(&signer));
    let out = made.archive.parent().unwrap();
    copy(&bench.dir.path().join("keys"), &out.join("keys"));
    let text = fs::read_to_string(root().join("docs/release.md")).unwrap();
    let part = text.split("<!-- commands -->").nth(1).unwrap().split("<!-- end of commands -->").next().unwrap();
    let commands: Vec<_> = part.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(commands.len() > 8, "{commands:?}");
    let script = format!("set -eu\n{}\n", commands.join("\n"));
    Run::new("sh", out).arg("-c").arg(&script).run().unwrap();

    // And they refuse one with another archive, another file, another statement.
    for (line, before) in
        [(0, "printf x >> sluice-v1.37.2+sluice.1.tar.zst"), (4, "printf x >> LICENSE"), (8, "sed -i s/e/E/ ../signed")]
    {
        let mut changed = commands.clone();
        changed.insert(line, before);
        let script = format!("set -eu\n{}\n", changed.join("\n"));
        let copied = bench.dir.path().join(format!("copy-{line}"));
        copy(out, &copied);
        let _ = fs::remove_dir_all(copied.join(made.description.top()));
        Run::new("sh", copied).arg("-c").arg(&script).run().unwrap_err();
    }
}
