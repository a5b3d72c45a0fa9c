//! Retention, and what has to be there ahead of time. Nothing here is needed for a decision.
//!
//! Each statement is a transaction of its own and deletes a bounded number of rows. What names a row keeps it, and foreign
//! keys hold that against a worker that names it at this moment: the statement then fails, and the next sweep goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::Hub;
use crate::process::clock;
use crate::store::bundles::Unmarked;
use crate::store::sets::UNNAMED_KEPT;
use crate::store::{self, Connection, StoreError};

const EVERY: Duration = Duration::from_hours(1);
/// Drifts, rollouts and revisions are kept so long, and join tokens, certificates and answered intents so long after
/// their end.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// A hub without a heartbeat for this long is not coming back under its id.
const HUB_KEPT: Duration = Duration::from_hours(24);
/// Signals for an agent that is away: the hub that had its stream would have taken them long ago, and the next stream reads
/// everything.
const UNHEARD_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Ids of webhooks: no host sends one again that is older than three days.
const DELIVERIES_KEPT: SignedDuration = SignedDuration::from_hours(4 * 24);
/// Of each target, whatever their age: what people look back at.
const ROLLOUTS_KEPT: i64 = 20;
/// Of each target, and revisions of each ref: what people go back to.
const RENDERS_KEPT: i64 = 10;
/// Bundles and objects that nothing names any more: a revert within it finds them.
const CONTENT_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Objects that a bundle names are marked as used that often: twice is well within the time that they are kept.
const MARKED_EVERY: SignedDuration = SignedDuration::from_hours(3 * 24);
/// Rows of one statement: well below a second, even of rollouts with a thousand members each.
const ROWS_MAX: i64 = 200;
/// Rows of one statement that nothing hangs on.
const LEAVES_MAX: i64 = 5_000;
/// Renders of one sweep: more than a fleet makes in an hour, and their ids are read at once.
const RENDERS_MAX: i64 = 10_000;
/// Manifests that are read at once, and lines of all of them, unless one alone has more.
const BUNDLES_AT_ONCE: i64 = 50;
const LINES_AT_ONCE: i64 = 20_000;
/// Objects that are marked in one statement: well below a second, as a render may wait for it.
const MARKS_AT_ONCE: usize = 1_000;
/// While a bundle was not marked for longer than this, no object is deleted: what one names that was marked was used no longer
/// than [`MARKED_EVERY`] before.
const MARKED_WITHIN: SignedDuration = SignedDuration::from_hours((7 - 3) * 24);

/// What a sweep does, in its order: from what names to what is named, so that a rollout that goes lets go of its renders
/// and bundles. One that fails keeps no other from its turn: what one has to be sure of, it asks the rows.
#[derive(Debug, Clone, Copy)]
enum Step {
    AuditMonths,
    Hubs,
    Enrollments,
    Certificates,
    Work,
    Deliveries,
    Apis,
    Definitions,
    Drifts,
    DryRuns,
    Intents,
    Rollouts,
    Renders,
    Revisions,
    Bundles,
    Marks,
    Objects,
}

impl Step {
    const ALL: [Self; 17] = [
        Self::AuditMonths,
        Self::Hubs,
        Self::Enrollments,
        Self::Certificates,
        Self::Work,
        Self::Deliveries,
        Self::Apis,
        Self::Definitions,
        Self::Drifts,
        Self::DryRuns,
        Self::Intents,
        Self::Rollouts,
        Self::Renders,
        Self::Revisions,
        Self::Bundles,
        Self::Marks,
        Self::Objects,
    ];
}

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    // Each step has said why it failed.
    hourly(&stop, || async { drop(sweep(&hub, clock::now()).await) }).await;
}

