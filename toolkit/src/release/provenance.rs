//! Where a release comes from: SLSA's provenance, version 1 (<https://slsa.dev/spec/v1.0/provenance>).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::description::Description;
use super::inventory::{Checksum, Inventory};
use super::statement;
use crate::build::Program;
use crate::images::Digest;
use crate::pipeline::{Built, Tested};
use crate::source::Pins;
use sluice_shell::error::{Error, Result};

/// Its file.
pub(super) const NAME: &str = "provenance.json";

/// Its predicate.
pub(super) const KIND: &str = "https://slsa.dev/provenance/v1";

/// Where the sources of this project are.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// How the release was built.
pub(super) struct Builder {
    /// The command, as one types it.
    pub(super) command: String,
    /// Version of the Go compiler.
    pub(super) go: String,
    /// Version of the Rust compiler for each platform.
    pub(super) rust: BTreeMap<String, String>,
    /// Checksums of Kubernetes' modules.
    pub(super) pins: Pins,
    /// Files of this project that decide what is built, with their digests.
    pub(super) files: BTreeMap<String, Digest>,
}

/// What compiled the shim, by platform: a distribution may have another compiler for another platform.
pub(super) fn rust(builds: &[Built<Tested>]) -> BTreeMap<String, String> {
    let shim = |built: &Built<Tested>| {
        let shim = built.binaries.iter().find(|binary| binary.name == Program::SluiceShim.name())?;
        Some((built.platform.to_string(), shim.compiler.clone()))
    };
    builds.iter().filter_map(shim).collect()
}

/// The statement about all programs and images of a release.
pub(super) fn of(release: &Description, builder: &Builder, inventory: &Inventory) -> Result<Value> {
    let platforms: Vec<&str> = release.programs.iter().map(|program| program.platform.as_str()).collect();
    let platforms: std::collections::BTreeSet<&str> = platforms.into_iter().collect();
    let mut compilers = BTreeMap::from([("go".to_owned(), builder.go.clone())]);
    compilers.extend(builder.rust.iter().map(|(platform, version)| (format!("rust for {platform}"), version.clone())));
    compilers.insert("xtask".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let predicate = json!({
        "buildDefinition": {
            "buildType": format!("{REPOSITORY}/blob/main/docs/release.md"),
            "externalParameters": {
                "command": builder.command,
                "kubernetes": release.kubernetes,
                "platforms": platforms,
                "sourceDateEpoch": release.source_date_epoch,
            },
            "internalParameters": {},
            "resolvedDependencies": materials(release, builder, inventory)?,
        },
        "runDetails": {
            // Whoever signs vouches for the machine: the command itself can't tell which one runs it.
            "builder": {
                "id": format!("{REPOSITORY}/blob/main/docs/release.md#builder"),
                "version": compilers,
            },
        },
    });
    Ok(statement::of(&statement::subjects(release), KIND, &predicate))
}

/// Our commit first; then all that was built, by its package URL or the name of its file.
fn materials(release: &Description, builder: &Builder, inventory: &Inventory) -> Result<Vec<Value>> {
    let commit = json!({
        "uri": format!("git+{REPOSITORY}@{}", release.commit),
        "digest": {"gitCommit": release.commit},
    });
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    let kubernetes = &builder.pins.kubernetes;
    let main = ("k8s.io/kubernetes", &kubernetes.version, &kubernetes.sum);
    let staging = builder.pins.staging.iter().map(|it| (it.module.as_str(), &it.version, &it.sum));
    for (module, version, sum) in staging.chain([main]) {
        found.insert(format!("pkg:golang/{module}@{version}"), json!({"dirHash1": hex(sum)?}));
    }
    for component in inventory.all() {
        let digest = match &component.checksum {
            Some(Checksum::Sha256(hex)) => json!({"sha256": hex}),
            Some(Checksum::GoModule(sum)) => json!({"dirHash1": hex(sum)?}),
            // Compilers and packages of the machine, which no file of ours pins.
            None => continue,
        };
        found.insert(component.purl.clone(), digest);
    }
    let files = builder.files.iter().map(|(name, digest)| json!({"name": name, "digest": {"sha256": digest.hex()}}));
    let modules = found.iter().map(|(uri, digest)| json!({"uri": uri, "digest": digest}));
    Ok(std::iter::once(commit).chain(files).chain(modules).collect())
}

/// Go's `h1:` checksum as in-toto writes it (spec/v1/digest_set.md, `dirHash1`).
fn hex(sum: &str) -> Result<String> {
    let bytes = sum.strip_prefix("h1:").and_then(|text| STANDARD.decode(text).ok());
    let bytes = bytes.ok_or_else(|| Error::input(format!("{sum:?} is no checksum of a Go module")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Why `statement` is not about `release`.
pub(super) fn fits(statement: &Value, release: &Description) -> Result<(), String> {
    let expected = statement::of(&statement::subjects(release), KIND, &statement["predicate"]);
    if expected["subject"] != statement["subject"] {
        return Err("it is about other programs or images than those of the release".to_owned());
    }
    if expected != *statement {
        return Err("it is no provenance of SLSA, version 1".to_owned());
    }
    let commit = &statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"];
    if *commit != release.commit {
        return Err(format!("it is about the commit {commit}, the release about {:?}", release.commit));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    /// The example of the specification.
    #[test]
    fn checksums_of_modules_are_written_in_hexadecimal_digits() {
        let sum = "h1:Khu2En+0gcYPZ2kuIihfswbzxv/mIHXgzPZ018Oty48=";
        let expected = "2a1bb6127fb481c60f67692e22285fb306f3c6ffe62075e0ccf674d7c3adcb8f";
        assert_eq!(super::hex(sum).unwrap(), expected);
        super::hex("sha256:00").unwrap_err();
    }
}
