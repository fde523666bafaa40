//! Sends what is in an OCI layout to a registry, as far as the registry does not have it.

use std::{
    io::Read as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fs_err as fs;
use oci_client::{RegistryOperation, errors::OciDistributionError};
use serde::Serialize;

use super::{
    answer::Trouble,
    client::{Registry, Step},
    error::Error,
    graph::{self, Document},
};
use crate::images::{Blob, Digest, Reference, layout};

/// Bytes that are read of a blob at a time.
const CHUNK: usize = 256 << 10;

/// What one push did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Transfer {
    /// Blobs that were sent.
    pub(crate) sent: usize,
    /// Their bytes.
    pub(crate) sent_bytes: u64,
    /// Blobs that the registry took from another of its repositories.
    pub(crate) mounted: usize,
    /// Blobs that were there.
    pub(crate) present: usize,
    /// Manifests and indexes that were sent, once for each name.
    pub(crate) documents: usize,
}

/// How a blob came to be in the repository.
enum Way {
    Present,
    Mounted,
    Sent,
}

impl Registry {
    /// Pushes the image that the OCI layout in the folder `layout` calls `name`, under each of the names `to`, which
    /// are of one repository. `say` hears what is being done. The result is the digest that the registry gives for all
    /// of them: the one that the layout has.
    ///
    /// # Errors
    /// A damaged layout, and all that a registry can refuse. What arrived before is not sent by the next call.
    pub(crate) fn push(
        &mut self,
        layout: &Path,
        name: &str,
        to: &[Reference],
        say: impl Fn(String),
    ) -> Result<(Digest, Transfer), Error> {
        let (top, parts) = graph::of_layout(layout, name)?;
        let digest = top.digest;
        let mut transfer = Transfer::default();
        let Some(first) = to.first() else { return Ok((digest, transfer)) };
        let path = self.path(first)?;
        self.block_on(self.log_in(&path, RegistryOperation::Push))?;
        for (done, blob) in parts.blobs.iter().enumerate() {
            say(format!("{first}: blob {} of {}, {:.1} MB", done + 1, parts.blobs.len(), blob.size as f64 / 1e6));
            match self.block_on(self.bring(layout, &path, blob))? {
                Way::Present => transfer.present += 1,
                Way::Mounted => transfer.mounted += 1,
                Way::Sent => {
                    transfer.sent += 1;
                    transfer.sent_bytes += blob.size;
                }
            }
            self.places.insert(blob.digest, path.clone());
        }
        // A registry refuses a document that names what it does not have: the lowest first.
        for document in parts.documents.iter().filter(|document| document.digest != digest) {
            transfer.documents += self.block_on(self.publish(&path, &document.digest.to_string(), document))?;
        }
        for reference in to {
            say(reference.to_string());
            let path = self.path(reference)?;
            transfer.documents += self.block_on(self.publish(&path, reference.tag(), &top))?;
        }
        Ok((digest, transfer))
    }

    /// Sees to it that the repository has the blob.
    async fn bring(&self, layout: &Path, path: &str, blob: &Blob) -> Result<Way, Error> {
        let name = blob.digest.to_string();
        let here = self.reference(path, &name);
        self.stay_logged_in(path).await?;
        let look = Step { path, what: format!("look for the blob {name}") };
        if self.attempt(&look, async || Ok(self.client.blob_exists(&here, &name).await?)).await? {
            return Ok(Way::Present);
        }
        if let Some(other) = self.places.get(&blob.digest).filter(|other| *other != path) {
            let source = self.reference(other, &name);
            let step = Step { path, what: format!("take over the blob {name} from {other}") };
            let mounted = self.attempt(&step, async || match self.client.mount_blob(&here, &source, &name).await {
                // Some do not say where the blob is now.
                Ok(()) | Err(OciDistributionError::RegistryNoLocationError) => Ok(true),
                Err(error) => match Trouble::from(error) {
                    // It may refuse, also without a reason: "202 Accepted" means that the bytes are wanted.
                    Trouble::Odd(_) | Trouble::Status(400..=407 | 409..=428, _) => Ok(false),
                    trouble => Err(trouble),
                },
            });
            if mounted.await? {
                return Ok(Way::Mounted);
            }
        }
        self.send(layout, path, blob).await?;
        Ok(Way::Sent)
    }

