//! Each kind of tampering is found, and the file is named.

use super::*;
use crate::images::Digest;

/// What somebody does to a release.
struct Row {
    what: &'static str,
    /// They can write the list of digests anew, which needs no key.
    sums: bool,
    /// The person who checks has the public keys.
    keys: bool,
    how: fn(&Path),
    /// Beginning of the file's name, and a part of what is said of it.
    found: (&'static str, &'static str),
}

const APISERVER: &str = "bin/linux-amd64/kube-apiserver";

pub(super) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

pub(super) fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} lacks {from}", path.display());
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// The list of digests for what is there now.
fn sum_again(folder: &Path) {
    fs::remove_file(folder.join(sums::NAME)).unwrap();
    let text = sums::text(folder).unwrap();
    fs::write(folder.join(sums::NAME), text).unwrap();
}

/// The keys of whoever tampers.
fn somebody(release: &Path) -> Signer {
    let folder = tempfile::tempdir_in(release.parent().unwrap()).unwrap();
    keys::generate(folder.path(), None).unwrap();
    Signer::load(folder.path(), None).unwrap()
}

/// Removes the signatures from a layout.
fn unsign(folder: &Path) {
    let path = folder.join("index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entries = index["manifests"].as_array_mut().unwrap();
    entries.retain(|entry| !entry["mediaType"].to_string().contains("manifest.v1"));
    let kept: Vec<_> = layouts::images(folder, "x").unwrap();
    fs::write(path, index.to_string()).unwrap();
    // And what nothing needs any more.
    if let Err(crate::images::Error::Invalid { problems, .. }) = crate::images::validate::layout(folder) {
        problems.iter().for_each(|problem| fs::remove_file(folder.join(&problem.file)).unwrap());
    }
    assert_eq!(layouts::images(folder, "x").unwrap(), kept);
}

const ROWS: &[Row] = &[
    Row {
        what: "a missing file",
        sums: false,
        keys: false,
        how: |release| fs::remove_file(release.join(APISERVER)).unwrap(),
        found: (APISERVER, "it is missing"),
    },
    Row {
        what: "a missing file, and a list without it",
        sums: true,
        keys: false,
        how: |release| fs::remove_file(release.join(APISERVER)).unwrap(),
        found: (APISERVER, "it is missing"),
    },
    Row {
        what: "an extra file",
        sums: false,
        keys: false,
        how: |release| fs::write(release.join("install.sh"), "rm -rf /").unwrap(),
        found: ("install.sh", "not in SHA256SUMS"),
    },
    Row {
        what: "an extra program, and a list with it",
        sums: true,
        keys: false,
        how: |release| fs::write(release.join("bin/linux-amd64/kube-proxy"), "").unwrap(),
        found: ("bin/linux-amd64/kube-proxy", "release.json does not name it"),
    },
    Row {
        what: "a link out of the release",
        sums: false,
        keys: false,
        how: |release| {
            fs::remove_file(release.join(APISERVER)).unwrap();
            fs::os::unix::fs::symlink("/bin/busybox", release.join(APISERVER)).unwrap();
        },
        found: (APISERVER, "no regular file"),
    },
    Row {
        what: "a name with a line end",
        sums: false,
        keys: false,
        how: |release| fs::write(release.join("a\nb"), "").unwrap(),
        found: ("a\nb", "no regular file"),
    },
    Row {
        what: "a list that names a file outside",
        sums: false,
        keys: false,
        how: |release| {
            let text = fs::read_to_string(release.join(sums::NAME)).unwrap();
            let line = sums::line(&Digest::of(b""), "../../etc/passwd");
            fs::write(release.join(sums::NAME), line + &text).unwrap();
        },
        found: (sums::NAME, "line 1 is not"),
    },
    Row {
        what: "a description that names a file outside",
        sums: true,
        keys: false,
        how: |release| edit(&release.join("release.json"), APISERVER, "../../../bin/busybox"),
        found: ("release.json", "no name for a file"),
    },
    Row {
        what: "a description that names a layout outside",
        sums: true,
        keys: false,
        how: |release| edit(&release.join("release.json"), "images/kube-apiserver", "/var/lib/images"),
        found: ("release.json", "no name for a file"),
    },
    Row {
        what: "a description with a version that is a path",
        sums: true,
        keys: false,
        how: |release| edit(&release.join("release.json"), "\"v1.37.2+sluice.1\"", "\"../../x\""),
        found: ("release.json", "is no version"),
    },
    Row {
        what: "a swapped program, and a list with it",
        sums: true,
        keys: false,
        how: |release| {
            let other = release.join("bin/linux-amd64/kube-scheduler");
            fs::copy(other, release.join(APISERVER)).unwrap();
        },
        found: (APISERVER, "names another program"),
    },
    Row {
        what: "a swapped image, and a list with it",
        sums: true,
        keys: false,
        how: |release| {
            let (one, other) = (release.join("images/kube-apiserver"), release.join("images/kube-controller-manager"));
            fs::remove_dir_all(&one).unwrap();
            copy(&other, &one);
        },
        found: ("images/kube-apiserver/index.json", "it lacks ghcr.io/test/kube-apiserver:v1.37.2_sluice.1"),
    },
    Row {
        what: "an image under the tag of another, and a list with it",
        sums: true,
        keys: false,
        how: |release| {
            let index = release.join("images/kube-apiserver/index.json");
            let text = fs::read_to_string(&index).unwrap();
            let (root, rest) = ("v1.37.2_sluice.1\"", "v1.37.2_sluice.1-rootless\"");
            fs::write(index, text.replace(rest, "X").replace(root, rest).replace('X', root)).unwrap();
        },
        found: ("images/kube-apiserver/index.json", "release.json does not name"),
    },
    Row {
        what: "the bill of another program, and a list with it",
        sums: true,
        keys: false,
        how: |release| {
            let bill = |name: &str| release.join(format!("sbom/{name}_linux-amd64.cdx.json"));
            fs::copy(bill("kube-scheduler"), bill("kube-apiserver")).unwrap();
        },
        found: ("sbom/kube-apiserver_linux-amd64.cdx.json", "it is about something"),
    },
    Row {
        what: "the bill of another image, and a list with it",
        sums: true,
        keys: false,
        how: |release| {
            let bill = |suffix: &str| {
                release.join(format!("sbom/image-kube-apiserver_v1.37.2_sluice.1{suffix}_linux-amd64.cdx.json"))
            };
            fs::copy(bill("-rootless"), bill("")).unwrap();
        },
        found: ("sbom/image-kube-apiserver_v1.37.2_sluice.1_linux-amd64.cdx.json", "it is about something"),
    },
    Row {
        what: "a bill that lists nothing, and a list with it",
        sums: true,
        keys: false,
        how: |release| {
            let path = release.join("sbom/sluice-shim_linux-amd64.cdx.json");
            let mut bill: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            bill["components"] = serde_json::json!([]);
            fs::write(path, bill.to_string()).unwrap();
        },
        found: ("sbom/sluice-shim_linux-amd64.cdx.json", "it lists no components"),
    },
    Row {
        what: "a bill of nothing, and a list with it",
        sums: true,
        keys: false,
        how: |release| {
            let bill = |name: &str| release.join(format!("sbom/{name}_linux-amd64.cdx.json"));
            fs::copy(bill("kube-scheduler"), bill("kube-proxy")).unwrap();
        },
        found: ("sbom/kube-proxy_linux-amd64.cdx.json", "nothing in the release"),
    },
    Row {
        what: "a provenance of another program, and a list with it",
        sums: true,
        keys: false,
        how: |release| {
            let program = fs::read(release.join(APISERVER)).unwrap();
            edit(&release.join("provenance.json"), &Digest::of(&program).hex(), &Digest::of(b"").hex());
        },
        found: ("provenance.json", "other programs or images"),
    },
    Row {
        what: "a provenance of another commit, and a list with it",
        sums: true,
        keys: false,
        how: |release| edit(&release.join("provenance.json"), "\"gitCommit\": \"0123", "\"gitCommit\": \"4567"),
        found: ("provenance.json", "it is about the commit"),
    },
    Row {
        what: "no provenance, and a list without it",
        sums: true,
        keys: false,
        how: |release| fs::remove_file(release.join("provenance.json")).unwrap(),
        found: ("provenance.json", "it is missing"),
    },
    Row {
        what: "a changed provenance beside a signed one",
        sums: true,
        keys: false,
        how: |release| edit(&release.join("provenance.json"), "\"1.26.10\"", "\"1.26.11\""),
        found: ("provenance.dsse.json", "carries another document"),
    },
    Row {
        what: "a statement signed by somebody else",
        sums: true,
        keys: true,
        how: |release| {
            let bytes = fs::read(release.join("provenance.json")).unwrap();
            fs::write(release.join("provenance.dsse.json"), dsse::sign(&somebody(release), &bytes).unwrap()).unwrap();
        },
        found: ("provenance.dsse.json", "not one of the key"),
    },
    Row {
        what: "the statement of another bill",
        sums: true,
        keys: true,
        how: |release| {
            let bill = |name: &str| release.join(format!("sbom/{name}_linux-amd64.cdx.dsse.json"));
            fs::copy(bill("kube-scheduler"), bill("kube-apiserver")).unwrap();
        },
        found: ("sbom/kube-apiserver_linux-amd64.cdx.dsse.json", "carries another document"),
    },
    Row {
        what: "an image signed by somebody else",
        sums: true,
        keys: true,
        how: |release| {
            let folder = release.join("images/sluice-shim");
            let images = layouts::images(&folder, "images/sluice-shim").unwrap();
            unsign(&folder);
            cosign::sign(&folder, &images.iter().collect::<Vec<_>>(), &somebody(release)).unwrap();
        },
        found: ("images/sluice-shim/index.json", "is not one of the key"),
    },
    Row {
        what: "an image without its signature, and a list without it",
        sums: true,
        keys: false,
        how: |release| unsign(&release.join("images/sluice-shim")),
        found: ("images/sluice-shim/index.json", "is missing"),
    },
    Row {
        what: "an image with the signature of another",
        sums: true,
        keys: false,
        how: |release| {
            let path = release.join("images/kube-apiserver/index.json");
            let mut index: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let entries = index["manifests"].as_array_mut().unwrap();
            let name = "org.opencontainers.image.ref.name";
            let signatures: Vec<usize> = (0..entries.len())
                .filter(|at| entries[*at]["annotations"][name].to_string().contains(".sig"))
                .collect();
            let first = entries[signatures[0]]["annotations"].clone();
            entries[signatures[0]]["annotations"] = entries[signatures[1]]["annotations"].clone();
            entries[signatures[1]]["annotations"] = first;
            fs::write(path, index.to_string()).unwrap();
        },
        found: ("images/kube-apiserver/index.json", "is one of another image"),
    },
    Row {
        what: "a damaged layer, and a list with it",
        sums: true,
        keys: false,
        how: |release| {
            let blobs = release.join("images/sluice-shim/blobs/sha256");
            let large = |path: &PathBuf| fs::metadata(path).unwrap().len();
            let entries = fs::read_dir(blobs).unwrap().map(|entry| entry.unwrap().path());
            flip(&entries.max_by_key(large).unwrap());
        },
        found: ("images/sluice-shim/blobs/sha256/", "its content has the digest"),
    },
    Row {
        what: "a changed list",
        sums: true,
        keys: true,
        how: |release| edit(&release.join("CHANGELOG.md"), "#", "##"),
        found: (sums::SIGNATURE, "ignature"),
    },
    Row {
        what: "a signature that is taken away",
        sums: false,
        keys: false,
        how: |release| fs::remove_file(release.join(sums::SIGNATURE)).unwrap(),
        found: (sums::SIGNATURE, "it is missing"),
    },
    Row {
        what: "a release that says that it was never signed",
        sums: true,
        keys: true,
        how: |release| {
            edit(&release.join("release.json"), "\"signed\": true", "\"signed\": false");
            fs::remove_file(release.join(sums::SIGNATURE)).unwrap();
        },
        found: (sums::SIGNATURE, "not signed"),
    },
    Row {
        what: "a signature of another time",
        sums: false,
        keys: true,
        how: |release| flip(&release.join(sums::SIGNATURE)),
        found: (sums::SIGNATURE, ""),
    },
];

#[test]
fn each_kind_of_tampering_is_named() {
    let bench = Bench::new();
    let (signer, public) = bench.keys("keys");
    let made = bench.make(Some(&signer));
    let whole = verify::folder(&made.folder, Some(&public)).unwrap();
    assert_eq!(whole.problems, []);
    for (number, row) in ROWS.iter().enumerate() {
        let release = bench.dir.path().join(format!("tampered-{number}"));
        copy(&made.folder, &release);
        (row.how)(&release);
        if row.sums {
            sum_again(&release);
        }
        let problems = verify::folder(&release, row.keys.then_some(&public)).unwrap().problems;
        let (file, what) = row.found;
        let named = problems.iter().any(|problem| problem.file.starts_with(file) && problem.what.contains(what));
        assert!(named, "{}: {problems:?}", row.what);
        fs::remove_dir_all(&release).unwrap();
    }
}

#[test]
fn a_flipped_bit_in_any_file_is_found() {
    let bench = Bench::new();
    let (signer, public) = bench.keys("keys");
    let made = bench.make(Some(&signer));
    let lists = [sums::NAME, sums::SIGNATURE];
    let names = bundle::Files::of(&made.folder).unwrap().all().unwrap();
    assert!(names.len() > 60, "{names:?}");
    for name in names.iter().filter(|name| !lists.contains(&name.as_str())) {
        flip(&made.folder.join(name));
    }
    let found = verify::folder(&made.folder, Some(&public)).unwrap().problems;
    for name in names.iter().filter(|name| !lists.contains(&name.as_str())) {
        assert!(found.iter().any(|problem| problem.file == *name), "{name}: {found:?}");
    }
    for name in lists {
        let made = bench.make(Some(&signer));
        flip(&made.folder.join(name));
        assert!(!verify::folder(&made.folder, Some(&public)).unwrap().problems.is_empty(), "{name}");
    }
}

#[test]
fn the_keys_of_somebody_else_are_not_ours() {
    let bench = Bench::new();
    let (signer, _) = bench.keys("keys");
    let (_, other) = bench.keys("other");
    let problems = verify::folder(&bench.make(Some(&signer)).folder, Some(&other)).unwrap().problems;
    assert!(problems.iter().any(|problem| problem.file == sums::SIGNATURE), "{problems:?}");

    let problems = verify::folder(&bench.make(None).folder, Some(&other)).unwrap().problems;
    assert_eq!(problems, [Problem::new(sums::SIGNATURE, "the release is not signed")]);
}
