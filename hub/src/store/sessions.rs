//! The newest stream of each cluster.

use std::collections::BTreeMap;

use bellwether_core::session::UID_FACT;
use bellwether_core::session::rivals::{Guest, Rivalry};
use bellwether_core::{ClusterId, SessionNumber};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Connection, StoreError, from_sql, to_sql};

pub(crate) async fn next_number(db: &mut Connection) -> Result<SessionNumber, StoreError> {
    let number = sqlx::query_scalar!(r#"select nextval('session_numbers') as "number!""#).fetch_one(db).await?;
    Ok(SessionNumber::new(number))
}

/// Where the newest streams of clusters that are let in came from.
pub(crate) async fn list_addresses(db: &mut Connection) -> Result<Vec<String>, StoreError> {
    let addresses = sqlx::query_scalar!(
        r#"
        select distinct address
          from sessions
          join clusters using (cluster_id)
         where clusters.revoked_at is null
        "#,
    )
    .fetch_all(db)
    .await?;
    Ok(addresses)
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
    Guest(Box<Guest>, Option<Rivalry>),
    /// A newer stream than this one.
    Newer,
}

/// Writes down a stream that began, unless there is a newer one.
pub(crate) async fn mark_opened(
    db: &mut Connection,
    opened: &Opened<'_>,
    now: Timestamp,
) -> Result<Before, StoreError> {
    let before = sqlx::query!(
        r#"
        select boot, address, since, facts as "facts: Json<BTreeMap<String, String>>",
               rivalry as "rivalry: Json<Rivalry>"
          from sessions
         where cluster_id = $1
           for update
        "#,
        opened.cluster.as_uuid(),
    )
    .fetch_optional(&mut *db)
    .await?;
    let written = sqlx::query!(
        r#"
        insert into sessions
               (cluster_id, session, hub_id, boot, since, away_since, address, certificate_serial, agent_version, facts)
        values ($1, $2, $3, $4, $5, $5, $6, $7, $8, $9)
            on conflict (cluster_id) do update
           set session = excluded.session, hub_id = excluded.hub_id, boot = excluded.boot, since = excluded.since,
               caught_up_at = null, ended_at = null,
               away_since = coalesce(
                   sessions.away_since,
                   (select $5::timestamptz - p.silent_for from presences p where p.cluster_id = $1),
                   excluded.since
               ),
               address = excluded.address, certificate_serial = excluded.certificate_serial,
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
        Some(mut row) => {
            let uid = row.facts.0.remove(UID_FACT);
            let guest = Guest { boot: row.boot, uid, address: row.address, at: from_sql(row.since) };
            Before::Guest(Box::new(guest), row.rivalry.map(|rivalry| rivalry.0))
        }
        None => Before::Nothing,
    })
}

/// Remembers the agent before this one; `None` forgets it.
pub(crate) async fn mark_rivalry(
    db: &mut Connection,
    cluster: ClusterId,
    rivalry: Option<&Rivalry>,
) -> Result<(), StoreError> {
    sqlx::query!("update sessions set rivalry = $2 where cluster_id = $1", cluster.as_uuid(), rivalry.map(Json) as _,)
        .execute(db)
        .await?;
    Ok(())
}

/// A stream that is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) cluster: ClusterId,
    pub(crate) session: SessionNumber,
    pub(crate) at: Timestamp,
}

/// Writes down that streams ended; one that was replaced meanwhile is left alone. Says which clusters have none now.
pub(crate) async fn mark_ended(db: &mut Connection, ends: &[End]) -> Result<Vec<ClusterId>, StoreError> {
    let clusters: Vec<_> = ends.iter().map(|end| end.cluster.as_uuid()).collect();
    let sessions: Vec<_> = ends.iter().map(|end| end.session.get()).collect();
    let times: Vec<_> = ends.iter().map(|end| to_sql(end.at)).collect();
    let ended = sqlx::query_scalar!(
        r#"
        update sessions s
           set ended_at = e.at, away_since = coalesce(s.away_since, e.at)
          from unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) as e (cluster_id, session, at)
         where s.cluster_id = e.cluster_id and s.session = e.session and s.ended_at is null
        returning s.cluster_id
        "#,
        &clusters,
        &sessions,
        &times,
    )
    .fetch_all(db)
    .await?;
    Ok(ended.into_iter().map(ClusterId::new).collect())
}

