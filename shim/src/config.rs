//! Flags and environment variables: etcd's names where etcd has one.

mod collector;
mod database;
mod definitions;
mod duration;
pub(crate) mod error;
mod files;
mod kinds;
mod log_level;
mod number;
mod partition;
mod prefix;
mod url;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::builder::styling::Styles;
use clap::{ArgAction, Parser, ValueEnum};
pub use collector::{GcConfig, Switch};
pub use database::{DatabaseFlags, TargetFlags};
pub(crate) use database::{Given, PASSWORD, READ_ENDPOINT, TARGET_PASSWORD, TARGET_PASSWORD_FILE};
pub use definitions::DefinitionsFlags;
pub(crate) use duration::duration;
pub use error::ConfigError;
pub(crate) use kinds::{group, ignored_kind};
pub(crate) use number::whole;
pub use partition::{By, PartitionFlags};
pub(crate) use prefix::prefix;
pub use url::ListenUrl;

use duration::duration_or_zero;
use log_level::log_level;

use crate::endpoint::Endpoint;

/// The longest message that may be asked for: SQLite takes no value beyond 10⁹ bytes.
const LONGEST_REQUEST: u64 = 512 << 20;

/// The version with the commit.
pub(crate) fn version() -> &'static str {
    static VERSION: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    VERSION.get_or_init(|| format!("{} (commit {})", env!("CARGO_PKG_VERSION"), crate::COMMIT))
}

/// An etcd v3 server that keeps its data in an SQL database.
#[derive(Debug, Clone, Parser)]
#[command(name = "sluice-shim", version = version(), about, styles = Styles::plain(), max_term_width = 100)]
pub struct Config {
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseFlags,

