//! What became of one request, in our words.

use std::{error::Error as StdError, io};

use oci_client::errors::{DigestError, OciDistributionError, OciEnvelope};

use super::access::innermost;

/// Bytes of a registry's own words that are shown.
const WORDS: usize = 400;

/// A request that did not succeed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The name has no address.
    UnknownHost(String),
    /// No connection.
    Unreachable(String),
    /// The server's certificate is not trusted.
    Certificate(String),
    /// The server does not speak TLS.
    NotTls,
    /// The connection ended in the middle.
    Broke(String),
    /// No answer for too long.
    Silent,
    /// An answer with a status of HTTP that is no success.
    Status(u16, String),
    /// The server that gives tokens gave none.
    NoToken(String),
    /// A success that is none by the specification.
    Odd(String),
}

impl Trouble {
    /// Whether the same request may succeed a little later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broke(_) => true,
            Self::Status(status, _) => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }

    /// Whether the registry said that it does not have this.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Status(404, _))
    }
}

impl From<OciDistributionError> for Trouble {
    fn from(error: OciDistributionError) -> Self {
        match &error {
            OciDistributionError::ServerError { code, message, .. } => Self::Status(*code, words(message)),
            OciDistributionError::UnauthorizedError { .. } => Self::Status(401, String::new()),
            OciDistributionError::RegistryError { envelope, .. } => Self::Status(status(envelope), listed(envelope)),
            OciDistributionError::AuthenticationFailure(message) => Self::NoToken(words(message)),
            OciDistributionError::ImageManifestNotFoundError(_) => Self::Status(404, String::new()),
            OciDistributionError::RequestError(request) => match request.status() {
                Some(status) => Self::Status(status.as_u16(), String::new()),
                None => transport(&error, request.is_connect()),
            },
            // Not `error`, whose chain leaves out what this one is about.
            OciDistributionError::IoError(inner) => transport(inner, false),
            _ => Self::Odd(error.to_string()),
        }
    }
}

/// The status of an answer of which the client kept the codes alone (distribution-spec, "Error Codes").
fn status(envelope: &OciEnvelope) -> u16 {
    use oci_client::errors::OciErrorCode as Code;
    match envelope.errors.first().map(|error| &error.code) {
        Some(Code::BlobUnknown | Code::ManifestUnknown | Code::NameUnknown | Code::NotFound) => 404,
        Some(Code::Unauthorized) => 401,
        Some(Code::Denied) => 403,
        Some(Code::Toomanyrequests) => 429,
        _ => 400,
    }
}

/// A request without an answer.
fn transport(error: &(dyn StdError + 'static), connecting: bool) -> Trouble {
    let reason = innermost(error);
    if let Some(wrong) = find::<DigestError>(error) {
        return Trouble::Odd(wrong.to_string());
    }
    match find::<rustls::Error>(error) {
        Some(rustls::Error::InvalidCertificate(_)) => return Trouble::Certificate(reason),
        Some(rustls::Error::InvalidMessage(_)) => return Trouble::NotTls,
        _ => {}
    }
    // The error of the client's resolver has no public type.
    if connecting && chain(error).any(|error| error.to_string() == "dns error") {
        return Trouble::UnknownHost(reason);
    }
    if connecting { Trouble::Unreachable(reason) } else { Trouble::Broke(reason) }
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The error of a type among the causes, also where it is the content of an [`io::Error`], whose chain leaves it out.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| {
        error.downcast_ref::<T>().or_else(|| {
            let inside = error.downcast_ref::<io::Error>()?.get_ref()?;
            find::<T>(inside)
        })
    })
}

/// The registry's own words, if the body has the form that the specification gives it.
fn words(body: &str) -> String {
    match serde_json::from_str::<OciEnvelope>(body) {
        Ok(envelope) => listed(&envelope),
        Err(_) => shortened(body.trim()),
    }
}

fn listed(envelope: &OciEnvelope) -> String {
    let errors = envelope.errors.iter().map(|error| match &error.detail {
        serde_json::Value::Null => error.message.clone(),
        detail => format!("{} {detail}", error.message),
    });
    shortened(&errors.collect::<Vec<_>>().join("; "))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, message: &str) -> Trouble {
        OciDistributionError::ServerError { code, url: "https://r/v2/".into(), message: message.into() }.into()
    }

    #[test]
    fn a_registrys_words_are_shown_and_no_others() {
        let full = r#"{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"Err":28}}]}"#;
        for (body, shown) in [
            (full, r#"unknown error {"Err":28}"#),
            (r#"{"errors":[{"code":"NAME_INVALID","message":"invalid name"}]}"#, "invalid name"),
            ("<html>bad gateway</html>\n", "<html>bad gateway</html>"),
            ("", ""),
        ] {
            assert_eq!(answer(500, body), Trouble::Status(500, shown.to_owned()));
        }
        let Trouble::Status(_, long) = answer(500, &"ä".repeat(10_000)) else { panic!("a status") };
        assert_eq!(long.chars().count(), WORDS + 1);
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        for (status, again) in [(400, false), (401, false), (403, false), (404, false), (408, true), (413, false)] {
            assert_eq!(answer(status, "").may_pass(), again, "{status}");
        }
        for status in [429, 500, 502, 503, 504, 507] {
            assert!(answer(status, "").may_pass(), "{status}");
        }
        for trouble in [Trouble::Silent, Trouble::NotTls, Trouble::Certificate(String::new())] {
            assert!(!trouble.may_pass(), "{trouble:?}");
        }
    }
}
