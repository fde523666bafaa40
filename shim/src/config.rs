//! Flags and environment variables: etcd's names where etcd has one.

mod collector;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::styling::Styles;
use clap::{ArgAction, Parser, ValueEnum};
pub use collector::{GcConfig, Switch};

/// The version with the commit.
pub(crate) fn version() -> &'static str {
    static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    VERSION.get_or_init(|| format!("{} (commit {})", env!("CARGO_PKG_VERSION"), crate::COMMIT))
}

/// An etcd v3 server that keeps its data in an SQL database.
#[derive(Debug, Clone, Parser)]
#[command(name = "sluice-shim", version = version(), about, styles = Styles::plain(), max_term_width = 100)]
pub struct Config {
    /// The database: sqlite:///var/lib/sluice/state.db. There is no default.
    #[arg(long, env = "SLUICE_ENDPOINT", hide_env_values = true, value_name = "URL")]
    pub endpoint: Option<String>,

    /// The name of this member.
    #[arg(long, env = "SLUICE_NAME", default_value = "default")]
    pub name: String,

    /// Where clients connect to: http://, https:// or unix:// URLs, separated by commas.
    #[arg(
        long,
        env = "SLUICE_LISTEN_CLIENT_URLS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2379",
        value_name = "URLS"
    )]
    pub listen_client_urls: Vec<ListenUrl>,

    /// The URLs that clients are told to use. The default is where they connect to.
    #[arg(long, env = "SLUICE_ADVERTISE_CLIENT_URLS", value_delimiter = ',', value_name = "URLS")]
    pub advertise_client_urls: Vec<String>,

    /// More addresses for /metrics, /health, /livez and /readyz, which are on the client URLs too.
    #[arg(long, env = "SLUICE_LISTEN_METRICS_URLS", value_delimiter = ',', value_name = "URLS")]
    pub listen_metrics_urls: Vec<ListenUrl>,

    /// The certificate of https:// URLs (PEM). It is read again when it changes.
    #[arg(long, env = "SLUICE_CERT_FILE", value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,

    /// Its key (PEM).
    #[arg(long, env = "SLUICE_KEY_FILE", value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,

    /// The authorities that sign client certificates (PEM). With it clients need one, as with etcd.
    #[arg(long, env = "SLUICE_TRUSTED_CA_FILE", value_name = "FILE", requires = "cert_file")]
    pub trusted_ca_file: Option<PathBuf>,

    /// Whether clients need a certificate that --trusted-ca-file signed.
    #[arg(
        long,
        env = "SLUICE_CLIENT_CERT_AUTH",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub client_cert_auth: bool,

    /// How often watchers that ask for it hear of the progress. (etcd: 10m; kubeadm sets 5s, which bookmarks need.)
    #[arg(
        long,
        env = "SLUICE_WATCH_PROGRESS_NOTIFY_INTERVAL",
        default_value = "5s",
        value_parser = duration,
        value_name = "DURATION"
    )]
    pub watch_progress_notify_interval: Duration,

    /// The greatest number of operations in a transaction.
    #[arg(long, env = "SLUICE_MAX_TXN_OPS", default_value_t = 128, value_name = "N")]
    pub max_txn_ops: usize,

    /// The greatest size of a write.
    #[arg(long, env = "SLUICE_MAX_REQUEST_BYTES", default_value_t = 1_572_864, value_name = "BYTES")]
    pub max_request_bytes: usize,

    /// The greatest number of requests that a connection has open at a time.
    #[arg(long, env = "SLUICE_MAX_CONCURRENT_STREAMS", default_value_t = u32::MAX, value_name = "N")]
    pub max_concurrent_streams: u32,

    /// How long a connection is idle before the server asks whether the client is there.
    #[arg(
        long,
        env = "SLUICE_GRPC_KEEPALIVE_INTERVAL",
        default_value = "30s",
        value_parser = duration,
        value_name = "DURATION"
    )]
    pub grpc_keepalive_interval: Duration,

    /// How long the server waits for that answer before it closes the connection.
    #[arg(
        long,
        env = "SLUICE_GRPC_KEEPALIVE_TIMEOUT",
        default_value = "20s",
        value_parser = duration,
        value_name = "DURATION"
    )]
    pub grpc_keepalive_timeout: Duration,

    /// Refuse to grow when the database holds more data than this; 0 for no limit.
    #[arg(
        long,
        env = "SLUICE_QUOTA_BACKEND_BYTES",
        default_value_t = 0,
        value_parser = clap::value_parser!(i64).range(0..),
        value_name = "BYTES"
    )]
    pub quota_backend_bytes: i64,

    /// Where snapshots are written before they are sent. The default is the folder of the database.
    #[arg(long, env = "SLUICE_SNAPSHOT_DIR", value_name = "DIR")]
    pub snapshot_dir: Option<PathBuf>,

    /// How the garbage collector works.
    #[command(flatten)]
    pub gc: GcConfig,

    /// What is logged: error, warn, info, debug, trace; also by module, as in info,sluice_shim::sql=debug.
    #[arg(long, env = "SLUICE_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,

    /// How it is logged.
    #[arg(long, env = "SLUICE_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one object a line.
    Json,
}

