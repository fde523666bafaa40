//! The `sluice-shim` binary.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use prometheus_client::registry::Registry;
use sluice_shim::cli::{Cli, Command};
use sluice_shim::config::{Config, ConfigError, Endpoint};
use sluice_shim::engine::store::Store;
use sluice_shim::engine::{Engine, ReaderThreads, metrics::Metrics};
use sluice_shim::etcd::server::Server;
use sluice_shim::{sql, telemetry};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { command, server } = Cli::parse();
    let done = match command {
        Some(command) => work(command).await,
        None => run(server).await.map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

/// Does something with a database instead of serving it; returns whether all is well.
async fn work(command: Command) -> Result<bool> {
    telemetry::warnings()?;
    tokio::task::spawn_blocking(move || command.run(&mut std::io::stdout())).await?
}

async fn run(config: Config) -> Result<()> {
    let endpoint = config.check()?;
    telemetry::init(&config)?;
    // Before anything is opened, so that no signal is missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let server = start(&config, &endpoint).await?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        _ = interrupt.recv() => tracing::info!("SIGINT"),
    }
    server.shutdown().await;
    Ok(())
}

async fn start(config: &Config, endpoint: &Endpoint) -> Result<Server> {
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::default());
    metrics.register(registry.sub_registry_with_prefix("sluice"));
    let store = sql::open(&endpoint.to_string(), Arc::clone(&metrics)).with_context(|| format!("open {endpoint}"))?;
    let collector = config.gc.collector()?;
    if collector.enabled {
        warn_of_encrypted(store.as_ref())?;
    }
    let engine =
        Engine::start_with(store, ReaderThreads::default(), metrics, collector).await.context("start the store")?;
    Server::start(engine, config, config.snapshot_dir(endpoint), registry).await
}

/// The collector can't read encrypted custom resources: if there are any, somebody must know that those with the label are never collected.
fn warn_of_encrypted(store: &dyn Store) -> Result<()> {
    let mut reader = store.reader()?;
    reader.begin()?;
    let found = reader.encrypted_custom_resource();
    reader.end();
    if let Some(key) = found? {
        let key = key.escape_ascii();
        tracing::warn!(%key, "a custom resource is encrypted, so the collector can't read its owners; label no encrypted kinds");
    }
    Ok(())
}

/// Says what went wrong, why, and what to do.
#[expect(clippy::print_stderr, reason = "the log may not be open")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("Caused by: {cause}");
    }
    if let Some(ConfigError { hint, .. }) = error.downcast_ref() {
        eprintln!("hint: {hint}");
    }
}
