//! Rows → the values that decisions are made from.

use bellwether_core::ClusterId;
use bellwether_core::rollout::{Intent, PendingIntent, Rollout, RolloutSnapshot, RolloutState};
use jiff::Timestamp;

use crate::store::intents::{self, Verb};
use crate::store::rollouts::{self, Rollout as Row, Which};
use crate::store::{Connection, StoreError};

/// What one reconcile of a rollout reads.
pub(super) async fn load_snapshot(
    db: &mut Connection,
    row: &Row,
    open: &[intents::IntentRow],
    now: Timestamp,
) -> Result<RolloutSnapshot, StoreError> {
    let rollout = Rollout { intents: intents_of(row, open), ..load_counts(db, row).await? };
    let is_at_rest = rollout.state == RolloutState::Done && rollout.intents.is_empty() && !has_unsettled(&rollout);
    if is_at_rest {
        return Ok(RolloutSnapshot::new(rollout, Vec::new()));
    }
    let named: Vec<ClusterId> = rollout.intents.iter().filter_map(|pending| named_by(&pending.intent)).collect();
    let which = Which { scope: Some(rollout.scope()), named: &named };
    let entries = rollouts::list_members(db, row.id, which, now).await?;
    Ok(RolloutSnapshot::new(rollout, entries))
}

/// Clusters that catch up with what is done.
fn has_unsettled(rollout: &Rollout) -> bool {
    rollout.waves.iter().any(|wave| wave.waiting + wave.in_flight + wave.offline > 0)
}

async fn load_counts(db: &mut Connection, row: &Row) -> Result<Rollout, StoreError> {
    let mut waves = rollouts::list_waves(db, &[row.id]).await?;
    Ok(row.with_waves(waves.remove(&row.id).unwrap_or_default()))
}

fn intents_of(row: &Row, open: &[intents::IntentRow]) -> Vec<PendingIntent> {
    let of_it = open.iter().filter(|stored| stored.rollout == Some(row.id));
    let stored = of_it.filter_map(|stored| {
        let Verb::Rollout(intent) = stored.verb.clone() else { return None };
        Some(PendingIntent { intent, by: stored.actor.clone(), reason: stored.reason.clone(), member: None })
    });
    stored.collect()
}

const fn named_by(intent: &Intent) -> Option<ClusterId> {
    match intent {
        Intent::Skip { cluster } | Intent::Retry { cluster } => Some(*cluster),
        _ => None,
    }
}
