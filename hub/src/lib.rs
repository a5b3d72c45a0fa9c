//! The hub: the server that stores repos, targets and the audit log, renders, plans rollouts and talks to agents.
//!
//! Stages (`source`, `bundle`, `rollout`, `link`, `record`) never call each other: each reads rows, decides with
//! `bellwether-core`, and writes rows, work and audit entries in one transaction ([`change`]). Everything that is big
//! has one door: `sqlx` in `store`, `gix` in `source`, `axum` in `http`, `tonic` in `link`, `rcgen` in `ca`.

mod bundle;
mod guests;
mod http;
mod link;
mod pki;
mod postgres;
mod process;
mod rate;
mod record;
mod rollout;
mod setup;
mod source;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod work;
mod worker;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::ProjectId;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub(crate) use bellwether_core::chain;
pub use process::config::{Config, LogFormat};
use setup::{Listeners, SetupError};

/// What is in hand may take so long to finish after the first signal.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// What every part of a running hub shares.
pub(crate) struct Hub {
    pub(crate) id: Uuid,
    pub(crate) config: Config,
    pub(crate) installation: Uuid,
    /// The only project as yet: `default`.
    pub(crate) project: ProjectId,
    pub(crate) pool: store::Pool,
    /// Of everything that must go on while others wait for a connection: what says that this hub lives, the ends of
    /// streams, who is revoked, agents' streams and what they report.
    pub(crate) vital: store::Pool,
    /// Of streams at `vital`: they leave connections to the rest.
    pub(crate) stream_turns: tokio::sync::Semaphore,
    pub(crate) signals: work::signals::Signals,
    pub(crate) seal: pki::seal::Seal,
    pub(crate) authority: pki::ca::Authority,
    pub(crate) trust: pki::trust::Trust,
    pub(crate) mirrors: Arc<source::mirrors::Mirrors>,
    pub(crate) content: store::content::Content,
    pub(crate) sessions: link::Sessions,
    pub(crate) report_queue: mpsc::Sender<record::Incoming>,
    pub(crate) metrics: process::metrics::Metrics,
    /// Of repos: forged webhooks are audited once in a while.
    pub(crate) forged_webhooks: process::rate_limiter::RateLimiter,
    /// Of clusters, or of nobody's: so are join tokens that are refused.
    pub(crate) refused_enrolments: process::rate_limiter::RateLimiter,
    /// Of clusters: so is what they tell and no row can hold.
    pub(crate) dropped_news: process::rate_limiter::RateLimiter,
    /// Of clusters: what agents say that no honest one does.
    pub(crate) odd_reports: process::rate_limiter::RateLimiter,
    /// Of addresses: tries to join that were refused.
    pub(crate) join_tries: rate::Buckets<std::net::IpAddr>,
    /// Of clusters' targets: entries that one began to fail.
    pub(crate) turns: rate::Buckets<(bellwether_core::ClusterId, bellwether_core::TargetId)>,
    pub(crate) renewals: rate::Buckets<bellwether_core::ClusterId>,
    /// Strangers that are looked up in the database at once.
    pub(crate) strangers: tokio::sync::Semaphore,
    /// Hashes of API tokens that were good when they were last shown.
    pub(crate) known_tokens: quick_cache::sync::Cache<bellwether_core::Digest, ()>,
    pub(crate) readiness: http::Readiness,
    /// Streams of agents: one task each.
    pub(crate) tasks: TaskTracker,
    pub(crate) heartbeat: worker::heartbeat::Heartbeat,
    /// What agents are told to connect to.
    pub(crate) agents_address: String,
}

impl Hub {
    /// `installation/project/target`: the owner that a target's objects name.
    pub(crate) fn owner_of(&self, target: &store::targets::Target) -> String {
        format!("{}/{}/{}", self.installation, setup::PROJECT, target.name)
    }
}

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
        Err(error) => setup::say_failure(&error, error.hint()),
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
    let parts = run_parts(&hub, listeners, queue, &stop);
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
        let _ = store::installation::mark_hub_stopped(db, hub.id).await;
    }
    drop(db);
    hub.vital.close().await;
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

/// One down, all down: half a hub looks healthy and is not.
async fn run_parts(
    hub: &Arc<Hub>,
    listeners: Listeners,
    queue: mpsc::Receiver<record::Incoming>,
    stop: &CancellationToken,
) -> Result<(), SetupError> {
    let mut parts = JoinSet::new();
    let spawn = |parts: &mut JoinSet<&'static str>, name, part: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        parts.spawn(async move {
            part.await;
            name
        });
    };
    let (one, two) = (|| hub.clone(), || stop.clone());
    spawn(&mut parts, "source", Box::pin(worker::stage::run_detached(one(), source::Source, two())));
    spawn(&mut parts, "bundle", Box::pin(worker::stage::run_detached(one(), bundle::Bundle, two())));
    spawn(&mut parts, "rollout", Box::pin(worker::stage::run_transactional(one(), rollout::Rollouts, two())));
    spawn(&mut parts, "link", Box::pin(link::run(one(), two())));
    spawn(&mut parts, "record", Box::pin(record::run(one(), queue, two())));
    spawn(&mut parts, "sealer", Box::pin(worker::sealer::run(one(), two())));
    spawn(&mut parts, "signals out", Box::pin(work::notify::send(one(), two())));
    spawn(&mut parts, "signals in", Box::pin(work::notify::listen(one(), two())));
    spawn(&mut parts, "sweep", Box::pin(worker::sweep::run(one(), two())));
    spawn(&mut parts, "trust", Box::pin(pki::trust::run(one(), two())));
    spawn(&mut parts, "heartbeat", Box::pin(worker::heartbeat::run(one(), two())));
    spawn(&mut parts, "stream ends", Box::pin(link::write_ends(one(), two())));
    spawn(&mut parts, "agents", Box::pin(serve_agents(one(), listeners.agents, two())));
    spawn(&mut parts, "api", Box::pin(http::serve(one(), listeners.api, two())));

    let mut failed = None;
    while let Some(ended) = parts.join_next().await {
        if !stop.is_cancelled() {
            failed = Some(ended.unwrap_or("a part that panicked"));
            stop.cancel();
        }
        if parts.is_empty() {
            break;
        }
    }
    hub.tasks.close();
    let _ = tokio::time::timeout(DRAIN_MAX, hub.tasks.wait()).await;
    link::write_last_ends(hub).await;
    failed.map_or(Ok(()), |part| Err(SetupError::PartEnded(part)))
}

async fn serve_agents(hub: Arc<Hub>, listener: tokio::net::TcpListener, stop: CancellationToken) {
    if let Err(error) = link::serve(hub, listener, stop).await {
        tracing::error!(error = %chain(&error), "the agents' port ended");
    }
}
