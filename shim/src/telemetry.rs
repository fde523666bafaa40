//! The log.

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Begins to log to the standard error.
pub fn init(config: &Config) -> anyhow::Result<()> {
    // Checked already: see `config::log_level`.
    let filter = EnvFilter::try_new(&config.log_level)
        .map_err(|error| anyhow::anyhow!("--log-level {:?}: {error}", config.log_level))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let result = match config.log_format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    opened(result)
}

/// Begins to write warnings and errors to the standard error, for a command that logs nothing else.
pub fn warnings() -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr);
    opened(log.with_ansi(false).without_time().with_target(false).try_init())
}

fn opened(result: Result<(), Box<dyn std::error::Error + Send + Sync>>) -> anyhow::Result<()> {
    result.map_err(|error| anyhow::anyhow!("the log can't be opened: {error}"))
}
