//! Bills of materials in CycloneDX's form (<https://cyclonedx.org/docs/1.5/json/>): one for each program and each image
//! of a platform. The digest of the subject is in it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::description::{Description, Image, Manifest, Program};
use super::inventory::{Checksum, Component, Content, Inventory};
use super::statement;
use crate::calendar;
use crate::images::Digest;
use sluice_shell::error::{Error, Result};

/// Where the sources of this project are.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// The files of all bills of a release, with the digests of what they are about.
pub(super) fn subjects(release: &Description) -> BTreeMap<String, Digest> {
    let programs = release.programs.iter().map(|it| (program_file(it), it.digest));
    let images = release.images.iter();
    let images = images.flat_map(|image| image.manifests.iter().map(|it| (image_file(image, it), it.digest)));
    programs.chain(images).collect()
}

/// The file of a program's bill.
fn program_file(program: &Program) -> String {
    format!("sbom/{}_{}.cdx.json", program.name, program.platform.replace('/', "-"))
}

/// The file of an image's bill.
pub(super) fn image_file(image: &Image, manifest: &Manifest) -> String {
    let name = image.reference.rsplit('/').next().unwrap_or_default().replace(':', "_");
    format!("sbom/image-{name}_{}.cdx.json", manifest.platform.replace('/', "-"))
}

/// All bills of a release by their files.
pub(super) fn all(release: &Description, inventory: &Inventory) -> Result<BTreeMap<String, Value>> {
    let mut bills = BTreeMap::new();
    for program in &release.programs {
        bills.insert(program_file(program), of_program(release, program, inventory)?);
    }
    for image in &release.images {
        let name = image.layout.rsplit('/').next().unwrap_or_default();
        let content = inventory.images.get(name);
        let content = content.ok_or_else(|| Error::input(format!("nobody knows what is in the image {name}")))?;
        for manifest in &image.manifests {
            bills.insert(image_file(image, manifest), of_image(release, image, manifest, content, inventory)?);
        }
    }
    Ok(bills)
}

fn linked<'a>(program: &Program, inventory: &'a Inventory) -> Result<&'a [Component]> {
    let found = inventory.programs.get(&(program.platform.clone(), program.name.clone()));
    let unknown = || Error::input(format!("nobody knows what is in {} for {}", program.name, program.platform));
    found.map(Vec::as_slice).ok_or_else(unknown)
}

fn of_program(release: &Description, program: &Program, inventory: &Inventory) -> Result<Value> {
    let components = linked(program, inventory)?;
    let edges = BTreeMap::from([(reference(program), purls(components))]);
    Ok(document(release, &entry(program), components, vec![], edges))
}

fn of_image(
    release: &Description,
    image: &Image,
    manifest: &Manifest,
    content: &Content,
    inventory: &Inventory,
) -> Result<Value> {
    let inside = |program: &&Program| program.platform == manifest.platform && content.programs.contains(&program.name);
    let programs: Vec<&Program> = release.programs.iter().filter(inside).collect();
    if programs.len() != content.programs.len() {
        return Err(Error::input(format!("a program of {} for {} is missing", image.reference, manifest.platform)));
    }
    let (name, tag) = image.reference.rsplit_once(':').unwrap_or((&image.reference, ""));
    let url = format!("pkg:oci/{}@{}", name.rsplit('/').next().unwrap_or_default(), manifest.digest)
        .replace("sha256:", "sha256%3A");
    let own = json!({
        "type": "container", "bom-ref": url, "name": name, "version": tag,
        "purl": format!("{url}?repository_url={name}&tag={tag}"),
        "hashes": [{"alg": "SHA-256", "content": manifest.digest.hex()}],
    });
    let mut edges = BTreeMap::new();
    let others = content.others.get(&manifest.platform).map(Vec::as_slice).unwrap_or_default();
    let mut parts: Vec<Component> = others.to_vec();
    for program in &programs {
        let components = linked(program, inventory)?;
        edges.insert(reference(program), purls(components));
        parts.extend_from_slice(components);
    }
    let direct = programs.iter().map(|program| reference(program)).chain(purls(others));
    edges.insert(url, direct.collect());
    Ok(document(release, &own, &parts, programs.iter().map(|program| entry(program)).collect(), edges))
}