    /// A server that holds a copy of the database, such as a replica: postgres://user@replica/database. Lists are read
    /// there as long as the copy is not late; else from --endpoint, as all that is written and all else that is read.
    /// May be given several times; URLs are separated by spaces. The password is found as that of --endpoint is.
    #[arg(
        long,
        env = "SLUICE_READ_ENDPOINT",
        hide_env_values = true,
        value_delimiter = ' ',
        value_name = "URL",
        value_parser = database::given
    )]
    pub read_endpoint: Vec<Given>,

    /// How its tables are divided.
    #[command(flatten)]
    pub partitions: PartitionFlags,

    /// The name of this member.
    #[arg(long, env = "SLUICE_NAME", default_value = "default", value_parser = NonEmptyStringValueParser::new())]
    pub name: String,

    /// Where clients connect to: http://, https://, unix:// or unixs:// URLs, separated by commas.
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
    pub advertise_client_urls: Vec<ListenUrl>,

    /// More addresses for /metrics, /health, /livez and /readyz, which are on the client URLs too.
    #[arg(long, env = "SLUICE_LISTEN_METRICS_URLS", value_delimiter = ',', value_name = "URLS")]
    pub listen_metrics_urls: Vec<ListenUrl>,

    /// The certificate of https:// and unixs:// URLs (PEM). It is read again when it changes.
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

    /// Stand by while another sluice-shim serves the database: hand all requests on to that process, and take its place
    /// when it is gone. All processes on a database need the flag. It is for databases on servers.
    #[arg(
        long,
        env = "SLUICE_STANDBY",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub standby: bool,

    /// The authorities that sign the certificates of the other processes on the database (PEM). The default is
    /// --trusted-ca-file.
    #[arg(long, env = "SLUICE_PEER_TRUSTED_CA_FILE", value_name = "FILE")]
    pub peer_trusted_ca_file: Option<PathBuf>,

    /// The certificate that the others ask this process for (PEM). The default is --cert-file.
    #[arg(long, env = "SLUICE_PEER_CERT_FILE", value_name = "FILE", requires = "peer_key_file")]
    pub peer_cert_file: Option<PathBuf>,

    /// Its key (PEM).
    #[arg(long, env = "SLUICE_PEER_KEY_FILE", value_name = "FILE", requires = "peer_cert_file")]
    pub peer_key_file: Option<PathBuf>,

    /// Talk to the other processes on the database by TLS with a certificate that they share, which is kept in the
    /// database: it needs no files. With this flag https:// URLs are for those who have its key: these processes, and
    /// clients with the files of --peer-auto-tls-dir.
    #[arg(
        long,
        env = "SLUICE_PEER_AUTO_TLS",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub peer_auto_tls: bool,

    /// Write that certificate and its key into this folder (ca.crt, tls.crt, tls.key), for clients beside this process
    /// that can't use a Unix socket: they connect to https://127.0.0.1.
    #[arg(long, env = "SLUICE_PEER_AUTO_TLS_DIR", value_name = "FOLDER", requires = "peer_auto_tls")]
    pub peer_auto_tls_dir: Option<PathBuf>,

    /// How often watchers that ask for it hear of the progress. (etcd: 10m; kubeadm sets 5s, which bookmarks need.)
    #[arg(
        long,
        env = "SLUICE_WATCH_PROGRESS_NOTIFY_INTERVAL",
        default_value = "5s",
        value_parser = duration,
        allow_hyphen_values = true,
        value_name = "DURATION"
    )]
    pub watch_progress_notify_interval: Duration,

    /// The greatest number of operations in a transaction.
    #[arg(
        long,
        env = "SLUICE_MAX_TXN_OPS",
        default_value_t = 128,
        value_parser = whole::<usize>(1..=u64::from(u32::MAX)),
        allow_hyphen_values = true,
        value_name = "N"
    )]
    pub max_txn_ops: usize,

    /// The greatest size of a write.
    #[arg(
        long,
        env = "SLUICE_MAX_REQUEST_BYTES",
        default_value_t = 1_572_864,
        value_parser = whole::<usize>(1..=LONGEST_REQUEST),
        allow_hyphen_values = true,
        value_name = "BYTES"
    )]
    pub max_request_bytes: usize,

    /// The greatest number of requests that a connection has open at a time; 0 for no limit.
    #[arg(
        long,
        env = "SLUICE_MAX_CONCURRENT_STREAMS",
        default_value_t = u32::MAX,
        value_parser = whole::<u32>(0..=u64::from(u32::MAX)),
        allow_hyphen_values = true,
        value_name = "N"
    )]
    pub max_concurrent_streams: u32,

    /// How long a connection is idle before the server asks whether the client is there; 0 to never ask.
    #[arg(
        long,
        env = "SLUICE_GRPC_KEEPALIVE_INTERVAL",
        default_value = "30s",
        value_parser = duration_or_zero,
        allow_hyphen_values = true,
        value_name = "DURATION"
    )]
    pub grpc_keepalive_interval: Duration,

    /// How long the server waits for that answer before it closes the connection; 0 to never ask.
    #[arg(
        long,
        env = "SLUICE_GRPC_KEEPALIVE_TIMEOUT",
        default_value = "20s",
        value_parser = duration_or_zero,
        allow_hyphen_values = true,
        value_name = "DURATION"
    )]
    pub grpc_keepalive_timeout: Duration,

    /// Refuse to grow when the database holds more data than this; 0 for no limit.
    #[arg(
        long,
        env = "SLUICE_QUOTA_BACKEND_BYTES",
        default_value_t = 0,
        value_parser = whole::<i64>(0..=i64::MAX as u64),
        allow_hyphen_values = true,
        value_name = "BYTES"
    )]
    pub quota_backend_bytes: i64,

    /// Where snapshots are written before they are sent. The default is the folder of the database; for one that is
    /// reached over the network the system's folder for temporary files.
    #[arg(long, env = "SLUICE_SNAPSHOT_DIR", value_name = "DIR")]
    pub snapshot_dir: Option<PathBuf>,

    /// Whose definitions of custom resources count.
    #[command(flatten)]
    pub definitions: DefinitionsFlags,

    /// How the garbage collector works.
    #[command(flatten)]
    pub gc: GcConfig,

    /// What is logged: off, error, warn, info, debug, trace; also by module, as in warn,sluice_shim::sql=debug.
    #[arg(long, env = "SLUICE_LOG_LEVEL", default_value = "info", value_parser = log_level, value_name = "LEVEL")]
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

impl Config {
    /// Checks what flags have to do with each other; returns where the data is.
    pub fn check(&self) -> Result<Endpoint, ConfigError> {
        let endpoint = self.partitions.of(self.database.endpoint_with_replicas(&self.read_endpoint)?)?;
        self.check_urls()?;
        if self.client_cert_auth && self.trusted_ca_file.is_none() {
            let hint = "use --trusted-ca-file with the authorities that sign them";
            return Err(ConfigError::new("--client-cert-auth does not know whose certificates to accept", hint));
        }
        if self.standby && matches!(endpoint, Endpoint::Sqlite(_)) {
            let hint = "use a database on a server (postgres:// or mysql://), or remove the flag";
            return Err(ConfigError::new("--standby: a SQLite file has one process that serves it", hint));
        }
        if self.peer_auto_tls && !self.standby {
            let hint = "use it with --standby, or remove the flag";
            return Err(ConfigError::new("--peer-auto-tls: there are no other processes", hint));
        }
        let files = [&self.cert_file, &self.trusted_ca_file, &self.peer_cert_file, &self.peer_trusted_ca_file];
        if self.peer_auto_tls && files.into_iter().any(Option::is_some) {
            let hint = "remove the flag, or the flags --cert-file, --trusted-ca-file, --peer-cert-file and \
                        --peer-trusted-ca-file with their keys";
            return Err(ConfigError::new("--peer-auto-tls: certificates are given in files as well", hint));
        }
        Ok(endpoint)
    }

