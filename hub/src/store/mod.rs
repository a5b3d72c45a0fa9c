//! The rows: every statement that the hub sends to Postgres, one file per aggregate.
//!
//! Functions are free and take a connection, so that who opens the transaction decides what commits together. Nothing
//! here decides anything. A row that cannot be read fails alone ([`stored`]). The rest of the hub never sees `sqlx` but through this door.

pub(crate) mod apis;
pub(crate) mod assignments;
pub(crate) mod audit;
pub(crate) mod bundles;
pub(crate) mod certificates;
pub(crate) mod channel;
pub(crate) mod clusters;
pub(crate) mod columns;
pub(crate) mod commit_statuses;
pub(crate) mod content;
pub(crate) mod definitions;
pub(crate) mod drifts;
pub(crate) mod dry_runs;
pub(crate) mod figures;
pub(crate) mod fleet;
pub(crate) mod frozen_seeds;
#[cfg(test)]
pub(crate) mod growth;
pub(crate) mod heads;
pub(crate) mod installation;
pub(crate) mod intents;
pub(crate) mod keys;
pub(crate) mod lost;
pub(crate) mod projects;
pub(crate) mod renders;
pub(crate) mod reports;
pub(crate) mod repos;
pub(crate) mod revisions;
pub(crate) mod roles;
pub(crate) mod rollouts;
#[cfg(test)]
mod rows;
pub(crate) mod sessions;
pub(crate) mod sets;
pub(crate) mod sources;
pub(crate) mod stored;
pub(crate) mod targets;
pub(crate) mod tokens;
pub(crate) mod traits;
pub(crate) mod views;
pub(crate) mod wanted;
pub(crate) mod webhooks;
pub(crate) mod work;

use std::time::Duration;

use chrono::{DateTime, Utc};
use jiff::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::sync::{Semaphore, SemaphorePermit};

pub(crate) use sqlx::PgConnection as Connection;
pub(crate) use sqlx::PgPool as Pool;
pub(crate) type Transaction = sqlx::Transaction<'static, sqlx::Postgres>;

/// More than there are statements: each is parsed once a connection.
const STATEMENTS_MAX: usize = 512;

