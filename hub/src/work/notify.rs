//! Signals between hubs on one database: they say "reconcile", and nothing else.
//!
//! NOTIFY inside a stage's transaction would serialise all commits, so one task of each hub sends it after them: at
//! most one per pause, naming the stages, and none when no other hub is alive. A lost one costs a second: every stage
//! reconciles by itself that often.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Hub;
use crate::store::channel::{self, Listener};
use crate::store::work::Stage;
use crate::store::{self, StoreError};

/// A burst of commits is one signal.
const PAUSE: Duration = Duration::from_millis(10);
/// After the connection was lost.
const RETRY: Duration = Duration::from_secs(1);
/// How long it stays known whether other hubs are alive.
const ALONE_FOR: Duration = Duration::from_secs(5);

/// Tells the other hubs which stages have work.
pub(crate) async fn send(hub: Arc<Hub>, stop: CancellationToken) {
    let mut checked_at: Option<Instant> = None;
    let mut is_alone = true;
    loop {
        tokio::select! {
            () = hub.signals.pending() => {}
            () = stop.cancelled() => return,
        }
        let stages = hub.signals.take_pending();
        if checked_at.is_none_or(|at| at.elapsed() > ALONE_FOR) {
            is_alone = is_only_hub(&hub).await.unwrap_or(is_alone);
            checked_at = Some(Instant::now());
        }
        if !is_alone && let Err(error) = tell(&hub, &stages).await {
            tracing::warn!(error = %crate::chain(&error), "could not signal the other hubs");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn is_only_hub(hub: &Hub) -> Result<bool, StoreError> {
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    Ok(store::installation::list_living(&mut db).await?.len() <= 1)
}

async fn tell(hub: &Hub, stages: &BTreeSet<Stage>) -> Result<(), StoreError> {
    let names: Vec<_> = stages.iter().map(|stage| stage.as_str()).collect();
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    channel::send(&mut db, &format!("{} {}", hub.id, names.join(" "))).await
}

/// Wakes this hub's stages when another hub tells of work.
pub(crate) async fn listen(hub: Arc<Hub>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            ended = hear(&hub) => {
                if let Err(error) = ended {
                    tracing::warn!(error = %crate::chain(&error), "cannot hear the other hubs");
                }
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = stop.cancelled() => return,
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

async fn hear(hub: &Hub) -> Result<(), StoreError> {
    let mut listener = Listener::connect(&hub.pool).await?;
    loop {
        let signal = listener.next().await?;
        let mut words = signal.split(' ');
        if words.next().and_then(|id| id.parse::<Uuid>().ok()) == Some(hub.id) {
            continue;
        }
        hub.metrics.signals_heard.inc();
        words.filter_map(Stage::parse).for_each(|stage| hub.signals.wake(stage));
    }
}
