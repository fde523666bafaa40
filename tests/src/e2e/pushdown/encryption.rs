//! Checks with encryption at rest: a store that can't read an object must hand it out.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::json;
use tempfile::TempDir;

use super::probe::{Probe, field, label};
use super::resource::{GROUP, Version, create_labelled, define, key, object, path};
use crate::e2e::raw::Raw;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::wait::ensure;

/// The configuration of encryption at rest for two of the checks' resources, in a folder of its own.
pub(super) struct Keys {
    folder: TempDir,
}

impl Keys {
    /// Writes it.
    ///
    /// # Errors
    /// When a file can't be written.
    pub(super) fn write(scratch: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("encryption-").tempdir_in(scratch)?;
        let keys = Self { folder };
        // Any 32 bytes will do: what they hide lives for a minute.
        let secret = base64::engine::general_purpose::STANDARD.encode([7; 32]);
        let provider = |name: &str| json!({name: {"keys": [{"name": "key", "secret": secret}]}});
        let resource = |plural: &str, name: &str| json!({"resources": [format!("{plural}.{GROUP}")], "providers": [provider(name), {"identity": {}}]});
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [resource("ciphereds", "aescbc"), resource("boxeds", "secretbox")],
        });
        fs_err::write(keys.path(), configuration.to_string())?;
        Ok(keys)
    }

    /// The file.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("encryption.json")
    }
}

/// Encrypted objects beside one that was stored before encryption began.
pub(super) fn encrypted(probe: &mut Probe<'_>, raw: Option<&Raw>) -> Result<()> {
    let Some(raw) = raw else { return Ok(()) };
    for plural in ["ciphereds", "boxeds"] {
        let api = probe.api();
        let version = Version::v1(json!({"color": {"type": "string"}}), &["color"]);
        define(api, plural, &[version], &json!(null))?;
        for (name, color) in [("a", "green"), ("b", "red")] {
            create_labelled(api, "v1", plural, name, &json!({"color": color}), &json!({"color": color}))?;
        }
        let stored = raw.get(&key(plural, "a"))?;
        ensure(stored.starts_with("k8s:enc:"), || format!("{plural} are not encrypted: {stored}"))?;
        let before = object("v1", plural, "plain", &json!({"color": "green"}), &json!({"color": "green"}));
        raw.put(&key(plural, "plain"), before.to_string())?;
        let rows = [
            label("color=green", "a plain", 3),
            label("color=red", "b", 2),
            label("!color", "", 2),
            field("spec.color=green", "a plain", 3),
            field("spec.color=red", "b", 2),
            field("metadata.name!=b", "a plain", 3),
        ];
        probe.expect("encrypted", &path("v1", plural), &rows)?;
    }
    Ok(())
}
