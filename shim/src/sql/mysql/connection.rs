//! Connections to MariaDB and what speaks its protocol.

use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::time::Duration;

use mysql::consts::CapabilityFlags;
use mysql::prelude::Queryable as _;
use mysql::{ClientIdentity, Conn, DriverError, Opts, OptsBuilder, SslOpts};

use super::engine::{self, Server};
use super::error::{Doing, failed, of_encryption};
use super::row::Cells;
use super::text::{COMMIT, Packet};
use crate::endpoint::{Address, Host, Layout, TlsMode};
use crate::engine::Error;
use crate::engine::database_metrics::Counted;
use crate::engine::metrics::Metrics;
use crate::sql::failure::{Failure, Result};
use crate::sql::remote::{OF_COPY, Seen, none_of};

/// How long a statement may take, at most, unless somebody waits for as long as it takes. None of ours is long: all but
/// reads of whole tables have a limit, and a lock is waited for less long than that.
const PATIENCE: Duration = Duration::from_secs(30);
/// After how long without an answer of the network the other side is taken for gone.
const SILENCE: Duration = Duration::from_secs(10);
/// How many bytes of a packet are not of its statements.
const HEADROOM: usize = 64 << 10;
/// The longest value of a column, in bytes.
const COLUMN: usize = (16 << 20) - 1;
/// The longest packet that is sent: a longer one gains nothing.
const PACKET: usize = 8 << 20;

/// A connection to the server that takes writes, or the wish for one.
pub(super) struct Connection {
    address: Arc<Address>,
    metrics: Arc<Metrics>,
    open: Option<Open>,
    /// The newest revision that this process has seen.
    pub(super) seen: Arc<Seen>,
    /// Whether it leads to a copy of the database, which may be late and takes no writes.
    is_replica: bool,
    /// How long a statement may take; `None`: as long as it takes.
    patience: Option<Duration>,
    /// The statements that went to the server, if a test wants them.
    #[cfg(test)]
    pub(super) texts: Option<Vec<String>>,
}

/// One that there is.
struct Open {
    connection: Conn,
    server: Server,
    host: Host,
    _counted: Counted,
}

impl Connection {
    /// Connects.
    pub(super) fn open(address: Arc<Address>, metrics: Arc<Metrics>) -> Result<Self> {
        Self::open_with(address, metrics, Some(PATIENCE))
    }

    /// The same; `patience`: how long a statement may take, `None` as long as it takes.
    pub(super) fn open_with(address: Arc<Address>, metrics: Arc<Metrics>, patience: Option<Duration>) -> Result<Self> {
        Self::new(address, metrics, patience, false)
    }

    /// Connects to a server that holds a copy of the database: the first that answers.
    pub(super) fn to_replica(address: Arc<Address>, metrics: Arc<Metrics>) -> Result<Self> {
        Self::new(address, metrics, Some(OF_COPY), true)
    }

    fn new(address: Arc<Address>, metrics: Arc<Metrics>, patience: Option<Duration>, is_replica: bool) -> Result<Self> {
        let mut connection = Self {
            address,
            metrics,
            open: None,
            seen: Arc::default(),
            is_replica,
            patience,
            #[cfg(test)]
            texts: None,
        };
        connection.reconnect()?;
        Ok(connection)
    }

    /// Connects anew, to the first of the hosts that takes writes and has all that was acknowledged.
    pub(super) fn reconnect(&mut self) -> Result<()> {
        self.open = None;
        let mut failures = Vec::new();
        for host in &self.address.hosts {
            match connect(&self.address, host, self.patience) {
                Ok((mut connection, server)) if self.is_replica || !server.read_only => {
                    match self.lacks_nothing(&mut connection, host) {
                        Ok(()) => {
                            let metrics = &self.metrics.database;
                            if !self.is_replica {
                                metrics.leads_to(server.engine.name(), server.number());
                            }
                            let (host, counted) = (host.clone(), metrics.connected());
                            self.open = Some(Open { connection, server, host, _counted: counted });
                            return Ok(());
                        }
                        Err(failure) => failures.push(failure),
                    }
                }
                Ok(_) => {
                    let text = format!(
                        "the database at {host} is read-only (read_only=1): a replica takes no writes; name the server \
                         that does"
                    );
                    failures.push(Failure::Lost(Error::Unavailable(text)));
                }
                Err(failure) => failures.push(failure),
            }
        }
        Err(none_of(&failures))
    }

    /// Checks that a server has all that this process has seen.
    fn lacks_nothing(&self, connection: &mut Conn, host: &Host) -> Result<()> {
        let newest = self.seen.newest();
        if newest == 0 {
            return Ok(());
        }
        let doing = Doing { statement: "revision", committing: false, sent: false };
        let revision = connection
            .query_first("SELECT revision FROM meta WHERE id = 1")
            .map_err(|error| failed(&host.to_string(), &error, doing))?;
        self.seen.note(revision.unwrap_or(0), newest)
    }

