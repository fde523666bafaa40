//! Writes images as an OCI image layout (OCI image-layout.md): a folder that skopeo, umoci, crane and podman read.

use std::{collections::BTreeSet, io::Write, path::Path};

use fs_err as fs;
use tempfile::NamedTempFile;

use super::{
    Error, Index,
    blobs::{Blob, BlobStore},
    index::index_json,
};

/// The content of the file `oci-layout`.
pub(crate) const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes `indexes` to `folder`, with the layers from `layers`. Whoever reads the folder meanwhile sees the old images
/// or the new ones; blobs that no image needs any more are removed at the end.
pub(crate) fn write(folder: &Path, layers: &BlobStore, indexes: &[Index]) -> Result<(), Error> {
    let store = BlobStore::open(folder)?;
    let mut used = BTreeSet::new();
    for index in indexes {
        for blob in layer_blobs(index) {
            layers.copy(&blob, &store)?;
            used.insert(blob.digest.hex());
        }
        for document in documents(index)? {
            used.insert(store.put(&document)?.digest.hex());
        }
    }
    replace(&folder.join("oci-layout"), MARKER)?;
    replace(&folder.join("index.json"), index_json(indexes)?.bytes())?;
    store.prune(|name| used.contains(name))
}

/// The layers of every image of `index`.
pub(crate) fn layer_blobs(index: &Index) -> Vec<Blob> {
    index.images().iter().flat_map(|image| image.layer_blobs()).collect()
}

/// The documents that are blobs: configurations, manifests, the index itself.
pub(crate) fn documents(index: &Index) -> Result<Vec<Vec<u8>>, Error> {
    let mut documents = vec![];
    for image in index.images() {
        documents.push(image.config()?.bytes().to_vec());
        documents.push(image.manifest()?.bytes().to_vec());
    }
    documents.push(index.document()?.bytes().to_vec());
    Ok(documents)
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
