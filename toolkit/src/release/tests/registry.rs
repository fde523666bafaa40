//! A release in Debian's registry, with TLS and a password: what is found there by `verify-release`, and by standard
//! tools.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::tampering::{edit, flip};
use super::*;
use crate::images::{BlobStore, Digest, layout};
use crate::registry::tests::server::{PASSWORD, Server};
use crate::release::description::Image;
use crate::release::publish::Published;

pub(super) const TAG: &str = "v1.37.2_sluice.1";

/// A signed release that was pushed.
pub(super) struct Place {
    pub(super) bench: Bench,
    pub(super) server: Server,
    made: Made,
    signer: Signer,
}

impl Place {
    pub(super) fn new() -> Self {
        let (bench, server) = (Bench::new(), Server::start());
        let (signer, _) = bench.keys("keys");
        bench.keys("other");
        let made = bench.make(Some(&signer));
        let place = Self { bench, server, made, signer };
        let pushed = place.push(Some(&place.signer));
        assert!(pushed.last().unwrap().starts_with(&format!("{}/release:{TAG}@sha256:", place.base())), "{pushed:?}");
        place
    }

    fn push(&self, signer: Option<&Signer>) -> Vec<String> {
        let scratch = tempfile::tempdir_in(self.bench.dir.path()).unwrap();
        let mut registry = self.server.open(PASSWORD);
        publish::push(&self.made, signer, &mut registry, &self.base(), scratch.path(), |_| ()).unwrap()
    }

    /// What the repositories are below.
    pub(super) fn base(&self) -> String {
        format!("{}/mirror", self.server.name())
    }

    pub(super) fn reference(&self, image: &str, tag: &str) -> Reference {
        Reference::new(&format!("{}/{image}", self.base()), tag).unwrap()
    }

    pub(super) fn image(&self, name: &str) -> &Image {
        let mut images = self.made.description.images.iter();
        images.find(|image| image.reference.ends_with(&format!("/{name}:{TAG}"))).unwrap()
    }

    pub(super) fn layout(&self, name: &str) -> PathBuf {
        self.made.folder.join("images").join(name)
    }

    fn signature(&self, name: &str) -> String {
        cosign::tag(&self.image(name).digest)
    }

    /// Puts what a layout has under a tag where something else is.
    pub(super) fn put(&self, folder: &Path, tag: &str, to: &Reference) {
        let (_, transfer) = self.server.open(PASSWORD).push(folder, tag, std::slice::from_ref(to), |_| ()).unwrap();
        assert!(transfer.documents > 0, "{to} stands for the same as before");
    }

    fn storage(&self) -> PathBuf {
        self.server.folder().join("storage")
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.storage().join(format!("docker/registry/v2/blobs/sha256/{0:.2}/{0}/data", digest.hex()))
    }

    fn forget(&self, image: &str, tag: &str) {
        let tags = format!("docker/registry/v2/repositories/mirror/{image}/_manifests/tags");
        fs::remove_dir_all(self.storage().join(tags).join(tag)).unwrap();
    }

    /// The largest layer of an image.
    fn layer(&self, name: &str) -> Digest {
        let manifest = fs::read(layout::blob(&self.layout(name), &self.image(name).manifests[0].digest)).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        let largest = layers.iter().max_by_key(|layer| layer["size"].as_u64()).unwrap();
        largest["digest"].as_str().unwrap().parse().unwrap()
    }

    /// The artifact of the release, in a layout.
    fn artifact(&self) -> (TempDir, Digest) {
        let folder = tempfile::tempdir_in(self.bench.dir.path()).unwrap();
        let registry = self.server.open(PASSWORD);
        let digest = registry.fetch(&self.reference("release", TAG), folder.path(), |_| ()).unwrap();
        (folder, digest)
    }

    /// Writes what skopeo must know of the registry.
    pub(super) fn trusted_by_skopeo(&self) {
        let dir = self.bench.dir.path();
        fs::create_dir(dir.join("certs.d")).unwrap();
        fs::copy(self.server.authority(), dir.join("certs.d/ca.crt")).unwrap();
        let attachments = format!("docker: {{\"{}\": {{use-sigstore-attachments: true}}}}\n", self.server.name());
        fs::create_dir(dir.join("registries.d")).unwrap();
        fs::write(dir.join("registries.d/local.yaml"), attachments).unwrap();
    }

