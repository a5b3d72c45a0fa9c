//! The rollout stage: what a target's clusters run → what they are to run.
//!
//! In one transaction: what people asked of the target, a new rollout if there is something to move, members settled by
//! what their agents said, and then [`bellwether_core::rollout::decide`] again and again, each answer carried out to the
//! letter, until nothing is to be done before some later time. Rows are read once, decisions change them in memory
//! ([`bellwether_core::rollout::RolloutSnapshot`]), and what changed is written at the end. It chooses nothing itself.

mod carry_out;
mod deletion;
mod plan;
mod rows;
mod target_intents;

use std::collections::BTreeSet;
use std::sync::Arc;

use bellwether_core::TargetId;
use bellwether_core::audit::{Action, Event};
use bellwether_core::rollout::{Limits, RolloutState, WaveState, decide};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::carry_out::RolloutExecutor;
use self::plan::Begun;
use crate::Hub;
use crate::process::clock;
use crate::source::policy;
use crate::store::intents::{IntentRow, OPEN_MAX};
use crate::store::rollouts::Rollout as Row;
use crate::store::targets::Target;
use crate::store::work::{self, Stage};
use crate::store::{self, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;
use crate::worker::stage::{self, Transactional};

/// Decisions in one transaction: waves opened and passed one after another. The rest is for the next reconcile.
const ROUNDS_MAX: usize = 64;
/// Assignments in one transaction; more are for the next reconcile, so that agents have the first meanwhile. Each reconcile
/// reads all members that wait: with a tenth of a large fleet it would read ten times the fleet.
const ASSIGNED_MAX: usize = 2_500;
/// After a rollout has begun, or a member of one is tried again. A stream that begins or ends asks which rollouts wait for its
/// cluster, and finds none that is not committed; who decides read before that whether the cluster is there. Holding the rows of
/// their streams, a decision comes after such a change, and then the next look sees it, or before, and then it is found. Until
/// then most have reported, and have brought that look by themselves.
const SECOND_LOOK_AFTER: SignedDuration = SignedDuration::from_secs(1);

pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    stage::run_transactional(hub, Rollouts, stop).await;
}

pub(crate) struct Rollouts;

impl Transactional for Rollouts {
    const STAGE: Stage = Stage::Rollout;