    async fn send(&self, layout: &Path, path: &str, blob: &Blob) -> Result<(), Error> {
        let name = blob.digest.to_string();
        let file = layout::blob(layout, &blob.digest);
        let here = self.reference(path, &name);
        let size = fs::metadata(&file)?.len();
        if size != blob.size {
            let reason = format!("it has {size} bytes, its descriptor says {}", blob.size);
            return Err(Error::Layout { path: file, reason });
        }
        let step = Step { path, what: format!("take the blob {name} ({:.1} MB)", size as f64 / 1e6) };
        let sent = self.persist(&step, async || {
            let source = fs::File::open(&file).map_err(OciDistributionError::from)?;
            let moved = Arc::new(AtomicU64::new(0));
            let stream = futures_util::stream::iter(Chunks { source, moved: moved.clone() });
            let push = self.client.push_blob_stream(&here, stream, &name, Some(size));
            match self.moving(&moved, push).await {
                Ok(_) => Ok(()),
                // Some do not say where they have put it.
                Err(Trouble::Odd(_)) if self.answered(self.has(&here, &name)).await? => Ok(()),
                Err(trouble) => Err(trouble),
            }
        });
        sent.await
    }

    async fn has(&self, here: &oci_client::Reference, digest: &str) -> Result<bool, Trouble> {
        Ok(self.client.blob_exists(here, digest).await?)
    }

    /// Sends a document, unless the registry has it under this name; counts it.
    async fn publish(&self, path: &str, name: &str, document: &Document) -> Result<usize, Error> {
        let ours = document.digest.to_string();
        self.stay_logged_in(path).await?;
        if self.digest_of(path, name).await?.as_ref() == Some(&ours) {
            return Ok(0);
        }
        let reference = self.reference(path, name);
        let step = Step { path, what: format!("take the manifest {path}:{name}") };
        let push = self.attempt(&step, async || {
            let media_type = document.media_type.parse().map_err(|_| Trouble::Odd("a media type".to_owned()))?;
            Ok(self.client.push_manifest_raw(&reference, document.bytes.clone(), media_type).await?)
        });
        push.await?;
        match self.digest_of(path, name).await? {
            Some(theirs) if theirs == ours => Ok(1),
            theirs => Err(Error::Digest {
                reference: format!("{}/{path}:{name}", self.name()),
                ours,
                theirs: theirs.unwrap_or_else(|| "nothing".to_owned()),
            }),
        }
    }

    /// The digest that the registry gives for a tag or for a digest.
    async fn digest_of(&self, path: &str, name: &str) -> Result<Option<String>, Error> {
        let reference = self.reference(path, name);
        let step = Step { path, what: format!("look for {path}:{name}") };
        let look =
            self.attempt(&step, async || match self.client.fetch_manifest_digest(&reference, self.auth()).await {
                Ok(digest) => Ok(Some(digest)),
                Err(error) => match Trouble::from(error) {
                    trouble if trouble.is_missing() => Ok(None),
                    trouble => Err(trouble),
                },
            });
        look.await
    }
}

/// A blob on its way, counted.
struct Chunks {
    source: fs::File,
    moved: Arc<AtomicU64>,
}

impl Iterator for Chunks {
    type Item = Result<bytes::Bytes, OciDistributionError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut chunk = vec![0; CHUNK];
        match self.source.read(&mut chunk) {
            Ok(0) => None,
            Ok(read) => {
                chunk.truncate(read);
                self.moved.fetch_add(read as u64, Ordering::Relaxed);
                Some(Ok(chunk.into()))
            }
            Err(error) => Some(Err(error.into())),
        }
    }
}
