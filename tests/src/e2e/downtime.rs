//! Leases while nobody serves them: a stop and a start end none, in etcd and in the shim alike.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::lab::folder;
use super::stores::{Server, Tools};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("etcdctl/downtime", same_as_etcd).of(Column::OURS)]
}

/// How long the lease is granted for.
const GRANTED: &str = "5";
/// How long nobody serves it. It has to pass: etcd takes no clock of a test.
const DOWN: Duration = Duration::from_secs(6);

/// Starts a server on what it had before.
type Start = fn(&Tools, &Path, &str) -> Result<Server>;

/// A server that is stopped and started again.
struct Side<'a> {
    tools: &'a Tools,
    folder: &'a Path,
    start: Start,
    data: &'a str,
}

impl Side<'_> {
    fn start(&self) -> Result<Server> {
        (self.start)(self.tools, self.folder, self.data)
    }

    fn run(&self, server: &Server, args: &[&str]) -> Result<String> {
        Run::new(&self.tools.etcdctl, self.folder).arg(server.flag()).args(args).read()
    }

    /// Leaves a key with a lease behind; returns the lease's number.
    fn leave(&self) -> Result<String> {
        let server = self.start()?;
        let granted = self.run(&server, &["lease", "grant", GRANTED])?;
        let lease = granted.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned();
        self.run(&server, &["put", "session", "x", &format!("--lease={lease}")])?;
        server.stop()?;
        Ok(lease)
    }

    /// What is there of it when the server has started again. In the end it goes, since nobody renews it.
    fn find(&self, lease: &str) -> Result<String> {
        let server = self.start()?;
        let renewed = self.run(&server, &["lease", "keep-alive", "--once", lease])?;
        let found = self.run(&server, &["get", "session"])?;
        until("the end of the lease", LIMIT, || Ok(self.run(&server, &["get", "session"])?.is_empty().then_some(())))?;
        server.stop()?;
        Ok(format!("{renewed}\n{found}").replace(lease, "LEASE"))
    }
}

fn same_as_etcd(suite: &Suite) -> Result<Verdict> {
    let Some(tools) = Tools::of(suite)? else {
        return Ok(Verdict::Skipped("needs etcdctl and etcdutl beside etcd".to_owned()));
    };
    let folder = folder(suite, "downtime");
    fs_err::create_dir_all(&folder)?;
    let side = |start: Start, data| Side { tools: &tools, folder: &folder, start, data };
    let (etcd, shim) = (side(Server::etcd, "data"), side(Server::shim, "state.db"));
    let leases = [etcd.leave()?, shim.leave()?];
    thread::sleep(DOWN);
    let (expected, found) = (etcd.find(&leases[0])?, shim.find(&leases[1])?);
    let lives = expected.contains(&format!("TTL({GRANTED})")) && expected.ends_with("session\nx");
    ensure(lives, || format!("etcd's lease does not live on:\n{expected}"))?;
    ensure(found == expected, || format!("--- etcd\n{expected}\n--- sluice-shim\n{found}"))?;
    fs_err::remove_dir_all(&folder)?;
    Ok(Verdict::PASSED)
}
