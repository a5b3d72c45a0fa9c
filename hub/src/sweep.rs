//! Retention, and what has to be there ahead of time. Nothing here is needed for a decision.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::store::{self, StoreError};
use crate::{Hub, clock};

const EVERY: Duration = Duration::from_hours(1);
/// Drifts are kept so long, and join tokens, certificates and answered wishes so long after their end.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// A hub that has not beaten for so long is not coming back under its id.
const HUB_KEPT: SignedDuration = SignedDuration::from_hours(24);

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    loop {
        if let Err(error) = sweep(&hub, clock::now()).await {
            tracing::warn!(error = %crate::chain(&error), "could not sweep");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn sweep(hub: &Hub, now: Timestamp) -> Result<(), StoreError> {
    store::audit::ensure_partitions(&hub.pool, now).await?;
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    store::installation::delete_silent_hubs(&mut db, now - HUB_KEPT).await?;
    store::clusters::delete_spent_enrollments(&mut db, now - KEPT).await?;
    store::certificates::delete_ended(&mut db, now - KEPT).await?;
    store::reports::delete_unassigned(&mut db).await?;
    store::drifts::delete_before(&mut db, now - KEPT).await?;
    store::intents::delete_done(&mut db, now - KEPT).await
}
