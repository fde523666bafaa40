//! Fetches an image with all its parts into an OCI layout.

use std::{io::Write, path::Path};

use fs_err as fs;
use futures_util::StreamExt as _;
use oci_client::{RegistryOperation, errors::OciDistributionError};
use oci_spec::image as oci;
use serde::Deserialize;

use super::{
    answer::Trouble,
    client::{Registry, Step},
    error::Error,
    graph::{self, Document, INDEXES, MANIFESTS},
};
use crate::images::{Blob, BlobStore, Digest, Reference, layout};

impl Registry {
    /// Fetches the image `from`, all platforms of it, into the OCI layout in `folder`, beside what the layout has. The
    /// tag becomes its name there. `say` hears what is being done.
    ///
    /// # Errors
    /// Bytes that do not have their digest, all that a registry can refuse, and the folder's.
    pub(crate) fn fetch(&self, from: &Reference, folder: &Path, say: impl Fn(String)) -> Result<Digest, Error> {
        let path = self.path(from)?;
        self.block_on(self.log_in(&path, RegistryOperation::Pull))?;
        let store = BlobStore::open(folder)?;
        say(from.to_string());
        let top = self.block_on(self.document(&path, from.tag()))?;
        let (digest, size, media_type) = (top.digest, top.bytes.len() as u64, top.media_type.clone());
        let parts = graph::parts(&top, |digest| Ok(self.block_on(self.document(&path, &digest.to_string()))?.bytes))?;
        for (done, blob) in parts.blobs.iter().enumerate() {
            say(format!("{from}: blob {} of {}, {:.1} MB", done + 1, parts.blobs.len(), blob.size as f64 / 1e6));
            if !store.holds(blob)? {
                self.block_on(self.receive(&path, blob, || Ok(store.writer()?)))?.commit()?;
            }
        }
        for document in &parts.documents {
            store.put(&document.bytes)?;
        }
        enter(folder, &Blob { digest, size }, &media_type, from.tag())?;
        Ok(digest)
    }

    /// The index or the manifest that a repository has under a tag or a digest.
    pub(super) async fn document(&self, path: &str, at: &str) -> Result<Document, Error> {
        let accepted = [INDEXES, MANIFESTS].concat();
        let here = self.reference(path, at);
        let step = Step { path, what: format!("give the manifest {path}:{at}") };
        let read =
            self.attempt(&step, async || match self.client.pull_manifest_raw(&here, self.auth(), &accepted).await {
                Ok((bytes, _)) => Ok(Some(bytes.to_vec())),
                Err(error) => match Trouble::from(error) {
                    trouble if trouble.is_missing() => Ok(None),
                    trouble => Err(trouble),
                },
            });
        let bytes = read.await?.ok_or_else(|| Error::Missing(format!("{}/{path}:{at}", self.name())))?;
        let digest = Digest::of(&bytes);
        let media_type = media_type(&bytes)
            .map_err(|error| Error::Document { digest: digest.to_string(), reason: error.to_string() })?;
        Ok(Document { media_type, digest, bytes })
    }

    /// Writes a blob of a repository to what `open` opens: once for each attempt. All bytes have come, and have the
    /// digest.
    pub(super) async fn receive<W: Write>(
        &self,
        path: &str,
        blob: &Blob,
        open: impl Fn() -> Result<W, Error>,
    ) -> Result<W, Error> {
        let name = blob.digest.to_string();
        let step = Step { path, what: format!("give the blob {name}") };
        self.persist(&step, async || self.receive_once(path, &name, blob.size, &open).await).await?
    }

    /// Outside: what became of the request. Inside: what became of the file.
    async fn receive_once<W: Write>(
        &self,
        path: &str,
        name: &str,
        size: u64,
        open: &impl Fn() -> Result<W, Error>,
    ) -> Result<Result<W, Error>, Trouble> {
        let here = self.reference(path, name);
        let request = async { Ok(self.client.pull_blob_stream(&here, name).await?) };
        let mut stream = self.answered(request).await?;
        let mut writer = match open() {
            Ok(writer) => writer,
            Err(error) => return Ok(Err(error)),
        };
        let mut received = 0;
        loop {
            let chunk =
                async { stream.next().await.transpose().map_err(|error| OciDistributionError::from(error).into()) };
            let Some(chunk) = self.answered(chunk).await? else { break };
            received += chunk.len() as u64;
            if received > size {
                return Err(Trouble::Odd(format!("it has more than the {size} bytes that its image says")));
            }
            if let Err(error) = writer.write_all(&chunk) {
                return Ok(Err(error.into()));
            }
        }
        if received != size {
            return Err(Trouble::Odd(format!("it has {received} bytes, its image says {size}")));
        }
        // The stream has compared the digest.
        Ok(Ok(writer))
    }
}

/// What a document is: as it says itself, or as its form says (OCI image-spec, "mediaType" of a manifest).
fn media_type(bytes: &[u8]) -> Result<String, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Form {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let form: Form = serde_json::from_slice(bytes)?;
    let by_form = if form.manifests.is_some() { INDEXES[0] } else { MANIFESTS[0] };
    Ok(form.media_type.unwrap_or_else(|| by_form.to_owned()))
}

/// Names what was fetched in the layout's index, in the place of what had the name before.
fn enter(folder: &Path, top: &Blob, media_type: &str, name: &str) -> Result<(), Error> {
    let path = folder.join("index.json");
    let mut entries = if path.exists() {
        let known: Result<oci::ImageIndex, _> = serde_json::from_slice(&fs::read(&path)?);
        known.map_err(|error| Error::Layout { path, reason: error.to_string() })?.manifests().clone()
    } else {
        vec![]
    };
    let has_name = |entry: &oci::Descriptor| {
        let annotations = entry.annotations().as_ref();
        annotations.and_then(|all| all.get(oci::ANNOTATION_REF_NAME)).is_some_and(|known| known == name)
    };
    entries.retain(|entry| !has_name(entry));
    entries.push(layout::entry(media_type.into(), top, name)?);
    Ok(layout::seal(folder, entries)?)
}
