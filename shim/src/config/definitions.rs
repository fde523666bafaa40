//! The flags of a store that has some groups of custom resources, and whose definitions are in another store.

use std::path::PathBuf;

use anyhow::Result;
use tonic::transport::Endpoint;

use crate::remote::{Flags, Remote};

/// The flags of [`DefinitionsFlags`].
const FLAGS: Flags = Flags {
    url: "--definitions-from",
    cacert: "--definitions-cacert",
    cert: "--definitions-cert",
    key: "--definitions-key",
};

/// Where the definitions of custom resources are, if not here.
#[derive(Debug, Clone, clap::Args)]
pub struct DefinitionsFlags {
    /// The store that has the definitions of the custom resources that are kept here, if this one is for some groups
    /// alone: http://host:port or https://host:port. Fields are indexed as its CustomResourceDefinitions say; it may be
    /// away at any time.
    #[arg(long, env = "SLUICE_DEFINITIONS_FROM", value_name = "URL")]
    pub definitions_from: Option<String>,

    /// The authorities that sign its certificate (PEM). Needed for https.
    #[arg(long, env = "SLUICE_DEFINITIONS_CACERT", value_name = "FILE", requires = "definitions_from")]
    pub definitions_cacert: Option<PathBuf>,

    /// The certificate that it asks clients for (PEM).
    #[arg(long, env = "SLUICE_DEFINITIONS_CERT", value_name = "FILE", requires = "definitions_key")]
    pub definitions_cert: Option<PathBuf>,

    /// Its key (PEM).
    #[arg(long, env = "SLUICE_DEFINITIONS_KEY", value_name = "FILE", requires = "definitions_cert")]
    pub definitions_key: Option<PathBuf>,
}

impl DefinitionsFlags {
    /// How that store is reached, if there is one.
    ///
    /// # Errors
    /// When the flags can't be right, or a file can't be read.
    pub fn endpoint(&self) -> Result<Option<Endpoint>> {
        let Self { definitions_from, definitions_cacert, definitions_cert, definitions_key } = self;
        let Some(url) = definitions_from else { return Ok(None) };
        let (cacert, cert) = (definitions_cacert.as_ref(), definitions_cert.as_ref());
        Remote { flags: FLAGS, url, cacert, cert, key: definitions_key.as_ref() }.endpoint().map(Some)
    }
}
