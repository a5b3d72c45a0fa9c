//! The rollout stage: what a target's clusters run → what they are to run.
//!
//! In one transaction: what people asked of the target, a new rollout if there is something to move, members settled by
//! what their agents said, and then [`bellwether_core::rollout::decide`] again and again, each answer carried out to the
//! letter, until nothing is to be done before some later time. Rows are read once, decisions change them in memory
//! ([`bellwether_core::rollout::Board`]), and what changed is written at the end. It chooses nothing itself.

mod asked;
mod carry_out;
mod deletion;
mod plan;
mod rows;

use bellwether_core::TargetId;
use bellwether_core::rollout::{Limits, RolloutState, WaveState, decide};
use jiff::Timestamp;
use uuid::Uuid;

use self::carry_out::Scene;
use crate::Hub;
use crate::change::Change;
use crate::stage::Quick;
use crate::store::intents::Asked;
use crate::store::rollouts::Rollout as Row;
use crate::store::targets::Target;
use crate::store::work::{self, Stage};
use crate::store::{self, StoreError};

pub(crate) use plan::count_behind;
pub(crate) use rows::load as load_rollout;

/// Decisions in one transaction: waves opened and passed one after another. The rest is another look.
const ROUNDS_MAX: usize = 64;
/// Assignments in one transaction; more are another look's, so that agents have the first meanwhile.
const ASSIGNED_MAX: usize = 1_000;

pub(crate) struct Rollouts;

impl Quick for Rollouts {
    const STAGE: Stage = Stage::Rollout;

    async fn look(
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
            let Some(at) = deletion::go_on(hub, change, &target, deletion, now).await? else { return Ok(()) };
            return work::replace_timer(change, Stage::Rollout, key, at).await;
        }
        let mut open = store::intents::list_open(change, target.id).await?;
        asked::answer_for_target(change, &target, &open, now).await?;
        let mut newest = store::rollouts::find_newest(change, target.id).await?;
        let mut look_at = None;
        // A rollout that ends makes room for the next, which begins in the same look.
        for _ in 0..ROUNDS_MAX {
            if let Some(row) = &mut newest {
                look_at = roll(hub, change, &target, row, &mut open, now).await?;
            }
            let Some(row) = plan::start_next(change, &target, newest.as_ref(), trace_id, now).await? else { break };
            newest = Some(row);
        }
        let Some(at) = look_at else { return Ok(()) };
        work::replace_timer(change, Stage::Rollout, key, at.max(now)).await
    }
}

/// Takes a rollout as far as it goes now; says when to look again.
async fn roll(
    hub: &Hub,
    change: &mut Change<'_>,
    target: &Target,
    row: &mut Row,
    open: &mut Vec<Asked>,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let is_asked = open.iter().any(|asked| asked.rollout == Some(row.id));
    if !is_live(row.state) && row.state != RolloutState::Done && !is_asked {
        return Ok(None);
    }
    let limits = Limits {
        deadline: row.strategy.deadline.duration(),
        offline_after: hub.config.offline_after(),
        grace_until: hub.grace_until,
        offline: row.strategy.offline,
        wave: WaveState::Waiting,
    };
    let mut scene = Scene::load(hub, change, target, row, open, now).await?;
    for _ in 0..ROUNDS_MAX {
        scene.board.settle(&limits, now);
        let (decisions, look_at) = decide(scene.board.rollout(), now);
        if decisions.is_empty() {
            scene.write().await?;
            return Ok(look_at);
        }
        scene.carry_out(decisions).await?;
        if scene.assigned >= ASSIGNED_MAX {
            break;
        }
        if scene.board.lacks_members() {
            scene.write().await?;
            scene.read().await?;
        }
    }
    scene.write().await?;
    // More is to be done: at once, in another transaction.
    Ok(Some(now))
}

/// Whether a rollout takes the target's place: nothing else may start.
fn is_live(state: RolloutState) -> bool {
    !state.is_over()
}
