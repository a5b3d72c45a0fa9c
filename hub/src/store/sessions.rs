//! The newest stream of each cluster.

use std::collections::BTreeMap;

use bellwether_core::{ClusterId, SessionNumber};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Connection, StoreError, to_sql};

pub(crate) async fn next_number(db: &mut Connection) -> Result<SessionNumber, StoreError> {
    let number = sqlx::query_scalar!(r#"select nextval('session_numbers') as "number!""#).fetch_one(db).await?;
    Ok(SessionNumber::new(number))
}

pub(crate) struct Opened<'a> {
    pub(crate) cluster: ClusterId,
    pub(crate) session: SessionNumber,
    pub(crate) hub: Uuid,
    pub(crate) boot: Uuid,
    pub(crate) address: &'a str,
    pub(crate) serial: &'a str,
    pub(crate) agent_version: &'a str,
    pub(crate) facts: &'a BTreeMap<String, String>,
}

/// What was known of the cluster's agent before a stream.
pub(crate) enum Before {
    Nothing,
    Boot(Uuid),
    /// A newer stream than this one.
    Newer,
}

/// Writes down a stream that began, unless there is a newer one.
pub(crate) async fn mark_opened(
    db: &mut Connection,
    opened: &Opened<'_>,
    now: Timestamp,
) -> Result<Before, StoreError> {
    let before =
        sqlx::query_scalar!("select boot from sessions where cluster_id = $1 for update", opened.cluster.as_uuid(),)
            .fetch_optional(&mut *db)
            .await?;
    let written = sqlx::query!(
        r#"
        insert into sessions
               (cluster_id, session, hub_id, boot, since, address, certificate_serial, agent_version, facts)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            on conflict (cluster_id) do update
           set session = excluded.session, hub_id = excluded.hub_id, boot = excluded.boot, since = excluded.since,
               caught_up_at = null, ended_at = null, address = excluded.address, certificate_serial = excluded.certificate_serial,
               agent_version = excluded.agent_version, facts = excluded.facts
         where sessions.session < excluded.session
        "#,
        opened.cluster.as_uuid(),
        opened.session.get(),
        opened.hub,
        opened.boot,
        to_sql(now),
        opened.address,
        opened.serial,
        opened.agent_version,
        Json(opened.facts) as _,
    )
    .execute(db)
    .await?;
    Ok(match before {
        _ if written.rows_affected() == 0 => Before::Newer,
        Some(boot) => Before::Boot(boot),
        None => Before::Nothing,
    })
}

/// Writes down that streams ended; one that was replaced meanwhile is left alone.
pub(crate) async fn mark_ended(
    db: &mut Connection,
    cluster: ClusterId,
    session: SessionNumber,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let ended = sqlx::query!(
        "update sessions set ended_at = $3 where cluster_id = $1 and session = $2 and ended_at is null",
        cluster.as_uuid(),
        session.get(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(ended.rows_affected() == 1)
}

/// Writes down that what the agent had kept to itself has arrived and is durable.
pub(crate) async fn mark_caught_up(
    db: &mut Connection,
    cluster: ClusterId,
    session: SessionNumber,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update sessions set caught_up_at = $3 where cluster_id = $1 and session = $2",
        cluster.as_uuid(),
        session.get(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Targets whose rollouts may care that these hubs are gone: they have members whose newest stream was there.
pub(crate) async fn list_targets_of_hubs(db: &mut Connection, hubs: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
    let targets = sqlx::query_scalar!(
        r#"
        select distinct o.target_id
          from sessions s
          join rollout_clusters m using (cluster_id)
          join rollouts o using (rollout_id)
         where s.hub_id = any($1)
           and s.ended_at is null
           and (o.ended_at is null or (o.state = 'done' and m.state in ('waiting', 'offline', 'assigned', 'applied')))
        "#,
        hubs,
    )
    .fetch_all(db)
    .await?;
    Ok(targets)
}
