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

/// Deletes the subject's due rows: whatever they announced is seen by every statement after this one.
pub(crate) async fn take_due(
    db: &mut Connection,
    stage: Stage,
    key: Uuid,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let traces = sqlx::query_scalar!(
        "delete from work where stage = $1 and key = $2 and due_at <= $3 returning trace_id",
        stage.as_str(),
        key,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    Ok(traces.into_iter().flatten().max())
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
