//! The rows: every statement that the hub sends to Postgres, one file per aggregate.
//!
//! Functions are free and take a connection, so that who opens the transaction decides what commits together. Nothing
//! here decides anything. The rest of the hub never sees `sqlx` but through this door.

pub(crate) mod assignments;
pub(crate) mod audit;
pub(crate) mod bundles;
pub(crate) mod certificates;
pub(crate) mod clusters;
pub(crate) mod drifts;
pub(crate) mod figures;
pub(crate) mod fleet;
pub(crate) mod installation;
pub(crate) mod intents;
pub(crate) mod keys;
pub(crate) mod renders;
pub(crate) mod reports;
pub(crate) mod repos;
pub(crate) mod revisions;
pub(crate) mod rollouts;
pub(crate) mod sessions;
pub(crate) mod signals;
pub(crate) mod targets;
pub(crate) mod tokens;
pub(crate) mod wanted;
pub(crate) mod work;

use std::time::Duration;

use chrono::{DateTime, Utc};
use jiff::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

pub(crate) use sqlx::PgConnection as Connection;
pub(crate) use sqlx::PgPool as Pool;
pub(crate) type Transaction = sqlx::Transaction<'static, sqlx::Postgres>;

/// More than there are statements: each is parsed once a connection.
const STATEMENTS_MAX: usize = 512;

/// Stages, handlers and the sealer together hold fewer at once; Postgres' default allows 100 to all hubs.
const CONNECTIONS_MAX: u32 = 24;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("Postgres did not carry out a statement")]
    Database(#[from] sqlx::Error),
    #[error("the schema could not be brought up to date")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("`{column}` of a row in `{table}` holds what this version cannot read")]
    Unreadable { table: &'static str, column: &'static str },
    #[error("somebody else changed this row of `{table}` meanwhile")]
    Stale { table: &'static str },
    #[error("the name is taken")]
    NameTaken,
    #[error("it is still used")]
    InUse,
}

impl StoreError {
    /// Postgres will not take this, however often it is asked: a value that it cannot hold, or a row that breaks a rule.
    pub(crate) fn is_refusal(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        // Classes of SQLSTATE: data exceptions, and violations of integrity.
        error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
    }
}

/// Opens the pool. Every session gives up locks and transactions that a stopped hub would hold.
pub(crate) async fn connect(url: &str) -> Result<Pool, StoreError> {
    let options: PgConnectOptions = url.parse()?;
    let options = options.application_name("bellwether-hub").statement_cache_capacity(STATEMENTS_MAX).options([
        ("idle_in_transaction_session_timeout", "5s"),
        ("lock_timeout", "1s"),
        ("statement_timeout", "30s"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .min_connections(4)
        .acquire_timeout(Duration::from_secs(5))
        // A query on a dead connection fails by itself; asking first costs a round trip on every hop.
        .test_before_acquire(false)
        .connect_with(options)
        .await?;
    Ok(pool)
}

/// Brings the schema up to date, under a lock that the migrator holds.
pub(crate) async fn migrate(pool: &Pool) -> Result<(), StoreError> {
    sqlx::migrate!("../migrations").run(pool).await?;
    Ok(())
}

pub(crate) async fn begin(pool: &Pool) -> Result<Transaction, StoreError> {
    Ok(pool.begin().await?)
}

/// This transaction's commit does not wait for the disk. The log is one: once a later commit is on disk, so is this.
pub(crate) async fn defer_flush(db: &mut Connection) -> Result<(), StoreError> {
    sqlx::query!("set local synchronous_commit = off").execute(db).await?;
    Ok(())
}

/// Postgres keeps microseconds; [`crate::clock`] gives no more, so nothing is lost here.
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
        _ => StoreError::Database(error),
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