/// Sweeps now, and every hour from then on.
pub(crate) async fn hourly<Sweep: Future<Output = ()>>(stop: &CancellationToken, sweep: impl Fn() -> Sweep) {
    loop {
        tokio::select! {
            () = sweep() => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Every step, whatever became of those before; the first failure is answered.
pub(crate) async fn sweep(hub: &Hub, now: Timestamp) -> Result<(), StoreError> {
    let mut failed = Ok(());
    for step in Step::ALL {
        if let Err(error) = carry_out(step, hub, now).await {
            tracing::warn!(step = ?step, error = %crate::chain(&error), "could not finish a part of the sweep");
            failed = failed.and(Err(error));
        }
    }
    failed
}

async fn carry_out(step: Step, hub: &Hub, now: Timestamp) -> Result<(), StoreError> {
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let db = &mut *db;
    let is_full = |deleted: u64| i64::try_from(deleted).is_ok_and(|deleted| deleted >= ROWS_MAX);
    let is_full_of_leaves = |deleted: u64| i64::try_from(deleted).is_ok_and(|deleted| deleted >= LEAVES_MAX);
    match step {
        Step::AuditMonths => store::audit::ensure_partitions(&hub.owner, now).await?,
        Step::Hubs => store::installation::delete_silent_hubs(db, HUB_KEPT).await?,
        Step::Enrollments => {
            while is_full_of_leaves(store::clusters::delete_spent_enrollments(db, now - KEPT, LEAVES_MAX).await?) {}
        }
        Step::Certificates => {
            while is_full_of_leaves(store::certificates::delete_ended(db, now - KEPT, LEAVES_MAX).await?) {}
        }
        Step::Work => {
            while is_full_of_leaves(store::work::delete_unheard(db, now - UNHEARD_KEPT, LEAVES_MAX).await?) {}
        }
        Step::Deliveries => {
            while is_full_of_leaves(store::webhooks::delete_deliveries(db, now - DELIVERIES_KEPT, LEAVES_MAX).await?) {}
        }
        Step::Apis => while is_full(store::apis::delete_unseen(db, now - UNNAMED_KEPT, ROWS_MAX).await?) {},
        Step::Definitions => {
            while is_full(store::definitions::delete_unseen(db, now - UNNAMED_KEPT, ROWS_MAX).await?) {}
        }
        Step::Drifts => while is_full_of_leaves(store::drifts::delete_before(db, now - KEPT, LEAVES_MAX).await?) {},
        // Whoever asked has deleted them, unless its hub died meanwhile.
        Step::DryRuns => while is_full(store::dry_runs::delete_expired(db, now, ROWS_MAX).await?) {},
        Step::Intents => while is_full_of_leaves(store::intents::delete_done(db, now - KEPT, LEAVES_MAX).await?) {},
        Step::Rollouts => while is_full(store::rollouts::delete_old(db, now - KEPT, ROLLOUTS_KEPT, ROWS_MAX).await?) {},
        Step::Renders => {
            let unused = store::renders::list_unused(db, RENDERS_KEPT, RENDERS_MAX).await?;
            for some in unused.chunks(usize::try_from(ROWS_MAX).unwrap_or(1)) {
                store::renders::delete(db, some).await?;
            }
        }
        Step::Revisions => {
            while is_full(store::revisions::delete_unused(db, now - KEPT, RENDERS_KEPT, ROWS_MAX).await?) {}
        }
        Step::Bundles => {
            let (since, marked) = (now - CONTENT_KEPT, now - MARKED_EVERY);
            while is_full(store::bundles::delete_unused(db, since, marked, ROWS_MAX).await?) {}
        }
        Step::Marks => mark_objects(hub, db, now).await?,
        Step::Objects => {
            let (since, marked) = (now - CONTENT_KEPT, now - MARKED_WITHIN);
            while is_full(store::bundles::delete_unused_objects(db, since, marked, ROWS_MAX).await?) {}
        }
    }
    Ok(())
}

/// Which objects a bundle names stands in its manifest and in no row. Whichever hub comes first reads it, once in a while.
/// One that cannot be read is stepped over; it stays unmarked.
async fn mark_objects(hub: &Hub, db: &mut Connection, now: Timestamp) -> Result<(), StoreError> {
    let (mut after, mut unread) = (None, 0);
    loop {
        let page = store::bundles::list_unmarked(db, now - MARKED_EVERY, after, BUNDLES_AT_ONCE).await?;
        let page = within_lines(page);
        let Some(last) = page.last() else { break };
        after = Some(*last);
        let manifests = hub.content.load_readable(db, &page.iter().map(|bundle| bundle.digest).collect()).await?;
        let objects: BTreeSet<_> =
            manifests.values().flat_map(|manifest| manifest.entries().iter().map(|entry| entry.digest)).collect();
        let objects: Vec<_> = objects.into_iter().collect();
        // In this order: a bundle that counts as marked has its objects marked.
        for some in objects.chunks(MARKS_AT_ONCE) {
            store::bundles::mark_objects_used(db, some, MARKED_EVERY, now).await?;
        }
        let read: Vec<_> = manifests.into_keys().collect();
        store::bundles::mark_marked(db, &read, now).await?;
        unread += page.len() - read.len();
    }
    if unread == 0 { Ok(()) } else { Err(StoreError::Unreadable { table: "bundles", column: "manifest" }) }
}

/// As many of the first as have no more lines than are read at once; one at least.
fn within_lines(mut page: Vec<Unmarked>) -> Vec<Unmarked> {
    let mut lines = 0;
    let fits = page.iter().take_while(|bundle| {
        lines += i64::from(bundle.objects);
        lines <= LINES_AT_ONCE
    });
    page.truncate(fits.count().max(1));
    page
}