    /// Another one like it, on which a statement may take as long as it takes.
    pub(super) fn another(&self) -> Result<Self> {
        let mut other = Self::open_with(Arc::clone(&self.address), Arc::clone(&self.metrics), None)?;
        other.seen = Arc::clone(&self.seen);
        Ok(other)
    }

    /// Ends it: what the server does with it does not matter any more.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Whether it leads to a copy of the database.
    pub(super) fn is_replica(&self) -> bool {
        self.is_replica
    }

    /// Whether there is one.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Where others reach this process, if it waits for no other one that serves the database.
    pub(super) fn standby(&self) -> Option<&str> {
        self.address.standby.as_deref()
    }

    /// How the tables are to be divided, if somebody says so.
    pub(super) fn layout(&self) -> Option<&Layout> {
        self.address.layout.as_ref()
    }

    /// What it leads to.
    pub(super) fn server(&self) -> Result<&Server> {
        self.open.as_ref().map(|open| &open.server).ok_or_else(closed)
    }

    /// The longest text of a packet.
    pub(super) fn packet_bytes(&self) -> usize {
        let allowed = self.open.as_ref().map_or(0, |open| open.server.max_allowed_packet);
        allowed.saturating_sub(HEADROOM).clamp(1 << 20, PACKET)
    }

    /// The longest value that fits into a packet, whatever its bytes, each of which may be two in the text, and into
    /// its column.
    pub(super) fn longest_value(&self) -> Result<usize> {
        Ok((self.server()?.max_allowed_packet.saturating_sub(HEADROOM) / 2).min(COLUMN))
    }

    /// Carries a packet out; hands on the rows of each statement with its place among them, and returns how many rows
    /// each changed or found.
    pub(super) fn each(
        &mut self,
        packet: &Packet,
        row: &mut dyn FnMut(usize, Cells) -> Result<()>,
    ) -> Result<Vec<u64>> {
        let Some(Open { connection, host, .. }) = &mut self.open else { return Err(closed()) };
        if packet.text().is_empty() {
            return Ok(Vec::new());
        }
        #[cfg(test)]
        self.texts.iter_mut().for_each(|texts| texts.push(packet.text().to_owned()));
        let _asking = self.metrics.database.asks();
        let wrong = |error: mysql::Error, nth: usize| {
            let statement = packet.name(nth);
            failed(
                &host.to_string(),
                &error,
                Doing { statement, committing: statement == COMMIT, sent: packet.commits() },
            )
        };
        let mut changed = Vec::new();
        let done = connection.query_iter(packet.text()).map_err(|error| wrong(error, 0)).and_then(|mut results| {
            loop {
                let nth = changed.len();
                changed.push(results.affected_rows());
                let Some(rows) = results.iter() else { break };
                for found in rows {
                    row(nth, Cells::of(found.map_err(|error| wrong(error, nth))?))?;
                }
            }
            changed.pop();
            Ok(())
        });
        if matches!(done, Err(Failure::Lost(_) | Failure::Unknown(_))) {
            self.open = None;
        }
        done.map(|()| changed)
    }

    /// The same for statements without rows.
    pub(super) fn run(&mut self, packet: &Packet) -> Result<Vec<u64>> {
        self.each(packet, &mut |_, _| Ok(()))
    }

