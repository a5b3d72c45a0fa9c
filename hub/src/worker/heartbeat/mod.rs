//! That this hub lives, and which others do.
//!
//! A heartbeat is a promise: until then this hub's streams count. Whether a hub lives is Postgres' clock against that
//! promise, so no two hubs' clocks are compared, and how long a promise lasts is said here only. It is written before
//! anything else, on a connection of its own, and never waits for what is told about it.
//!
//! A hub that dies ends none of its sessions in the rows, and one that was cut off finds them as they were. Whoever sees
//! a hub come or go tells the rollouts of its clusters, since no clock of theirs may be due. What could not be told is
//! kept and told later. It decides nothing, and writes nothing about another hub.

pub(crate) mod promise;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Hub;
use crate::process::clock;
use crate::store::work::Stage;
use crate::store::{self, StoreError};
use crate::work::change::Change;

/// Between two tries to tell rollouts while Postgres does not let it.
const RETRY: Duration = Duration::from_secs(1);

/// What is told is long work at times: no heartbeat waits for it.
pub(crate) async fn run(hub: Arc<Hub>, stop: CancellationToken) {
    tokio::join!(beat_on(&hub, &stop), tell_on(&hub, &stop));
}

async fn beat_on(hub: &Hub, stop: &CancellationToken) {
    let mut seen = None;
    loop {
        match send(hub, seen.as_ref()).await {
            Ok(living) => seen = Some(living),
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "could not say that this hub lives, or see who else does");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(hub.heartbeat.every) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Writes a heartbeat, and answers which hubs live now. Rollouts are to hear of every one that came or went since the
/// last time, and of this one when it was silent for too long. A hub that asks for the first time knows no earlier
/// state: every one that has open sessions and does not live has gone since.
async fn send(hub: &Hub, seen: Option<&BTreeSet<Uuid>>) -> Result<BTreeSet<Uuid>, StoreError> {
    let mut began_at = Instant::now();
    let mut db = hub.vital.acquire().await.map_err(StoreError::from)?;
    let is_kept = hub.heartbeat.is_current()
        && store::installation::mark_hub_heartbeat(&mut db, hub.id, hub.heartbeat.promise()).await?;
    if !is_kept {
        began_at = Instant::now();
        come_back(hub).await?;
    }
    if hub.heartbeat.note(began_at, is_kept) {
        tracing::warn!("this hub could not say for a while that it lives; its clusters have a new grace");
        hub.sessions.hear_anew();
        hub.heartbeat.tell_of([hub.id]);
        hub.signals.wake(Stage::Rollout);
    }
    let living = store::installation::list_living(&mut db).await?;
    let mut changed: BTreeSet<Uuid> = match seen {
        Some(seen) => seen.symmetric_difference(&living).copied().collect(),
        None => store::sessions::list_missed_hubs(&mut db).await?.into_iter().collect(),
    };
    changed.remove(&hub.id);
    if !changed.is_empty() {
        tracing::warn!(hubs = ?changed, "other hubs came or went; what their clusters run is reconciled");
        hub.heartbeat.tell_of(changed);
    }
    Ok(living)
}

/// The first heartbeat after a silence. What its streams said before says nothing of that time: nobody counts on them until
/// each has sent a heartbeat again, and a soak does not go on while nobody looked.
async fn come_back(hub: &Hub) -> Result<(), StoreError> {
    let mut both = store::begin(&hub.vital).await?;
    store::sessions::mark_unheard(&mut both, hub.id, clock::now()).await?;
    store::installation::mark_hub_back(&mut both, hub.id, hub.heartbeat.promise()).await?;
    Ok(both.commit().await?)
}

async fn tell_on(hub: &Hub, stop: &CancellationToken) {
    loop {
        let pause = match tell(hub).await {
            Ok(()) => Duration::MAX,
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "could not tell rollouts which hubs came or went");
                RETRY
            }
        };
        tokio::select! {
            () = hub.heartbeat.came.notified() => {}
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Forgets only what was committed.
async fn tell(hub: &Hub) -> Result<(), StoreError> {
    let hubs: Vec<_> = hub.heartbeat.unannounced().iter().copied().collect();
    if hubs.is_empty() {
        return Ok(());
    }
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let targets = store::sessions::list_targets_of_hubs(&mut change, &hubs).await?;
    change.tell(Stage::Rollout, &targets, clock::now(), None).await?;
    change.commit().await?;
    hub.heartbeat.unannounced().retain(|told| !hubs.contains(told));
    Ok(())
}

/// As a hub that has just started, and with what it tells.
#[cfg(test)]
pub(crate) async fn beat_and_tell(hub: &Hub) {
    send(hub, None).await.expect("a heartbeat is written");
    tell(hub).await.expect("it tells");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Pool, execute_raw};
    use crate::testing;

    fn unannounced(hub: &Hub) -> Vec<Uuid> {
        let unannounced = std::mem::take(&mut *hub.heartbeat.unannounced());
        unannounced.into_iter().collect()
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn rollouts_hear_of_a_hub_that_goes_and_of_one_that_comes_back(pool: Pool) {
        let (one, folder) = testing::hub(&pool).await;
        let (two, _folder) = testing::hub_beside(&pool, &folder).await;
        let both = send(&one, None).await.expect("a heartbeat is written");
        assert_eq!(both, [one.id, two.id].into());
        assert!(unannounced(&one).is_empty());

        let silence = "update hubs set lives_until = now() where started_at = (select max(started_at) from hubs)";
        execute_raw(&pool, silence).await.expect("time goes by");
        let alone = send(&one, Some(&both)).await.expect("a heartbeat is written");
        let gone = unannounced(&one);
        send(&two, Some(&both)).await.expect("a heartbeat is written again");
        let again = send(&one, Some(&alone)).await.expect("a heartbeat is written");

        assert_eq!((alone, gone), ([one.id].into(), vec![two.id]));
        assert_eq!((again, unannounced(&one)), (both, vec![two.id]));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_heartbeat_does_not_wait_for_what_is_told_and_what_is_not_told_is_kept(pool: Pool) {
        let (hub, _folder) = testing::hub(&pool).await;
        let gone = clock::new_id();
        hub.heartbeat.tell_of([gone]);
        let mut holder = store::begin(&pool).await.expect("a transaction");
        store::lock_table(&mut holder, "rollouts").await.expect("it is held");

        send(&hub, Some(&BTreeSet::from([hub.id]))).await.expect("a heartbeat is written");
        tell(&hub).await.expect_err("the rollouts cannot be read");
        assert_eq!(*hub.heartbeat.unannounced(), [gone].into());
        drop(holder);
        tell(&hub).await.expect("now they can");

        assert!(unannounced(&hub).is_empty());
    }
}
