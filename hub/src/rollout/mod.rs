//! The rollout stage: what a target's clusters run → what they are to run.
//!
//! In one transaction: what people asked of the target, a new rollout if there is something to move, members settled by
//! what their agents said, and then [`bellwether_core::rollout::decide`] again and again, each answer carried out to the
//! letter, until nothing is to be done before some later time. It chooses nothing itself.

mod asked;
mod carry_out;
mod plan;
mod rows;

use bellwether_core::TargetId;
use bellwether_core::rollout::{RolloutState, decide};
use jiff::Timestamp;
use uuid::Uuid;

use crate::Hub;
use crate::change::Change;
use crate::stage::Quick;
use crate::store::targets::Target;
use crate::store::work::{self, Stage};
use crate::store::{self, StoreError};

pub(crate) use rows::load as load_rollout;

/// Decisions in one transaction: a wave of 500 assigned, opened and closed, and some to spare. The rest is another look.
const ROUNDS_MAX: usize = 64;

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
        let Some(target) = store::targets::find(change, TargetId::new(key)).await? else { return Ok(()) };
        let mut look_at = None;
        // A rollout that ends makes room for the next, which begins in the same look.
        for _ in 0..ROUNDS_MAX {
            asked::answer_for_target(change, &target, now).await?;
            look_at = roll(hub, change, &target, now).await?;
            if !plan::start_next(change, &target, trace_id, now).await? {
                break;
            }
        }
        let Some(at) = look_at else { return Ok(()) };
        work::replace_timer(change, Stage::Rollout, key, at.max(now)).await
    }
}

/// Takes the newest rollout as far as it goes now; says when to look again.
async fn roll(
    hub: &Hub,
    change: &mut Change<'_>,
    target: &Target,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    for _ in 0..ROUNDS_MAX {
        let Some(row) = store::rollouts::find_newest(change, target.id).await? else { return Ok(None) };
        let settled = rows::settle_members(hub, change, &row, now).await?;
        let rollout = rows::load(change, &row, settled, now).await?;
        let (decisions, look_at) = decide(&rollout, now);
        if decisions.is_empty() {
            return Ok(look_at);
        }
        carry_out::all(change, target, &row, &rollout, decisions, now).await?;
    }
    // More is to be done: at once, in another transaction.
    Ok(Some(now))
}

/// Whether a rollout takes the target's place: nothing else may start.
fn is_live(state: RolloutState) -> bool {
    !state.is_over()
}
