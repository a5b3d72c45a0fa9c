//! How a stage works: woken by a signal or the clock, it looks at one due subject after another until none is due.
//!
//! Two kinds: a *quick* look decides inside one transaction that holds its subject's lock; a *slow* one (fetch, render)
//! reads, works without a transaction, and then writes in one. A slow look that two hubs do at once costs work only:
//! both write the same.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::task::{self, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Hub;
use crate::change::Change;
use crate::clock;
use crate::store::work::{self, Due, Stage};
use crate::store::{self, StoreError};

/// The look without a signal: for what another hub wrote, and for a signal that was lost.
const FALLBACK: Duration = Duration::from_secs(1);
/// Subjects read at once: enough to step over some that other workers hold.
const CANDIDATES: i64 = 16;
/// After a failure of Postgres; every look before it would fail too.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// A subject whose look failed is left alone for so long.
const PUT_ASIDE: SignedDuration = SignedDuration::from_secs(2);

/// Subjects whose last look failed, and until when they are left alone.
#[derive(Default)]
struct Failing {
    until: BTreeMap<Uuid, Timestamp>,
}

impl Failing {
    fn forget_before(&mut self, now: Timestamp) {
        self.until.retain(|_, until| *until > now);
    }
}

/// Decides about one subject inside the transaction.
pub(crate) trait Quick: Send + Sync + 'static {
    const STAGE: Stage;

    fn look(
        &self,
        hub: &Hub,
        change: &mut Change<'_>,
        key: Uuid,
        trace_id: Option<&str>,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Works on one subject, opening transactions of its own, the last of which calls [`work::take_seen`].
pub(crate) trait Slow: Send + Sync + 'static {
    const STAGE: Stage;
    /// Subjects worked on at once.
    const AT_ONCE: usize;
    /// Of those, so many are kept for what somebody asked for and follows by a trace.
    const KEPT: usize = 0;
    /// Subjects read at once, besides those that are busy or failing.
    const CANDIDATES: i64 = CANDIDATES;

    fn look(&self, hub: &Hub, due: &Due) -> impl Future<Output = Result<(), StoreError>> + Send;
}

pub(crate) async fn run_quick<Q: Quick>(hub: Arc<Hub>, stage: Q, stop: CancellationToken) {
    let mut failing = Failing::default();
    while !stop.is_cancelled() {
        let pause = match look_once(&hub, &stage, &mut failing).await {
            Ok(true) => continue,
            Ok(false) => until_next(&hub, Q::STAGE, &BTreeSet::new()).await,
            Err(error) => {
                log_failure(Q::STAGE, &error);
                AFTER_FAILURE
            }
        };
        wait(&hub, Q::STAGE, pause, &stop).await;
    }
}

/// Looks at the first due subject that nobody else holds; false: there is none.
async fn look_once<Q: Quick>(hub: &Hub, stage: &Q, failing: &mut Failing) -> Result<bool, StoreError> {
    let now = clock::now();
    failing.forget_before(now);
    let mut db = hub.pool.acquire().await?;
    let aside = i64::try_from(failing.until.len()).unwrap_or(0);
    let mut due = work::list_due(&mut db, Q::STAGE, now, CANDIDATES + aside).await?;
    drop(db);
    due.retain(|due| !failing.until.contains_key(&due.key));
    if due.is_empty() {
        return Ok(false);
    }
    let mut change = Change::begin(&hub.pool, &hub.wakes).await?;
    for due in due {
        if !work::lock_subject(&mut change, Q::STAGE, due.key).await? {
            continue;
        }
        // Taken back when the look succeeds; a subject that cannot be decided must not hold up the others.
        failing.until.insert(due.key, now + PUT_ASIDE);
        let began_at = Instant::now();
        let trace_id = work::take_due(&mut change, Q::STAGE, due.key, now).await?;
        stage.look(hub, &mut change, due.key, trace_id.as_deref(), now).await?;
        change.commit().await?;
        hub.metrics.note_look(Q::STAGE, began_at.elapsed());
        failing.until.remove(&due.key);
        return Ok(true);
    }
    Ok(false)
}

pub(crate) async fn run_slow<S: Slow>(hub: Arc<Hub>, stage: S, stop: CancellationToken) {
    let stage = Arc::new(stage);
    let (mut looks, mut busy, mut failing) = (JoinSet::new(), BTreeMap::new(), Failing::default());
    while !stop.is_cancelled() {
        failing.forget_before(clock::now());
        let besides: BTreeSet<_> = busy.values().chain(failing.until.keys()).copied().collect();
        let free = S::AT_ONCE - looks.len();
        let pause = match start_looks(&hub, &stage, &mut looks, &mut busy, &besides, free).await {
            // What may still begin then is woken for, and so is an end.
            Ok(()) if S::AT_ONCE - looks.len() <= S::KEPT => FALLBACK,
            Ok(()) => until_next(&hub, S::STAGE, &besides).await,
            Err(error) => {
                log_failure(S::STAGE, &error);
                AFTER_FAILURE
            }
        };
        tokio::select! {
            Some(ended) = looks.join_next_with_id() => note_end(S::STAGE, ended, &mut busy, &mut failing),
            () = wait(&hub, S::STAGE, pause, &stop) => {}
        }
    }
}

