//! How a stage works: woken by a signal or the clock, it reconciles one due subject after another until none is due.
//!
//! Two kinds: a *transactional* stage decides inside one transaction that holds its subject's lock; a *detached* one
//! (fetch, render) reads, works without a transaction, and then writes in one. A detached reconcile that two hubs do at
//! once costs work only: both write the same.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::{self, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Hub;
use crate::process::clock;
use crate::store::work::{self, QueueItem, Stage};
use crate::store::{self, StoreError};
use crate::work::change::Change;

/// Reconciles without a signal this often: for what another hub wrote, and for a signal that was lost.
const RESYNC: Duration = Duration::from_secs(1);
/// Subjects read at once: enough to step over some that other workers hold.
const CANDIDATES: i64 = 16;
/// After a failure of Postgres; every reconcile before it would fail too.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// After a subject's first failure; twice as long after each further one.
const BACKOFF: Duration = Duration::from_secs(2);
/// What fails for this long needs a person, who should not wait much longer for what they did about it.
const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// Within so long of a turn an outage is found. What comes after more work may come of that work: Postgres ends a transaction
/// that asks nothing for a few seconds, and on the wire that is a lost connection.
const OUTAGE_FOUND: Duration = Duration::from_secs(1);
/// A subject that was not tried again for so long has changed, or is gone.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// Subjects that failed the last time, and how long they are left alone. Counted from the failure, however long it took
/// to come: a subject that is due again when it has just failed would be the first in order, always.
#[derive(Default)]
struct Backoff {
    failed: BTreeMap<Uuid, Failure>,
}

struct Failure {
    times: u32,
    until: Instant,
}

impl Backoff {
    /// How a subject's turn ended. Nothing is said of the subject when nobody can be served.
    fn note(&mut self, key: Uuid, ended: Option<&StoreError>, took: Duration) {
        match ended {
            None => drop(self.failed.remove(&key)),
            Some(error) if error.is_outage() && took < OUTAGE_FOUND => {}
            Some(_) => self.note_failure(key, took),
        }
    }

    /// At least as long as the failure took: then no subject has more than half of a worker's time.
    fn note_failure(&mut self, key: Uuid, took: Duration) {
        let failure = self.failed.entry(key).or_insert(Failure { times: 0, until: Instant::now() });
        let pause = BACKOFF.saturating_mul(1 << failure.times.min(16));
        failure.times += 1;
        failure.until = Instant::now() + pause.max(took).min(BACKOFF_MAX);
    }

    fn waiting(&mut self) -> Vec<Uuid> {
        let now = Instant::now();
        self.failed.retain(|_, failure| failure.until + FORGOTTEN_AFTER > now);
        self.failed.iter().filter(|(_, failure)| failure.until > now).map(|(key, _)| *key).collect()
    }
}

/// Decides about one subject inside the transaction.
pub(crate) trait Transactional: Send + Sync + 'static {
    const STAGE: Stage;

    fn reconcile(
        &self,
        hub: &Hub,
        change: &mut Change<'_>,
        key: Uuid,
        trace_id: Option<&str>,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// How a detached reconcile ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    /// What it needs is not there. Its rows stay, and it is left alone for a while, as after a failure.
    NotYet,
}

/// Works on one subject, opening transactions of its own, the last of which calls [`work::take_seen`].
pub(crate) trait Detached: Send + Sync + 'static {
    const STAGE: Stage;
    /// Subjects worked on at once.
    const AT_ONCE: usize;
    /// Of those, so many are kept for what somebody asked for and follows by a trace.
    const KEPT: usize = 0;
    /// Subjects read at once, besides those that are busy or failing.
    const CANDIDATES: i64 = CANDIDATES;

    fn reconcile(&self, hub: &Hub, item: &QueueItem) -> impl Future<Output = Result<Progress, StoreError>> + Send;
}

pub(crate) async fn run_transactional<T: Transactional>(hub: Arc<Hub>, stage: T, stop: CancellationToken) {
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let pause = match reconcile_next(&hub, &stage, &mut backoff).await {
            Ok(true) => continue,
            Ok(false) => until_next(&hub, T::STAGE, &backoff.waiting()).await,
            Err((subject, error)) => {
                log_failure(T::STAGE, subject, &error);
                AFTER_FAILURE
            }
        };
        wait(&hub, T::STAGE, pause, &stop).await;
    }
}

