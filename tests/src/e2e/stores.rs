//! Stores without a cluster: etcd, kine or the shim alone, with etcd's own tools.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::data::Data;
use super::{Column, Suite};
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::build::{self, Program};
use sluice_toolkit::cluster::client::Client;
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::pid::Process;
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// How long a store may take to end.
const GRACE: Duration = Duration::from_secs(20);

/// The programs, and where the shims' data is.
pub(super) struct Tools {
    pub(super) etcd: PathBuf,
    pub(super) etcdctl: PathBuf,
    pub(super) etcdutl: PathBuf,
    pub(super) shim: PathBuf,
    data: Arc<Data>,
}

impl Tools {
    /// Builds etcd and its tools, or takes those beside the given programs; `None` if they are not there.
    ///
    /// # Errors
    /// When they can't be built.
    pub(super) fn of(suite: &Suite) -> Result<Option<Self>> {
        let shim = suite.programs(Column::OURS)?.store.clone();
        let (Some(etcd), Some(etcdctl), Some(etcdutl)) =
            (tool(suite, Program::Etcd)?, tool(suite, Program::Etcdctl)?, tool(suite, Program::Etcdutl)?)
        else {
            return Ok(None);
        };
        Ok(Some(Self { etcd, etcdctl, etcdutl, shim, data: Arc::clone(&suite.data) }))
    }

    /// The connection string of a database of the shim, by its name in a folder.
    ///
    /// # Errors
    /// When it can't be made.
    pub(super) fn endpoint(&self, folder: &Path, database: &str) -> Result<String> {
        self.data.endpoint(&folder.join(database))
    }

    /// Runs `sluice-shim` with a command; returns stdout.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn shim(&self, folder: &Path, args: &[&str]) -> Result<String> {
        Run::new(&self.shim, folder).args(args).read()
    }

    /// Runs etcdutl with arguments that are parted by blanks; returns stdout.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn etcdutl(&self, folder: &Path, args: &str) -> Result<String> {
        Run::new(&self.etcdutl, folder).args(args.split_ascii_whitespace()).read()
    }
}

/// Where a program is that is of no column, such as etcd and its tools: the toolkit builds it. With programs from
/// elsewhere: the one beside the stock ones, if there is one.
pub(super) fn tool(suite: &Suite, program: Program) -> Result<Option<PathBuf>> {
    if let Some(bin) = &suite.bin {
        let beside = bin.join("stock").join(program.name());
        return Ok(beside.is_file().then_some(beside));
    }
    let built = build::build_tools(&Context::from_env()?, &[program])?;
    Ok(built.into_iter().map(|binary| binary.path).next())
}

/// A running store. Dropping it ends it.
pub(super) struct Server {
    /// Where it serves etcd's API.
    pub(super) port: u16,
    process: Process,
    _guard: Guard,
}

impl Server {
    /// etcd on a data folder.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn etcd(tools: &Tools, folder: &Path, data: &str) -> Result<Self> {
        let port = port::free()?;
        let url = format!("http://127.0.0.1:{port}");
        let run = Run::new(&tools.etcd, folder).args([
            format!("--data-dir={data}"),
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            // A member of one talks to nobody.
            "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
            "--log-level=warn".to_owned(),
        ]);
        Self::start(&run, port, &folder.join(format!("{data}.log")))
    }

    /// The shim on a database.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn shim(tools: &Tools, folder: &Path, database: &str) -> Result<Self> {
        Self::shim_with(tools, folder, database, &[])
    }

    /// The same with more flags.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn shim_with(tools: &Tools, folder: &Path, database: &str, flags: &[&str]) -> Result<Self> {
        let port = port::free()?;
        let run = Run::new(&tools.shim, folder)
            .env("SLUICE_ENDPOINT", tools.endpoint(folder, database)?)
            .arg(format!("--listen-client-urls=http://127.0.0.1:{port}"))
            .args(flags);
        Self::start(&run, port, &folder.join(format!("{database}.log")))
    }

    /// kine on a database of its own.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn kine(program: &Path, tools: &Tools, folder: &Path) -> Result<Self> {
        let port = port::free()?;
        let run = Run::new(program, folder).args([
            "--endpoint=sqlite://kine.db?_journal=WAL".to_owned(),
            format!("--listen-address=127.0.0.1:{port}"),
            "--metrics-bind-address=0".to_owned(),
        ]);
        let server = Self::spawn(&run, port, &folder.join("kine.log"))?;
        until("kine", LIMIT, || {
            server.ensure_alive("kine.log")?;
            let asked = Run::new(&tools.etcdctl, folder)
                .limit(Limit::ANSWER)
                .args([&server.flag()[..], "get", "/"])
                .outcome()?;
            Ok(asked.status.success().then_some(()))
        })?;
        Ok(server)
    }

    fn start(run: &Run, port: u16, log: &Path) -> Result<Self> {
        let server = Self::spawn(run, port, log)?;
        let client = Client::plain(port);
        until("the store's readiness", LIMIT, || {
            server.ensure_alive(&log.display().to_string())?;
            Ok(client.probe("/readyz").ok().map(|_| ()))
        })?;
        Ok(server)
    }

    fn spawn(run: &Run, port: u16, log: &Path) -> Result<Self> {
        let process = launch("the store", run, log)?;
        let guard = Guard::new(Leftover::Process(process.clone()));
        Ok(Self { port, process, _guard: guard })
    }

    fn ensure_alive(&self, log: &str) -> Result<()> {
        ensure(self.process.is_alive(), || format!("the store ended by itself: see {log}"))
    }

    /// The flag that leads etcdctl to it.
    pub(super) fn flag(&self) -> String {
        format!("--endpoints=http://127.0.0.1:{}", self.port)
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// When it does not end.
    pub(super) fn stop(self) -> Result<()> {
        self.process.stop(GRACE)
    }
}
