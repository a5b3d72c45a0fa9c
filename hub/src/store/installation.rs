//! The installation's own row, and its hubs.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Connection, StoreError, to_sql};

/// The installation's id; the first hub on a database writes the proposed one.
pub(crate) async fn ensure(db: &mut Connection, proposed: Uuid, now: Timestamp) -> Result<Uuid, StoreError> {
    sqlx::query!(
        "insert into installation (installation_id, created_at) values ($1, $2) on conflict do nothing",
        proposed,
        to_sql(now),
    )
    .execute(&mut *db)
    .await?;
    Ok(sqlx::query_scalar!("select installation_id from installation").fetch_one(db).await?)
}

/// Whether the database answers, and is one of ours.
pub(crate) async fn is_there(db: &mut Connection) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(r#"select exists (select from installation) as "there!""#).fetch_one(db).await?)
}

/// A heartbeat, the first or a later one: the hub promises to send the next within so long. False: the last promise was not kept,
/// and nothing is written. Only Postgres can tell, which may have stood still with the statement on its way to it.
pub(crate) async fn mark_hub_heartbeat(db: &mut Connection, hub: Uuid, promise: Duration) -> Result<bool, StoreError> {
    write_heartbeat(db, hub, promise, false).await
}

/// The first heartbeat after a promise that was not kept.
pub(crate) async fn mark_hub_back(db: &mut Connection, hub: Uuid, promise: Duration) -> Result<(), StoreError> {
    write_heartbeat(db, hub, promise, true).await.map(drop)
}

/// By Postgres' clock, which is the same for all hubs. Whether it is written.
async fn write_heartbeat(
    db: &mut Connection,
    hub: Uuid,
    promise: Duration,
    comes_back: bool,
) -> Result<bool, StoreError> {
    let written = sqlx::query!(
        r#"
        insert into hubs (hub_id, started_at, heartbeat_at, lives_until)
        values ($1, now(), now(), now() + make_interval(secs => $2))
            on conflict (hub_id) do update
           set heartbeat_at = excluded.heartbeat_at, lives_until = excluded.lives_until
         where $3 or hubs.lives_until > clock_timestamp()
        "#,
        hub,
        promise.as_secs_f64(),
        comes_back,
    )
    .execute(db)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// A hub that stops in order: its sessions are over for everybody at once.
pub(crate) async fn mark_hub_stopped(db: &mut Connection, hub: Uuid, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        with stopped as (delete from hubs where hub_id = $1)
        update sessions
           set ended_at = $2, away_since = coalesce(away_since, $2)
         where hub_id = $1 and ended_at is null
        "#,
        hub,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Hubs that have been silent for so long, by Postgres' clock.
pub(crate) async fn delete_silent_hubs(db: &mut Connection, silence: Duration) -> Result<(), StoreError> {
    sqlx::query!("delete from hubs where heartbeat_at < now() - make_interval(secs => $1)", silence.as_secs_f64())
        .execute(db)
        .await?;
    Ok(())
}

/// Hubs whose last heartbeat still holds.
pub(crate) async fn list_living(db: &mut Connection) -> Result<BTreeSet<Uuid>, StoreError> {
    let hubs = sqlx::query_scalar!("select hub_id from hubs where lives_until > now()").fetch_all(db).await?;
    Ok(hubs.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;
    use crate::store::{Pool, execute_in};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn an_installation_has_one_id_whoever_proposes_another(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        assert!(!is_there(&mut db).await.expect("asked"));

        let first = ensure(&mut db, clock::new_id(), clock::now()).await.expect("written");
        let again = ensure(&mut db, clock::new_id(), clock::now()).await.expect("written");

        assert_eq!(first, again);
        assert!(is_there(&mut db).await.expect("asked"));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_hub_that_broke_its_promise_is_not_back_by_a_heartbeat_alone(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let (hub, minute) = (clock::new_id(), Duration::from_mins(1));
        assert!(mark_hub_heartbeat(&mut db, hub, minute).await.expect("written"), "the first one");
        assert!(mark_hub_heartbeat(&mut db, hub, minute).await.expect("written"));
        execute_in(&mut db, "update hubs set lives_until = now() - interval '1 second'").await.expect("time passes");

        assert!(!mark_hub_heartbeat(&mut db, hub, minute).await.expect("written"));
        assert!(list_living(&mut db).await.expect("read").is_empty());
        mark_hub_back(&mut db, hub, minute).await.expect("written");
        assert_eq!(list_living(&mut db).await.expect("read"), [hub].into());
        assert!(mark_hub_heartbeat(&mut db, hub, minute).await.expect("written"));
        delete_silent_hubs(&mut db, minute).await.expect("written");
        assert_eq!(list_living(&mut db).await.expect("read").len(), 1, "it was heard a moment ago");
    }
}
