//! Another server takes over, which has all that was acknowledged or has not.

use std::sync::{Arc, Mutex};

use clap::Parser as _;
use sluice_shim::cli::Cli;
use sluice_shim::endpoint::{Endpoint, Family};
use sluice_shim::engine::{Error, KeyRange, RangeQuery};

use crate::ledger::{Observer, Writer, in_time, open};
use crate::load::under_load;
use crate::server::{Server, Stop};

/// The database for a user who may not write where that is forbidden.
const MADE: [&str; 3] =
    ["CREATE DATABASE sluice", "CREATE USER sluice@localhost", "GRANT ALL ON sluice.* TO sluice@localhost"];

/// A database on two servers, of which the first takes writes and the second has them as well.
struct Pair {
    family: Family,
    first: Server,
    second: Server,
}

impl Pair {
    /// `waits`: whether a commit is acknowledged only when the second server has it too.
    fn start(family: Family, waits: bool) -> Self {
        match family {
            Family::Postgres => {
                let first = Server::start(family, &[]);
                first.set("CREATE ROLE sluice LOGIN");
                first.set("CREATE DATABASE sluice OWNER sluice");
                let second = Server::standby_of(&first, "second");
                if waits {
                    first.set("ALTER SYSTEM SET synchronous_standby_names = 'second'");
                    first.set("SELECT pg_reload_conf()");
                }
                Self { family, first, second }
            }
            Family::MySql => {
                let first = Server::primary(family);
                let second = Server::replica_of(&first, "second");
                MADE.iter().for_each(|statement| drop(first.set(statement)));
                second.catch_up(&first);
                Self { family, first, second }
            }
        }
    }

    /// Both, in this order or the other one.
    fn endpoint(&self, first: bool) -> Endpoint {
        let Self { first: a, second: b, family } = self;
        let (a, b) = if first { (a.port, b.port) } else { (b.port, a.port) };
        format!("{family}://sluice@127.0.0.1:{a},127.0.0.1:{b}/sluice?sslmode=disable").parse().unwrap()
    }

    /// Lets the second server take over.
    fn promote(&self) {
        match self.family {
            Family::Postgres => self.second.promote(),
            Family::MySql => {
                self.second.follow(false);
                self.second.set("SET GLOBAL read_only = 0");
            }
        }
    }

    /// Lets the second server have what there is, and nothing more.
    fn fall_behind(&mut self) {
        self.second.catch_up(&self.first);
        match self.family {
            // One that replays nothing gets everything all the same, and replays it when it takes over.
            Family::Postgres => self.second.stop(Stop::Clean),
            Family::MySql => self.second.follow(false),
        }
    }

    /// Lets the second server, which fell behind, take over from one that is gone.
    fn fail_over(&mut self) {
        self.first.stop(Stop::Kill);
        if self.family == Family::Postgres {
            self.second.run();
        }
        self.promote();
    }

    /// Ends all connections of the shim to the second server.
    fn end_connections(&self) {
        match self.family {
            Family::Postgres => {
                self.second.set("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sluice'");
            }
            Family::MySql => drop(self.second.set("KILL USER sluice@localhost")),
        }
    }
}

/// The first server comes back behind that, writable and without what was written since: it is not taken again, though
/// it stands first.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_over_with_everything_goes_on() {
    let Some(family) = crate::family_or_skip() else { return };
    let pair = Arc::new(Mutex::new(Pair::start(family, true)));
    let endpoint = pair.lock().unwrap().endpoint(true);
    let theirs = Arc::clone(&pair);
    let blow = move |number| {
        let mut pair = theirs.lock().unwrap();
        match (number, family) {
            (0, Family::Postgres) => {
                pair.first.stop_with_its_machine();
                pair.promote();
            }
            // Readers keep their connections to it.
            (0, Family::MySql) => {
                pair.first.set("SET GLOBAL read_only = 1");
                pair.second.catch_up(&pair.first);
                pair.promote();
            }
            (_, Family::Postgres) => {
                pair.first.run();
                pair.end_connections();
            }
            (_, Family::MySql) => {
                pair.first.set("SET GLOBAL read_only = 0");
                pair.end_connections();
            }
        }
    };
    under_load(&endpoint, 3, blow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lacks_what_was_acknowledged_is_not_served() {
    let Some(family) = crate::family_or_skip() else { return };
    let mut pair = Pair::start(family, false);
    // The one that lacks something stands first.
    let engine = open(&pair.endpoint(false)).await;
    let observer = Observer::new(&engine);
    let mut writer = Writer::new(&engine, "w");
    writer.step().await.unwrap();
    pair.fall_behind();
    // The last one alone is enough.
    writer.step().await.unwrap();
    pair.fail_over();
    let lacks = |error: &Error| matches!(error, Error::Unavailable(why) if why.contains("at revision 2, but it was at 3 before"));
    // Until then nothing is known but that the first one is gone.
    let refused = in_time("a read that is refused", async {
        loop {
            match writer.look().await {
                Err(error) if lacks(&error) => return error,
                Err(Error::Unavailable(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    refused.await;
    let refused = writer.step().await.unwrap_err();
    assert!(lacks(&refused), "{refused}");
    pair.first.run();
    writer.find_out(&refused).await;
    in_time("a write", async { while writer.step().await.is_err() {} }).await;
    writer.look().await.unwrap();
    observer.check([writer]).await;
}

/// What was acknowledged last is lost with the server that had it, and an operator accepts that.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_is_accepted_is_served_with_revisions_that_nobody_saw() {
    let Some(family) = crate::family_or_skip() else { return };
    let mut pair = Pair::start(family, false);
    let endpoint = pair.endpoint(true);
    let engine = open(&endpoint).await;
    let mut writer = Writer::new(&engine, "w");
    writer.step().await.unwrap();
    pair.fall_behind();
    writer.step().await.unwrap();
    pair.fail_over();
    let lacks =
        async { while !engine.writable().await.is_err_and(|error| error.to_string().contains("accept-rollback")) {} };
    in_time("a server that lacks something", lacks).await;
    let accepted = endpoint.to_string();
    let accept = ["sluice-shim", "accept-rollback", "--endpoint", &accepted, "--bump-revision", "100"];
    let accept = Cli::try_parse_from(accept).unwrap().command.unwrap();
    let said = tokio::task::spawn_blocking(move || {
        let mut said = Vec::new();
        accept.run(&mut said).map(|_| String::from_utf8(said).unwrap())
    });
    let said = in_time("the command", said).await.unwrap().unwrap();
    assert_eq!(said, "accepted revision 2, which is raised to 102; compacted at 102: clients list again\n");
    // The process that saw what is lost ends; the next one has never seen it.
    let ended = in_time("the end of the process that served", engine.ended()).await;
    assert!(matches!(ended, Error::Replaced(_)), "{ended}");
    drop(engine);
    let engine = open(&endpoint).await;
    let all = KeyRange::tree(b"/registry/");
    let old = RangeQuery { range: all.clone(), revision: 3, ..RangeQuery::default() };
    assert_eq!(engine.range(old).await.unwrap_err(), Error::Compacted { compact_revision: 102 });
    let now = engine.range(RangeQuery { range: all, ..RangeQuery::default() }).await.unwrap();
    assert_eq!((now.revision, now.kvs.len()), (102, 2));
}
