//! Compares an image in a registry with the one in an OCI layout.

use std::{io, path::Path};

use oci_client::RegistryOperation;

use super::{client::Registry, error::Error, graph};
use crate::images::Reference;

impl Registry {
    /// What is wrong with the image `theirs`, which is to be the one that the OCI layout in the folder `layout` calls
    /// `name`: nothing if the registry has the same bytes under the tag, and all that belongs to it. Every blob is
    /// read. `say` hears what is being done.
    ///
    /// # Errors
    /// A damaged layout, and a registry that does not answer.
    pub(crate) fn compare(
        &self,
        layout: &Path,
        name: &str,
        theirs: &Reference,
        say: impl Fn(String),
    ) -> Result<Vec<String>, Error> {
        let (top, parts) = graph::of_layout(layout, name)?;
        let path = self.path(theirs)?;
        self.block_on(self.log_in(&path, RegistryOperation::Pull))?;
        say(theirs.to_string());
        match self.block_on(self.document(&path, theirs.tag())) {
            Ok(found) if found.digest == top.digest => {}
            Ok(found) => return Ok(vec![format!("it is {}, the release has {}", found.digest, top.digest)]),
            Err(Error::Missing(_)) => return Ok(vec!["it is missing".to_owned()]),
            Err(error) => return found(error).map(|what| vec![what]),
        }
        let mut wrong = vec![];
        for document in parts.documents.iter().filter(|document| document.digest != top.digest) {
            match self.block_on(self.document(&path, &document.digest.to_string())) {
                Ok(found) if found.digest == document.digest => {}
                Ok(found) => wrong.push(format!("its manifest {} has the digest {}", document.digest, found.digest)),
                Err(error) => wrong.push(found(error)?),
            }
        }
        for (done, blob) in parts.blobs.iter().enumerate() {
            say(format!("{theirs}: blob {} of {}, {:.1} MB", done + 1, parts.blobs.len(), blob.size as f64 / 1e6));
            if let Err(error) = self.block_on(self.receive(&path, blob, || Ok(io::sink()))) {
                wrong.push(found(error)?);
            }
        }
        Ok(wrong)
    }
}

/// An error as something that was found, if it is about what the registry holds.
fn found(error: Error) -> Result<String, Error> {
    if error.is_about_content() { Ok(error.to_string()) } else { Err(error) }
}
