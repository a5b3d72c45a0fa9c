//! How a stage works: woken by a signal or the clock, it reconciles one due subject after another until none is due.
//!
//! Two kinds: a *transactional* stage decides inside one transaction that holds its subject's lock; a *detached* one
//! (fetch, render) reads, works without a transaction, and then writes in one. A detached reconcile that two hubs do at
//! once costs work only: both write the same.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bellwether_core::backoff::{Backoff, Jitter};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::{self, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Hub;
use crate::process::clock;
use crate::store::work::{self, LeftAlone, QueueItem, Stage};
use crate::store::{self, StoreError};
use crate::work::change::Change;

/// Reconciles without a signal this often: for what another hub wrote, and for a signal that was lost.
const RESYNC: Duration = Duration::from_secs(1);
/// Subjects read at once: enough to step over some that other workers hold.
const CANDIDATES: i64 = 16;
/// After a failure of Postgres; every reconcile before it would fail too.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

/// After a subject's failures. What fails for the longest of them needs a person, who should not wait much longer for what
/// they did about it.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(2), longest: Duration::from_mins(5), jitter: Jitter::None };
/// A subject that was not tried again for so long has changed, or is gone.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// Subjects that failed the last time, and how long they are left alone. Counted from the failure, however long it took
/// to come: a subject that is due again when it has just failed would be the first in order, always.
///
/// Why it failed does not matter. When nobody can be served, nobody is held up by it; and an outage may be one of writes
/// only, in which what was fetched or rendered would be fetched and rendered again at once. What failed is a subject with
/// the rows that it had: what somebody does about it makes a new one, and does not wait for as long.
#[derive(Default)]
struct Failures {
    failed: BTreeMap<Uuid, Failure>,
}

struct Failure {
    times: u32,
    /// Whatever is told of it meanwhile.
    at_least_until: Instant,
    until: Instant,
    /// The newest row that it had.
    seen: i64,
    /// Changes when what it lacks may have come.
    comes: Option<watch::Receiver<()>>,
}

impl Failure {
    fn has_come(&self) -> bool {
        self.comes.as_ref().is_some_and(|comes| comes.has_changed().unwrap_or(false))
    }
}

impl Failures {
    /// How a subject's turn ended.
    fn note(&mut self, item: &QueueItem, is_failure: bool, took: Duration) {
        if is_failure {
            self.note_failure(item, took, None);
        } else {
            self.failed.remove(&item.key);
        }
    }

    /// At least as long as the failure took: then no subject has more than half of a worker's time.
    fn note_failure(&mut self, item: &QueueItem, took: Duration, comes: Option<watch::Receiver<()>>) {
        let (now, before) = (Instant::now(), self.failed.get(&item.key));
        let times = before.map_or(1, |before| before.times.saturating_add(1));
        // What came and was not enough comes again: once in each pause it is looked at.
        let comes = comes.filter(|_| !before.is_some_and(Failure::has_come));
        let pause = BACKOFF.whole(times).max(took).min(BACKOFF.longest);
        let failure = Failure {
            times,
            at_least_until: now + pause.min(BACKOFF.first.max(took)),
            until: now + pause,
            seen: item.rows.iter().copied().max().unwrap_or(i64::MAX),
            comes,
        };
        self.failed.insert(item.key, failure);
    }

