//! Servers of databases that are struck while shims use them.

use sluice_shim::endpoint::Family;

use super::cluster::Cluster;
use super::server::{Server, Stop};

/// What a database is on.
pub(crate) trait Backing: Send {
    /// Where databases are made.
    fn url(&self) -> String;

    /// Takes away what is in use.
    fn strike(&mut self, how: Stop);

    /// Brings back what was taken away, and waits until it can be used.
    fn mend(&mut self);

    /// Whether calls may fail because of a strike.
    fn excuses(&self) -> bool {
        true
    }

    /// Where a copy of a database is, by its URL.
    fn copy_of(&self, _database: &str) -> Option<String> {
        None
    }
}

impl Backing for Server {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn strike(&mut self, how: Stop) {
        self.stop(how);
    }

    fn mend(&mut self) {
        self.run();
    }
}

/// A cluster of which the node in use is killed, or cut off from the others. They go on without it.
pub(crate) struct Struck {
    pub(crate) cluster: Cluster,
    last: Option<(usize, Stop)>,
}

impl Struck {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster, last: None }
    }
}

impl Backing for Struck {
    fn url(&self) -> String {
        self.cluster.url_from(0)
    }

    fn strike(&mut self, how: Stop) {
        let nth = self.cluster.in_use("sluice_test_").unwrap_or(0);
        match how {
            Stop::AtOnce => self.cluster.cut_off(nth),
            Stop::Kill | Stop::Clean => self.cluster.kill(nth),
        }
        self.last = Some((nth, how));
    }

    fn mend(&mut self) {
        match self.last.take() {
            Some((nth, Stop::AtOnce)) => self.cluster.let_in(nth),
            Some((nth, _)) => self.cluster.revive(nth),
            None => {}
        }
    }
}

/// A server that is left alone, with a copy that is late or gone now and then.
pub(crate) struct Copied {
    primary: Server,
    copy: Server,
    last: Option<Stop>,
}

impl Copied {
    pub(crate) fn start(family: Family) -> Self {
        let primary = Server::primary(family);
        Self { copy: Server::replica_of(&primary, "copy"), primary, last: None }
    }
}

impl Backing for Copied {
    fn url(&self) -> String {
        self.primary.url()
    }

    fn strike(&mut self, how: Stop) {
        match how {
            Stop::AtOnce => self.copy.follow(false),
            Stop::Kill | Stop::Clean => self.copy.stop(Stop::Kill),
        }
        self.last = Some(how);
    }

    fn mend(&mut self) {
        match self.last.take() {
            Some(Stop::AtOnce) => self.copy.follow(true),
            Some(_) => self.copy.run(),
            None => {}
        }
    }

    fn excuses(&self) -> bool {
        false
    }

    fn copy_of(&self, database: &str) -> Option<String> {
        Some(database.replace(&format!(":{}/", self.primary.port), &format!(":{}/", self.copy.port)))
    }
}
