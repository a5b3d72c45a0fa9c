//! Logs: messages for people, fields for queries.

use tracing_subscriber::EnvFilter;

use crate::process::config::{Config, LogFormat};

/// Starts logging to standard error. A filter that cannot be read falls back to `info`, and says so.
pub(crate) fn init(config: &Config) {
    let filter = EnvFilter::try_new(&config.log);
    let unreadable = filter.is_err();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Pretty => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if started.is_ok() && unreadable {
        tracing::warn!("BELLWETHER_LOG cannot be read: using info; an example is info,bellwether_hub=debug");
    }
}
