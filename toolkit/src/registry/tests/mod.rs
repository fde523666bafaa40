//! Pushes to, and fetches from, real registries and bad ones.

mod bad;
pub(crate) mod server;

use std::{io::Write as _, path::Path, time::Duration};

use flate2::{Compression, write::GzEncoder};
use fs_err as fs;
use oci_spec::image as oci;
use tempfile::TempDir;

use self::server::{PASSWORD, Server};
use super::{
    access::Access,
    client::{Patience, Registry},
    credentials::Files,
    error::Error,
    push::Transfer,
};
use crate::images::{Blob, BlobStore, Digest, Reference, layout};
use sluice_shell::error::Explain as _;
use sluice_shell::process::Run;

/// The name of the image in the layout of every test.
const NAME: &str = "v1";

/// A layout with an image of two platforms, which share their last layer. `seed` makes the other layers its own.
fn image(folder: &Path, seed: &str) -> Digest {
    let store = BlobStore::open(folder).unwrap();
    let json = |value: serde_json::Value| store.put(value.to_string().as_bytes()).unwrap();
    let entry =
        |kind: &str, blob: Blob| serde_json::json!({ "mediaType": kind, "digest": blob.digest, "size": blob.size });
    let shared = store.put(&layer("shared")).unwrap();
    let platform = |arch: &str| {
        let own = store.put(&layer(&format!("{seed} {arch}"))).unwrap();
        let config = json(serde_json::json!({
            "architecture": arch, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [] },
        }));
        let layers = [own, shared].map(|blob| entry("application/vnd.oci.image.layer.v1.tar+gzip", blob));
        let manifest = json(serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": entry("application/vnd.oci.image.config.v1+json", config),
            "layers": layers,
        }));
        let mut entry = entry("application/vnd.oci.image.manifest.v1+json", manifest);
        entry["platform"] = serde_json::json!({ "architecture": arch, "os": "linux" });
        entry
    };
    let index = json(serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [platform("amd64"), platform("arm64")],
    }));
    layout::seal(folder, vec![layout::entry(oci::MediaType::ImageIndex, &index, NAME).unwrap()]).unwrap();
    index.digest
}

/// A layer that stays large: skopeo compresses what is not compressed.
fn layer(words: &str) -> Vec<u8> {
    let mut layer = GzEncoder::new(vec![], Compression::none());
    layer.write_all(words.repeat(50_000).as_bytes()).unwrap();
    layer.finish().unwrap()
}

/// One that a test loses its patience with at once.
fn patience() -> Patience {
    Patience { silence: Duration::from_millis(300), pauses: vec![Duration::ZERO; 2], ..Patience::default() }
}