    /// The rows of one statement.
    pub(super) fn all<T>(
        &mut self,
        name: &'static str,
        statement: impl std::fmt::Display,
        read: impl Fn(&mut Cells) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        self.each(&Packet::of(name, statement), &mut |_, mut cells| {
            rows.push(read(&mut cells)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The first row of one statement.
    pub(super) fn first<T>(
        &mut self,
        name: &'static str,
        statement: impl std::fmt::Display,
        read: impl Fn(&mut Cells) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.all(name, statement, read)?.into_iter().next())
    }

    /// The first column of the one row that a statement gives, a number.
    pub(super) fn number(&mut self, name: &'static str, statement: impl std::fmt::Display) -> Result<i64> {
        Ok(self.first(name, statement, Cells::int)?.unwrap_or(0))
    }
}

fn closed() -> Failure {
    Failure::Lost(Error::Unavailable("there is no connection to the database".to_owned()))
}

/// Connects to a server and sets the session up.
fn connect(address: &Address, host: &Host, patience: Option<Duration>) -> Result<(Conn, Server)> {
    let doing = |statement| Doing { statement, committing: false, sent: false };
    let wrong = |error: &mysql::Error, statement| failed(&host.to_string(), error, doing(statement));
    let tls = &address.options.tls;
    let connected =
        options(address, host, (tls.mode != TlsMode::Disable, patience)).and_then(|options| {
            match log_in(host, &options) {
                Err(mysql::Error::DriverError(DriverError::TlsNotSupported)) if tls.mode == TlsMode::Prefer => {
                    Ok(log_in(host, &self::options(address, host, (false, patience))?))
                }
                connected => Ok(connected),
            }
        })?;
    let mut connection =
        connected.map_err(|error| refused(address, host, &error).unwrap_or_else(|| wrong(&error, "connect")))?;
    let server = engine::server(&mut connection)
        .map_err(|error| wrong(&error, "server"))?
        .ok_or_else(|| Failure::Final(Error::Broken(format!("the database at {host} does not say what it is"))))?;
    connection.query_drop(engine::session(&server)).map_err(|error| wrong(&error, "session"))?;
    Ok((connection, server))
}

/// Logs in at the first address of the host that answers.
fn log_in(host: &Host, options: &Opts) -> mysql::Result<Conn> {
    // The driver tries one address of a name only, unless it is told what addresses to come from: then all of that
    // kind.
    let addresses: Vec<_> = (&host.name[..], host.port).to_socket_addrs()?.collect();
    let kinds = [(true, "0.0.0.0:0"), (false, "[::]:0")].into_iter();
    let kinds = kinds.filter(|(v4, _)| addresses.iter().any(|address| address.is_ipv4() == *v4));
    let mut last = mysql::Error::IoError(std::io::Error::other("the host has no address"));
    for (_, from) in kinds {
        let from = from.parse::<std::net::SocketAddr>().ok();
        match Conn::new(OptsBuilder::from_opts(options.clone()).bind_address(from)) {
            Err(error @ (mysql::Error::IoError(_) | mysql::Error::DriverError(DriverError::CouldNotConnect(_)))) => {
                last = error;
            }
            connected => return connected,
        }
    }
    Err(last)
}

/// How to connect; whether to encrypt, and how long a statement may take.
fn options(address: &Address, host: &Host, (encrypts, patience): (bool, Option<Duration>)) -> Result<Opts> {
    let password = address.password(host).map_err(|error| Failure::Final(Error::Broken(error.to_string())))?;
    let tls = &address.options.tls;
    let identity = tls.identity.iter().flat_map(|(certificate, key)| [("sslcert", certificate), ("sslkey", key)]);
    for (option, path) in tls.authorities.iter().map(|path| ("sslrootcert", path)).chain(identity) {
        std::fs::File::open(path).map_err(|error| {
            let path = path.display();
            Failure::Final(Error::Broken(format!("the file {path} of the endpoint's {option} can't be read: {error}")))
        })?;
    }
    let encryption = encrypts.then(|| {
        let identity = tls.identity.clone().map(|(certificate, key)| ClientIdentity::new(certificate, key));
        SslOpts::default()
            .with_root_cert_path(tls.authorities.clone())
            .with_client_identity(identity)
            .with_danger_accept_invalid_certs(matches!(tls.mode, TlsMode::Prefer | TlsMode::Require))
            .with_danger_skip_domain_validation(tls.mode == TlsMode::VerifyCa)
    });
    let millis = |time: Duration| u32::try_from(time.as_millis()).ok();
    Ok(OptsBuilder::new()
        .ip_or_hostname(Some(&*host.name))
        .tcp_port(host.port)
        .user(address.user.clone())
        .pass(password.as_ref().map(|password| password.reveal()))
        .db_name(Some(&*address.database))
        .connect_attrs(Some([("program_name", &*address.options.application_name)].into_iter().collect()))
        // A socket of this machine would be another server than the one that was named.
        .prefer_socket(false)
        .tcp_connect_timeout(Some(address.options.connect_timeout))
        .read_timeout(patience)
        .write_timeout(Some(PATIENCE))
        .tcp_keepalive_time_ms(millis(SILENCE))
        .tcp_user_timeout_ms(millis(SILENCE))
        .stmt_cache_size(0)
        // Rows that an update finds are counted, not those that it changes.
        .additional_capabilities(CapabilityFlags::CLIENT_FOUND_ROWS)
        .ssl_opts(encryption)
        .into())
}

/// What a person has to do about a login that failed.
fn refused(address: &Address, host: &Host, error: &mysql::Error) -> Option<Failure> {
    let (user, database) = (address.user.as_deref().unwrap_or_default(), &address.database);
    let text = match error {
        mysql::Error::MySqlError(answer) => match answer.code {
            1044 | 1045 | 1698 => format!(
                "the database at {host} refuses the user {user:?} (error {}): check the password, and that the user may \
                 connect from here; GRANT ALL ON `{database}`.* TO the user",
                answer.code
            ),
            1049 => format!("the database at {host} has no database {database:?}: CREATE DATABASE `{database}`"),
            1130 => format!(
                "the database at {host} takes no connections from this machine (error 1130): see the user's host"
            ),
            _ => return None,
        },
        mysql::Error::DriverError(DriverError::TlsNotSupported) => {
            format!("the database at {host} does not encrypt: set ssl_cert and ssl_key there, or sslmode=disable here")
        }
        _ => {
            let error = of_encryption(error)?;
            format!("the database at {host} can't be trusted: {error}; see the endpoint's sslmode and sslrootcert")
        }
    };
    Some(Failure::Final(Error::Broken(text)))
}
