//! Work rows: the signals that wake stages.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Connection, StoreError, from_sql, to_sql};

type DateTime = chrono::DateTime<chrono::Utc>;

macro_rules! define_stages {
    ($($(#[$key:meta])* $stage:ident: $room:ident,)*) => {
        /// A part of the hub that reconciles rows when it is told to.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Stage {
            $($(#[$key])* $stage,)*
        }

        impl Stage {
            pub(crate) const ALL: &[Self] = &[$(Self::$stage),*];

            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$stage => stringify!($room),)*
                }
            }
        }
    };
}

stages!(define_stages);

impl Stage {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|stage| stage.as_str() == text)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct QueueItem {
    pub(crate) key: Uuid,
    /// The rows of this subject that are due. Those are taken, and no others: one with a smaller number may be committed
    /// later than it was written, and announces what a reconcile that had begun before could not see.
    pub(crate) rows: Vec<i64>,
    pub(crate) trace_id: Option<String>,
}

/// A subject that is left alone: not any more when it has a newer row than this with a trace, which somebody's change
/// made. Rows without one come all the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeftAlone {
    pub(crate) key: Uuid,
    pub(crate) seen: i64,
}

impl LeftAlone {
    pub(crate) const fn whatever_comes(key: Uuid) -> Self {
        Self { key, seen: i64::MAX }
    }
}

pub(crate) async fn append(
    db: &mut Connection,
    stage: Stage,
    keys: &[Uuid],
    due_at: Timestamp,
    trace_id: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into work (stage, key, due_at, trace_id) select $1, key, $3, $4 from unnest($2::uuid[]) as key",
        stage.as_str(),
        keys,
        to_sql(due_at),
        trace_id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A statement besides some subjects, which `left_alone` names in it: none that has a newer row with a trace that is due by
/// then; whenever, when that is null. Its own arguments follow, from `$5`.
macro_rules! besides {
    ($query:ident, $stage:expr, $besides:expr, $until:expr, $statement:literal $(, $argument:expr)* $(,)?) => {{
        let (keys, seen): (Vec<_>, Vec<_>) = $besides.iter().map(|one| (one.key, one.seen)).unzip();
        sqlx::$query!(
            r#"
            with left_alone as (
                select b.key
                  from unnest($2::uuid[], $3::bigint[]) as b (key, seen)
                 where not exists (
                       select from work n
                        where n.stage = $1 and n.key = b.key and n.work_id > b.seen and n.trace_id is not null
                          and ($4::timestamptz is null or n.due_at <= $4)
                       )
            )
            "# + $statement,
            $stage.as_str(),
            &keys,
            &seen,
            $until
            $(, $argument)*
        )
    }};
}

/// Rows that are read to find subjects that are due: a subject with many has its others taken with them, or later.
const DUE_ROWS_MAX: i64 = 2_000;

/// Subjects that are due, the longest waiting first, besides some: those do not stand in the others' way.
pub(crate) async fn list_due(
    db: &mut Connection,
    stage: Stage,
    now: Timestamp,
    besides: &[LeftAlone],
    limit: i64,
) -> Result<Vec<QueueItem>, StoreError> {
    let rows = besides!(
        query,
        stage,
        besides,
        to_sql(now),
        r#"
        select key, array_agg(work_id) as "rows!", max(trace_id) as trace_id
          from (
               select key, work_id, due_at, trace_id
                 from work
                where stage = $1 and due_at <= $4 and key not in (select key from left_alone)
                order by due_at, work_id
                limit $6
               ) as due
         group by key
         order by min(due_at), min(work_id)
         limit $5
        "#,
        limit,
        DUE_ROWS_MAX,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| QueueItem { key: row.key, rows: row.rows, trace_id: row.trace_id }).collect())
}

/// When the next row of a stage is due, besides those of some subjects.
pub(crate) async fn find_next(
    db: &mut Connection,
    stage: Stage,
    besides: &[LeftAlone],
) -> Result<Option<Timestamp>, StoreError> {
    let next = besides!(
        query_scalar,
        stage,
        besides,
        None::<DateTime>,
        "select min(due_at) from work where stage = $1 and key not in (select key from left_alone)",
    )
    .fetch_one(db)
    .await?;
    Ok(next.map(from_sql))
}

/// Whether a change that something began, such as a webhook, a poll's find or a person, has not come through is asked of
/// rows with a trace: timers and reports have none. All that has a trace is due when it is written, by the clock of whoever wrote it, maybe a moment after ours was read.
pub(super) fn traced_until(now: Timestamp) -> Timestamp {
    now + SignedDuration::from_hours(1)
}

