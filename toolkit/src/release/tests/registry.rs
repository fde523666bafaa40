//! Standard tools check the signatures of a release's images, which come from Debian's registry.

use std::process::Child;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::cluster::{port, wait};
use crate::images::Digest;
use crate::release::description::Image;

/// A registry on a port of its own, which ends with the test.
struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    fn start(folder: &Path) -> Self {
        let port = port::free().unwrap();
        let storage = folder.join("registry");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \
             '127.0.0.1:{port}'}}\n",
            storage.display()
        );
        fs::write(folder.join("registry.yml"), config).unwrap();
        let run = Run::new("docker-registry", folder).args(["serve", "registry.yml"]);
        let child = run.spawn(&folder.join("registry.log")).unwrap();
        let registry = Self { child, port };
        let listens = || Ok((!port::is_free(port)).then_some(()));
        wait::until("the start of the registry", wait::LIMIT, listens).unwrap();
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn openssl_and_skopeo_accept_the_images_of_a_release_and_no_others() {
    let bench = Bench::new();
    let (signer, _) = bench.keys("keys");
    bench.keys("other");
    let made = bench.make(Some(&signer));
    let dir = bench.dir.path();
    let registry = Registry::start(dir);
    let at = format!("docker://127.0.0.1:{}/mirror/sluice-shim", registry.port);
    let run = |args: &[&str]| Run::new("skopeo", dir).args(args).run();
    let image = made.description.images.iter().find(|image| image.reference.contains("/sluice-shim:")).unwrap();
    let layout = format!("oci:{}", made.folder.join(&image.layout).display());
    let upload = |tag: &str| {
        let (from, to) = (format!("{layout}:{tag}"), format!("{at}:{tag}"));
        run(&["--insecure-policy", "copy", "--quiet", "--all", "--dest-tls-verify=false", &from, &to]).unwrap();
    };
    upload("v1.37.2_sluice.1");
    for digest in digests(image) {
        upload(&format!("sha256-{}.sig", digest.hex()));
    }

    // What cosign does: the tag that follows from the digest, the payload, the signature in the annotation.
    for digest in digests(image) {
        let (from, folder) = (format!("{at}:sha256-{}.sig", digest.hex()), dir.join(digest.hex()));
        let to = format!("dir:{}", folder.display());
        run(&["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", &from, &to]).unwrap();
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

    let attachments = format!("docker: {{\"127.0.0.1:{}\": {{use-sigstore-attachments: true}}}}\n", registry.port);
    fs::create_dir(dir.join("registries.d")).unwrap();
    fs::write(dir.join("registries.d/local.yaml"), attachments).unwrap();
    let pulls = |keys: &str, repository: &str, tag: &str| {
        let identity = serde_json::json!({"type": "exactRepository", "dockerRepository": repository});
        let key = dir.join(keys).join("ecdsa.pub");
        let rule = serde_json::json!({"type": "sigstoreSigned", "keyPath": key, "signedIdentity": identity});
        let policy = serde_json::json!({"default": [{"type": "reject"}], "transports": {"docker": {"": [rule]}}});
        fs::write(dir.join("policy.json"), policy.to_string()).unwrap();
        let place = tempfile::tempdir_in(dir).unwrap();
        let (from, to) = (format!("{at}:{tag}"), format!("dir:{}", place.path().display()));
        let options =
            ["--policy", "policy.json", "--registries.d", "registries.d", "copy", "--quiet", "--src-tls-verify=false"];
        run(&[options.as_slice(), &[&from, &to]].concat())
    };
    let repository = "ghcr.io/test/sluice-shim";
    match pulls("keys", repository, "v1.37.2_sluice.1") {
        Ok(()) => {}
        // Debian 12 builds its skopeo without these policies: it refuses every image under one, with this text.
        Err(error) if error.to_string().contains("Debian-local change: sigstore disabled") => return,
        Err(error) => panic!("{error}"),
    }
    pulls("other", repository, "v1.37.2_sluice.1").unwrap_err();
    pulls("keys", "ghcr.io/test/kube-apiserver", "v1.37.2_sluice.1").unwrap_err();

    // Another image under the tag.
    let other = format!("oci:{}:v1.37.2_sluice.1", made.folder.join("images/kube-apiserver").display());
    let to = format!("{at}:other");
    run(&["--insecure-policy", "copy", "--quiet", "--all", "--dest-tls-verify=false", &other, &to]).unwrap();
    pulls("keys", repository, "other").unwrap_err();
}

/// What is signed of an image.
fn digests(image: &Image) -> Vec<Digest> {
    image.manifests.iter().map(|manifest| manifest.digest).chain([image.digest]).collect()
}
