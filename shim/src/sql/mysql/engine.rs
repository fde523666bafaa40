//! What a server is, and how our sessions with it are.

use std::fmt;

use mysql::Conn;
use mysql::prelude::Queryable as _;

/// The databases that speak the protocol. The scheme of the endpoint does not tell which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    MariaDb,
    MySql,
    TiDb,
    OceanBase,
}

impl Engine {
    fn of(version: &str) -> Self {
        let has = |word: &str| version.to_ascii_lowercase().contains(word);
        match () {
            () if has("tidb") => Self::TiDb,
            () if has("oceanbase") || has("seekdb") => Self::OceanBase,
            () if has("mariadb") => Self::MariaDb,
            () => Self::MySql,
        }
    }

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
            Self::TiDb => "TiDB",
            Self::OceanBase => "OceanBase",
        }
    }

    /// The oldest version that has all that the statements need, where the database's own version is told.
    pub(super) fn oldest(self) -> Option<(u32, u32)> {
        match self {
            Self::MariaDb => Some((10, 6)),
            Self::MySql => Some((8, 0)),
            Self::TiDb | Self::OceanBase => None,
        }
    }

    /// Keeps a subquery from being computed for all rows before a limit.
    pub(super) fn hint(self) -> &'static str {
        if self == Self::TiDb { "/*+ NO_DECORRELATE() */" } else { "" }
    }

    /// Whether it keeps its data in InnoDB.
    pub(super) fn is_innodb(self) -> bool {
        matches!(self, Self::MariaDb | Self::MySql)
    }
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) engine: Engine,
    pub(super) version: String,
    pub(super) read_only: bool,
    pub(super) max_allowed_packet: usize,
    /// Whether it is a node of a Galera cluster, each of which takes writes.
    pub(super) galera: bool,
}

impl Server {
    /// The version alone, without what else the server says of itself.
    pub(super) fn number(&self) -> &str {
        self.version.split(' ').next().unwrap_or_default()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.engine, self.version)
    }
}

/// Asks what the server is; `None` if its answer can't be read.
pub(super) fn server(connection: &mut Conn) -> mysql::Result<Option<Server>> {
    let sql = "SELECT CONCAT(VERSION(), ' ', @@version_comment), @@global.read_only, @@max_allowed_packet";
    let told: Option<(String, u8, usize)> = match connection.query_first::<mysql::Row, _>(sql)? {
        Some(row) => mysql::from_row_opt(row).ok(),
        None => None,
    };
    let Some((version, read_only, max_allowed_packet)) = told else { return Ok(None) };
    let engine = Engine::of(&version);
    // Others don't know the variable, which is no error then.
    let galera = engine.is_innodb() && {
        let set: Option<(String, String)> = connection.query_first("SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")?;
        set.is_some_and(|(_, value)| value == "ON")
    };
    Ok(Some(Server { engine, version, read_only: read_only != 0, max_allowed_packet, galera }))
}

/// How a session is set up.
///
/// `SET NAMES binary`: literals are bytes. READ COMMITTED: a statement sees what was committed before it, so what is
/// read behind the lock is new. A session that says nothing for a while is ended, since it may hold the lock.
///
/// On a node of a Galera cluster a transaction waits at its begin until the node has all that the cluster had committed
/// by then: what another node acknowledged may not be carried out here yet.
///
/// On MariaDB a connection is [known](is_connected) by a lock with its number. A cluster has no such locks.
pub(super) fn session(server: &Server) -> String {
    let more = match server.engine {
        _ if server.galera => "; SET SESSION wsrep_sync_wait=1, wsrep_dirty_reads=0",
        Engine::MariaDb => "; DO GET_LOCK(CONCAT('sluice-', CONNECTION_ID()), 0)",
        _ => "",
    };
    let own = match server.engine {
        // A list of more than a thousand keys would become a table to join with.
        Engine::MariaDb => {
            "SET SESSION innodb_lock_wait_timeout=5, idle_transaction_timeout=5, in_predicate_conversion_threshold=0, \
             optimizer_switch='semijoin=off,materialization=off'"
        }
        Engine::MySql => {
            "SET SESSION innodb_lock_wait_timeout=5, range_optimizer_max_mem_size=0, \
             optimizer_switch='semijoin=off,materialization=off'"
        }
        Engine::TiDb => "SET SESSION innodb_lock_wait_timeout=5, tidb_txn_mode='pessimistic'",
        Engine::OceanBase => "SET SESSION ob_trx_idle_timeout=5000000",
    };
    format!(
        "SET NAMES binary; SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone='+00:00', \
         autocommit=1, wait_timeout=60; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; {own}{more}"
    )
}

/// The condition that a connection of that number is there. The list of processes has those of other users only for
/// whoever has the right `PROCESS`; who has a lock is told to everybody. Earlier versions had no lock.
pub(super) fn is_connected(number: &str) -> String {
    format!(
        "(IS_USED_LOCK(CONCAT('sluice-', {number})) <=> {number}
            OR EXISTS (SELECT 1 FROM information_schema.processlist WHERE id = {number}))"
    )
}

/// Major and minor version.
pub(super) fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-', ' ']).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let table = [
            ("10.11.19-MariaDB-0+deb12u1 Debian 12", Engine::MariaDb, (10, 11)),
            ("8.0.36 MySQL Community Server - GPL", Engine::MySql, (8, 0)),
            ("8.0.11-TiDB-v8.5.0 TiDB Server (Apache License 2.0)", Engine::TiDb, (8, 0)),
            ("5.7.25-OceanBase-v4.2.1 OceanBase_CE", Engine::OceanBase, (5, 7)),
            ("5.7.25 OceanBase seekdb 1.4.0", Engine::OceanBase, (5, 7)),
        ];
        for (version, engine, told) in table {
            assert_eq!((Engine::of(version), number(version)), (engine, Some(told)), "{version}");
        }
    }
}
