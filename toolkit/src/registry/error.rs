//! What can go wrong between us and a registry, for a person who has not set the registry up.

use std::{io, path::PathBuf};

use sluice_shell::error::{Explain, Fault};

use super::login::Origin;
use crate::images;

/// An error of a push, a fetch or a comparison.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No address for the name.
    #[error("there is no host with the name of the registry {registry}: {reason}")]
    UnknownHost { registry: String, reason: String },
    /// Nobody answers at the address.
    #[error("the registry {registry} can't be reached: {reason}")]
    Unreachable { registry: String, reason: String },
    /// The certificate is not one that this machine trusts.
    #[error("the certificate of the registry {registry} is not trusted: {reason}")]
    Certificate { registry: String, reason: String },
    /// Something else than TLS is spoken there.
    #[error("the registry {registry} does not speak TLS")]
    NotTls { registry: String },
    /// No credentials, or wrong ones.
    #[error("the registry {registry} refuses the login ({origin}){}", after(message))]
    Unauthorized { registry: String, origin: Origin, message: String },
    /// The user may not do this.
    #[error("the registry refuses access to {repository} ({origin}){}", after(message))]
    Forbidden { repository: String, origin: Origin, message: String },
    /// The registry does not want what it got.
    #[error("the registry {registry} refuses to {what} (HTTP status {status}){}", after(message))]
    Refused { registry: String, what: String, status: u16, message: String },
    /// The registry has a problem of its own, also after some time.
    #[error("the registry {registry} failed to {what}, {attempts} times (HTTP status {status}){}", after(message))]
    Failing { registry: String, what: String, status: u16, message: String, attempts: usize },
    /// The connection ended in the middle, also when it was tried again.
    #[error("the connection to the registry {registry} broke while we tried to {what}, {attempts} times: {reason}")]
    Broke { registry: String, what: String, reason: String, attempts: usize },
    /// The registry does not answer.
    #[error("the registry {registry} was silent for {seconds} s while we tried to {what}")]
    Silent { registry: String, what: String, seconds: u64 },
    /// An answer that the specification does not know.
    #[error("the registry {registry} gave an answer that is not understood when we tried to {what}: {reason}")]
    Answer { registry: String, what: String, reason: String },
    /// The registry has other bytes than it was given.
    #[error("the registry has {theirs} at {reference}, and not {ours}")]
    Digest { reference: String, ours: String, theirs: String },
    /// The registry has no such image.
    #[error("there is no {0}")]
    Missing(String),
    /// A layout does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Layout { path: PathBuf, reason: String },
    /// A document of an image makes no sense.
    #[error("the document {digest} is no manifest: {reason}")]
    Document { digest: String, reason: String },
    /// A reference of another registry than the one that is spoken with.
    #[error("{0} is not a reference of the registry {1}")]
    Elsewhere(String, String),
    /// `--registry-ca` names no certificates.
    #[error("{} holds no certificate of an authority: {reason}", path.display())]
    Authority { path: PathBuf, reason: String },
    /// `--insecure-loopback` for another machine.
    #[error("--insecure-loopback is only for a registry on this machine, and {0} may be elsewhere")]
    NotLoopback(String),
    /// Flags of a registry where there is none.
    #[error("--registry-ca and --insecure-loopback are for {0}")]
    Unasked(String),
    /// There is nothing to compare certificates with.
    #[error("this machine trusts no certificate of any registry: {0}")]
    NoAuthorities(String),
    /// The proxy of the environment makes no sense.
    #[error("the proxy that HTTPS_PROXY names can't be used: {0}")]
    Proxy(String),
    /// A credential file is unreadable.
    #[error("cannot read the credential file {}: {reason}", path.display())]
    CredentialFile { path: PathBuf, reason: String },
    /// A credential helper does not give what it should.
    #[error("the credential helper {helper}, which {} names for {registry}, failed: {reason}", path.display())]
    Helper { helper: String, path: PathBuf, registry: String, reason: String },
    /// A token that must be exchanged for another one first.
    #[error("{} has an identity token for {registry}, which is not supported", path.display())]
    IdentityToken { path: PathBuf, registry: String },
    /// Of the layout's files.
    #[error(transparent)]
    Images(#[from] images::Error),
    /// Of files.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// Whether there is no image of the name.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    /// Whether the registry holds something wrong, or lacks something, so that asking again is of no use.
    pub(crate) fn is_about_content(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Digest { .. } | Self::Document { .. } | Self::Answer { .. } => true,
            Self::Refused { status, .. } => *status == 404,
            _ => false,
        }
    }
}

/// What the registry itself says, if anything.
fn after(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Explain for Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Images(error) => error.fault(),
            Self::Elsewhere(..) => Fault::Ours,
            _ => Fault::Input,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownHost { .. } => "check the name's spelling and this machine's name servers".to_owned(),
            Self::Unreachable { .. } | Self::Broke { .. } => {
                "see whether the registry runs, and run the command again: what has arrived is not sent again".to_owned()
            }
            Self::Certificate { .. } => {
                "if the registry has a certificate of an authority of your own, name that authority's certificate (PEM) \
                 with\n--registry-ca FILE"
                    .to_owned()
            }
            Self::NotTls { .. } => {
                "images are pushed over TLS; only a registry for tests on this machine may do without, with\n\
                 --insecure-loopback"
                    .to_owned()
            }
            Self::Unauthorized { registry, .. } | Self::IdentityToken { registry, .. } => {
                format!("log in with a password or an access token:\ndocker login {registry}")
            }
            Self::Forbidden { .. } => {
                "the user needs the right to read there, or to push; some registries want the repository created first"
                    .to_owned()
            }
            Self::Refused { status: 404, .. } => {
                "some registries want the repository (or its project) created before the first push".to_owned()
            }
            Self::Refused { status: 413, .. } => {
                "a proxy before the registry has a limit for the size of a request: the layer is larger".to_owned()
            }
            Self::Failing { status: 429, .. } => "the registry limits requests: try later".to_owned(),
            Self::Failing { .. } => {
                "the registry's own log says why (a full disk looks like this); run the command again then: what has \
                 arrived is not sent again"
                    .to_owned()
            }
            Self::Silent { .. } => {
                "see what the registry does, or what is between; the command can be run again: what has arrived is not \
                 sent again"
                    .to_owned()
            }
            Self::NoAuthorities(_) => "apt-get install --no-install-recommends -y ca-certificates".to_owned(),
            Self::Helper { helper, .. } => {
                format!("see what it says by itself, with the registry's name on its stdin:\n{helper} get")
            }
            Self::CredentialFile { .. } => "docker login writes such a file".to_owned(),
            Self::Images(error) => return error.hint(),
            _ => return None,
        };
        Some(hint)
    }
}
