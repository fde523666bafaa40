//! The files that tell kubectl and the controller manager where the apiserver is and who they are.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;
use serde_json::json;

use super::certs::Pair;
use super::private;
use sluice_shell::error::Result;

/// Writes a kubeconfig with everything in it, so that it works wherever it is copied to on this machine. It is JSON,
/// which is YAML too.
pub(super) fn write(path: &Path, server: &str, authority: &Pair, user: (&str, &Pair)) -> Result<()> {
    let embed = |file: &Path| -> Result<String> { Ok(STANDARD.encode(fs::read(file)?)) };
    let (name, identity) = user;
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sluice", "cluster": {
            "server": server,
            "certificate-authority-data": embed(&authority.cert)?,
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": embed(&identity.cert)?,
            "client-key-data": embed(&identity.key)?,
        }}],
        "contexts": [{"name": "sluice", "context": {"cluster": "sluice", "user": name}}],
        "current-context": "sluice",
    });
    private::write(path, &serde_json::to_vec_pretty(&config)?)
}
