//! cosign, and the library that skopeo is made of, check the images of a release.
//!
//! Both take minutes to compile, so that `cargo xtask test images` builds them and names them in the environment; a
//! plain `cargo test` has nothing to run here.

use std::ffi::OsString;

use super::registry::{Place, TAG};
use super::*;
use crate::registry::tests::server::PASSWORD;
use sluice_shell::error::Result;

/// A program that the environment names.
fn program(variable: &str) -> Option<OsString> {
    let program = std::env::var_os(variable);
    if program.is_none() {
        println!("nothing is tested: {variable} names no program");
    }
    program
}

#[test]
fn cosign_accepts_images_and_attestations_of_the_key_and_no_others() {
    let Some(cosign) = program("SLUICE_TEST_COSIGN") else { return };
    let place = Place::new();
    let dir = place.bench.dir.path();
    fs::copy(place.server.credentials(PASSWORD), dir.join("config.json")).unwrap();
    let run = |verb: &[&str], keys: &str, image: &str| -> Result<()> {
        let (key, image) = (format!("{keys}/ecdsa.pub"), format!("{}/{image}", place.base()));
        let authority = place.server.authority();
        let run = Run::new(&cosign, dir).env("DOCKER_CONFIG", dir).env("HOME", dir).args(verb);
        run.args(["--key", &key, "--insecure-ignore-tlog=true", "--registry-cacert"]).arg(authority).arg(image).run()
    };
    let manifest = format!("sluice-shim@{}", place.image("sluice-shim").manifests[0].digest);
    let [image, release] = ["sluice-shim", "release"].map(|name| format!("{name}:{TAG}"));
    let provenance = ["verify-attestation", "--type", "slsaprovenance1"];
    let bill = ["verify-attestation", "--type", "cyclonedx"];
    for (verb, image) in [
        (&["verify"][..], &image),
        (&["verify"], &manifest),
        (&["verify"], &release),
        (&provenance, &image),
        (&provenance, &manifest),
        (&bill, &manifest),
    ] {
        run(verb, "keys", image).unwrap();
        run(verb, "other", image).unwrap_err();
    }
    // Another image under the tag: its signature is elsewhere.
    place.put(&place.layout("kube-apiserver"), TAG, &place.reference("sluice-shim", TAG));
    run(&["verify"], "keys", &image).unwrap_err();
    run(&["verify"], "keys", &manifest).unwrap();
}

#[test]
fn a_policy_with_our_key_lets_our_images_pass_and_no_others() {
    let Some(copy) = program("SLUICE_TEST_IMAGE_COPY") else { return };
    let place = Place::new();
    let dir = place.bench.dir.path();
    place.trusted_by_skopeo();
    let run = |keys: &str, repository: &str, from: &str| -> Result<()> {
        place.policy(keys, repository);
        let target = tempfile::tempdir_in(dir).unwrap();
        let run = Run::new(&copy, dir).args(["-policy", "policy.json", "-registries.d", "registries.d"]);
        let run = run.args(["-cert-dir", "certs.d", "-authfile"]).arg(place.server.credentials(PASSWORD));
        run.arg(from).arg(format!("dir:{}", target.path().display())).run()
    };
    let repository = "ghcr.io/test/sluice-shim";
    let image = format!("docker://{}/sluice-shim:{TAG}", place.base());
    run("keys", repository, &image).unwrap();
    run("other", repository, &image).unwrap_err();
    run("keys", "ghcr.io/test/kube-apiserver", &image).unwrap_err();
    place.put(&place.layout("kube-apiserver"), TAG, &place.reference("sluice-shim", TAG));
    run("keys", repository, &image).unwrap_err();

    // An OCI layout has no place for signatures that this library knows: a policy of this kind lets none pass.
    let layout = format!("oci:{}:{TAG}", place.layout("kube-apiserver").display());
    let refused = run("keys", "ghcr.io/test/kube-apiserver", &layout).unwrap_err();
    assert!(refused.to_string().contains("no signature exists"), "{refused}");
}
