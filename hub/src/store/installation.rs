//! The installation's own row, and the project that every installation has.

use bellwether_core::{Name, ProjectId};
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

pub(crate) async fn ensure_project(
    db: &mut Connection,
    proposed: ProjectId,
    name: &Name,
    now: Timestamp,
) -> Result<ProjectId, StoreError> {
    sqlx::query!(
        "insert into projects (project_id, name, created_at) values ($1, $2, $3) on conflict do nothing",
        proposed.as_uuid(),
        name.as_str(),
        to_sql(now),
    )
    .execute(&mut *db)
    .await?;
    let id =
        sqlx::query_scalar!("select project_id from projects where name = $1", name.as_str()).fetch_one(db).await?;
    Ok(ProjectId::new(id))
}

pub(crate) async fn mark_hub_started(db: &mut Connection, hub: Uuid, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!("insert into hubs (hub_id, started_at, beat_at) values ($1, $2, $2)", hub, to_sql(now),)
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn mark_hub_beat(db: &mut Connection, hub: Uuid, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into hubs (hub_id, started_at, beat_at)
        values ($1, $2, $2)
            on conflict (hub_id) do update set beat_at = excluded.beat_at
        "#,
        hub,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A hub that stops in order: its sessions are over for everybody at once.
pub(crate) async fn mark_hub_stopped(db: &mut Connection, hub: Uuid) -> Result<(), StoreError> {
    sqlx::query!("delete from hubs where hub_id = $1", hub).execute(db).await?;
    Ok(())
}

pub(crate) async fn delete_silent_hubs(db: &mut Connection, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query!("delete from hubs where beat_at < $1", to_sql(before)).execute(db).await?;
    Ok(())
}

pub(crate) struct SeenHub {
    pub(crate) id: Uuid,
    pub(crate) lives: bool,
}

/// Every hub of the last day, and whether it beat less than 15 s ago.
pub(crate) async fn list_hubs(db: &mut Connection, now: Timestamp) -> Result<Vec<SeenHub>, StoreError> {
    let hubs = sqlx::query_as!(
        SeenHub,
        r#"select hub_id as id, beat_at > $1::timestamptz - interval '15 s' as "lives!" from hubs"#,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    Ok(hubs)
}

/// Hubs that beat less than 15 s ago.
pub(crate) async fn count_live_hubs(db: &mut Connection, now: Timestamp) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from hubs where beat_at > $1::timestamptz - interval '15 s'"#,
        to_sql(now),
    )
    .fetch_one(db)
    .await?;
    Ok(count)
}