/// Takes the subject's lock until the transaction ends; false: another worker has it.
///
/// An advisory lock, not a row's: a person's edit of a target must not wait for a decision about it. Two subjects whose ids collide in 64 bits only wait for each other.
pub(crate) async fn lock_subject(db: &mut Connection, stage: Stage, key: Uuid) -> Result<bool, StoreError> {
    let locked = sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended($1 || $2::uuid::text, 0)) as "locked!""#,
        stage.as_str(),
        key,
    )
    .fetch_one(db)
    .await?;
    Ok(locked)
}

/// Takes the subject's lock until the transaction ends, after whoever has it.
pub(crate) async fn lock_subject_in_turn(db: &mut Connection, stage: Stage, key: Uuid) -> Result<(), StoreError> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1 || $2::uuid::text, 0))", stage.as_str(), key,)
        .execute(db)
        .await?;
    Ok(())
}

/// Waits until no worker holds the subject's lock: what it wrote is seen by every statement after this one. A transaction
/// keeps the lock, beside others that wait so: until it ends no worker reconciles the subject.
pub(crate) async fn await_subject(db: &mut Connection, stage: Stage, key: Uuid) -> Result<(), StoreError> {
    sqlx::query!(
        "select pg_advisory_xact_lock_shared(hashtextextended($1 || $2::uuid::text, 0))",
        stage.as_str(),
        key,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What was announced of a subject.
#[derive(Debug)]
pub(crate) struct Announced {
    /// Of the latest change that has one.
    pub(crate) trace_id: Option<String>,
}

/// Deletes the subject's due rows: whatever they announced is seen by every statement after this one. `None`: there are none,
/// as after another worker who had the subject a moment ago.
pub(crate) async fn take_due(
    db: &mut Connection,
    stage: Stage,
    key: Uuid,
    now: Timestamp,
) -> Result<Option<Announced>, StoreError> {
    let traces = sqlx::query_scalar!(
        "delete from work where stage = $1 and key = $2 and due_at <= $3 returning trace_id",
        stage.as_str(),
        key,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    Ok((!traces.is_empty()).then(|| Announced { trace_id: traces.into_iter().flatten().max() }))
}

/// Deletes the rows of a subject that were seen before slow work began: what came meanwhile stays. False: another worker
/// has taken them.
pub(crate) async fn take_seen(db: &mut Connection, item: &QueueItem) -> Result<bool, StoreError> {
    let taken = sqlx::query!("delete from work where work_id = any($1)", &item.rows).execute(db).await?;
    Ok(taken.rows_affected() > 0)
}

/// Whether some of the rows that were seen are there still, and no other worker has taken them.
pub(crate) async fn is_seen(db: &mut Connection, item: &QueueItem) -> Result<bool, StoreError> {
    let is_there =
        sqlx::query_scalar!(r#"select exists (select from work where work_id = any($1)) as "is_there!""#, &item.rows)
            .fetch_one(db)
            .await?;
    Ok(is_there)
}

/// Deletes the due rows of a stage for any of these keys, and says which keys had one.
pub(crate) async fn take_due_of(
    db: &mut Connection,
    stage: Stage,
    keys: &[Uuid],
    now: Timestamp,
) -> Result<Vec<Uuid>, StoreError> {
    let mut taken = sqlx::query_scalar!(
        "delete from work where stage = $1 and key = any($2) and due_at <= $3 returning key",
        stage.as_str(),
        keys,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    taken.sort_unstable();
    taken.dedup();
    Ok(taken)
}

/// The same of the link stage, of so many rows of clusters whose newest stream is or was at this hub. The stream that
/// another hub has not missed yet must not take what the newest one is told; of a stream that has ended nothing is lost,
/// since the next one reads everything.
pub(crate) async fn take_due_of_streams(
    db: &mut Connection,
    hub: Uuid,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<Uuid>, StoreError> {
    let mut taken = sqlx::query_scalar!(
        r#"
        delete from work
         where work_id in (
               select w.work_id
                 from work w
                 join sessions s on s.cluster_id = w.key and s.hub_id = $1
                where w.stage = 'link' and w.due_at <= $3
                order by w.work_id
                limit $2
               )
        returning key
        "#,
        hub,
        limit,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    taken.sort_unstable();
    taken.dedup();
    Ok(taken)
}

/// Deletes so many of the signals to clusters without a stream that were due before; says how many it deleted.
pub(crate) async fn delete_unheard(db: &mut Connection, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        r#"
        delete from work
         where work_id in (
               select work_id
                 from work w
                where stage = 'link' and due_at < $1
                  and not exists (select from presences p where p.cluster_id = w.key and p.is_connected)
                limit $2
               )
        "#,
        to_sql(before),
        limit,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}

/// Sets the one timer of a subject in the place of the one before. Signals that came meanwhile stay.
pub(crate) async fn replace_timer(
    db: &mut Connection,
    stage: Stage,
    key: Uuid,
    due_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        with dropped as (
            delete from work where stage = $1 and key = $2 and is_timer
        )
        insert into work (stage, key, due_at, is_timer) values ($1, $2, $3, true)
        "#,
        stage.as_str(),
        key,
        to_sql(due_at),
    )
    .execute(db)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;
    use crate::store::rows::Rows;
    use crate::store::{Pool, begin, count_rows};

    fn keys<const COUNT: usize>() -> [Uuid; COUNT] {
        std::array::from_fn(|_| clock::new_id())
    }

    fn ago(now: Timestamp, seconds: i64) -> Timestamp {
        now - SignedDuration::from_secs(seconds)
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn who_waits_longest_comes_first_with_all_of_its_rows_and_nobody_before_their_time(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let ([early, late, future], now) = (keys(), clock::now());
        append(&mut db, Stage::Rollout, &[late], ago(now, 5), Some("b")).await.expect("written");
        append(&mut db, Stage::Rollout, &[early], ago(now, 9), None).await.expect("written");
        append(&mut db, Stage::Rollout, &[early], now, Some("a")).await.expect("written");
        append(&mut db, Stage::Rollout, &[future], ago(now, -60), None).await.expect("written");
        append(&mut db, Stage::Link, &[early], ago(now, 60), None).await.expect("written");

        let due = list_due(&mut db, Stage::Rollout, now, &[], 10).await.expect("read");
        let first = list_due(&mut db, Stage::Rollout, now, &[], 1).await.expect("read");

        let told: Vec<_> = due.iter().map(|item| (item.key, item.rows.len(), item.trace_id.as_deref())).collect();
        assert_eq!(told, [(early, 2, Some("a")), (late, 1, Some("b"))]);
        assert_eq!(first.iter().map(|item| item.key).collect::<Vec<_>>(), [early]);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn who_is_left_alone_is_so_until_somebody_changes_something(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let ([failed, other], now) = (keys(), clock::now());
        append(&mut db, Stage::Source, &[failed], ago(now, 5), Some("before")).await.expect("written");
        let seen = list_due(&mut db, Stage::Source, now, &[], 1).await.expect("read").remove(0).rows[0];
        append(&mut db, Stage::Source, &[other], ago(now, 2), None).await.expect("written");
        let besides = [LeftAlone { key: failed, seen }];
        let mut listed = async |trace| {
            append(&mut db, Stage::Source, &[failed], ago(now, 1), trace).await.expect("written");
            let due = list_due(&mut db, Stage::Source, now, &besides, 10).await.expect("read");
            let next = find_next(&mut db, Stage::Source, &besides).await.expect("read");
            (due.into_iter().map(|item| item.key).collect::<Vec<_>>(), next)
        };

        assert_eq!(listed(None).await, (vec![other], Some(ago(now, 2))), "a poll changes nothing");
        assert_eq!(listed(Some("after")).await, (vec![failed, other], Some(ago(now, 5))));
        let whatever = [LeftAlone::whatever_comes(failed), LeftAlone::whatever_comes(other)];
        assert!(list_due(&mut db, Stage::Source, now, &whatever, 10).await.expect("read").is_empty());
        assert_eq!(find_next(&mut db, Stage::Source, &whatever).await.expect("read"), None);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_timer_takes_the_place_of_the_one_before_and_of_no_signal(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let ([key, other], now) = (keys(), clock::now());
        append(&mut db, Stage::Rollout, &[key], ago(now, -90), None).await.expect("written");
        for (of, seconds) in [(other, -10), (key, -20), (key, -60)] {
            replace_timer(&mut db, Stage::Rollout, of, ago(now, seconds)).await.expect("written");
        }

        let mut at = async |seconds: i64| {
            let due = list_due(&mut db, Stage::Rollout, ago(now, -seconds), &[], 10).await.expect("read");
            due.into_iter().map(|item| (item.key, item.rows.len())).collect::<Vec<_>>()
        };

        assert_eq!(at(30).await, [(other, 1)], "the earlier timer is gone");
        assert_eq!(at(90).await, [(other, 1), (key, 2)], "the signal is there");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_comes_while_slow_work_goes_on_is_not_taken_with_what_was_seen(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let ([key], now) = (keys(), clock::now());
        append(&mut db, Stage::Bundle, &[key], now, Some("one")).await.expect("written");
        let seen = list_due(&mut db, Stage::Bundle, now, &[], 1).await.expect("read").remove(0);
        append(&mut db, Stage::Bundle, &[key], now, Some("two")).await.expect("written");

        assert!(is_seen(&mut db, &seen).await.expect("read"));
        assert!(take_seen(&mut db, &seen).await.expect("taken"));
        assert!(!is_seen(&mut db, &seen).await.expect("read"));
        assert!(!take_seen(&mut db, &seen).await.expect("taken"), "another worker has taken them");
        let left = list_due(&mut db, Stage::Bundle, now, &[], 1).await.expect("read");
        assert_eq!(left[0].trace_id.as_deref(), Some("two"));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_is_taken_is_due_of_this_subject_and_of_this_stage(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let ([key, other], now) = (keys(), clock::now());
        for (stage, subject, seconds, trace) in [
            (Stage::Rollout, key, 1, Some("a")),
            (Stage::Rollout, key, 1, Some("b")),
            (Stage::Rollout, key, -60, Some("c")),
            (Stage::Rollout, other, 1, None),
            (Stage::Bundle, key, 1, None),
        ] {
            append(&mut db, stage, &[subject], ago(now, seconds), trace).await.expect("written");
        }

        let taken = take_due(&mut db, Stage::Rollout, key, now).await.expect("taken").expect("it was due");
        assert!(take_due(&mut db, Stage::Rollout, key, now).await.expect("taken").is_none());
        let of_both = take_due_of(&mut db, Stage::Rollout, &[key, other], now).await.expect("taken");

        assert_eq!(taken.trace_id.as_deref(), Some("b"), "the latest change");
        assert_eq!(of_both, [other]);
        assert_eq!(count_rows(&mut db, &["work"]).await.expect("counted")["work"], 2);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_subject_is_locked_by_one_until_its_transaction_ends_and_in_each_stage_by_itself(pool: Pool) {
        let [key] = keys();
        let mut holder = begin(&pool).await.expect("a transaction");
        let mut other = begin(&pool).await.expect("a transaction");

        assert!(lock_subject(&mut holder, Stage::Rollout, key).await.expect("asked"));
        assert!(!lock_subject(&mut other, Stage::Rollout, key).await.expect("asked"));
        assert!(lock_subject(&mut other, Stage::Bundle, key).await.expect("asked"));
        holder.rollback().await.expect("it ends");
        await_subject(&mut other, Stage::Rollout, key).await.expect("nobody has it");
        let mut third = begin(&pool).await.expect("a transaction");
        await_subject(&mut third, Stage::Rollout, key).await.expect("those who wait so do not wait for each other");
        assert!(!lock_subject(&mut third, Stage::Bundle, key).await.expect("asked"));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_hub_takes_the_signals_of_its_own_streams_only_and_so_many_at_once(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (ours, theirs, nobodys) =
            (rows.cluster("ours").await, rows.cluster("theirs").await, rows.cluster("nobodys").await);
        let (hub, other, now) = (clock::new_id(), clock::new_id(), clock::now());
        rows.connect(ours, hub).await;
        rows.connect(theirs, other).await;
        let db = &mut rows.db;
        let all = [ours, theirs, nobodys].map(bellwether_core::ClusterId::as_uuid);
        for _ in 0..2 {
            append(db, Stage::Link, &all, now, None).await.expect("written");
        }
        append(db, Stage::Rollout, &all, now, None).await.expect("written");

        let first = take_due_of_streams(db, hub, 1, now).await.expect("taken");
        let left = count_rows(db, &["work"]).await.expect("counted")["work"];
        let rest = take_due_of_streams(db, hub, 10, now).await.expect("taken");

        assert_eq!((first, left, rest), (vec![ours.as_uuid()], 8, vec![ours.as_uuid()]));
        assert_eq!(count_rows(db, &["work"]).await.expect("counted")["work"], 7, "another hub takes its own");
    }
}
