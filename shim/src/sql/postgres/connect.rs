//! Finds the server that takes writes, and connects to it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls};

use super::error::{self, explained};
use super::link::{Link, Nature, wait};
use super::partition::ByKeys;
use super::planner;
use super::pooler;
use super::tls::Connector;
use crate::endpoint::{Address, Host, TlsMode};
use crate::engine::Error;
use crate::engine::metrics::Metrics;
use crate::sql::failure::{Failure, Result};
use crate::sql::remote::{OF_COPY, Seen, none_of, of_copy};

/// What all connections of this process to a database share.
pub(super) struct Database {
    address: Address,
    tls: Option<Connector>,
    pub(super) metrics: Arc<Metrics>,
    /// The random number of this process.
    pub(super) owner: i64,
    /// The newest revision that this process has seen.
    pub(super) seen: Seen,
    /// Whether it is a copy of the database that this process serves, which may be late and takes no writes.
    pub(super) is_replica: bool,
    /// How long the server may take for an answer; `None`: as long as it takes.
    patience: Option<Duration>,
    /// Whether it turned out that statements do not stay prepared.
    forgets: AtomicBool,
    /// Whether the tables that hold keys are divided, as far as it is known.
    divided: AtomicBool,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

impl Database {
    /// Connects to nothing yet. `patience`: how long the server may take for an answer; `None`: as long as it takes.
    pub(super) fn new(
        address: &Address,
        owner: i64,
        metrics: Arc<Metrics>,
        patience: Option<Duration>,
    ) -> crate::engine::Result<Arc<Self>> {
        Self::to(address.clone(), owner, metrics, patience).map(Arc::new)
    }

    /// A server that holds a copy of it.
    pub(super) fn replica(&self, address: &Address) -> crate::engine::Result<Arc<Self>> {
        let replica = Self::to(of_copy(address), self.owner, Arc::clone(&self.metrics), Some(OF_COPY))?;
        let divided = AtomicBool::new(self.divided.load(Ordering::Relaxed));
        Ok(Arc::new(Self { is_replica: true, divided, ..replica }))
    }

    /// Notes how the tables are divided. What does not know it reads more parts than it needs.
    pub(super) fn is_divided(&self, divided: bool) {
        self.divided.store(divided, Ordering::Relaxed);
    }

    /// How statements look up the keys of a list.
    pub(super) fn by_keys(&self) -> &'static ByKeys {
        if self.divided.load(Ordering::Relaxed) { &ByKeys::DIVIDED } else { &ByKeys::WHOLE }
    }

    fn to(
        address: Address,
        owner: i64,
        metrics: Arc<Metrics>,
        patience: Option<Duration>,
    ) -> crate::engine::Result<Self> {
        let tls = &address.options.tls;
        let tls = if tls.mode == TlsMode::Disable { None } else { Some(Connector::new(tls)?) };
        let (seen, forgets, divided) = (Seen::default(), AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { address, tls, metrics, owner, seen, is_replica: false, patience, forgets, divided })
    }

    /// Where its servers are.
    pub(super) fn hosts(&self) -> String {
        self.address.hosts()
    }