    /// Writes a policy that lets images of the repository pass, signed with the key in the folder `keys`.
    pub(super) fn policy(&self, keys: &str, repository: &str) {
        let dir = self.bench.dir.path();
        let identity = serde_json::json!({"type": "exactRepository", "dockerRepository": repository});
        let key = dir.join(keys).join("ecdsa.pub");
        let rule = serde_json::json!([{"type": "sigstoreSigned", "keyPath": key, "signedIdentity": identity}]);
        let transports = serde_json::json!({"docker": {"": rule}, "oci": {"": rule}});
        let policy = serde_json::json!({"default": [{"type": "reject"}], "transports": transports});
        fs::write(dir.join("policy.json"), policy.to_string()).unwrap();
    }

    fn problems(&self, keys: &str, tag: &str) -> Vec<Problem> {
        let keys = (!keys.is_empty()).then(|| PublicKeys::load(&self.bench.dir.path().join(keys)).unwrap());
        let scratch = tempfile::tempdir_in(self.bench.dir.path()).unwrap();
        let at = Reference::new(&self.base(), tag).unwrap();
        let registry = self.server.open(PASSWORD);
        let published = Published { at: &at, registry: &registry, keys: keys.as_ref(), say: &|_| () };
        published.check(scratch.path()).unwrap().problems
    }
}

/// What somebody does to a release in a registry.
struct Row {
    what: &'static str,
    /// The folder with the keys of the person who checks.
    keys: &'static str,
    how: fn(&Place),
    /// Beginning of what is named, in the registry or in the release, and a part of what is said of it.
    found: (&'static str, &'static str),
}

const ROWS: &[Row] = &[
    Row {
        what: "another image under the tag",
        keys: "",
        how: |place| place.put(&place.layout("kube-apiserver"), TAG, &place.reference("sluice-shim", TAG)),
        found: ("sluice-shim:v1.37.2_sluice.1", "the release has sha256:"),
    },
    Row {
        what: "a missing image",
        keys: "",
        how: |place| place.forget("kube-apiserver", TAG),
        found: ("kube-apiserver:v1.37.2_sluice.1", "it is missing"),
    },
    Row {
        what: "a missing signature",
        keys: "",
        how: |place| place.forget("sluice-shim", &place.signature("sluice-shim")),
        found: ("sluice-shim:sha256-", "it is missing"),
    },
    Row {
        what: "the signature of another image",
        keys: "",
        how: |place| {
            let to = place.reference("sluice-shim", &place.signature("sluice-shim"));
            place.put(&place.layout("kube-apiserver"), &place.signature("kube-apiserver"), &to);
        },
        found: ("sluice-shim:sha256-", "it lacks what the release has there"),
    },
    Row {
        what: "a missing attestation",
        keys: "",
        how: |place| place.forget("sluice-shim", &place.signature("sluice-shim").replace(".sig", ".att")),
        found: ("sluice-shim:sha256-", "it is missing"),
    },
    Row {
        what: "the keys of somebody else",
        keys: "other",
        how: |_| (),
        found: ("sluice-v1.37.2+sluice.1.tar.zst.minisig", ""),
    },
    Row {
        what: "a changed blob",
        keys: "",
        how: |place| flip(&place.blob(&place.layer("sluice-shim"))),
        found: ("sluice-shim:v1.37.2_sluice.1", "Invalid digest"),
    },
    Row {
        what: "a missing blob",
        keys: "",
        how: |place| fs::remove_file(place.blob(&place.layer("sluice-shim"))).unwrap(),
        found: ("sluice-shim:v1.37.2_sluice.1", "blob"),
    },
    Row {
        what: "a changed manifest of a platform",
        keys: "",
        how: |place| {
            let path = place.blob(&place.image("sluice-shim").manifests[0].digest);
            edit(&path, &place.layer("sluice-shim").hex(), &Digest::of(b"").hex());
        },
        found: ("sluice-shim:v1.37.2_sluice.1", "nvalid digest"),
    },
    Row {
        what: "a changed archive",
        keys: "",
        how: |place| flip(&place.blob(&sums::digest(&place.made.archive).unwrap())),
        found: ("release:v1.37.2_sluice.1", "Invalid digest"),
    },
    Row {
        what: "an archive without its signature",
        keys: "",
        how: |place| place.forget("release", &cosign::tag(&place.artifact().1)),
        found: ("release:v1.37.2_sluice.1", "is missing"),
    },
    Row {
        what: "an archive that is signed by somebody else",
        keys: "keys",
        how: |place| {
            let other = Signer::load(&place.bench.dir.path().join("other"), None).unwrap();
            let (folder, digest) = place.artifact();
            let image =
                Image { reference: "ghcr.io/test/release:x".into(), digest, ..place.image("sluice-shim").clone() };
            cosign::sign(folder.path(), &[&Image { manifests: vec![], ..image }], &other).unwrap();
            let tag = cosign::tag(&digest);
            place.put(folder.path(), &tag, &place.reference("release", &tag));
        },
        found: ("release:v1.37.2_sluice.1", "is not one of the key"),
    },
    Row {
        what: "the whole without signatures",
        keys: "keys",
        how: |place| {
            let made = place.bench.make(None);
            let scratch = tempfile::tempdir_in(place.bench.dir.path()).unwrap();
            let mut registry = place.server.open(PASSWORD);
            publish::push(&made, None, &mut registry, &place.base(), scratch.path(), |_| ()).unwrap();
        },
        found: (sums::SIGNATURE, "the release is not signed"),
    },
    Row {
        what: "an archive that is to be written elsewhere",
        keys: "",
        how: |place| {
            let (folder, digest) = place.artifact();
            let manifest = fs::read_to_string(layout::blob(folder.path(), &digest)).unwrap();
            let changed = manifest.replace("sluice-v1.37.2+sluice.1.tar.zst.sha256", "../../x.tar.zst");
            let blob = BlobStore::open(folder.path()).unwrap().put(changed.as_bytes()).unwrap();
            let entry = layout::entry("application/vnd.oci.image.manifest.v1+json".into(), &blob, TAG).unwrap();
            layout::seal(folder.path(), vec![entry]).unwrap();
            place.put(folder.path(), TAG, &place.reference("release", TAG));
        },
        found: ("release:v1.37.2_sluice.1", "is no file of a release"),
    },
];

