//! How to connect to a database: what stands behind the `?` of a URL. The names are libpq's where libpq has one.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::percent;
use crate::config::error::ConfigError;
use crate::spelling::meant;

/// How long a server may take to answer, unless the URL says it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that may be asked for, in seconds.
const LONGEST: u64 = 3600;

/// Who we are to the database, unless the URL says it.
const APPLICATION_NAME: &str = "sluice-shim";

/// The options of every database.
const COMMON: [&str; 6] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout", "application_name"];

/// The option of PostgreSQL alone: MySQL's statements are never prepared.
const PREPARE: &str = "prepare";

/// How to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Encryption, and who the server must be.
    pub tls: Tls,
    /// `connect_timeout`, in seconds: how long one server may take until it is connected.
    pub connect_timeout: Duration,
    /// `application_name`: what the database's own views call the connection.
    pub application_name: String,
    /// `prepare`: whether to prepare statements. Without the option, unless there is a pooler between, which may give
    /// each transaction another connection.
    pub prepare: Option<bool>,
}

/// Encryption of connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// `sslmode`.
    pub mode: TlsMode,
    /// `sslrootcert`: the authorities that sign the server's certificate (PEM).
    pub authorities: Option<PathBuf>,
    /// `sslcert` and `sslkey`: the certificate that we show, and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// libpq's `sslmode`, without `allow`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Never encrypt.
    Disable,
    /// Encrypt if the server can; without a look at its certificate.
    #[default]
    Prefer,
    /// Encrypt; without a look at the server's certificate.
    Require,
    /// The server's certificate must be signed by an authority.
    VerifyCa,
    /// It must also be for the name or the address that we connect to.
    VerifyFull,
}

impl TlsMode {
    const ALL: [Self; 5] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: Tls::default(),
            connect_timeout: CONNECT_TIMEOUT,
            application_name: APPLICATION_NAME.to_owned(),
            prepare: None,
        }
    }
}

impl Options {
    /// Reads them. `can_prepare`: whether the database has the option `prepare`.
    pub(super) fn parse(can_prepare: bool, query: &str) -> Result<Self, ConfigError> {
        let mut given = Given::parse(can_prepare, query)?;
        let mut options = Self { tls: tls(&mut given)?, ..Self::default() };
        if let Some(seconds) = given.take("connect_timeout") {
            let seconds = seconds.parse().ok().filter(|seconds| (1..=LONGEST).contains(seconds));
            let refuse = || refused("connect_timeout", &format!("needs a whole number of seconds from 1 to {LONGEST}"));
            options.connect_timeout = Duration::from_secs(seconds.ok_or_else(refuse)?);
        }
        if let Some(name) = given.take("application_name") {
            options.application_name = name;
        }
        if let Some(word) = given.take(PREPARE) {
            options.prepare = match &word[..] {
                "on" => Some(true),
                "off" => Some(false),
                _ => return Err(refused(PREPARE, "is on or off")),
            };
        }
        Ok(options)
    }
}

fn tls(given: &mut Given) -> Result<Tls, ConfigError> {
    let named = |word: String| TlsMode::ALL.into_iter().find(|mode| mode.name() == word);
    let mode = match given.take("sslmode").map(named) {
        Some(None) => {
            let all = TlsMode::ALL.map(TlsMode::name).join(", ");
            return Err(refused("sslmode", &format!("is none of {all}")));
        }
        Some(chosen) => chosen,
        None => None,
    };
    let authorities = given.take("sslrootcert").map(PathBuf::from);
    let identity = match (given.take("sslcert"), given.take("sslkey")) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        (Some(_), None) => return Err(refused("sslcert", "needs sslkey beside it")),
        (None, Some(_)) => return Err(refused("sslkey", "needs sslcert beside it")),
    };
    // A CA without a mode says that the server is to be verified.
    let mode = mode.unwrap_or(if authorities.is_some() { TlsMode::VerifyFull } else { TlsMode::default() });
    if authorities.is_some() && !mode.verifies() {
        return Err(refused("sslrootcert", "is not looked at unless sslmode is verify-ca or verify-full"));
    }
    if authorities.is_none() && mode.verifies() {
        return Err(refused("sslmode", "needs sslrootcert beside it: a file with the authorities to trust"));
    }
    if identity.is_some() && mode == TlsMode::Disable {
        return Err(refused("sslcert", "is not shown to anybody with sslmode=disable"));
    }
    Ok(Tls { mode, authorities, identity })
}

fn refused(option: &str, what: &str) -> ConfigError {
    ConfigError::new(format!("the endpoint's option {option} {what}"), "change what stands behind the ? of --endpoint")
}