fn purls(components: &[Component]) -> Vec<String> {
    components.iter().map(|component| component.purl.clone()).collect()
}

/// The name of a program within a bill.
fn reference(program: &Program) -> String {
    format!("{}@{}", program.name, program.digest)
}

/// A program as a component.
fn entry(program: &Program) -> Value {
    json!({
        "type": "application", "bom-ref": reference(program), "name": program.name, "version": program.version,
        "hashes": [{"alg": "SHA-256", "content": program.digest.hex()}],
        "licenses": [{"expression": "Apache-2.0"}],
        "externalReferences": [{"type": "vcs", "url": REPOSITORY}],
        "properties": [{"name": "sluice:platform", "value": program.platform}],
    })
}

fn document(
    release: &Description,
    own: &Value,
    parts: &[Component],
    programs: Vec<Value>,
    mut edges: BTreeMap<String, Vec<String>>,
) -> Value {
    // A module of two programs is one component.
    let unique: BTreeMap<&str, &Component> = parts.iter().map(|part| (part.purl.as_str(), part)).collect();
    let components: Vec<Value> = programs.into_iter().chain(unique.values().map(|part| library(part))).collect();
    for purl in unique.keys() {
        edges.entry((*purl).to_owned()).or_default();
    }
    let edges: Vec<Value> = edges.iter().map(|(from, to)| json!({"ref": from, "dependsOn": to})).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": calendar::rfc3339(i64::try_from(release.source_date_epoch).unwrap_or_default()),
            "tools": {"components": [
                {"type": "application", "name": "cargo xtask release", "version": env!("CARGO_PKG_VERSION")},
            ]},
            "component": own,
        },
        "components": components,
        "dependencies": edges,
    })
}

fn library(part: &Component) -> Value {
    let mut value = json!({
        "type": "library", "bom-ref": part.purl, "name": part.name, "version": part.version, "purl": part.purl,
        "properties": [{"name": "sluice:licence-file", "value": format!("licenses/{}", part.file)}],
    });
    if let Some(licence) = &part.licence {
        value["licenses"] = json!([{"expression": licence}]);
    }
    match &part.checksum {
        Some(Checksum::Sha256(hex)) => value["hashes"] = json!([{"alg": "SHA-256", "content": hex}]),
        // A digest of digests: no `hash` of CycloneDX.
        Some(Checksum::GoModule(sum)) => {
            value["properties"] = json!([value["properties"][0], {"name": "go:sum", "value": sum}]);
        }
        None => {}
    }
    value
}

/// The statement that `bill`, the file `name`, is what the thing with this digest is made of.
pub(super) fn statement(name: &str, digest: &Digest, bill: &Value) -> Value {
    let subject = bill["metadata"]["component"]["name"].as_str().unwrap_or(name).to_owned();
    statement::of(&BTreeMap::from([(subject, *digest)]), statement::BILL, bill)
}

/// Why `bill` is not about something with this digest.
pub(super) fn fits(bill: &Value, digest: &Digest) -> Result<(), String> {
    let (form, version) = (&bill["bomFormat"], &bill["specVersion"]);
    if form != "CycloneDX" || version != "1.5" {
        return Err(format!("it is no CycloneDX 1.5, but {form} {version}"));
    }
    let hash = &bill["metadata"]["component"]["hashes"][0];
    if hash["alg"] != "SHA-256" || hash["content"] != digest.hex() {
        return Err(format!("it is about something with the digest {}, not {digest}", hash["content"]));
    }
    match bill["components"].as_array() {
        Some(components) if !components.is_empty() => Ok(()),
        _ => Err("it lists no components".to_owned()),
    }
}