/// Reconciles the first due subject that nobody else holds; false: there is none. An error says whose it is, if it is one
/// subject's.
async fn reconcile_next<T: Transactional>(
    hub: &Hub,
    stage: &T,
    backoff: &mut Backoff,
) -> Result<bool, (Option<Uuid>, StoreError)> {
    let of_none = |error| (None, error);
    // Its own clusters would be away for it. The heartbeat that comes first wakes the stage.
    if !hub.heartbeat.is_current() {
        return Ok(false);
    }
    let mut db = hub.pool.acquire().await.map_err(|error| of_none(error.into()))?;
    let waiting = backoff.waiting();
    let items = work::list_due(&mut db, T::STAGE, clock::now(), &waiting, CANDIDATES).await.map_err(of_none)?;
    drop(db);
    if items.is_empty() {
        return Ok(false);
    }
    let mut change = Change::begin(&hub.pool, &hub.signals).await.map_err(of_none)?;
    for item in items {
        if !work::lock_subject(&mut change, T::STAGE, item.key).await.map_err(of_none)? {
            continue;
        }
        let began_at = Instant::now();
        let outcome = decide(hub, stage, change, item.key).await;
        backoff.note(item.key, outcome.as_ref().err(), began_at.elapsed());
        outcome.map_err(|error| (Some(item.key), error))?;
        hub.metrics.note_reconcile(T::STAGE, began_at.elapsed());
        return Ok(true);
    }
    Ok(false)
}

async fn decide<T: Transactional>(hub: &Hub, stage: &T, mut change: Change<'_>, key: Uuid) -> Result<(), StoreError> {
    let now = clock::now();
    let trace_id = work::take_due(&mut change, T::STAGE, key, now).await?;
    stage.reconcile(hub, &mut change, key, trace_id.as_deref(), now).await?;
    change.commit().await
}

pub(crate) async fn run_detached<D: Detached>(hub: Arc<Hub>, stage: D, stop: CancellationToken) {
    let stage = Arc::new(stage);
    let (mut running, mut busy, mut backoff) = (JoinSet::new(), BTreeMap::new(), Backoff::default());
    while !stop.is_cancelled() {
        let mut besides = backoff.waiting();
        besides.extend(busy.values().copied());
        let free = D::AT_ONCE - running.len();
        let pause = match start_due(&hub, &stage, &mut running, &mut busy, &besides, free).await {
            // What may still begin then is woken for, and so is an end.
            Ok(()) if D::AT_ONCE - running.len() <= D::KEPT => RESYNC,
            Ok(()) => until_next(&hub, D::STAGE, &besides).await,
            Err(error) => {
                log_failure(D::STAGE, None, &error);
                AFTER_FAILURE
            }
        };
        tokio::select! {
            Some(ended) = running.join_next_with_id() => note_end(D::STAGE, ended, &mut busy, &mut backoff),
            () = wait(&hub, D::STAGE, pause, &stop) => {}
        }
    }
}

/// Its subject is free again; one whose reconcile failed, however it did, is left alone for a while, so that some that
/// cannot be dealt with do not hold up the others.
fn note_end(
    stage: Stage,
    ended: Result<(task::Id, Result<Progress, StoreError>), JoinError>,
    busy: &mut BTreeMap<task::Id, Uuid>,
    backoff: &mut Backoff,
) {
    let id = match &ended {
        Ok((id, _)) => *id,
        Err(panic) => panic.id(),
    };
    let Some(key) = busy.remove(&id) else { return };
    match ended {
        Ok((_, Ok(Progress::NotYet))) => backoff.note_failure(key, Duration::ZERO),
        Ok((_, outcome)) => {
            let error = outcome.err().inspect(|error| log_failure(stage, Some(key), error));
            // Others were worked on meanwhile: how long it took does not count.
            backoff.note(key, error.as_ref(), Duration::ZERO);
        }
        Err(panic) => {
            tracing::error!(stage = stage.as_str(), error = %panic, "a reconcile broke down");
            backoff.note_failure(key, Duration::ZERO);
        }
    }
}