/// The registry with a password, and its layouts.
struct Bench {
    server: Server,
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { server: Server::start(), dir: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Registry {
        self.server.open(PASSWORD)
    }

    fn reference(&self, path: &str, tag: &str) -> Reference {
        Reference::new(&format!("{}/{path}", self.server.name()), tag).unwrap()
    }

    fn push(&self, registry: &mut Registry, to: &[Reference]) -> Result<(Digest, Transfer), Error> {
        registry.push(self.dir.path(), NAME, to, |_| ())
    }

    /// skopeo, with our credentials and the authority.
    fn skopeo(&self, args: &[&str]) -> String {
        let certificates = self.dir.path().join("certs.d");
        fs::create_dir_all(&certificates).unwrap();
        fs::copy(self.server.authority(), certificates.join("ca.crt")).unwrap();
        let run = Run::new("skopeo", self.dir.path()).arg("--insecure-policy").args(args);
        run.env("REGISTRY_AUTH_FILE", self.server.credentials(PASSWORD)).read().unwrap()
    }
}

fn text(error: &Error) -> String {
    format!("{error}\n{}", error.hint().unwrap_or_default())
}

#[test]
fn a_push_arrives_with_its_digest_for_every_tool_and_the_second_one_sends_nothing() {
    let bench = Bench::new();
    let digest = image(bench.dir.path(), "one");
    let to = [bench.reference("team/one", "v1"), bench.reference("team/one", "latest")];
    let mut registry = bench.open();
    registry.check(&to[0]).unwrap();
    let (pushed, transfer) = bench.push(&mut registry, &to).unwrap();
    assert_eq!(pushed, digest);
    // Two configurations, a layer of each platform, and one of both; two manifests, and an index for each name.
    let (sent, documents) = (5, 4);
    assert_eq!((transfer.sent, transfer.mounted, transfer.present, transfer.documents), (sent, 0, 0, documents));

    for reference in &to {
        let raw = bench.skopeo(&["inspect", "--cert-dir", "certs.d", "--raw", &format!("docker://{reference}")]);
        assert_eq!(Digest::of(raw.as_bytes()), digest, "{reference}");
    }
    let source = format!("docker://{}@{digest}", to[0].repository());
    bench.skopeo(&[
        "copy",
        "--quiet",
        "--all",
        "--preserve-digests",
        "--src-cert-dir",
        "certs.d",
        &source,
        "oci:copied:v1",
    ]);
    let copied = BlobStore::open(&bench.dir.path().join("copied")).unwrap();
    for entry in fs::read_dir(bench.dir.path().join("blobs/sha256")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(copied.folder().join(&name).exists(), "{name} was not copied");
    }

    let before = bench.server.changes();
    assert!(before.len() > sent, "{before:?}");
    let (again, transfer) = bench.push(&mut bench.open(), &to).unwrap();
    assert_eq!((again, transfer), (digest, Transfer { present: sent, ..Transfer::default() }));
    assert_eq!(bench.server.changes(), before, "the second push changed something");
}

#[test]
fn another_repository_takes_over_what_the_registry_has() {
    let bench = Bench::new();
    image(bench.dir.path(), "one");
    let mut registry = bench.open();
    bench.push(&mut registry, &[bench.reference("team/one", "v1")]).unwrap();

    let digest = image(bench.dir.path(), "two");
    let before = bench.server.changes().len();
    let (pushed, transfer) = bench.push(&mut registry, &[bench.reference("team/two", "v1")]).unwrap();
    assert_eq!(pushed, digest);
    // Of the same in both: the layer of both platforms and the two configurations.
    assert_eq!((transfer.mounted, transfer.sent), (3, 2));
    let changes = bench.server.changes().split_off(before);
    assert_eq!(changes.iter().filter(|request| request.contains("mount=")).count(), 3, "{changes:?}");
    assert_eq!(changes.iter().filter(|request| request.starts_with("PUT") && request.contains("/blobs/")).count(), 2);
}

#[test]
fn what_was_pushed_is_fetched_byte_for_byte() {
    let bench = Bench::new();
    let digest = image(bench.dir.path(), "one");
    let mut registry = bench.open();
    let (one, two) = (bench.reference("one", "v1"), bench.reference("one", "v2"));
    bench.push(&mut registry, &[one.clone(), two.clone()]).unwrap();
    let folder = bench.dir.path().join("fetched");
    for from in [&one, &two, &one] {
        assert_eq!(registry.fetch(from, &folder, |_| ()).unwrap(), digest);
    }
    let index: oci::ImageIndex = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    assert_eq!(index.manifests().len(), 2, "one for each name: {index:?}");
    // It is a layout that can be pushed, and has the same blobs.
    let (again, transfer) = registry.push(&folder, "v1", &[one], |_| ()).unwrap();
    assert_eq!((again, transfer.present, transfer.documents), (digest, 5, 0));

    for (path, tag) in [("one", "v3"), ("two", "v1")] {
        let missing = registry.fetch(&bench.reference(path, tag), &folder, |_| ()).unwrap_err();
        assert_eq!(missing.to_string(), format!("there is no {}/{path}:{tag}", bench.server.name()));
    }
}

#[test]
fn damage_on_either_side_is_not_passed_on() {
    let bench = Bench::new();
    image(bench.dir.path(), "one");
    let to = [bench.reference("one", "v1")];
    let blob = BlobStore::open(bench.dir.path()).unwrap().path(&Digest::of(&layer("shared")));
    let whole = fs::read(&blob).unwrap();
    fs::write(&blob, &whole[1..]).unwrap();
    let short = bench.push(&mut bench.open(), &to).unwrap_err();
    assert!(short.to_string().ends_with(&format!("its descriptor says {}", whole.len())), "{short}");
    let mut flipped = whole.clone();
    flipped[7] ^= 1;
    fs::write(&blob, &flipped).unwrap();
    let refused = bench.push(&mut bench.open(), &to).unwrap_err();
    assert!(refused.to_string().contains("refuses to take the blob"), "{refused}");
    fs::write(&blob, &whole).unwrap();
    bench.push(&mut bench.open(), &to).unwrap();

    let stored = format!("storage/docker/registry/v2/blobs/sha256/{0:.2}/{0}/data", Digest::of(&whole).hex());
    fs::write(bench.server.folder().join(stored), &flipped).unwrap();
    let folder = bench.dir.path().join("fetched");
    let damaged = bench.open().fetch(&to[0], &folder, |_| ()).unwrap_err();
    assert!(damaged.to_string().contains("Invalid digest"), "{damaged}");
    assert!(damaged.is_about_content(), "{damaged:?}");
    assert!(!folder.join("index.json").exists());
    let kept = fs::read_dir(folder.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path());
    for path in kept {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(Digest::of(&fs::read(&path).unwrap()).hex(), name);
    }
}

#[test]
fn a_refused_login_names_the_file_and_the_registry() {
    let bench = Bench::new();
    image(bench.dir.path(), "one");
    let to = [bench.reference("one", "v1")];
    let mut registry = bench.server.open("wrong");
    for refused in [registry.check(&to[0]).unwrap_err(), bench.push(&mut registry, &to).unwrap_err()] {
        let text = text(&refused);
        let file = bench.server.credentials("wrong").display().to_string();
        assert!(
            text.contains(&format!("{} refuses the login (user \"ada\", from {file})", bench.server.name())),
            "{text}"
        );
        assert!(text.contains(&format!("docker login {}", bench.server.name())), "{text}");
    }

    let access = Access { registry_ca: Some(bench.server.authority()), ..Access::default() };
    let nowhere = Files(vec![bench.dir.path().join("none.json")]);
    let mut registry = Registry::with(&bench.server.name(), &access, &nowhere, patience()).unwrap();
    let refused = bench.push(&mut registry, &to).unwrap_err();
    assert!(text(&refused).contains("no user: no credentials for it in"), "{}", text(&refused));
    assert!(text(&refused).contains("none.json"), "{}", text(&refused));
    assert_eq!(bench.server.changes(), [""; 0]);
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_and_the_flag_for_it_named() {
    let bench = Bench::new();
    let files = Files(vec![bench.server.credentials(PASSWORD)]);
    let registry = Registry::with(&bench.server.name(), &Access::default(), &files, patience()).unwrap();
    let refused = registry.check(&bench.reference("one", "v1")).unwrap_err();
    assert!(matches!(refused, Error::Certificate { .. }), "{refused}");
    assert!(text(&refused).contains("--registry-ca FILE"), "{}", text(&refused));

    let access = Access { insecure_loopback: true, ..Access::default() };
    let registry = Registry::with(&bench.server.name(), &access, &files, patience()).unwrap();
    let refused = registry.check(&bench.reference("one", "v1")).unwrap_err();
    assert!(matches!(refused, Error::Refused { status: 400, .. }), "plain HTTP to TLS: {refused}");
}

#[test]
fn a_registry_that_is_killed_in_the_middle_gets_the_rest_from_the_next_push() {
    let bench = Bench::new();
    let digest = image(bench.dir.path(), "one");
    let to = [bench.reference("one", "v1")];
    let killed = bench.open().push(bench.dir.path(), NAME, &to, |what| {
        if what.contains("blob 3 of") {
            bench.server.kill();
        }
    });
    let killed = killed.unwrap_err();
    assert!(matches!(killed, Error::Unreachable { .. }), "{killed}");
    assert!(text(&killed).contains("run the command again"), "{}", text(&killed));

    bench.server.run();
    let (pushed, transfer) = bench.push(&mut bench.open(), &to).unwrap();
    assert_eq!((pushed, transfer.present, transfer.sent), (digest, 2, 3));
}
