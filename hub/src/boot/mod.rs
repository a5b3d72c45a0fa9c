//! A hub from its start to its end: what has to be there first, its parts, and the signals that stop it.

mod parts;
pub(crate) mod setup;

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::setup::SetupError;
use crate::process::config::Config;
use crate::{postgres, process, store};

/// Runs a hub until a signal; the exit code tells how it ended.
pub fn main(config: Config) -> ExitCode {
    process::logs::init(&config);
    process::rlimit::raise();
    // Two providers may be linked; the first to be installed wins, and there is only this call.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return setup::say_failure(&error, None),
    };
    let stop = CancellationToken::new();
    let ended = runtime.block_on(async {
        let signals = StopSignals::listen().map(|signals| tokio::spawn(signals.watch(stop.clone())));
        let ended = run(config, stop).await;
        if let Ok(signals) = signals {
            signals.abort();
        }
        ended
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => setup::say_failure(&error, error.hint().as_deref()),
    }
}

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From now on a signal ends nothing by itself.
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The first signal drains; the second drops everything.
    async fn watch(mut self, stop: CancellationToken) {
        for _ in 0..2 {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                tracing::warn!("a second signal: dropping what is in hand");
                std::process::exit(130);
            }
            tracing::info!("a signal: finishing what is in hand");
            stop.cancel();
        }
    }
}

/// Runs a hub until `stop`, or until a part of it fails.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), SetupError> {
    let (hub, listeners, queue, mut server) = setup::build(config).await?;
    let parts = parts::run(&hub, listeners, queue, &stop);
    let mut parts = std::pin::pin!(parts);
    let ended = tokio::select! {
        ended = &mut parts => ended,
        error = database_ended(&mut server) => {
            stop.cancel();
            // What is in hand ends with errors of its own; why is known already.
            let _ = parts.await;
            Err(error.into())
        }
    };
    let mut db = hub.vital.acquire().await;
    if let Ok(db) = &mut db {
        let _ = store::installation::mark_hub_stopped(db, hub.id, process::clock::now()).await;
    }
    drop(db);
    hub.vital.close().await;
    hub.requests.close().await;
    hub.owner.close().await;
    hub.pool.close().await;
    if let Some(server) = server {
        server.stop().await?;
    }
    ended
}

/// When the private Postgres ends by itself; without one, never.
async fn database_ended(server: &mut Option<postgres::PrivateServer>) -> postgres::PostgresError {
    match server {
        Some(server) => server.ended().await,
        None => std::future::pending().await,
    }
}