async fn start_due<D: Detached>(
    hub: &Arc<Hub>,
    stage: &Arc<D>,
    running: &mut JoinSet<Result<Progress, StoreError>>,
    busy: &mut BTreeMap<task::Id, Uuid>,
    besides: &[Uuid],
    free: usize,
) -> Result<(), StoreError> {
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let items = work::list_due(&mut db, D::STAGE, clock::now(), besides, D::CANDIDATES).await?;
    for item in choose(items, free, D::KEPT) {
        let (hub, stage, key) = (hub.clone(), stage.clone(), item.key);
        let task = running.spawn(async move {
            let began_at = Instant::now();
            let outcome = stage.reconcile(&hub, &item).await;
            hub.metrics.note_reconcile(D::STAGE, began_at.elapsed());
            outcome
        });
        busy.insert(task.id(), key);
    }
    Ok(())
}

/// What is started in so many free slots, of which the last are kept for what somebody asked for.
fn choose(items: impl IntoIterator<Item = QueueItem>, free: usize, kept: usize) -> Vec<QueueItem> {
    let (mut asked, unasked): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| item.trace_id.is_some());
    asked.truncate(free);
    let open = free.saturating_sub(kept.max(asked.len()));
    asked.extend(unasked.into_iter().take(open));
    asked
}

/// How long nothing is due for, besides what is being worked on or left alone; at most the fallback.
async fn until_next(hub: &Hub, stage: Stage, besides: &[Uuid]) -> Duration {
    let next = async {
        let mut db = hub.pool.acquire().await?;
        store::work::find_next(&mut db, stage, besides).await
    };
    let Ok(Some(due_at)) = next.await else { return RESYNC };
    let left = Duration::try_from(due_at.duration_since(clock::now())).unwrap_or(Duration::ZERO);
    // A subject that is due and was not taken is another worker's: it is asked for again soon, not at once.
    left.clamp(Duration::from_millis(20), RESYNC)
}

async fn wait(hub: &Hub, stage: Stage, pause: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = hub.signals.woken(stage) => {}
        () = tokio::time::sleep(pause) => {}
        () = stop.cancelled() => {}
    }
}