/// Streams of a hub that have not ended, as far as the rows know.
pub(crate) async fn list_open(db: &mut Connection, hub: Uuid) -> Result<Vec<(ClusterId, SessionNumber)>, StoreError> {
    let rows = sqlx::query!("select cluster_id, session from sessions where hub_id = $1 and ended_at is null", hub)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(|row| (ClusterId::new(row.cluster_id), SessionNumber::new(row.session))).collect())
}

/// Of these clusters, those that have a newer stream than the given one.
pub(crate) async fn list_replaced(
    db: &mut Connection,
    streams: &[(ClusterId, SessionNumber)],
) -> Result<Vec<(ClusterId, SessionNumber)>, StoreError> {
    let clusters: Vec<_> = streams.iter().map(|(cluster, _)| cluster.as_uuid()).collect();
    let numbers: Vec<_> = streams.iter().map(|(_, number)| number.get()).collect();
    let rows = sqlx::query!(
        r#"
        select h.cluster_id as "cluster_id!", h.session as "session!"
          from unnest($1::uuid[], $2::bigint[]) as h (cluster_id, session)
          join sessions s on s.cluster_id = h.cluster_id and s.session > h.session
        "#,
        &clusters,
        &numbers,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (ClusterId::new(row.cluster_id), SessionNumber::new(row.session))).collect())
}

/// Hubs that do not live and have streams that nobody ended.
pub(crate) async fn list_missed_hubs(db: &mut Connection) -> Result<Vec<Uuid>, StoreError> {
    let hubs = sqlx::query_scalar!(
        r#"
        select distinct s.hub_id
          from sessions s
         where s.ended_at is null
           and not exists (select from hubs h where h.hub_id = s.hub_id and h.lives_until > now())
        "#,
    )
    .fetch_all(db)
    .await?;
    Ok(hubs)
}

/// Nobody has heard the agents of this hub since its last heartbeat, although their streams are open.
pub(crate) async fn mark_unheard(db: &mut Connection, hub: Uuid, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update sessions s
           set caught_up_at = null, away_since = coalesce(s.away_since, $2::timestamptz - (now() - h.heartbeat_at))
          from hubs h
         where s.hub_id = $1 and h.hub_id = $1 and s.ended_at is null and s.caught_up_at is not null
        "#,
        hub,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes down that what the agent had kept to itself has arrived and is durable. Of two agents with one identity nobody
/// knows which of them is heard.
pub(crate) async fn mark_caught_up(
    db: &mut Connection,
    cluster: ClusterId,
    session: SessionNumber,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update sessions
           set caught_up_at = $3, heard_at = case when away_since is null then heard_at else $3 end, away_since = null,
               heard_before_from = case when away_since is null then heard_before_from else heard_at end,
               heard_before_until = coalesce(away_since, heard_before_until)
         where cluster_id = $1 and session = $2 and rivalry ->> 'contested_at' is null
        "#,
        cluster.as_uuid(),
        session.get(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Targets whose rollouts may care that these hubs came or went: they have members whose newest stream was there.
pub(crate) async fn list_targets_of_hubs(db: &mut Connection, hubs: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
    let targets = sqlx::query_scalar!(
        r#"
        select o.target_id as "target!"
          from rollouts o
          join rollout_clusters m using (rollout_id)
          join sessions s using (cluster_id)
         where s.hub_id = any($1) and s.ended_at is null and o.ended_at is null
         union
        select o.target_id
          from sessions s
          join rollout_clusters m using (cluster_id)
          join rollouts o using (rollout_id)
         where s.hub_id = any($1) and s.ended_at is null
           and o.state = 'done' and m.is_unsettled
         union
        select a.target_id
          from sessions s
          join awaited a using (cluster_id)
         where s.hub_id = any($1) and s.ended_at is null
        "#,
        hubs,
    )
    .fetch_all(db)
    .await?;
    Ok(targets)
}