    /// Where other processes reach this one, which stands by. `url`: the first at which they may.
    ///
    /// # Errors
    /// When there is none.
    pub fn check_reachable(&self, url: Option<&str>) -> Result<String, ConfigError> {
        let hint = "say it with --advertise-client-urls, as in https://10.0.0.1:2379";
        let what = "--standby: no URL is known at which the other processes reach this one";
        let url = url.ok_or_else(|| ConfigError::new(what, hint))?;
        let trusts = self.peer_auto_tls || self.peer_trusted_ca_file.is_some() || self.trusted_ca_file.is_some();
        if url.starts_with("https:") && !trusts {
            let hint = "use --peer-auto-tls, or --peer-trusted-ca-file with the authorities that sign them";
            return Err(ConfigError::new(
                "--standby: nothing says whose certificates of other processes to trust",
                hint,
            ));
        }
        Ok(url.to_owned())
    }

    fn check_urls(&self) -> Result<(), ConfigError> {
        let listeners =
            [("--listen-client-urls", &self.listen_client_urls), ("--listen-metrics-urls", &self.listen_metrics_urls)];
        let mut places = HashSet::new();
        for (flag, url) in listeners.into_iter().flat_map(|(flag, urls)| urls.iter().map(move |url| (flag, url))) {
            let is_for_peers = self.peer_auto_tls && flag == "--listen-client-urls";
            if url.is_tls() && self.cert_file.is_none() && !is_for_peers {
                let hint = "use --cert-file and --key-file, or an http:// or unix:// URL";
                return Err(ConfigError::new(format!("{flag}: {url} needs a certificate"), hint));
            }
            if !url.is_repeatable() && !places.insert(url.place()) {
                let hint = "give each address once, in --listen-client-urls or in --listen-metrics-urls";
                return Err(ConfigError::new(format!("{flag}: the address of {url} is given twice"), hint));
            }
        }
        Ok(())
    }

    /// Where snapshots are written.
    pub fn snapshot_dir(&self, endpoint: &Endpoint) -> PathBuf {
        self.snapshot_dir.clone().unwrap_or_else(|| endpoint.folder())
    }
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
    fn urls() {
        let config = parse(&["--listen-client-urls", "http://127.0.0.1:0,https://[::1]:2379/,unix:///run/s.sock"]);
        let shown: Vec<_> = config.listen_client_urls.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["http://127.0.0.1:0", "https://[::1]:2379", "unix:///run/s.sock"]);
        for flag in ["--listen-client-urls", "--listen-metrics-urls", "--advertise-client-urls"] {
            assert!(refusal(&[flag, "http://a:1,http://b"]).contains(flag));
        }
    }

    #[test]
    fn two_sockets_at_one_address_are_refused() {
        let check = |clients: &str, metrics: &[&str]| {
            let args = [&["--endpoint", "sqlite:///a", "--listen-client-urls", clients][..], metrics].concat();
            parse(&args).check().map_err(|error| error.what)
        };
        let twice = "--listen-client-urls: the address of http://a:1 is given twice";
        assert_eq!(check("http://a:1,http://b:1,http://a:1", &[]), Err(twice.to_owned()));
        let metrics = check("unix:///a", &["--listen-metrics-urls", "unix:///a"]);
        assert_eq!(metrics, Err("--listen-metrics-urls: the address of unix:///a is given twice".to_owned()));
        assert!(check("http://a:0,http://a:0", &["--listen-metrics-urls", "http://a:0"]).is_ok());
    }

    #[test]
    fn tls_flags_go_together() {
        assert!(refusal(&["--cert-file", "a"]).contains("--key-file"));
        assert!(refusal(&["--trusted-ca-file", "a"]).contains("--cert-file"));
        let endpoint = ["--endpoint", "sqlite:///a"];
        let check = |args: &[&str]| parse(&[&endpoint[..], args].concat()).check().map_err(|error| error.what);
        assert_eq!(
            check(&["--listen-client-urls", "https://a:1"]).unwrap_err(),
            "--listen-client-urls: https://a:1 needs a certificate"
        );
        assert!(
            check(&["--listen-client-urls", "unixs:///a"]).unwrap_err().ends_with("unixs:///a needs a certificate")
        );
        assert!(check(&["--client-cert-auth"]).unwrap_err().starts_with("--client-cert-auth does not know"));
        assert!(check(&["--client-cert-auth=false"]).is_ok());
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
