//! The shim's tests on database servers: those that are about what any database does, under the same names.

use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::database::Database;

use crate::server::Server;

/// Programs of tests that make their databases where this variable says.
pub(crate) const VARIABLE: &str = "SLUICE_TEST_DATABASE";

/// The shim's programs of tests that are about what any database does.
const PROGRAMS: [&str; 6] = ["engine", "etcd_api", "faults", "gc", "linearizability", "migrate"];

/// Where to run the shim's tests.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Servers {
    /// `db`: only this server [default: all]
    #[arg(long, value_enum, value_name = "SERVER")]
    only: Option<Database>,
    /// `db`: a server that runs already, by its connection string; the tests make and remove databases of their own
    /// there. The variable `SLUICE_TEST_DATABASE` hides a password from other users of the machine
    #[arg(long, value_name = "CONNECTION", conflicts_with = "only")]
    endpoint: Option<String>,
}

/// One run of the tests: a name for people, and the command to give to cargo.
pub(crate) struct Part {
    pub(crate) name: String,
    /// Arguments of cargo.
    pub(crate) args: Vec<&'static str>,
    /// The connection string.
    pub(crate) endpoint: String,
    server: Option<Server>,
}

impl Servers {
    /// Whether a flag says on which server, so that no other part is meant.
    pub(crate) fn is_chosen(&self) -> bool {
        self.only.is_some() || self.endpoint.is_some()
    }

    /// Whether servers have to be started.
    pub(crate) fn starts_servers(&self) -> bool {
        self.given().is_none()
    }

    /// The server that runs already.
    fn given(&self) -> Option<String> {
        self.given_or(std::env::var(VARIABLE).ok())
    }

    fn given_or(&self, variable: Option<String>) -> Option<String> {
        let variable = variable.filter(|endpoint| self.only.is_none() && !endpoint.is_empty());
        self.endpoint.clone().or(variable)
    }

    /// The servers to test on; each is started when it is its turn.
    pub(crate) fn parts<'a>(&'a self, shell: &'a Context) -> impl Iterator<Item = Result<Part>> + 'a {
        let given = self.given().into_iter().map(|endpoint| {
            let name = endpoint.split_once("://").map_or("?", |(scheme, _)| scheme);
            Ok(Part::new(format!("shim on {name}"), endpoint, None))
        });
        let servers = Database::ALL.into_iter().filter(|database| self.only.is_none_or(|only| only == *database));
        let started = servers.filter(|_| self.starts_servers()).map(|database| {
            let server = Server::start(shell, database)?;
            Ok(Part::new(format!("shim on {database}"), server.endpoint(), Some(server)))
        });
        given.chain(started)
    }
}

impl Part {
    fn new(name: String, endpoint: String, server: Option<Server>) -> Self {
        let args = ["test", "--no-fail-fast", "--package", "sluice-shim"].into_iter();
        let args = args.chain(PROGRAMS.iter().flat_map(|program| ["--test", program])).collect();
        Self { name, args, endpoint, server }
    }

    /// Ends the server, if it was started for this.
    pub(crate) fn finish(self) -> Result<()> {
        self.server.as_ref().map_or(Ok(()), Server::stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_a_flag_wins_over_that_of_the_variable() {
        let servers = |only, endpoint: Option<&str>| Servers { only, endpoint: endpoint.map(str::to_owned) };
        let variable = || Some("mysql://v".to_owned());
        assert_eq!(servers(None, None).given_or(variable()).as_deref(), Some("mysql://v"));
        assert_eq!(servers(None, None).given_or(Some(String::new())), None);
        assert_eq!(servers(None, Some("mysql://f")).given_or(variable()).as_deref(), Some("mysql://f"));
        assert_eq!(servers(Some(Database::Postgres), None).given_or(variable()), None);
    }
}