/// What is wrong with the configuration, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ConfigError {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl ConfigError {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A SQLite file.
    Sqlite(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Sqlite(path) = self;
        write!(f, "sqlite://{}", path.display())
    }
}

impl FromStr for Endpoint {
    type Err = ConfigError;

    /// Errors never show more of the URL than its scheme, since there may be a password in it.
    fn from_str(url: &str) -> Result<Self, ConfigError> {
        let example = "use --endpoint sqlite:///var/lib/sluice/state.db";
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(ConfigError::new("the endpoint is not a URL", example));
        };
        match scheme {
            "sqlite" if rest.contains('?') => {
                Err(ConfigError::new("a sqlite endpoint has no options", "remove what comes after the ?"))
            }
            "sqlite" if rest.is_empty() || rest.ends_with('/') => {
                Err(ConfigError::new("the sqlite endpoint names no file", example))
            }
            "sqlite" => Ok(Self::Sqlite(PathBuf::from(rest))),
            "postgres" | "postgresql" | "mysql" => {
                Err(ConfigError::new(format!("{scheme} is not in this build"), format!("it has sqlite; {example}")))
            }
            "http" | "https" => Err(ConfigError::new(
                "the endpoint is a database, not an etcd",
                format!("to listen at a URL use --listen-client-urls; for the data {example}"),
            )),
            _ => Err(ConfigError::new(format!("there is no database of the kind {scheme:?}"), example)),
        }
    }
}

/// An address to listen at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenUrl {
    /// http://host:port
    Plain(String),
    /// https://host:port
    Tls(String),
    /// unix:///path
    Unix(PathBuf),
}

impl FromStr for ListenUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let Some((scheme, address)) = url.split_once("://") else {
            return Err("not a URL: it begins with http://, https:// or unix://".to_owned());
        };
        if scheme == "unix" {
            return if address.is_empty() { Err("names no file".to_owned()) } else { Ok(Self::Unix(address.into())) };
        }
        let address = address.trim_end_matches('/');
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        if port.is_none_or(|port| port.parse::<u16>().is_err()) {
            return Err("needs a host and a port, as in http://127.0.0.1:2379".to_owned());
        }
        match scheme {
            "http" => Ok(Self::Plain(address.to_owned())),
            "https" => Ok(Self::Tls(address.to_owned())),
            _ => Err(format!("the scheme {scheme:?} is none of http, https, unix")),
        }
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(address) => write!(f, "http://{address}"),
            Self::Tls(address) => write!(f, "https://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl Config {
    /// Checks what flags have to do with each other; returns where the data is.
    pub fn check(&self) -> Result<Endpoint, ConfigError> {
        let endpoint = self.endpoint.as_deref().filter(|url| !url.is_empty()).ok_or_else(|| {
            ConfigError::new(
                "no database is given",
                "use --endpoint sqlite:///var/lib/sluice/state.db (or the variable SLUICE_ENDPOINT)",
            )
        })?;
        let urls = || self.listen_client_urls.iter().chain(&self.listen_metrics_urls);
        if let Some(url) = urls().find(|url| matches!(url, ListenUrl::Tls(_)))
            && self.cert_file.is_none()
        {
            let hint = "use --cert-file and --key-file, or an http:// URL";
            return Err(ConfigError::new(format!("{url} needs a certificate"), hint));
        }
        if self.client_cert_auth && self.trusted_ca_file.is_none() {
            let hint = "use --trusted-ca-file with the authorities that sign them";
            return Err(ConfigError::new("--client-cert-auth does not know whose certificates to accept", hint));
        }
        endpoint.parse()
    }

    /// Where snapshots are written.
    pub fn snapshot_dir(&self, endpoint: &Endpoint) -> PathBuf {
        let Endpoint::Sqlite(database) = endpoint;
        let beside = database.parent().filter(|dir| !dir.as_os_str().is_empty());
        self.snapshot_dir.clone().or_else(|| beside.map(PathBuf::from)).unwrap_or_else(|| PathBuf::from("."))
    }
}

