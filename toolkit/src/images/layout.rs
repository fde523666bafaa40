//! Writes images as an OCI image layout (OCI image-layout.md): a folder that skopeo, umoci, crane and podman read.

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
};

use fs_err as fs;
use oci_spec::image as oci;
use tempfile::NamedTempFile;

use super::{
    Digest, Error, Index,
    blobs::{Blob, BlobStore},
    image::{Document, descriptor},
    index::{index, index_json},
};

/// The content of the file `oci-layout`.
pub(crate) const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The file of a blob in a layout.
pub(crate) fn blob(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs").join("sha256").join(digest.hex())
}

/// Writes `indexes` to `folder`, with the layers from `layers`. Whoever reads the folder meanwhile sees the old images
/// or the new ones; blobs that no image needs any more are removed at the end.
pub(crate) fn write(folder: &Path, layers: &BlobStore, indexes: &[Index]) -> Result<(), Error> {
    let store = BlobStore::open(folder)?;
    let mut used = BTreeSet::new();
    for index in indexes {
        for image in index.images() {
            for blob in image.layer_blobs() {
                layers.copy(&blob, &store)?;
                used.insert(blob.digest.hex());
            }
            for document in image.documents()? {
                used.insert(store.put(document.bytes())?.digest.hex());
            }
        }
        used.insert(store.put(index.document()?.bytes())?.digest.hex());
    }
    replace(&folder.join("oci-layout"), MARKER)?;
    replace(&folder.join("index.json"), index_json(indexes)?.bytes())?;
    store.prune(|name| used.contains(name))
}

/// The entry of a layout for a document that is a blob there, with its name.
pub(crate) fn entry(media_type: oci::MediaType, blob: &Blob, name: &str) -> Result<oci::Descriptor, Error> {
    let mut entry = descriptor(media_type, blob)?;
    entry.set_annotations(Some([(oci::ANNOTATION_REF_NAME.to_owned(), name.to_owned())].into()));
    Ok(entry)
}

/// Makes `folder`, in which all blobs are, the layout of `entries`.
pub(crate) fn seal(folder: &Path, entries: Vec<oci::Descriptor>) -> Result<(), Error> {
    replace(&folder.join("oci-layout"), MARKER)?;
    replace(&folder.join("index.json"), Document::new(&index(entries))?.bytes())
}

/// Puts `bytes` into `path` at once, through a temporary file.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let fail = |source| Error::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = NamedTempFile::with_prefix_in(".partial-", folder).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}
