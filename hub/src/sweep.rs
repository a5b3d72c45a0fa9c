//! Retention, and what has to be there ahead of time. Nothing here is needed for a decision.
//!
//! Each statement is a transaction of its own and deletes a bounded number of rows. What names a row keeps it, and foreign
//! keys hold that against a worker that names it at this moment: the statement then fails, and the next sweep goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::store::{self, Connection, StoreError};
use crate::{Hub, clock};

const EVERY: Duration = Duration::from_hours(1);
/// Drifts, rollouts and revisions are kept so long, and join tokens, certificates and answered wishes so long after their
/// end.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// A hub that has not beaten for so long is not coming back under its id.
const HUB_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Of each target, whatever their age: what people look back at.
const ROLLOUTS_KEPT: i64 = 20;
/// Of each target, and revisions of each ref: what people go back to.
const RENDERS_KEPT: i64 = 10;
/// Bundles and objects that nothing names any more: a revert within it finds them.
const CONTENT_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Objects that a bundle names are marked as used that often: well within the time that they are kept.
const MARKED_EVERY: SignedDuration = SignedDuration::from_hours(3 * 24);
/// Rows of one statement: well below a second, even of rollouts with a thousand members each.
const ROWS_MAX: i64 = 200;
/// Manifests that are read at once.
const BUNDLES_AT_ONCE: i64 = 50;

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    loop {
        tokio::select! {
            swept = sweep(&hub, clock::now()) => if let Err(error) = swept {
                tracing::warn!(error = %crate::chain(&error), "could not sweep");
            },
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

pub(crate) async fn sweep(hub: &Hub, now: Timestamp) -> Result<(), StoreError> {
    store::audit::ensure_partitions(&hub.pool, now).await?;
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    store::installation::delete_silent_hubs(&mut db, now - HUB_KEPT).await?;
    store::clusters::delete_spent_enrollments(&mut db, now - KEPT).await?;
    store::certificates::delete_ended(&mut db, now - KEPT).await?;
    store::reports::delete_unassigned(&mut db).await?;
    store::drifts::delete_before(&mut db, now - KEPT).await?;
    store::intents::delete_done(&mut db, now - KEPT).await?;
    sweep_content(hub, &mut db, now).await?;
    drop(db);
    crate::source::sweep_mirrors(hub).await
}

/// From what names to what is named: a rollout that goes lets go of its renders and bundles.
async fn sweep_content(hub: &Hub, db: &mut Connection, now: Timestamp) -> Result<(), StoreError> {
    let is_full = |deleted: u64| i64::try_from(deleted).is_ok_and(|deleted| deleted >= ROWS_MAX);
    while is_full(store::rollouts::delete_old(db, now - KEPT, ROLLOUTS_KEPT, ROWS_MAX).await?) {}
    while is_full(store::renders::delete_unused(db, RENDERS_KEPT, ROWS_MAX).await?) {}
    while is_full(store::revisions::delete_unused(db, now - KEPT, RENDERS_KEPT, ROWS_MAX).await?) {}
    while is_full(store::bundles::delete_unused(db, now - CONTENT_KEPT, ROWS_MAX).await?) {}
    mark_objects(hub, db, now).await?;
    while is_full(store::bundles::delete_unused_objects(db, now - CONTENT_KEPT, ROWS_MAX).await?) {}
    Ok(())
}

/// Which objects a bundle names stands in its manifest and in no row.
async fn mark_objects(hub: &Hub, db: &mut Connection, now: Timestamp) -> Result<(), StoreError> {
    let mut last = None;
    loop {
        let page: BTreeSet<_> = store::bundles::list_after(db, last, BUNDLES_AT_ONCE).await?.into_iter().collect();
        let Some(&newest) = page.last() else { return Ok(()) };
        let manifests = hub.content.load_manifests(db, &page).await?;
        let objects: BTreeSet<_> =
            manifests.values().flat_map(|manifest| manifest.entries().iter().map(|entry| entry.digest)).collect();
        let objects: Vec<_> = objects.into_iter().collect();
        store::bundles::mark_objects_used(db, &objects, MARKED_EVERY, now).await?;
        last = Some(newest);
    }
}