fn log_failure(stage: Stage, subject: Option<Uuid>, error: &StoreError) {
    let subject = subject.map(tracing::field::display);
    tracing::warn!(stage = stage.as_str(), subject, error = %crate::chain(error), "a stage could not finish a reconcile");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Pool;

    fn due(number: u8, is_asked: bool) -> QueueItem {
        QueueItem {
            key: Uuid::from_bytes([number; 16]),
            rows: Vec::new(),
            trace_id: is_asked.then(|| "a trace".to_owned()),
        }
    }

    #[test]
    fn polls_leave_slots_to_what_somebody_asked_for() {
        let polls = || (0..20).map(|number| due(number, false));
        let started = |items: Vec<QueueItem>| items.into_iter().map(|item| item.key.as_bytes()[0]).collect::<Vec<_>>();

        assert_eq!(choose(polls(), 8, 2).len(), 6);
        assert_eq!(choose(polls(), 2, 2).len(), 0);
        assert_eq!(choose(polls(), 8, 0).len(), 8);
        assert_eq!(started(choose(polls().chain([due(99, true)]), 2, 2)), [99]);
        assert_eq!(started(choose(polls().chain([due(99, true)]), 8, 2)), [99, 0, 1, 2, 3, 4, 5]);
        assert_eq!(choose((0..20).map(|number| due(number, true)), 8, 2).len(), 8);
    }

    fn failure() -> StoreError {
        StoreError::Stale { table: "rollouts" }
    }

    fn left_alone(backoff: &Backoff, key: Uuid) -> Duration {
        backoff.failed[&key].until.saturating_duration_since(Instant::now())
    }

    #[test]
    fn a_subject_is_left_alone_for_longer_each_time_it_fails() {
        let (mut backoff, key) = (Backoff::default(), Uuid::nil());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            backoff.note(key, Some(&failure()), Duration::ZERO);
            pauses.push(left_alone(&backoff, key).as_millis().div_ceil(1_000));
        }

        assert_eq!(pauses[..4], [2, 4, 8, 16]);
        assert_eq!(pauses[11], u128::from(BACKOFF_MAX.as_secs()));
        backoff.note(key, None, Duration::ZERO);
        assert!(backoff.waiting().is_empty(), "it went well");
    }

    #[test]
    fn a_failure_that_took_long_is_not_due_again_at_once() {
        let (mut backoff, key) = (Backoff::default(), Uuid::nil());

        backoff.note(key, Some(&failure()), Duration::from_secs(30));

        assert!(left_alone(&backoff, key) > Duration::from_secs(29), "half of the worker's time is for others");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn an_outage_is_nobodys_failure(pool: Pool) {
        let mut backoff = Backoff::default();
        pool.close().await;
        let error = store::begin(&pool).await.expect_err("nobody is served");

        backoff.note(Uuid::nil(), Some(&error), Duration::ZERO);

        assert!(backoff.waiting().is_empty());
    }

    /// Some subjects cannot be decided, others can.
    struct Poisoned(Vec<Uuid>);

    impl Transactional for Poisoned {
        const STAGE: Stage = Stage::Rollout;

        async fn reconcile(
            &self,
            _: &Hub,
            _: &mut Change<'_>,
            key: Uuid,
            _: Option<&str>,
            _: Timestamp,
        ) -> Result<(), StoreError> {
            if self.0.contains(&key) { Err(failure()) } else { Ok(()) }
        }
    }

    /// Computes for longer than Postgres waits for the next statement.
    struct Slow(Uuid);

    impl Transactional for Slow {
        const STAGE: Stage = Stage::Rollout;

        async fn reconcile(
            &self,
            hub: &Hub,
            change: &mut Change<'_>,
            key: Uuid,
            _: Option<&str>,
            now: Timestamp,
        ) -> Result<(), StoreError> {
            const GONE: &str = "select count(*) = 0 from pg_stat_activity
                                 where datname = current_database() and state = 'idle in transaction'";
            if key != self.0 {
                return Ok(());
            }
            store::execute_in(change, "set local idle_in_transaction_session_timeout = '1200ms'").await?;
            let mut beside = hub.vital.acquire().await.map_err(StoreError::from)?;
            while !store::ask_raw(&mut beside, GONE).await? {
                tokio::task::yield_now().await;
            }
            work::take_due(change, Stage::Rollout, key, now).await.map(drop)
        }
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_decision_that_postgres_ends_for_its_slowness_holds_up_no_other(pool: Pool) {
        let (hub, _folder) = crate::testing::hub(&pool).await;
        let (slow, quick) = (clock::new_id(), clock::new_id());
        let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("a transaction");
        for key in [slow, quick] {
            change.tell(Stage::Rollout, &[key], clock::now(), None).await.expect("it is told");
        }
        change.commit().await.expect("it commits");

        let (stage, mut backoff) = (Slow(slow), Backoff::default());
        let first = reconcile_next(&hub, &stage, &mut backoff).await;
        let second = reconcile_next(&hub, &stage, &mut backoff).await;

        assert!(first.is_err(), "its transaction is gone");
        assert!(second.expect("the quick one has its turn"));
        assert_eq!(backoff.waiting(), [slow]);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn subjects_that_cannot_be_decided_hold_up_no_other(pool: Pool) {
        let (hub, _folder) = crate::testing::hub(&pool).await;
        let poisoned: Vec<_> = (0..40).map(|_| clock::new_id()).collect();
        let good = clock::new_id();
        let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("a transaction");
        for key in poisoned.iter().chain([&good]) {
            change.tell(Stage::Rollout, &[*key], clock::now(), None).await.expect("it is told");
        }
        change.commit().await.expect("it commits");

        let (stage, mut backoff) = (Poisoned(poisoned), Backoff::default());
        // On a slow machine the first may be due again before all were tried: each time they wait for twice as long.
        let mut running = 0;
        let found = loop {
            running += 1;
            match reconcile_next(&hub, &stage, &mut backoff).await {
                Err(_) if running <= 40 * 8 => {}
                other => break other,
            }
        };

        assert!(found.expect("the good one is no failure"));
        assert_eq!(backoff.failed.len(), 40, "all others came first, since they waited for longer");
    }
}