/// Options with their values, by name; each at most once.
struct Given(Vec<(&'static str, String)>);

impl Given {
    /// The text is never shown: it may be the rest of a password that is not percent-encoded.
    fn parse(can_prepare: bool, query: &str) -> Result<Self, ConfigError> {
        let known: Vec<&str> = COMMON.into_iter().chain(can_prepare.then_some(PREPARE)).collect();
        let refuse = |what: String| {
            ConfigError::new(what, format!("the options behind the ? of --endpoint are {}", known.join(", ")))
        };
        let mut given: Vec<(&str, String)> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let Some(name) = known.iter().find(|known| **known == name) else {
                return Err(refuse(format!("the endpoint has an option that there is not{}", meant(name, &known))));
            };
            let value = percent::decode(value).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| refuse(format!("the endpoint's option {name} has no value")))?;
            if given.iter().any(|(other, _)| other == name) {
                return Err(refuse(format!("the endpoint's option {name} is given twice")));
            }
            given.push((name, value));
        }
        Ok(Self(given))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(given, _)| *given == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// What stands behind the database, from the `?` on: what is not as it is without.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        let mut between = '?';
        let mut write = |name: &str, value: &str| {
            write!(f, "{between}{name}={}", percent::encode(value))?;
            between = '&';
            Ok(())
        };
        if self.tls.mode != usual.tls.mode {
            write("sslmode", self.tls.mode.name())?;
        }
        if let Some(authorities) = &self.tls.authorities {
            write("sslrootcert", &authorities.to_string_lossy())?;
        }
        if let Some((cert, key)) = &self.tls.identity {
            write("sslcert", &cert.to_string_lossy())?;
            write("sslkey", &key.to_string_lossy())?;
        }
        if self.connect_timeout != usual.connect_timeout {
            write("connect_timeout", &self.connect_timeout.as_secs().to_string())?;
        }
        if self.application_name != usual.application_name {
            write("application_name", &self.application_name)?;
        }
        if let Some(prepare) = self.prepare {
            write(PREPARE, if prepare { "on" } else { "off" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Options, ConfigError> {
        Options::parse(true, query)
    }

    #[test]
    fn options() {
        assert_eq!(parse("").unwrap(), Options::default());
        let all = "sslmode=verify-ca&sslrootcert=ca.pem&sslcert=/a%20b&sslkey=c&connect_timeout=1\
                   &application_name=%C3%A9&prepare=off";
        let expected = Options {
            tls: Tls {
                mode: TlsMode::VerifyCa,
                authorities: Some("ca.pem".into()),
                identity: Some(("/a b".into(), "c".into())),
            },
            connect_timeout: Duration::from_secs(1),
            application_name: "é".to_owned(),
            prepare: Some(false),
        };
        let read = parse(all).unwrap();
        assert_eq!(read, expected);
        assert_eq!(parse(read.to_string().strip_prefix('?').unwrap()).unwrap(), expected);
    }

    #[test]
    fn a_given_authority_is_looked_at() {
        let mode = |query: &str| parse(query).map(|options| options.tls.mode).map_err(|error| error.what);
        assert_eq!(mode(""), Ok(TlsMode::Prefer));
        assert_eq!(mode("sslrootcert=a"), Ok(TlsMode::VerifyFull));
        assert_eq!(mode("sslrootcert=a&sslmode=verify-ca"), Ok(TlsMode::VerifyCa));
        for weak in ["disable", "prefer", "require"] {
            assert!(
                mode(&format!("sslmode={weak}&sslrootcert=a")).unwrap_err().contains("sslrootcert is not looked at")
            );
        }
        for strong in ["verify-ca", "verify-full"] {
            assert!(mode(&format!("sslmode={strong}")).unwrap_err().contains("needs sslrootcert"));
        }
    }

    #[test]
    fn what_is_none_says_why_and_shows_nothing_of_it() {
        let table = [
            ("sslmod=secret", "has an option that there is not, did you mean sslmode?"),
            ("sslrootcrt=secret", "has an option that there is not, did you mean sslrootcert?"),
            ("ssl-mode=secret", "has an option that there is not, did you mean sslmode?"),
            ("SSLMODE=secret", "has an option that there is not"),
            ("target_session_attrs=secret", "has an option that there is not"),
            ("secret", "has an option that there is not"),
            ("sslmode", "'s option sslmode has no value"),
            ("sslcert=%zz&sslkey=secret", "'s option sslcert has no value"),
            ("prepare=on&prepare=off", "'s option prepare is given twice"),
            ("prepare=secret", "'s option prepare is on or off"),
            ("sslmode=allow", "'s option sslmode is none of disable, prefer, require, verify-ca, verify-full"),
            ("connect_timeout=0", "'s option connect_timeout needs a whole number of seconds from 1 to 3600"),
            ("connect_timeout=3601", "'s option connect_timeout needs a whole number"),
            ("connect_timeout=10s", "'s option connect_timeout needs a whole number"),
            ("sslcert=a", "'s option sslcert needs sslkey"),
            ("sslkey=a", "'s option sslkey needs sslcert"),
            ("sslcert=a&sslkey=b&sslmode=disable", "'s option sslcert is not shown to anybody"),
        ];
        for (query, expected) in table {
            let error = parse(query).unwrap_err();
            let rest = error.what.strip_prefix("the endpoint").unwrap().trim_start();
            assert!(rest.starts_with(expected), "{query}: {error}");
            assert!(!error.hint.is_empty() && !format!("{error:?}").contains("secret"), "{query}: {error:?}");
        }
        let error = Options::parse(false, "prepare=off").unwrap_err();
        assert!(!error.hint.contains("prepare"), "{error:?}");
    }
}
