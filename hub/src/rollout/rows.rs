//! Rows → the values that decisions are made from; and members settled on the way.

use bellwether_core::rollout::{Asked, Intent, Limits, MemberState, Rollout, RolloutState, settle};
use jiff::Timestamp;

use crate::Hub;
use crate::change::Change;
use crate::store::intents::Verb;
use crate::store::rollouts::{self, Judged, Rollout as Row, Which};
use crate::store::{self, Connection, StoreError};

/// Members read at once.
const PAGE: i64 = 500;

/// Judges the members that something may have changed for; answers with the next time at which time alone may.
pub(super) async fn settle_members(
    hub: &Hub,
    change: &mut Change<'_>,
    row: &Row,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    if row.state.is_over() && row.state != RolloutState::Done {
        return Ok(None);
    }
    let mut next: Option<Timestamp> = None;
    let mut which = Which { judged: true, limit: PAGE, ..Which::default() };
    loop {
        let page = rollouts::list_members(change, row.id, which, now).await?;
        for judged in &page {
            next = [next, settle_one(hub, change, row, judged, now).await?].into_iter().flatten().min();
        }
        // All of them before anything is decided: a wave must not pass on a member that was not looked at.
        match page.last() {
            Some(last) if i64::try_from(page.len()).is_ok_and(|count| count == PAGE) => which.after = Some(last.place),
            _ => return Ok(next),
        }
    }
}

async fn settle_one(
    hub: &Hub,
    change: &mut Change<'_>,
    row: &Row,
    judged: &Judged,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let limits = Limits {
        deadline: row.strategy.deadline.duration(),
        offline_after: hub.config.offline_after(),
        grace_until: hub.grace_until,
        offline: row.strategy.offline,
        wave: judged.wave,
    };
    let settled = settle(&judged.member, &judged.seen, &limits, now);
    if let Some(member) = &settled.member {
        tracing::debug!(rollout.id = %row.id, cluster.name = judged.cluster_name, state = ?member.state, "settled");
        rollouts::mark_member(change, row.id, member).await?;
    }
    Ok(settled.look_at)
}

/// A rollout as a value.
pub(crate) async fn load(
    db: &mut Connection,
    row: &Row,
    look_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<Rollout, StoreError> {
    let mut rollout = Rollout {
        id: row.id,
        state: row.state,
        since: row.state_since,
        reason: row.reason.clone(),
        failures_max: row.failures_max,
        on_failure: row.strategy.on_failure,
        offline: row.strategy.offline,
        waves: rollouts::list_waves(db, row.id, now).await?,
        next: Vec::new(),
        catch_up: Vec::new(),
        look_at,
        intents: load_intents(db, row, now).await?,
    };
    rollout.next = list_next(db, row, &rollout, now).await?;
    rollout.catch_up = list_catch_up(db, row, &rollout, now).await?;
    Ok(rollout)
}

type Turn = (bellwether_core::rollout::Member, bellwether_core::rollout::Presence);

async fn list_next(db: &mut Connection, row: &Row, rollout: &Rollout, now: Timestamp) -> Result<Vec<Turn>, StoreError> {
    let which = match (rollout.state, rollout.open_wave()) {
        (RolloutState::RollingBack, _) => Which { returnable: true, limit: PAGE, ..Which::default() },
        (_, Some((place, wave))) => Which {
            states: &[MemberState::Waiting],
            wave: Some(place),
            limit: i64::from(wave.concurrent_max.saturating_sub(wave.in_flight)),
            ..Which::default()
        },
        (_, None) => return Ok(Vec::new()),
    };
    turns(db, row, which, now).await
}

/// Clusters of waves that have passed: they were offline, or are tried again.
async fn list_catch_up(
    db: &mut Connection,
    row: &Row,
    rollout: &Rollout,
    now: Timestamp,
) -> Result<Vec<Turn>, StoreError> {
    let mut turns_of_all = Vec::new();
    for (place, wave) in (0..).zip(&rollout.waves) {
        let free = wave.concurrent_max.saturating_sub(wave.in_flight);
        if wave.state != bellwether_core::rollout::WaveState::Passed || wave.waiting == 0 || free == 0 {
            continue;
        }
        let which = Which {
            states: &[MemberState::Waiting],
            wave: Some(place),
            connected: true,
            limit: i64::from(free),
            ..Which::default()
        };
        turns_of_all.extend(turns(db, row, which, now).await?);
    }
    Ok(turns_of_all)
}

async fn turns(db: &mut Connection, row: &Row, which: Which, now: Timestamp) -> Result<Vec<Turn>, StoreError> {
    let members = rollouts::list_members(db, row.id, which, now).await?;
    Ok(members.into_iter().map(|judged| (judged.member, judged.seen.presence)).collect())
}

async fn load_intents(db: &mut Connection, row: &Row, now: Timestamp) -> Result<Vec<Asked>, StoreError> {
    let mut asked_of_it = Vec::new();
    for asked in store::intents::list_open(db, row.target).await? {
        let Verb::Rollout(intent) = asked.verb else { continue };
        if asked.rollout != Some(row.id) {
            continue;
        }
        let member = match intent {
            Intent::Skip { cluster } | Intent::Retry { cluster } => {
                let which = Which { cluster: Some(cluster), limit: 1, ..Which::default() };
                rollouts::list_members(db, row.id, which, now).await?.pop().map(|judged| judged.member)
            }
            _ => None,
        };
        asked_of_it.push(Asked { intent, by: asked.actor, reason: asked.reason, member });
    }
    Ok(asked_of_it)
}