/// Stages and the sealer together hold few more at once; Postgres' default allows 100 to all hubs, so three have room.
pub(crate) const CONNECTIONS_MAX: u32 = 14;
/// Of the pool of what people and webhooks ask: a page that reads a large fleet holds one for a second.
pub(crate) const REQUEST_CONNECTIONS_MAX: u32 = 8;
/// Of the pool beside it, for what must not wait behind them: each holds one for milliseconds.
pub(crate) const VITAL_CONNECTIONS_MAX: u32 = 8;
/// Of these, streams take so many at once, though a thousand of them come back in a second: the heartbeat, the ends of
/// streams, the journal of what agents say, and the revocation list have the others to themselves.
pub(crate) const STREAM_TURNS_MAX: usize = 4;
/// Migrations at the start, one month of the audit log a month.
const OWNER_CONNECTIONS_MAX: u32 = 2;
const ACQUIRE_DEADLINE: Duration = Duration::from_secs(5);
/// A connection knows its statements and how to carry them out: a new one has to parse and plan each. Pushes come hours
/// apart, and each would find connections that have seen none.
const CONNECTION_LIFETIME: Duration = Duration::from_hours(12);

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Nobody can be served now: no connection, or Postgres ended it. Nothing is wrong with what was asked.
    #[error("Postgres cannot be reached")]
    Unreachable(#[source] sqlx::Error),
    /// Postgres is there, and gave this statement up: a lock or a turn was not had in time. Another try may succeed.
    #[error("Postgres gave a statement up that waited too long for others, or was in their way")]
    Busy(#[source] sqlx::Error),
    /// Postgres is there, and this was too much for it: for its memory, for the time that a statement may take, or that a
    /// transaction may do nothing.
    #[error("Postgres ended what took too much memory or time")]
    Excessive(#[source] sqlx::Error),
    /// A value that no column can hold, such as a text with a NUL. It will never be taken.
    #[error("Postgres cannot hold a value")]
    BadValue(#[source] sqlx::Error),
    /// A row that breaks a rule of the schema, such as a foreign key. The same row will not be taken while the others
    /// stay as they are.
    #[error("Postgres does not take a row")]
    Constraint(#[source] sqlx::Error),
    /// A fault of this version or of the schema.
    #[error("Postgres did not carry out a statement")]
    Database(#[source] sqlx::Error),
    #[error("the schema could not be brought up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("`{column}` of a row in `{table}` holds what this version cannot read")]
    Unreadable { table: &'static str, column: &'static str },
    #[error("somebody else changed this row of `{table}` meanwhile")]
    Stale { table: &'static str },
    /// Whoever was at it panicked; the log has why.
    #[error("what was to be read and written broke down")]
    BrokeDown,
    #[error("the name is taken")]
    NameTaken,
    #[error("it is still used")]
    InUse,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(said) = &error else {
            return if is_connection_lost(&error) { Self::Unreachable(error) } else { Self::Database(error) };
        };
        let code = said.code().unwrap_or_default().into_owned();
        match code.get(..2).unwrap_or_default() {
            // No lock in time; a deadlock or a lost race.
            _ if code == "55P03" => Self::Busy(error),
            "40" => Self::Busy(error),
            "22" => Self::BadValue(error),
            "23" => Self::Constraint(error),
            // Too much was asked for: more memory than there is, a statement that ran out of its time, or so much work
            // between two of a transaction that Postgres ended it. It would fail in the same way again, and others may well
            // succeed.
            _ if matches!(code.as_str(), "25P03" | "53200" | "53400" | "57014") => Self::Excessive(error),
            // Connection lost or refused; no such database or login; out of connections or disk; shutting down.
            "08" | "28" | "3D" | "53" | "57" | "58" => Self::Unreachable(error),
            _ => Self::Database(error),
        }
    }
}

fn is_connection_lost(error: &sqlx::Error) -> bool {
    use sqlx::Error;
    matches!(
        error,
        Error::Io(_)
            | Error::Tls(_)
            | Error::Protocol(_)
            | Error::PoolTimedOut
            | Error::PoolClosed
            | Error::WorkerCrashed
            | Error::BeginFailed
    )
}

/// What a refusal of Postgres means to whoever asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody else holds it at this moment.
    Busy,
    /// It takes more time or memory than one may have.
    Excessive,
    /// Another row names it.
    InUse,
    NameTaken,
    /// A value that cannot be stored.
    Value,
}

impl StoreError {
    /// Nothing was asked: no connection was had, or whoever had it in hand is gone.
    pub(crate) const fn unserved() -> Self {
        Self::Unreachable(sqlx::Error::PoolTimedOut)
    }

    /// Why Postgres refused, when that concerns whoever asked.
    pub(crate) fn cause(&self) -> Option<Cause> {
        match self {
            Self::Busy(_) => Some(Cause::Busy),
            Self::Excessive(_) => Some(Cause::Excessive),
            Self::BadValue(_) => Some(Cause::Value),
            Self::Constraint(sqlx::Error::Database(error)) => match error.code()?.as_ref() {
                "23503" => Some(Cause::InUse),
                "23505" => Some(Cause::NameTaken),
                _ => None,
            },
            _ => None,
        }
    }

    /// Postgres will not take this, however often it is asked: a value that it cannot hold, or a row that breaks a rule.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::BadValue(_) | Self::Constraint(_))
    }

    /// Whatever is asked now fails: it says nothing about what was asked.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Opens the pool. Every session gives up locks and transactions that a stopped hub would hold.
pub(crate) async fn connect(url: &str) -> Result<Pool, StoreError> {
    open(url, CONNECTIONS_MAX, 4).await
}

/// A pool beside it, for the API: whatever people ask for, and however many of them, the stages go on.
pub(crate) async fn connect_requests(url: &str) -> Result<Pool, StoreError> {
    open(url, REQUEST_CONNECTIONS_MAX, 1).await
}

/// A pool beside it, for what must not wait behind people and stages: heartbeats, the ends of streams, streams, the
/// journal of what agents say. Whatever holds every connection of the large one, these are written.
pub(crate) async fn connect_vital(url: &str) -> Result<Pool, StoreError> {
    open(url, VITAL_CONNECTIONS_MAX, 2).await
}

/// A pool for the schema's owner, who has little to do.
pub(crate) async fn connect_owner(url: &str) -> Result<Pool, StoreError> {
    open(url, OWNER_CONNECTIONS_MAX, 0).await
}

/// The first turn of whoever wants to begin something: not had in time, it is refused and comes back later.
pub(crate) async fn take_admission(turns: &Semaphore) -> Result<SemaphorePermit<'_>, StoreError> {
    let turn = tokio::time::timeout(ACQUIRE_DEADLINE, turns.acquire()).await;
    turn.ok().and_then(Result::ok).ok_or_else(StoreError::unserved)
}

/// A stream's turn at the second pool: see [`STREAM_TURNS_MAX`]. One that has begun waits for as long as it takes: to end
/// it would only put it, and all that it has cost so far, at the end of the queue again.
pub(crate) async fn take_turn(turns: &Semaphore) -> SemaphorePermit<'_> {
    turns.acquire().await.expect("nobody closes it")
}

async fn open(url: &str, connections_max: u32, connections_min: u32) -> Result<Pool, StoreError> {
    let options: PgConnectOptions = url.parse()?;
    let options = options.application_name("bellwether-hub").statement_cache_capacity(STATEMENTS_MAX).options([
        ("idle_in_transaction_session_timeout", "5s"),
        ("lock_timeout", "1s"),
        ("statement_timeout", "30s"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(connections_max)
        .min_connections(connections_min)
        .acquire_timeout(ACQUIRE_DEADLINE)
        .max_lifetime(CONNECTION_LIFETIME)
        // A query on a dead connection fails by itself; asking first costs a round trip on every hop.
        .test_before_acquire(false)
        .connect_with(options)
        .await?;
    Ok(pool)
}

/// Brings the schema up to date, under a lock that the migrator holds. For as long as it takes: for minutes another hub that
/// began first may have that lock, or a statement may go through a large table.
pub(crate) async fn migrate(pool: &Pool) -> Result<(), StoreError> {
    // A session of its own: nobody else gets one with these settings.
    let patient = [("lock_timeout", "0"), ("statement_timeout", "0"), ("idle_in_transaction_session_timeout", "0")];
    let options = PgConnectOptions::clone(&pool.connect_options()).options(patient);
    let session =
        PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_DEADLINE).connect_with(options).await?;
    let migrated = sqlx::migrate!("../migrations").run(&session).await;
    session.close().await;
    Ok(migrated?)
}

pub(crate) async fn begin(pool: &Pool) -> Result<Transaction, StoreError> {
    Ok(pool.begin().await?)
}

/// A transaction whose commit does not wait for the disk. The log is one: once a later commit is on disk, so is this.
pub(crate) async fn begin_deferred(pool: &Pool) -> Result<Transaction, StoreError> {
    // One round trip for both.
    Ok(pool.begin_with("begin; set local synchronous_commit = off").await?)
}

/// Postgres keeps microseconds; [`crate::process::clock`] gives no more, so nothing is lost here.
fn to_sql(at: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at.as_microsecond()).expect("jiff's years are within chrono's")
}

fn from_sql(at: DateTime<Utc>) -> Timestamp {
    Timestamp::from_microsecond(at.timestamp_micros()).expect("Postgres' times of this log are within jiff's")
}

/// A uniqueness or foreign-key violation is a person's mistake, and named as such.
fn named(error: sqlx::Error) -> StoreError {
    match error.as_database_error() {
        Some(violation) if violation.is_unique_violation() => StoreError::NameTaken,
        Some(violation) if violation.is_foreign_key_violation() => StoreError::InUse,
        _ => error.into(),
    }
}

fn name(text: &str, table: &'static str) -> Result<bellwether_core::Name, StoreError> {
    text.parse().map_err(|_| StoreError::Unreadable { table, column: "name" })
}

fn digest(bytes: &[u8], table: &'static str) -> Result<bellwether_core::Digest, StoreError> {
    bytes.try_into().map_err(|_| StoreError::Unreadable { table, column: "digest" })
}

/// Where a test's database is: the macro makes one for each test.
#[cfg(test)]
pub(crate) fn url_of(pool: &Pool) -> String {
    use sqlx::ConnectOptions as _;
    pool.connect_options().to_url_lossy().to_string()
}

#[cfg(test)]
pub(crate) use sqlx::test as database_test;

/// What an intruder with the owner's rights would do.
#[cfg(test)]
pub(crate) async fn execute_raw(pool: &Pool, statement: &'static str) -> Result<(), StoreError> {
    sqlx::query(statement).execute(pool).await?;
    Ok(())
}

/// Nobody else uses the table until the transaction ends.
#[cfg(test)]
pub(crate) async fn lock_table(db: &mut Connection, table: &str) -> Result<(), StoreError> {
    let statement = sqlx::AssertSqlSafe(format!("lock table {table} in access exclusive mode"));
    sqlx::query(statement).execute(db).await?;
    Ok(())
}

#[cfg(test)]
pub(crate) async fn execute_in(db: &mut Connection, statement: &'static str) -> Result<(), StoreError> {
    sqlx::query(statement).execute(db).await?;
    Ok(())
}

/// Postgres ends every connection to this database but the given one, and takes no new one. It is told in another database,
/// since none is closed from within.
#[cfg(test)]
pub(crate) async fn set_outage(pool: &Pool, kept: &mut Connection, is_out: bool) -> Result<(), StoreError> {
    use sqlx::ConnectOptions as _;
    let (name, pid): (String, i32) =
        sqlx::query_as("select current_database()::text, pg_backend_pid()").fetch_one(kept).await?;
    let beside = PgConnectOptions::clone(&pool.connect_options()).database("postgres");
    let mut db = beside.connect().await?;
    let statement = format!("alter database {name:?} with allow_connections {}", !is_out);
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut db).await?;
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $1 and pid <> $2 and $3";
    sqlx::query(kill).bind(name).bind(pid).bind(is_out).execute(&mut db).await?;
    Ok(())
}

/// What a query of one row and column answers.
#[cfg(test)]
pub(crate) async fn ask_raw(db: &mut Connection, query: &'static str) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar(query).fetch_one(db).await?)
}

/// What a query of one number answers.
#[cfg(test)]
pub(crate) async fn ask_number(db: &mut Connection, query: &'static str) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(query).fetch_one(db).await?)
}

/// What a query of one text answers.
#[cfg(test)]
pub(crate) async fn ask_text(db: &mut Connection, query: &'static str) -> Result<String, StoreError> {
    Ok(sqlx::query_scalar(query).fetch_one(db).await?)
}

/// Every table of the hub's that has a row with these bytes, written in one of the ways that bytes are written.
#[cfg(test)]
pub(crate) async fn list_tables_with(db: &mut Connection, bytes: &[u8]) -> Result<Vec<String>, StoreError> {
    use base64::Engine as _;
    let written = [hex::encode(bytes), base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)];
    let tables: Vec<String> =
        sqlx::query_scalar("select tablename::text from pg_tables where schemaname = current_schema()")
            .fetch_all(&mut *db)
            .await?;
    let mut found = Vec::new();
    for table in tables {
        let statement = format!("select count(*) from {table} t where strpos(t::text, $1) + strpos(t::text, $2) > 0");
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .bind(&written[0])
            .bind(&written[1])
            .fetch_one(&mut *db)
            .await?;
        found.extend((rows > 0).then_some(table));
    }
    Ok(found)
}

/// For tests that look at what is left.
#[cfg(test)]
pub(crate) async fn count_rows(
    db: &mut Connection,
    tables: &[&'static str],
) -> Result<std::collections::BTreeMap<String, i64>, StoreError> {
    let mut counts = std::collections::BTreeMap::new();
    for table in tables {
        let statement = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        counts.insert((*table).to_owned(), sqlx::query_scalar(statement).fetch_one(&mut *db).await?);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::{Pool, StoreError, begin};

    async fn fail(pool: &Pool, statement: &'static str) -> StoreError {
        let mut db = begin(pool).await.expect("a transaction");
        sqlx::query("set local lock_timeout = '50ms'").execute(&mut *db).await.expect("it is set");
        sqlx::query("set local statement_timeout = '200ms'").execute(&mut *db).await.expect("it is set");
        sqlx::query(statement).execute(&mut *db).await.expect_err("Postgres refuses it").into()
    }

    #[super::database_test(migrations = "../migrations")]
    async fn a_lock_that_is_not_had_in_time_is_no_outage(pool: Pool) {
        let mut holder = begin(&pool).await.expect("a transaction");
        sqlx::query("lock table hubs in access exclusive mode").execute(&mut *holder).await.expect("it is held");

        let no_lock = fail(&pool, "select from hubs").await;
        let too_slow = fail(&pool, "select pg_sleep(5)").await;

        assert!(matches!(no_lock, StoreError::Busy(_)), "{no_lock:?}");
        assert!(matches!(too_slow, StoreError::Excessive(_)), "nobody else is in its way: {too_slow:?}");
        assert!(!no_lock.is_outage() && !too_slow.is_outage());
    }

    #[super::database_test(migrations = "../migrations")]
    async fn a_hub_waits_for_one_that_migrates_for_long(pool: Pool) {
        use sqlx::Connection as _;
        use sqlx::migrate::Migrate as _;
        const WAITS: &str = "select coalesce(bool_or(now() - query_start > interval '1500 ms'), false)
                               from pg_stat_activity
                              where datname = current_database() and wait_event = 'advisory'";
        let mut first = pool.acquire().await.expect("a connection");
        first.lock().await.expect("it begins to migrate");
        let owner = super::connect_owner(&super::url_of(&pool)).await.expect("Postgres is there");
        let second = tokio::spawn(async move { super::migrate(&owner).await });
        let mut db = pool.acquire().await.expect("a connection");
        while !second.is_finished() && !super::ask_raw(&mut db, WAITS).await.expect("it is read") {
            tokio::task::yield_now().await;
        }

        first.unlock().await.expect("it is done");
        first.ping().await.expect("it is there");

        second.await.expect("it ends").expect("it had only to wait");
    }

    #[super::database_test(migrations = "../migrations")]
    async fn a_value_that_no_column_holds_is_told_from_a_row_that_breaks_a_rule(pool: Pool) {
        let nul = sqlx::query("select $1::text").bind("a\0b").execute(&pool).await.expect_err("it has a NUL").into();
        let nul_in_json = fail(&pool, r#"select '{"a": "\u0000"}'::jsonb"#).await;
        let orphan =
            fail(&pool, "insert into repo_fetch_status (repo_id, checked_at) values (gen_random_uuid(), now())").await;

        assert!(matches!(nul, StoreError::BadValue(_)), "{nul:?}");
        assert!(matches!(nul_in_json, StoreError::BadValue(_)), "{nul_in_json:?}");
        assert!(matches!(orphan, StoreError::Constraint(_)), "{orphan:?}");
    }

    #[super::database_test(migrations = "../migrations")]
    async fn more_memory_than_there_is_is_no_outage(pool: Pool) {
        let memory = fail(&pool, "do $$ begin raise exception using errcode = '53200'; end $$").await;
        let connections = fail(&pool, "do $$ begin raise exception using errcode = '53300'; end $$").await;

        assert!(!memory.is_outage(), "{memory:?}");
        assert!(connections.is_outage(), "{connections:?}");
    }

    #[tokio::test]
    async fn what_was_admitted_waits_for_its_turn_and_what_was_not_is_refused_in_time() {
        let turns = tokio::sync::Semaphore::new(0);
        let wait = std::time::Duration::from_secs(6);

        let (admission, turn) = tokio::join!(
            tokio::time::timeout(wait, super::take_admission(&turns)),
            tokio::time::timeout(wait, super::take_turn(&turns)),
        );

        assert!(admission.expect("in time").is_err());
        assert!(turn.is_err(), "a stream that has begun is not ended because others come");
    }

    #[super::database_test(migrations = "../migrations")]
    async fn a_connection_that_postgres_ended_is_an_outage(pool: Pool) {
        let ended = fail(&pool, "select pg_terminate_backend(pg_backend_pid())").await;

        assert!(ended.is_outage(), "{ended:?}");
    }
}
