//! The ends of streams → rows.
//!
//! A stream that ends, however it does, leaves its end in memory; one task writes all of them, many at once, and forgets
//! what is committed only. So a thousand agents that go at once need one connection, and Postgres may be away meanwhile.
//! Now and then the rows are compared with the streams: a row that says that a stream is here, and is wrong, is ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::Hub;
use crate::process::clock;
use crate::store::sessions::{self, End};
use crate::store::work::Stage;
use crate::store::{self, StoreError};
use crate::work::change::Change;

/// Ends of one transaction: with what it asks about their rollouts, well below a second.
const BATCH_MAX: usize = 500;
/// Between two tries while Postgres does not take them.
const RETRY: Duration = Duration::from_millis(250);
/// Between two comparisons of rows and streams. They differ by a fault only, and each reads a row for every stream.
const COMPARE_EVERY: Duration = Duration::from_mins(1);

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    let (mut compared_at, mut batch) = (Instant::now(), BATCH_MAX);
    loop {
        let pause = match write(&hub, batch).await {
            Ok(true) => continue,
            Ok(false) => {
                batch = BATCH_MAX;
                COMPARE_EVERY
            }
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "could not write down that streams ended; trying again");
                // What takes too long at once may be possible in parts.
                batch = (batch / 2).max(1);
                RETRY
            }
        };
        tokio::select! {
            () = hub.sessions.ended.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        if compared_at.elapsed() >= COMPARE_EVERY {
            compared_at = Instant::now();
            if let Err(error) = compare(&hub).await {
                tracing::warn!(error = %crate::chain(&error), "could not read which streams the rows take for open");
            }
        }
    }
}

/// When the hub stops: what is left by then, if Postgres takes it. If not, nobody counts this hub's streams any more anyway.
pub(crate) async fn write_last(hub: &Hub) {
    while let Ok(true) = write(hub, BATCH_MAX).await {}
}

/// Writes so many ends, and tells the rollouts of their clusters. False: there was none.
pub(super) async fn write(hub: &Hub, limit: usize) -> Result<bool, StoreError> {
    let ends: Vec<_> =
        hub.sessions.ends().iter().take(limit).map(|(&(cluster, session), &at)| End { cluster, session, at }).collect();
    if ends.is_empty() {
        return Ok(false);
    }
    let mut change = Change::begin(&hub.vital, &hub.signals).await?;
    let gone = sessions::mark_ended(&mut change, &ends).await?;
    let concerned = store::rollouts::list_targets_of(&mut change, &gone).await?;
    change.tell(Stage::Rollout, &concerned, clock::now(), None).await?;
    change.commit().await?;
    let mut left = hub.sessions.ends();
    for end in &ends {
        left.remove(&(end.cluster, end.session));
    }
    Ok(true)
}

/// A stream takes its place here before its row says so, so a row without a stream is one whose stream is over. And a stream
/// whose cluster has a newer one at another hub is told nothing any more: it is cut, so that its agent says so.
pub(super) async fn compare(hub: &Hub) -> Result<(), StoreError> {
    let mut db = hub.vital.acquire().await.map_err(StoreError::from)?;
    let open = sessions::list_open(&mut db, hub.id).await?;
    let replaced = sessions::list_replaced(&mut db, &hub.sessions.list()).await?;
    drop(db);
    for (cluster, session) in replaced {
        tracing::warn!(cluster.id = %cluster, session = %session, "a newer stream of this cluster is at another hub");
        hub.sessions.cut_stream(cluster, session);
    }
    let now = clock::now();
    for (cluster, session) in open {
        if !hub.sessions.holds(cluster, session) {
            tracing::warn!(cluster.id = %cluster, session = %session, "a stream had ended and its row did not say so");
            hub.sessions.leave(cluster, session, now);
        }
    }
    Ok(())
}