    async fn reconcile(
        &self,
        hub: &Hub,
        change: &mut Change<'_>,
        key: Uuid,
        trace_id: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(target) = store::targets::find(change, TargetId::new(key)).await? else {
            return deletion::forget_done(change, TargetId::new(key)).await;
        };
        if let Some(deletion) = &target.deletion {
            let again = deletion::advance(hub, change, &target, deletion, now).await?;
            if change.has_entries() {
                change.tell_host(key, now).await?;
            }
            let Some(at) = again else { return Ok(()) };
            return work::replace_timer(change, Stage::Rollout, key, at).await;
        }
        let mut open = store::intents::list_open(change, target.id).await?;
        let may_be_more = open.len() == OPEN_MAX;
        target_intents::answer_for_target(hub, change, &target, &open, now).await?;
        open.retain(|intent| intent.rollout.is_some());
        let intent: Vec<_> = open.iter().filter_map(|intent| intent.rollout).collect();
        // Rollouts that wait from now on for clusters which nobody sees waiting until this is committed.
        let mut begun: BTreeSet<_> = intent.iter().copied().collect();
        let (mut next_at, mut waits_for) = (None, None);
        if trace_id.is_some() {
            // Somebody changed something: maybe how it is kept, or a cluster's labels.
            plan::mark_unselected(change, &target, now).await?;
            next_at = sync_options(change, &target, trace_id, now).await?;
        }
        let policy = policy::load_policy(change, &target).await?;
        // A rollout that ends makes room for the next, which begins in the same reconcile.
        for _ in 0..ROUNDS_MAX {
            let state = store::targets::find_state(change, target.id).await?;
            let mut current = store::rollouts::list_current(change, target.id, state.current_from, &intent).await?;
            begun.extend(current.iter().filter(|row| row.created_at == now).map(|row| row.id));
            let is_history = |intent: &IntentRow| !current.iter().any(|row| intent.rollout == Some(row.id));
            target_intents::refuse(change, &target, &mut open, (is_history, "a newer rollout took its place"), now)
                .await?;
            let mut next = None;
            for row in &mut current {
                if !plan::may_go_on(change, &target, policy.as_ref(), row, now).await? {
                    let goes_on = |intent: &IntentRow| intent.rollout == Some(row.id) && intent.verb.assigns();
                    let reason = (goes_on, target_intents::UNVERIFIED);
                    target_intents::refuse(change, &target, &mut open, reason, now).await?;
                    if row.state == RolloutState::Done {
                        // Who was away when it ended, and comes back, would be given it.
                        continue;
                    }
                }
                next = earliest(next, roll(hub, change, &target, row, &mut open, now).await?);
            }
            match plan::start_next(hub, change, &target, &state, &current, (trace_id, now), &mut waits_for).await? {
                Begun::Rollout => {}
                Begun::None(at) => {
                    next_at = earliest(next_at, earliest(next, at));
                    break;
                }
            }
        }
        // At the end, since it holds the rows of their streams: those that begin wait no longer than for this.
        if !begun.is_empty() {
            let begun: Vec<_> = begun.into_iter().collect();
            store::sessions::hold_members(change, &begun, waits_for.as_deref().unwrap_or_default()).await?;
            next_at = earliest(next_at, Some(now + SECOND_LOOK_AFTER));
        }
        if let Some(clusters) = waits_for
            && store::wanted::mark_awaited(change, target.id, &clusters).await?
        {
            change.tell(Stage::Rollout, &[key], now, None).await?;
        }
        if change.has_entries() {
            change.tell_host(key, now).await?;
        }
        // Unless none of these could be answered: then the others would not come to their turn either.
        if may_be_more && open.len() < OPEN_MAX {
            next_at = Some(now);
        }
        let Some(at) = next_at else { return Ok(()) };
        work::replace_timer(change, Stage::Rollout, key, at.max(now)).await
    }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

/// How a target is kept is no content: it has no waves, waits for no render and no rollout, and comes to every cluster at
/// once, under new generations. Says when to go on, if there are more clusters than one transaction takes.
async fn sync_options(
    change: &mut Change<'_>,
    target: &Target,
    trace_id: Option<&str>,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let limit = i64::try_from(ASSIGNED_MAX).unwrap_or(i64::MAX);
    let told = store::assignments::mark_options(change, target.id, &target.spec.sync, limit, now).await?;
    if told.is_empty() {
        return Ok(None);
    }
    change.tell(Stage::Link, &told, now, trace_id).await?;
    let subject = subjects::target(&target.project, &target.name);
    let mut event = Event::new(clock::new_id(), now, actors::hub(), Action::TargetOptionsAssigned, subject);
    event.detail = serde_json::json!({"sync": target.spec.sync, "clusters": told.len()});
    change.audit(&event).await?;
    if told.len() < ASSIGNED_MAX {
        return Ok(None);
    }
    // It is pending as long as this is to be done: the rest keeps the trace.
    change.tell(Stage::Rollout, &[target.id.as_uuid()], now, trace_id).await?;
    Ok(Some(now))
}

/// Takes a rollout as far as it goes now; says when to reconcile again.
async fn roll(
    hub: &Hub,
    change: &mut Change<'_>,
    target: &Target,
    row: &mut Row,
    open: &mut Vec<IntentRow>,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let has_intents = open.iter().any(|intent| intent.rollout == Some(row.id));
    if !is_live(row.state) && row.state != RolloutState::Done && !has_intents {
        return Ok(None);
    }
    // Most targets are at rest for most of the time; their members need not be counted to see it.
    if row.state == RolloutState::Done && !has_intents && !store::rollouts::is_any_unsettled(change, row.id).await? {
        return Ok(None);
    }
    let limits = Limits {
        deadline: row.strategy.deadline.duration(),
        offline_after: hub.config.offline_after(),
        grace_until: hub.heartbeat.grace_until(now),
        offline: row.strategy.offline,
        wave: WaveState::Waiting,
    };
    let mut executor = RolloutExecutor::load(hub, change, target, row, open, now).await?;
    for _ in 0..ROUNDS_MAX {
        executor.snapshot.settle(&limits, now);
        let (decisions, next_at) = decide(executor.snapshot.rollout(), now);
        if decisions.is_empty() {
            executor.write().await?;
            return Ok(next_at);
        }
        executor.carry_out(decisions).await?;
        if executor.assigned >= ASSIGNED_MAX {
            break;
        }
        if executor.snapshot.lacks_members() {
            executor.write().await?;
            executor.read().await?;
        }
    }
    executor.write().await?;
    // More is to be done: at once, in another transaction.
    Ok(Some(now))
}

/// Whether a rollout takes the target's place: nothing else may start.
fn is_live(state: RolloutState) -> bool {
    !state.is_over()
}