/// A duration as Go writes it: `500ms`, `5s`, `1h30m`. At least 1 ms.
fn duration(text: &str) -> Result<Duration, String> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err("needs numbers with units (h, m, s, ms), as in 1m30s".to_owned()),
        };
        let number: u64 = number.parse().map_err(|_| "needs a number before each unit".to_owned())?;
        let part = number.checked_mul(milliseconds).map(Duration::from_millis);
        total = part.and_then(|part| total.checked_add(part)).ok_or("is too long")?;
        rest = tail;
    }
    if total.is_zero() { Err("must be longer than nothing".to_owned()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(args: &[&str]) -> Config {
        Config::try_parse_from([&["sluice-shim"], args].concat()).unwrap()
    }

    fn refusal(args: &[&str]) -> String {
        Config::try_parse_from([&["sluice-shim"], args].concat()).unwrap_err().to_string()
    }

    #[test]
    fn help() {
        // Without values: the variables of whoever runs the test are not part of it.
        let mut command = Config::command().mut_args(|arg| arg.hide_env_values(true));
        insta::assert_snapshot!(command.render_long_help());
    }

    #[test]
    fn an_endpoint_is_needed() {
        assert_eq!(parse(&[]).check().unwrap_err().what, "no database is given");
        assert_eq!(parse(&["--endpoint", ""]).check().unwrap_err().what, "no database is given");
        let config = parse(&["--endpoint", "sqlite:///a/b.db"]);
        let endpoint = config.check().unwrap();
        assert_eq!(endpoint, Endpoint::Sqlite("/a/b.db".into()));
        assert_eq!(config.snapshot_dir(&endpoint), PathBuf::from("/a"));
        let chosen = parse(&["--endpoint", "sqlite://b.db", "--snapshot-dir", "/c"]);
        assert_eq!(chosen.snapshot_dir(&chosen.check().unwrap()), PathBuf::from("/c"));
    }

    #[test]
    fn endpoints() {
        let refusals = [
            ("state.db", "the endpoint is not a URL"),
            ("sqlite://", "the sqlite endpoint names no file"),
            ("sqlite:///a/", "the sqlite endpoint names no file"),
            ("sqlite:///a?mode=ro", "a sqlite endpoint has no options"),
            ("postgres://me:secret@db/x", "postgres is not in this build"),
            ("mysql://me:secret@db/x", "mysql is not in this build"),
            ("http://127.0.0.1:2379", "the endpoint is a database, not an etcd"),
            ("oracle://x", "there is no database of the kind \"oracle\""),
        ];
        for (url, expected) in refusals {
            let error = url.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.what, expected);
            assert!(!error.hint.is_empty() && !format!("{error:?}").contains("secret"));
        }
    }

    #[test]
    fn urls() {
        let config = parse(&["--listen-client-urls", "http://127.0.0.1:0,https://[::1]:2379/,unix:///run/s.sock"]);
        let expected = [
            ListenUrl::Plain("127.0.0.1:0".into()),
            ListenUrl::Tls("[::1]:2379".into()),
            ListenUrl::Unix("/run/s.sock".into()),
        ];
        assert_eq!(config.listen_client_urls, expected);
        let shown: Vec<_> = config.listen_client_urls.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["http://127.0.0.1:0", "https://[::1]:2379", "unix:///run/s.sock"]);
        for bad in ["127.0.0.1:2379", "http://127.0.0.1", "http://:1", "http://a:b", "ftp://a:1", "unix://", ""] {
            assert!(refusal(&["--listen-client-urls", bad]).contains("--listen-client-urls"), "{bad}");
        }
    }

    #[test]
    fn tls_flags_go_together() {
        assert!(refusal(&["--cert-file", "a"]).contains("--key-file"));
        assert!(refusal(&["--trusted-ca-file", "a"]).contains("--cert-file"));
        let endpoint = ["--endpoint", "sqlite:///a"];
        let check = |args: &[&str]| parse(&[&endpoint[..], args].concat()).check().map_err(|error| error.what);
        assert_eq!(check(&["--listen-client-urls", "https://a:1"]).unwrap_err(), "https://a:1 needs a certificate");
        assert!(check(&["--client-cert-auth"]).unwrap_err().starts_with("--client-cert-auth does not know"));
        assert!(check(&["--client-cert-auth=false"]).is_ok());
    }

    #[test]
    fn durations() {
        let table = [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("1h", 3_600_000)];
        for (text, milliseconds) in table {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for bad in ["", "5", "s", "5x", "-5s", "0s", "5s3", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_flag_has_its_variable() {
        for arg in Config::command().get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        {
            let expected = format!("SLUICE_{}", arg.get_id().as_str().to_uppercase());
            assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(&expected[..]));
        }
    }
}
