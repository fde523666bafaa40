//! Encryption at rest: what a cluster is told of it, and a plugin that holds a key.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Suite;
use super::stores::tool;
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::build::Program;
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// A provider with a key of its own, such as `aescbc`.
pub(super) fn local(provider: &str) -> Value {
    // Any 32 bytes will do: what they hide lives for a minute.
    let secret = base64::engine::general_purpose::STANDARD.encode([7; 32]);
    json!({provider: {"keys": [{"name": "key", "secret": secret}]}})
}

/// The configuration of encryption at rest, in a folder of its own.
pub(super) struct Keys {
    folder: TempDir,
}

impl Keys {
    /// Writes it: resources, and the provider that encrypts each.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(super) fn write(scratch: &Path, resources: &[(String, Value)]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("encryption-").tempdir_in(scratch)?;
        let resources = resources.iter().map(|(resource, provider)| {
            // What is stored already is read as it is.
            json!({"resources": [resource], "providers": [provider, {"identity": {}}]})
        });
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": resources.collect::<Vec<_>>(),
        });
        fs_err::write(folder.path().join("encryption.json"), configuration.to_string())?;
        Ok(Self { folder })
    }

    /// The apiserver's flag.
    pub(super) fn flag(&self) -> String {
        format!("--encryption-provider-config={}", self.folder.path().join("encryption.json").display())
    }
}

/// A plugin of the KMS v2 API that runs. Dropping it ends it, so an apiserver that needs it has to end before.
pub(super) struct Plugin {
    socket: String,
    _guard: Guard,
    _folder: TempDir,
}

impl Plugin {
    /// Starts one; none if there is none beside the programs under test.
    ///
    /// # Errors
    /// When it can't be built, or does not listen.
    pub(super) fn start(suite: &Suite) -> Result<Option<Self>> {
        let Some(program) = tool(suite, Program::KmsPlugin)? else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("kms-plugin-").tempdir_in(&suite.scratch)?;
        // Without a file: the path of one may be too long for a socket.
        let name = format!("sluice-{}", folder.path().file_name().unwrap_or_default().display());
        let log = folder.path().join("log");
        let process = launch("kms-plugin", &Run::new(program, folder.path()).arg(format!("--listen=@{name}")), &log)?;
        let guard = Guard::new(Leftover::Process(process.clone()));
        let address = SocketAddr::from_abstract_name(&name)?;
        until("the KMS plugin", LIMIT, || {
            let said = || fs_err::read_to_string(&log).unwrap_or_default();
            ensure(process.is_alive(), || format!("the KMS plugin ended by itself: {}", said()))?;
            Ok(UnixStream::connect_addr(&address).ok())
        })?;
        Ok(Some(Self { socket: format!("unix:///@{name}"), _guard: guard, _folder: folder }))
    }

    /// The provider that asks it, for one resource: each has a name of its own.
    pub(super) fn provider(&self, resource: &str) -> Value {
        json!({"kms": {"apiVersion": "v2", "name": resource, "endpoint": self.socket}})
    }
}
