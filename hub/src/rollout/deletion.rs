//! How a target goes: its clusters are told to delete or to let go of its objects, and when they have answered, its rows
//! go too.
//!
//! A vanished row deletes nothing, so this is a change of assignments like any other: tombstones with generations of
//! their own, and reports about exactly those. Clusters that are away are not waited for: their tombstones outlive the
//! target, and go when they have been carried out.

use bellwether_core::TargetId;
use bellwether_core::audit::{Action, Event};
use bellwether_core::rollout::{Patience, RolloutState, may_retire};
use jiff::{SignedDuration, Timestamp};

use super::{plan, target_intents};
use crate::Hub;
use crate::process::clock;
use crate::store::assignments::Waiting;
use crate::store::targets::{Deletion, Target};
use crate::store::work::Stage;
use crate::store::{self, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;

const REASON: &str = "the target is being deleted";

/// Tombstones written in one transaction; the rest is for the next reconcile.
const TOMBSTONES_MAX: i64 = 1_000;

/// Clusters that an audit entry names.
const NAMED_MAX: i64 = 50;

/// Reports are handled as they come; who went away meanwhile, this often.
const RECONCILE_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// Goes as far as it can now; says when to reconcile again, `None`: the target is gone.
pub(super) async fn advance(
    hub: &Hub,
    change: &mut Change<'_>,
    target: &Target,
    deletion: &Deletion,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    stop_rollouts(hub, change, target, now).await?;
    let mut open = store::intents::list_open(change, target.id).await?;
    target_intents::refuse(change, target, &mut open, (|_: &_| true, REASON), now).await?;
    let told = store::assignments::mark_tombstones(change, target.id, deletion.action, TOMBSTONES_MAX, now).await?;
    if !told.is_empty() {
        change.tell(Stage::Link, &told, now, None).await?;
        return Ok(Some(now));
    }
    let waiting = store::assignments::list_waiting(change, target.id, NAMED_MAX, now).await?;
    let patience = Patience {
        forced: deletion.forced,
        offline_after: hub.config.offline_after(),
        grace_until: hub.heartbeat.grace_until(now),
    };
    if !may_retire(waiting.iter().map(Waiting::presence), &patience, now) {
        return Ok(Some(now + RECONCILE_EVERY));
    }
    finish(change, target, deletion, &waiting, now).await?;
    Ok(None)
}

async fn stop_rollouts(hub: &Hub, change: &mut Change<'_>, target: &Target, now: Timestamp) -> Result<(), StoreError> {
    for row in store::rollouts::list_live(change, target.id).await? {
        plan::end(hub, change, target, &row, (RolloutState::Cancelled, Action::RolloutCancelled), REASON, now).await?;
    }
    Ok(())
}

async fn finish(
    change: &mut Change<'_>,
    target: &Target,
    deletion: &Deletion,
    waiting: &[Waiting],
    now: Timestamp,
) -> Result<(), StoreError> {
    store::assignments::delete_done(change, target.id).await?;
    store::assignments::mark_outliving(change, target.id, &target.name).await?;
    store::targets::delete(change, target.id).await?;
    tracing::info!(target.name = %target.name, unanswered = waiting.len(), "a target is gone");
    let subject = subjects::target(&target.project, &target.name);
    let mut event = Event::new(clock::new_id(), now, actors::hub(), Action::TargetGone, subject);
    let unanswered: Vec<_> = waiting.iter().map(|one| one.cluster.as_str()).collect();
    event.detail = serde_json::json!({
        "action": deletion.action.as_str(), "by": deletion.by, "forced": deletion.forced, "unanswered": unanswered,
    });
    change.audit(&event).await
}

/// A cluster may have carried out a tombstone that outlived its target.
pub(super) async fn forget_done(change: &mut Change<'_>, target: TargetId) -> Result<(), StoreError> {
    store::assignments::delete_done(change, target).await
}