    /// Connects to the primary among the hosts; if these hold a copy, to the first that answers.
    pub(super) fn connect(&self) -> Result<Link> {
        let unusable = |error| Failure::Final(Error::Unavailable(format!("a connection can't be made: {error}")));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unusable)?;
        let mut failures = Vec::new();
        for host in &self.address.hosts {
            match wait(&runtime, self.connect_in_time(host)) {
                Ok((client, is_pooled)) => {
                    let forgets = self.forgets.load(Ordering::Relaxed);
                    let prepares = self.address.options.prepare.unwrap_or(!is_pooled) && !forgets;
                    let metrics = Arc::clone(&self.metrics);
                    return Ok(Link::new(
                        runtime,
                        client,
                        metrics,
                        Nature { prepares, is_pooled, patience: self.patience },
                    ));
                }
                Err(failure) => failures.push(failure),
            }
        }
        runtime.shutdown_background();
        Err(none_of(&failures))
    }

    /// A pooler lets everybody in, and may then keep the first statement until it has a server.
    async fn connect_in_time(&self, host: &Host) -> Result<(Client, bool)> {
        let limit = 2 * self.address.options.connect_timeout;
        tokio::time::timeout(limit, self.connect_to(host)).await.unwrap_or_else(|_| {
            let text = format!("the database at {host} let us in, and did not answer within {} s", limit.as_secs());
            Err(Failure::Lost(Error::Unavailable(text)))
        })
    }

    /// Connects to a host that takes writes; tells whether it is a pooler.
    async fn connect_to(&self, host: &Host) -> Result<(Client, bool)> {
        let config = self.config(host)?;
        let timeout = self.address.options.connect_timeout;
        let connected = tokio::time::timeout(timeout, self.log_in(&config)).await;
        let client = match connected {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(self.refused(host, &error)),
            Err(_) => {
                let text = format!("the database at {host} did not answer within {} s", timeout.as_secs());
                return Err(Failure::Lost(Error::Unavailable(text)));
            }
        };
        let sql = "SELECT pg_is_in_recovery(), pg_backend_pid(), current_setting('server_version')";
        let row = client.query_typed_one(sql, &[]).await.map_err(|error| error::failed(&error, "primary", false))?;
        if !self.is_replica && row.try_get(0).unwrap_or(true) {
            let text = format!("the database at {host} is a standby, which takes no writes; name the primary as well");
            return Err(Failure::Lost(Error::Unavailable(text)));
        }
        let is_pooled = self.forgets.load(Ordering::Relaxed)
            || pooler::greeted_by(client.cancel_token()).await != row.try_get(1).ok();
        if !self.is_replica
            && let Some(version) = row.try_get::<_, &str>(2).ok().and_then(|version| version.split(' ').next())
        {
            self.metrics.database.leads_to("PostgreSQL", version);
        }
        if is_pooled {
            tracing::debug!(%host, "a pooler is between this process and the database");
        } else {
            // Others never get this connection.
            let plans = client.batch_execute(&planner::lasting()).await;
            plans.map_err(|error| error::failed(&error, "plans", false))?;
        }
        let newest = self.seen.newest();
        if newest > 0 {
            // By the function a pooler sees that no standby is to answer.
            let sql = "SELECT revision, pg_is_in_recovery() FROM meta WHERE id = 1";
            let row =
                client.query_typed_one(sql, &[]).await.map_err(|error| error::failed(&error, "revision", false))?;
            self.seen.note(super::link::get(&row, 0)?, newest)?;
        }
        Ok((client, is_pooled))
    }

    fn config(&self, host: &Host) -> Result<Config> {
        let Address { user, database, options, .. } = &self.address;
        let mut config = Config::new();
        config
            .host(&host.name)
            .port(host.port)
            .dbname(database)
            .application_name(&options.application_name)
            .connect_timeout(options.connect_timeout)
            .keepalives_idle(std::time::Duration::from_secs(10))
            .tcp_user_timeout(std::time::Duration::from_secs(30))
            .ssl_mode(match options.tls.mode {
                TlsMode::Disable => SslMode::Disable,
                TlsMode::Prefer => SslMode::Prefer,
                TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
            });
        if let Some(user) = user {
            config.user(user);
        }
        let password = self.address.password(host);
        if let Some(password) = password.map_err(|error| Error::Unavailable(format!("{error}; {}", error.hint)))? {
            config.password(password.reveal());
        }
        Ok(config)
    }

    async fn log_in(&self, config: &Config) -> std::result::Result<Client, tokio_postgres::Error> {
        // What ends a connection is told by the statements that wait for it.
        match &self.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                tokio::spawn(async { drop(connection.await) });
                Ok(client)
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                tokio::spawn(async { drop(connection.await) });
                Ok(client)
            }
        }
    }

    /// Why a server can't be used, and what to do about it.
    fn refused(&self, host: &Host, error: &tokio_postgres::Error) -> Failure {
        let Address { database, user, .. } = &self.address;
        let user = user.as_deref().unwrap_or("of this process");
        let text = format!("cannot connect to the database at {host}: {}", explained(error));
        let advise = |advice: &str| Failure::Final(Error::Broken(format!("{text}; {advice}")));
        match error.code().map(tokio_postgres::error::SqlState::code) {
            Some("28P01" | "28000") => advise(&format!(
                "check the user {user:?} and the password (--endpoint-password-file), and the server's pg_hba.conf"
            )),
            Some("3D000") => advise(&format!("make it: CREATE DATABASE {database:?}")),
            Some("42501") => advise(&format!("allow it: GRANT CONNECT ON DATABASE {database:?} TO {user:?}")),
            Some("53300") => Failure::Lost(Error::Unavailable(format!("{text}; raise the server's max_connections"))),
            Some(_) | None => Failure::Lost(Error::Unavailable(text)),
        }
    }

    /// Remembers that statements do not stay prepared here.
    pub(super) fn forgets(&self) {
        self.forgets.store(true, Ordering::Relaxed);
    }
}
