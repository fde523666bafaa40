//! Whether Kubernetes was compiled by the Go that upstream compiles it with.

use std::fmt;

use crate::source::Pins;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::minor::Minor;

/// Two versions of Go: upstream's is not the one that compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OtherGo {
    /// The one that compiled, `1.26.8`.
    pub(crate) used: String,
    /// The one in source.toml.
    pub(crate) upstream: String,
}

impl OtherGo {
    /// Compares `used` with what source.toml says of `minor`; nothing if they are the same.
    ///
    /// # Errors
    /// When source.toml can't be read.
    pub(crate) fn find(shell: &Context, minor: &Minor, used: &str) -> Result<Option<Self>> {
        let upstream = Pins::load(shell, minor)?.kubernetes.go;
        Ok((used != upstream).then(|| Self { used: used.to_owned(), upstream }))
    }
}

impl fmt::Display for OtherGo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Go {} compiled this; upstream releases this version with Go {}", self.used, self.upstream)
    }
}