#[test]
fn each_kind_of_tampering_with_a_registry_is_named() {
    let place = Place::new();
    for keys in ["", "keys"] {
        assert_eq!(place.problems(keys, TAG), [], "{keys:?}");
    }
    let whole = place.server.folder().join("whole");
    copy(&place.storage(), &whole);
    for row in ROWS {
        (row.how)(&place);
        let problems = place.problems(row.keys, TAG);
        let (name, what) = row.found;
        let names = [name.to_owned(), format!("{}/{name}", place.base())];
        let is_found =
            |problem: &Problem| names.iter().any(|name| problem.file.starts_with(name)) && problem.what.contains(what);
        assert!(problems.iter().any(is_found), "{}: {problems:?}", row.what);
        fs::remove_dir_all(place.storage()).unwrap();
        copy(&whole, &place.storage());
    }
    assert_eq!(place.problems("keys", TAG), [], "the copy is the whole again");
}

#[test]
fn an_older_release_under_a_newer_tag_is_named() {
    let place = Place::new();
    let (folder, _) = place.artifact();
    let newer = "v1.37.9_sluice.1";
    place.put(folder.path(), TAG, &place.reference("release", newer));
    let expected = Problem::new(place.reference("release", newer).to_string(), "it is the release v1.37.2+sluice.1");
    assert_eq!(place.problems("keys", newer), [expected]);
}

/// As `cosign sign` does with a signature of its own, with a key or without.
#[test]
fn what_others_signed_too_is_no_problem() {
    let place = Place::new();
    let (artifact, digest) = place.artifact();
    let shim = place.image("sluice-shim").digest;
    let layout = place.layout("sluice-shim");
    let (theirs, artifacts) = (place.bench.dir.path().join("theirs"), cosign::tag(&digest));
    place.server.open(PASSWORD).fetch(&place.reference("release", &artifacts), artifact.path(), |_| ()).unwrap();
    for (folder, image, signed) in [(artifact.path(), "release", digest), (&layout, "sluice-shim", shim)] {
        let tag = cosign::tag(&signed);
        let ours = attached::tags(folder).unwrap()[&tag];
        copy(folder, &theirs);
        let text = fs::read(layout::blob(folder, &ours)).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let mut other = manifest["layers"][0].clone();
        other["annotations"] = serde_json::json!({"dev.cosignproject.cosign/signature": "dGhlaXJz"});
        for place in [0, 2] {
            manifest["layers"].as_array_mut().unwrap().insert(place, other.clone());
        }
        let blob = BlobStore::open(&theirs).unwrap().put(manifest.to_string().as_bytes()).unwrap();
        let entry = layout::entry("application/vnd.oci.image.manifest.v1+json".into(), &blob, &tag).unwrap();
        layout::seal(&theirs, vec![entry]).unwrap();
        place.put(&theirs, &tag, &place.reference(image, &tag));
    }
    assert_eq!(place.problems("keys", TAG), []);
}

