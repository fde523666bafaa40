//! Writes one image as an archive for `docker load`, `podman load`, `ctr images import` and `kind load image-archive`.
//!
//! The form is that of `docker save` since Docker 25 (moby image/tarexport/save.go): an OCI layout, and beside it
//! `manifest.json` and `repositories` for tools that know docker's older form alone.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Read, Write},
    path::Path,
};

use fs_err as fs;
use serde::Serialize;
use tempfile::NamedTempFile;

use super::{
    Error, Image, Reference, Timestamp,
    blobs::{Blob, BlobStore},
    digest::Digest,
    image::Document,
    index::index_json_of,
    layout,
};

/// One entry of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

enum Part {
    Bytes(Vec<u8>),
    Layer(Blob),
}

/// Writes `image` to the file `path`, named `reference`, with the layers from `layers`; each entry has the modification
/// time `moment`. An archive is for one platform: `manifest.json` can't tell several apart.
pub(crate) fn write(
    path: &Path,
    layers: &BlobStore,
    reference: &Reference,
    image: &Image,
    moment: Timestamp,
) -> Result<(), Error> {
    let parts = parts(reference, image)?;
    let fail = |source| Error::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let file = NamedTempFile::with_prefix_in(".partial-", folder).map_err(fail)?;
    let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 18, file));
    for folder in ["blobs/", "blobs/sha256/"] {
        let mut header = header(0o755, 0, moment);
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, folder, io::empty()).map_err(fail)?;
    }
    for (name, part) in &parts {
        let (size, reader): (_, Box<dyn Read + '_>) = match part {
            Part::Bytes(bytes) => (bytes.len() as u64, Box::new(bytes.as_slice())),
            Part::Layer(blob) => (blob.size, Box::new(fs::File::open(layers.path(&blob.digest))?)),
        };
        tar.append_data(&mut header(0o644, size, moment), name, reader.take(size)).map_err(fail)?;
    }
    let mut buffer = tar.into_inner().map_err(fail)?;
    buffer.flush().map_err(fail)?;
    let file = buffer.into_inner().map_err(|error| fail(error.into_error()))?;
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}

fn parts(reference: &Reference, image: &Image) -> Result<BTreeMap<String, Part>, Error> {
    let mut parts = BTreeMap::new();
    for blob in image.layer_blobs() {
        parts.insert(blob_name(&blob.digest), Part::Layer(blob));
    }
    for document in image.documents()? {
        parts.insert(blob_name(&document.blob().digest), Part::Bytes(document.bytes().to_vec()));
    }
    let documents = [
        ("manifest.json", Document::new(&[entry(reference, image)?])?),
        ("repositories", repositories(reference, image)?),
        ("index.json", index_json_of(reference, image)?),
    ];
    parts.extend(documents.map(|(name, document)| (name.to_owned(), Part::Bytes(document.bytes().to_vec()))));
    parts.insert("oci-layout".to_owned(), Part::Bytes(layout::MARKER.to_vec()));
    Ok(parts)
}

fn entry(reference: &Reference, image: &Image) -> Result<Entry, Error> {
    Ok(Entry {
        config: blob_name(&image.config()?.blob().digest),
        repo_tags: vec![reference.to_string()],
        layers: image.layers().iter().map(|layer| blob_name(&layer.blob().digest)).collect(),
    })
}

/// Docker's oldest form: repository → tag → the id of the topmost layer.
fn repositories(reference: &Reference, image: &Image) -> Result<Document, Error> {
    let id = image.layers().last().map(|layer| layer.blob().digest.hex()).unwrap_or_default();
    Document::new(&BTreeMap::from([(reference.repository(), BTreeMap::from([(reference.tag(), id)]))]))
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn header(mode: u32, size: u64, moment: Timestamp) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(moment.seconds());
    header.set_entry_type(tar::EntryType::Regular);
    header
}
