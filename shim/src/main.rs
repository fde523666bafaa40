//! The `sluice-shim` binary.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use prometheus_client::registry::Registry;
use sluice_shim::cli::{Cli, Command};
use sluice_shim::config::{Config, ConfigError};
use sluice_shim::definitions::{self, Following};
use sluice_shim::endpoint::Endpoint;
use sluice_shim::engine::store::Store;
use sluice_shim::engine::{Engine, KeyRange, ReaderThreads, metrics::Metrics};
use sluice_shim::etcd::front::Sockets;
use sluice_shim::etcd::server::Server;
use sluice_shim::etcd::standby::{Peers, Standby};
use sluice_shim::{gc, sql, standby, telemetry};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

/// The exit code for flags that can't be right, as clap's; 1 is for all else.
const USAGE: u8 = 2;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let Cli { command, server, shows_password } = match Cli::read(&words) {
        Ok(cli) => cli,
        Err(error) => return unread(&words, &error),
    };
    let done = match command {
        Some(command) => work(command, shows_password).await,
        None => run(server, shows_password).await.map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => report(&words, &error),
    }
}

/// What clap says: the help, or an error; with the variables that may be to blame.
#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn unread(words: &[OsString], error: &clap::Error) -> ExitCode {
    let shown = error.print();
    if !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        for line in Cli::origins(words, &error.to_string()) {
            eprintln!("note: {line}");
        }
    }
    if shown.is_err() { ExitCode::FAILURE } else { u8::try_from(error.exit_code()).unwrap_or(USAGE).into() }
}

/// Does something with a database instead of serving it; returns whether all is well.
async fn work(command: Command, shows_password: Option<(&str, &str)>) -> Result<bool> {
    telemetry::warnings()?;
    warn_of_password(shows_password);
    tokio::task::spawn_blocking(move || command.run(&mut std::io::stdout())).await?
}

async fn run(config: Config, shows_password: Option<(&str, &str)>) -> Result<()> {
    let endpoint = config.check()?;
    config.check_files()?;
    telemetry::init(&config)?;
    warn_of_password(shows_password);
    for (name, meant) in Cli::misspelt_variables() {
        tracing::warn!("{name} is no variable of sluice-shim; is {meant} meant?");
    }
    // Before anything is opened, so that no signal is missed.
    let mut signals = Signals::new()?;
    let Some((server, _following)) = start(&config, endpoint.clone(), &mut signals).await? else { return Ok(()) };
    let ended = tokio::select! {
        () = signals.end() => Ok(()),
        // Its watches would see nothing more. Whoever looks after this process sees that it has ended.
        error = server.ended() => Err(error),
    };
    server.shutdown().await;
    ended.with_context(|| format!("--endpoint: serve {endpoint}"))
}

/// What tells this process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT"),
        }
    }
}

/// While this lives, a signal ends the process at once: a start may wait for a database that does not answer. Whoever
/// has the database must leave it well, or others take that process for one that crashed.
struct Starting(JoinHandle<()>);

impl Starting {
    fn new() -> Result<Self> {
        let mut signals = Signals::new()?;
        Ok(Self(tokio::spawn(async move {
            signals.end().await;
            std::process::exit(0);
        })))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves, at once or when the process is gone that does; `None` if this process was to end before that.
async fn start(
    config: &Config,
    mut endpoint: Endpoint,
    signals: &mut Signals,
) -> Result<Option<(Server, Option<Following>)>> {
    let starting = Starting::new()?;
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::default());
    let ours = registry.sub_registry_with_prefix("sluice");
    metrics.register(ours);
    if let Endpoint::Network(_) = endpoint {
        metrics.register_server(ours);
    }
    // The database last: what can't be served makes none. A certificate that is kept in the database comes before the
    // sockets that need it.
    let main_store = config.definitions.endpoint()?;
    let pair = match config.peer_auto_tls {
        true => Some(standby::pair(&endpoint, config.peer_auto_tls_dir.as_deref())?),
        false => None,
    };
    let sockets = Sockets::open(config, pair.as_ref(), &mut registry).await?;
    let collector = config.gc.collector()?;
    let (snapshot_dir, peers) = (config.snapshot_dir(&endpoint), Peers::of(config, pair)?);
    let engine = async |store: Arc<dyn Store>| {
        if collector.enabled {
            warn_of_encrypted(store.as_ref())?;
        }
        let engine = Engine::start_with(store, ReaderThreads::default(), Arc::clone(&metrics), collector)
            .await
            .context("start the store")?;
        let following = match main_store.clone() {
            Some(source) => Some(definitions::follow(&engine, source).await?),
            None => None,
        };
        anyhow::Ok((engine, following))
    };
    if !config.standby {
        let store =
            sql::open(&endpoint, Arc::clone(&metrics)).with_context(|| format!("--endpoint: open {endpoint}"))?;
        drop(starting);
        let (engine, following) = engine(store).await?;
        let server = Server::start(engine, config, sockets, snapshot_dir, registry).await?;
        return Ok(Some((server, following)));
    }
    if let Endpoint::Network(address) = &mut endpoint {
        address.standby = Some(config.check_reachable(sockets.reachable_url())?);
    }
    let standby = Standby::open(sockets, config, &mut registry);
    drop(starting);
    match standby::wait(&endpoint, &metrics, &standby, &peers, &config.name, signals.end()).await? {
        Some(store) => {
            let (engine, following) = engine(store).await?;
            Ok(Some((standby.serve(engine, config, snapshot_dir, registry).await?, following)))
        }
        None => {
            standby.shutdown().await;
            Ok(None)
        }
    }
}

fn warn_of_password(shown: Option<(&str, &str)>) {
    if let Some((url, instead)) = shown {
        tracing::warn!("every user of this machine can see the password in {url}, with ps; use {instead}");
    }
}

/// The collector can't read encrypted custom resources: if there are any, somebody must know that those with the label
/// are never collected.
fn warn_of_encrypted(store: &dyn Store) -> Result<()> {
    let mut reader = store.reader()?;
    reader.begin()?;
    let found = reader.opaque_directories().and_then(|directories| {
        gc::encrypted(&directories, |path, begins| reader.opaque_key(&KeyRange::tree(path), begins))
    });
    reader.end();
    if let Some(key) = found? {
        let key = key.escape_ascii();
        tracing::warn!(%key, "a custom resource is encrypted, so the collector can't read its owners; label no encrypted kinds");
    }
    Ok(())
}

/// Says what went wrong, why, and what to do.
#[expect(clippy::print_stderr, reason = "the log may not be open")]
fn report(words: &[OsString], error: &anyhow::Error) -> ExitCode {
    let mut lines = vec![format!("error: {error}")];
    lines.extend(error.chain().skip(1).map(|cause| format!("Caused by: {cause}")));
    let wrong: Option<&ConfigError> = error.downcast_ref();
    lines.extend(wrong.map(|wrong| format!("hint: {}", wrong.hint)));
    let text = lines.join("\n");
    eprintln!("{text}");
    for line in Cli::origins(words, &text) {
        eprintln!("note: {line}");
    }
    if wrong.is_some_and(|wrong| wrong.usage) { USAGE.into() } else { ExitCode::FAILURE }
}