#[test]
fn a_second_push_of_a_release_sends_nothing() {
    let place = Place::new();
    let before = place.server.changes();
    place.push(Some(&place.signer));
    assert_eq!(place.server.changes(), before);
}

#[test]
fn openssl_and_skopeo_accept_the_images_of_a_release_and_no_others() {
    let place = Place::new();
    let (made, dir) = (&place.made, place.bench.dir.path());
    // Not where the release was pushed to: skopeo copies as well.
    let at = format!("docker://{}/copied/sluice-shim", place.server.name());
    place.trusted_by_skopeo();
    let credentials = place.server.credentials(PASSWORD);
    let run = |args: &[&str]| Run::new("skopeo", dir).args(args).env("REGISTRY_AUTH_FILE", &credentials).run();
    let image = place.image("sluice-shim");
    let layout = format!("oci:{}", made.folder.join(&image.layout).display());
    let upload = |tag: &str| {
        let (from, to) = (format!("{layout}:{tag}"), format!("{at}:{tag}"));
        run(&["--insecure-policy", "copy", "--quiet", "--all", "--dest-cert-dir=certs.d", &from, &to]).unwrap();
    };
    upload("v1.37.2_sluice.1");
    for digest in digests(image) {
        upload(&format!("sha256-{}.sig", digest.hex()));
    }

    // What cosign does: the tag that follows from the digest, the payload, the signature in the annotation.
    for digest in digests(image) {
        let (from, folder) = (format!("{at}:sha256-{}.sig", digest.hex()), dir.join(digest.hex()));
        let to = format!("dir:{}", folder.display());
        run(&["--insecure-policy", "copy", "--quiet", "--src-cert-dir=certs.d", &from, &to]).unwrap();
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
        let layer = &manifest["layers"][0];
        let payload = layer["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let text = fs::read_to_string(folder.join(payload)).unwrap();
        assert!(text.contains(&digest.to_string()), "{text}");
        let signature = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
        fs::write(folder.join("signature"), STANDARD.decode(signature).unwrap()).unwrap();
        for (keys, accepted) in [("keys", true), ("other", false)] {
            let key = dir.join(keys).join("ecdsa.pub");
            let openssl = Run::new("openssl", &folder).args(["dgst", "-sha256", "-verify"]).arg(key);
            let result = openssl.args(["-signature", "signature", payload]).run();
            assert_eq!(result.is_ok(), accepted, "{keys}: {result:?}");
        }
    }

    // The archive, under the name of its digest.
    let from = format!("docker://{}/release:{TAG}", place.base());
    run(&["--insecure-policy", "copy", "--quiet", "--src-cert-dir=certs.d", &from, "dir:fetched"]).unwrap();
    let archive = sums::digest(&made.archive).unwrap();
    assert_eq!(sums::digest(&dir.join("fetched").join(archive.hex())).unwrap(), archive);

    // Debian 12 builds its skopeo without the policies that read such signatures: it refuses all images under one.
    // The same library with them is tested in `tools`.
    place.policy("keys", "ghcr.io/test/sluice-shim");
    let policy = ["--policy", "policy.json", "--registries.d", "registries.d"];
    let target = tempfile::tempdir_in(dir).unwrap();
    let (from, to) = (format!("{at}:{TAG}"), format!("dir:{}", target.path().display()));
    let copy = ["copy", "--quiet", "--src-cert-dir=certs.d", &from, &to];
    match run(&[&policy[..], &copy].concat()) {
        Ok(()) => {}
        Err(error) => assert!(error.to_string().contains("Debian-local change: sigstore disabled"), "{error}"),
    }
}

/// What is signed of an image.
fn digests(image: &Image) -> Vec<Digest> {
    image.manifests.iter().map(|manifest| manifest.digest).chain([image.digest]).collect()
}