/// Its subject is free again; one whose look failed, however it did, is left alone for a while, so that some that cannot
/// be dealt with do not hold up the others.
fn note_end(
    stage: Stage,
    ended: Result<(task::Id, Result<(), StoreError>), JoinError>,
    busy: &mut BTreeMap<task::Id, Uuid>,
    failing: &mut Failing,
) {
    let (id, has_failed) = match ended {
        Ok((id, Ok(()))) => (id, false),
        Ok((id, Err(error))) => {
            log_failure(stage, &error);
            (id, true)
        }
        Err(panic) => {
            tracing::error!(stage = stage.as_str(), error = %panic, "a look broke down");
            (panic.id(), true)
        }
    };
    let key = busy.remove(&id);
    if let Some(key) = key.filter(|_| has_failed) {
        failing.until.insert(key, clock::now() + PUT_ASIDE);
    }
}

async fn start_looks<S: Slow>(
    hub: &Arc<Hub>,
    stage: &Arc<S>,
    looks: &mut JoinSet<Result<(), StoreError>>,
    busy: &mut BTreeMap<task::Id, Uuid>,
    besides: &BTreeSet<Uuid>,
    free: usize,
) -> Result<(), StoreError> {
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let limit = S::CANDIDATES + i64::try_from(besides.len()).unwrap_or(0);
    let due = work::list_due(&mut db, S::STAGE, clock::now(), limit).await?;
    let due = due.into_iter().filter(|due| !besides.contains(&due.key));
    let idle = choose(due, free, S::KEPT);
    for due in idle {
        let (hub, stage, key) = (hub.clone(), stage.clone(), due.key);
        let look = looks.spawn(async move {
            let began_at = Instant::now();
            let looked = stage.look(&hub, &due).await;
            hub.metrics.note_look(S::STAGE, began_at.elapsed());
            looked
        });
        busy.insert(look.id(), key);
    }
    Ok(())
}

/// What is started in so many free slots, of which the last are kept for what somebody asked for.
fn choose(due: impl Iterator<Item = Due>, free: usize, kept: usize) -> Vec<Due> {
    let (mut asked, unasked): (Vec<_>, Vec<_>) = due.partition(|due| due.trace_id.is_some());
    asked.truncate(free);
    let open = free.saturating_sub(kept.max(asked.len()));
    asked.extend(unasked.into_iter().take(open));
    asked
}

/// How long nothing is due for, besides what is being worked on; at most the fallback.
async fn until_next(hub: &Hub, stage: Stage, busy: &BTreeSet<Uuid>) -> Duration {
    let busy: Vec<_> = busy.iter().copied().collect();
    let next = async {
        let mut db = hub.pool.acquire().await?;
        store::work::find_next(&mut db, stage, &busy).await
    };
    let Ok(Some(due_at)) = next.await else { return FALLBACK };
    let left = Duration::try_from(due_at.duration_since(clock::now())).unwrap_or(Duration::ZERO);
    // A subject that is due and was not taken is another worker's: it is asked for again soon, not at once.
    left.clamp(Duration::from_millis(20), FALLBACK)
}

async fn wait(hub: &Hub, stage: Stage, pause: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = hub.wakes.woken(stage) => {}
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}

fn log_failure(stage: Stage, error: &StoreError) {
    tracing::warn!(stage = stage.as_str(), error = %crate::chain(error), "a stage could not finish a look");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(number: u8, is_asked: bool) -> Due {
        Due { key: Uuid::from_bytes([number; 16]), rows: Vec::new(), trace_id: is_asked.then(|| "a trace".to_owned()) }
    }

    #[test]
    fn polls_leave_slots_to_what_somebody_asked_for() {
        let polls = || (0..20).map(|number| due(number, false));
        let started = |due: Vec<Due>| due.into_iter().map(|due| due.key.as_bytes()[0]).collect::<Vec<_>>();

        assert_eq!(choose(polls(), 8, 2).len(), 6);
        assert_eq!(choose(polls(), 2, 2).len(), 0);
        assert_eq!(choose(polls(), 8, 0).len(), 8);
        assert_eq!(started(choose(polls().chain([due(99, true)]), 2, 2)), [99]);
        assert_eq!(started(choose(polls().chain([due(99, true)]), 8, 2)), [99, 0, 1, 2, 3, 4, 5]);
        assert_eq!(choose((0..20).map(|number| due(number, true)), 8, 2).len(), 8);
    }
}