    fn waiting(&mut self) -> Vec<LeftAlone> {
        let now = Instant::now();
        self.failed.retain(|_, failure| failure.until + FORGOTTEN_AFTER > now);
        let waiting = self.failed.iter().filter(|(_, failure)| failure.until > now && !failure.has_come());
        waiting
            .map(|(key, failure)| {
                if failure.at_least_until > now {
                    LeftAlone::whatever_comes(*key)
                } else {
                    LeftAlone { key: *key, seen: failure.seen }
                }
            })
            .collect()
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
#[derive(Debug)]
pub(crate) enum Progress {
    Done,
    /// What it needs is not there. Its rows stay, and it is left alone for a while, as after a failure, or until this
    /// changes.
    NotYet(watch::Receiver<()>),
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
    let mut backoff = Failures::default();
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
/// subject's. One that breaks down fails alone: its transaction is rolled back, and the hub would end of it after each start.
async fn reconcile_next<T: Transactional>(
    hub: &Hub,
    stage: &T,
    backoff: &mut Failures,
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
        let decided = AssertUnwindSafe(decide(hub, stage, change, item.key)).catch_unwind().await;
        let outcome = decided.unwrap_or(Err(StoreError::BrokeDown));
        backoff.note(&item, outcome.is_err(), began_at.elapsed());
        outcome.map_err(|error| (Some(item.key), error))?;
        hub.metrics.note_reconcile(T::STAGE, began_at.elapsed());
        return Ok(true);
    }
    Ok(false)
}

async fn decide<T: Transactional>(hub: &Hub, stage: &T, mut change: Change<'_>, key: Uuid) -> Result<(), StoreError> {
    let now = clock::now();
    // Between the list and its lock another worker may have decided about it.
    let Some(announced) = work::take_due(&mut change, T::STAGE, key, now).await? else { return change.abandon().await };
    stage.reconcile(hub, &mut change, key, announced.trace_id.as_deref(), now).await?;
    change.commit().await
}

pub(crate) async fn run_detached<D: Detached>(hub: Arc<Hub>, stage: D, stop: CancellationToken) {
    let stage = Arc::new(stage);
    let (mut running, mut busy, mut backoff) = (JoinSet::new(), BTreeMap::new(), Failures::default());
    while !stop.is_cancelled() {
        let mut besides = backoff.waiting();
        besides.extend(busy.values().map(|item: &QueueItem| LeftAlone::whatever_comes(item.key)));
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
    busy: &mut BTreeMap<task::Id, QueueItem>,
    backoff: &mut Failures,
) {
    let id = match &ended {
        Ok((id, _)) => *id,
        Err(panic) => panic.id(),
    };
    let Some(item) = busy.remove(&id) else { return };
    // Others were worked on meanwhile: how long it took does not count.
    let took = Duration::ZERO;
    match ended {
        Ok((_, Ok(Progress::Done))) => backoff.note(&item, false, took),
        Ok((_, Ok(Progress::NotYet(comes)))) => backoff.note_failure(&item, took, Some(comes)),
        Ok((_, Err(error))) => {
            log_failure(stage, Some(item.key), &error);
            backoff.note(&item, true, took);
        }
        Err(panic) => {
            tracing::error!(stage = stage.as_str(), error = %panic, "a reconcile broke down");
            backoff.note(&item, true, took);
        }
    }
}

async fn start_due<D: Detached>(
    hub: &Arc<Hub>,
    stage: &Arc<D>,
    running: &mut JoinSet<Result<Progress, StoreError>>,
    busy: &mut BTreeMap<task::Id, QueueItem>,
    besides: &[LeftAlone],
    free: usize,
) -> Result<(), StoreError> {
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let items = work::list_due(&mut db, D::STAGE, clock::now(), besides, D::CANDIDATES).await?;
    for item in choose(items, free, D::KEPT) {
        let (hub, stage, begun) = (hub.clone(), stage.clone(), item.clone());
        let task = running.spawn(async move {
            let began_at = Instant::now();
            let outcome = stage.reconcile(&hub, &item).await;
            hub.metrics.note_reconcile(D::STAGE, began_at.elapsed());
            outcome
        });
        busy.insert(task.id(), begun);
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
async fn until_next(hub: &Hub, stage: Stage, besides: &[LeftAlone]) -> Duration {
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
    let error_text = crate::chain(error);
    // A fault of ours, which nothing but another version fixes.
    if matches!(error, StoreError::BrokeDown) {
        tracing::error!(stage = stage.as_str(), subject, error = %error_text, "a reconcile broke down");
    } else {
        tracing::warn!(stage = stage.as_str(), subject, error = %error_text, "a stage could not finish a reconcile");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    fn left_alone(backoff: &Failures, key: Uuid) -> Duration {
        backoff.failed[&key].until.saturating_duration_since(Instant::now())
    }

    #[test]
    fn a_subject_is_left_alone_for_longer_each_time_it_fails() {
        let (mut backoff, item) = (Failures::default(), due(1, false));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            backoff.note(&item, true, Duration::ZERO);
            pauses.push(left_alone(&backoff, item.key).as_millis().div_ceil(1_000));
        }

        assert_eq!(pauses[..4], [2, 4, 8, 16]);
        assert_eq!(pauses[11], u128::from(BACKOFF.longest.as_secs()));
        backoff.note(&item, false, Duration::ZERO);
        assert!(backoff.waiting().is_empty(), "it went well");
    }

    #[test]
    fn a_failure_that_took_long_is_not_due_again_at_once() {
        let (mut backoff, item) = (Failures::default(), due(1, false));

        backoff.note(&item, true, Duration::from_secs(30));

        assert!(left_alone(&backoff, item.key) > Duration::from_secs(29), "half of the worker's time is for others");
    }

    #[test]
    fn what_lacked_something_has_its_turn_when_that_may_have_come_and_once_in_each_pause() {
        let (mut backoff, item) = (Failures::default(), due(1, false));
        let (comes, receiver) = watch::channel(());
        backoff.note_failure(&item, Duration::ZERO, Some(receiver));
        assert_eq!(backoff.waiting().len(), 1);

        comes.send_replace(());
        assert!(backoff.waiting().is_empty(), "it may be there");
        backoff.note_failure(&item, Duration::ZERO, Some(comes.subscribe()));
        comes.send_replace(());

        assert_eq!(backoff.waiting().len(), 1, "it was not, and is no nearer");
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

        let (stage, mut backoff) = (Slow(slow), Failures::default());
        let first = reconcile_next(&hub, &stage, &mut backoff).await;
        let second = reconcile_next(&hub, &stage, &mut backoff).await;

        assert!(first.is_err(), "its transaction is gone");
        assert!(second.expect("the quick one has its turn"));
        assert!(backoff.failed.contains_key(&slow) && backoff.waiting().len() == 1);
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

        let (stage, mut backoff) = (Poisoned(poisoned), Failures::default());
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

    /// One subject has a fault of ours waiting for it.
    struct Broken {
        subject: Uuid,
        reconciled: Arc<AtomicUsize>,
    }

    impl Transactional for Broken {
        const STAGE: Stage = Stage::Rollout;

        async fn reconcile(
            &self,
            _: &Hub,
            _: &mut Change<'_>,
            key: Uuid,
            _: Option<&str>,
            _: Timestamp,
        ) -> Result<(), StoreError> {
            assert!(key != self.subject, "it breaks down");
            self.reconciled.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    impl Detached for Broken {
        const STAGE: Stage = Stage::Source;
        const AT_ONCE: usize = 1;

        async fn reconcile(&self, hub: &Hub, item: &QueueItem) -> Result<Progress, StoreError> {
            assert!(item.key != self.subject, "it breaks down");
            let mut change = Change::begin(&hub.pool, &hub.signals).await?;
            work::take_seen(&mut change, item).await?;
            change.commit().await?;
            // Whoever counts them stops the stage, and with it whatever is not done.
            self.reconciled.fetch_add(1, Ordering::Relaxed);
            Ok(Progress::Done)
        }
    }

    /// Until so many were reconciled besides one that breaks down.
    async fn run_broken(hub: &Arc<Hub>, stage: Stage) {
        let (subject, others): (Uuid, Vec<_>) = (clock::new_id(), (0..3).map(|_| clock::new_id()).collect());
        tell(hub, stage, &[subject], None).await;
        tell(hub, stage, &others, None).await;
        let (stop, reconciled) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let broken = Broken { subject, reconciled: reconciled.clone() };
        let (hub_of_it, stop_of_it) = (hub.clone(), stop.clone());
        let worker = tokio::spawn(async move {
            match stage {
                Stage::Rollout => run_transactional(hub_of_it, broken, stop_of_it).await,
                _ => run_detached(hub_of_it, broken, stop_of_it).await,
            }
        });
        let until_done = async {
            while reconciled.load(Ordering::Relaxed) < 3 && !worker.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), until_done).await.expect("the others have their turn");
        stop.cancel();
        worker.await.expect("one subject that breaks down ends no stage");
        assert_eq!(reconciled.load(Ordering::Relaxed), 3);
        let mut db = hub.pool.acquire().await.expect("a connection");
        let left = work::list_due(&mut db, stage, clock::now(), &[], 16).await.expect("what is due");
        assert_eq!(left.into_iter().map(|item| item.key).collect::<Vec<_>>(), [subject], "its work is still there");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_decision_that_breaks_down_is_left_alone_and_ends_no_hub(pool: Pool) {
        let (hub, _folder) = crate::testing::hub(&pool).await;

        run_broken(&hub, Stage::Rollout).await;
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_detached_reconcile_that_breaks_down_frees_its_place_and_its_subject(pool: Pool) {
        let (hub, _folder) = crate::testing::hub(&pool).await;

        run_broken(&hub, Stage::Source).await;
    }

    /// Reads, and cannot write: the disk is full.
    struct Full(Arc<AtomicUsize>);

    impl Detached for Full {
        const STAGE: Stage = Stage::Source;
        const AT_ONCE: usize = 8;

        async fn reconcile(&self, hub: &Hub, _: &QueueItem) -> Result<Progress, StoreError> {
            const FULL: &str = "do $$ begin raise exception using errcode = '53100'; end $$";
            self.0.fetch_add(1, Ordering::Relaxed);
            let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
            store::execute_in(&mut db, FULL).await.map(|()| Progress::Done)
        }
    }

    async fn tell(hub: &Hub, stage: Stage, keys: &[Uuid], trace_id: Option<&str>) {
        let mut change = Change::begin(&hub.pool, &hub.signals).await.expect("a transaction");
        change.tell(stage, keys, clock::now(), trace_id).await.expect("it is told");
        change.commit().await.expect("it commits");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_cannot_be_written_is_not_tried_again_at_once(pool: Pool) {
        let (hub, _folder) = crate::testing::hub(&pool).await;
        tell(&hub, Stage::Source, &[clock::new_id(), clock::new_id()], Some("a trace")).await;
        let (stop, tried) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));

        let worker = tokio::spawn(run_detached(hub.clone(), Full(tried.clone()), stop.clone()));
        let until_tried = async |times| {
            while tried.load(Ordering::Relaxed) < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), until_tried(2)).await.expect("each is tried");
        let is_often = tokio::time::timeout(Duration::from_millis(1_500), until_tried(3)).await.is_ok();
        stop.cancel();
        worker.await.expect("it ends");

        assert_eq!((tried.load(Ordering::Relaxed), is_often), (2, false), "the Git host is asked each time");
    }

    /// Two subjects write the same two rows, each in another order. The first time they have one each before they go on.
    struct Crossing(Arc<Meeting>);

    struct Meeting {
        first: Uuid,
        met: tokio::sync::Barrier,
        tries: AtomicUsize,
    }

    impl Transactional for Crossing {
        const STAGE: Stage = Stage::Rollout;

        async fn reconcile(
            &self,
            _: &Hub,
            change: &mut Change<'_>,
            key: Uuid,
            _: Option<&str>,
            _: Timestamp,
        ) -> Result<(), StoreError> {
            const ONE: &str = "update crossed set decisions = decisions + 1 where name = 'one'";
            const OTHER: &str = "update crossed set decisions = decisions + 1 where name = 'other'";
            let (now, then) = if key == self.0.first { (ONE, OTHER) } else { (OTHER, ONE) };
            store::execute_in(change, now).await?;
            if self.0.tries.fetch_add(1, Ordering::Relaxed) < 2 {
                self.0.met.wait().await;
            }
            store::execute_in(change, then).await
        }
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn of_two_decisions_that_are_in_each_others_way_both_are_made_once(pool: Pool) {
        const MADE: &str = "select bool_and(decisions = 2) from crossed";
        let (hub, _folder) = crate::testing::hub(&pool).await;
        let rows = "create table crossed as select name, 0 as decisions from unnest(array['one', 'other']) as name";
        store::execute_raw(&pool, rows).await.expect("it is made");
        let keys = [clock::new_id(), clock::new_id()];
        tell(&hub, Stage::Rollout, &keys, Some("a trace")).await;
        let met = tokio::sync::Barrier::new(keys.len());
        let meeting = Arc::new(Meeting { first: keys[0], met, tries: AtomicUsize::new(0) });
        let stop = CancellationToken::new();

        let workers = [(); 2]
            .map(|()| tokio::spawn(run_transactional(Arc::clone(&hub), Crossing(Arc::clone(&meeting)), stop.clone())));
        let mut db = pool.acquire().await.expect("a connection");
        let until_made = async {
            while !store::ask_raw(&mut db, MADE).await.expect("it is read") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), until_made).await.expect("both are made");
        stop.cancel();
        for worker in workers {
            worker.await.expect("it ends no stage");
        }

        assert!(meeting.tries.load(Ordering::Relaxed) > 2, "none was in the other's way");
        assert!(store::ask_raw(&mut db, MADE).await.expect("it is read"), "one was made twice");
        let left = work::list_due(&mut db, Stage::Rollout, clock::now(), &[], 16).await.expect("what is due");
        assert!(left.is_empty(), "{left:?}");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_was_put_off_has_its_turn_when_somebody_changes_something(pool: Pool) {
        let (hub, _folder) = crate::testing::hub(&pool).await;
        let (key, mut backoff) = (clock::new_id(), Failures::default());
        let mut db = pool.acquire().await.expect("a connection");
        tell(&hub, Stage::Bundle, &[key], Some("a trace")).await;
        let mut list = async |besides: &[LeftAlone]| {
            let due = work::list_due(&mut db, Stage::Bundle, clock::now(), besides, 16).await.expect("it is read");
            due.into_iter().map(|item| (item.key, item.rows)).collect::<Vec<_>>()
        };
        let rows = list(&[]).await.remove(0).1;
        for _ in 0..8 {
            let item = QueueItem { key, rows: rows.clone(), trace_id: None };
            backoff.note_failure(&item, Duration::ZERO, None);
        }

        // What machines say comes all the time, and fixes nothing.
        tell(&hub, Stage::Bundle, &[key], None).await;
        backoff.failed.get_mut(&key).expect("it failed").at_least_until = Instant::now();
        assert!(list(&backoff.waiting()).await.is_empty());
        tell(&hub, Stage::Bundle, &[key], Some("another")).await;
        let due = list(&backoff.waiting()).await;

        assert_eq!(due.iter().map(|(key, rows)| (*key, rows.len())).collect::<Vec<_>>(), [(key, 3)]);
        let last = QueueItem { key, rows: due[0].1.clone(), trace_id: None };
        backoff.note_failure(&last, Duration::ZERO, None);
        tell(&hub, Stage::Bundle, &[key], Some("a third")).await;
        assert!(list(&backoff.waiting()).await.is_empty(), "somebody who changes much holds up no other");
    }
}
