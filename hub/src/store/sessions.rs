//! The newest stream of each cluster.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::session::UID_FACT;
use bellwether_core::session::identity_conflict::{Guest, IdentityConflict};
use bellwether_core::{ClusterId, Digest, RolloutId, SessionNumber};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Connection, StoreError, from_sql, to_sql};

/// The number of a stream that begins; `None`: its certificate is unknown or revoked, or its cluster is.
pub(crate) async fn admit(
    db: &mut Connection,
    serial: &str,
    cluster: ClusterId,
) -> Result<Option<SessionNumber>, StoreError> {
    let number = sqlx::query_scalar!(
        r#"
        select nextval('session_numbers') as "number!"
          from certificates c
          join clusters l using (cluster_id)
         where c.serial = $1 and c.cluster_id = $2 and c.revoked_at is null and l.revoked_at is null
        "#,
        serial,
        cluster.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(number.map(SessionNumber::new))
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
    /// As far as the agent has seen them.
    pub(crate) apis: Option<Digest>,
    pub(crate) definitions: Option<Digest>,
    /// What it says of its cluster counts as said now.
    pub(crate) is_believed: bool,
}

/// What is known of a cluster's agent before another stream of it begins.
pub(crate) struct Before {
    pub(crate) guest: Guest,
    pub(crate) conflict: Option<IdentityConflict>,
    /// What it said of the cluster.
    pub(crate) seen: Seen,
}

/// Writes down streams that began, at most one of each cluster, and says of which; those of which there is a newer one are left
/// out.
pub(crate) async fn mark_opened(
    db: &mut Connection,
    opened: &[Opened<'_>],
    now: Timestamp,
) -> Result<BTreeSet<ClusterId>, StoreError> {
    let clusters: Vec<_> = opened.iter().map(|one| one.cluster.as_uuid()).collect();
    let numbers: Vec<_> = opened.iter().map(|one| one.session.get()).collect();
    let hubs: Vec<_> = opened.iter().map(|one| one.hub).collect();
    let boots: Vec<_> = opened.iter().map(|one| one.boot).collect();
    let addresses: Vec<_> = opened.iter().map(|one| one.address.to_owned()).collect();
    let serials: Vec<_> = opened.iter().map(|one| one.serial.to_owned()).collect();
    let versions: Vec<_> = opened.iter().map(|one| one.agent_version.to_owned()).collect();
    let facts: Vec<_> = opened.iter().map(|one| Json(one.facts)).collect();
    let apis: Vec<_> = opened.iter().map(|one| one.apis.map(|digest| digest.as_bytes().to_vec())).collect();
    let definitions: Vec<_> =
        opened.iter().map(|one| one.definitions.map(|digest| digest.as_bytes().to_vec())).collect();
    let believed: Vec<_> = opened.iter().map(|one| one.is_believed).collect();
    let written = sqlx::query_scalar!(
        r#"
        insert into sessions
               (cluster_id, session, hub_id, boot, since, away_since, address, certificate_serial, agent_version, facts,
                facts_at, apis, apis_at, definitions, definitions_at)
        select cluster_id, session, hub_id, boot, $9, $9, address, serial, version, facts,
               case when is_believed then $9::timestamptz end,
               (select digest from api_sets where digest = o.apis),
               (select $9::timestamptz from api_sets where digest = o.apis),
               (select digest from definition_lists where digest = o.definitions),
               (select $9::timestamptz from definition_lists where digest = o.definitions)
          from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
                      $10::bytea[], $11::bytea[], $12::boolean[])
               as o (cluster_id, session, hub_id, boot, address, serial, version, facts, apis, definitions, is_believed)
         order by cluster_id
            on conflict (cluster_id) do update
           set session = excluded.session, hub_id = excluded.hub_id, boot = excluded.boot, since = excluded.since,
               caught_up_at = null, ended_at = null,
               away_since = coalesce(
                   sessions.away_since,
                   (select excluded.since - p.silent_for from presences p where p.cluster_id = excluded.cluster_id),
                   excluded.since
               ),
               address = excluded.address, certificate_serial = excluded.certificate_serial,
               agent_version = excluded.agent_version, facts = excluded.facts,
               -- What the hub does not know comes in a moment.
               facts_at = coalesce(excluded.facts_at, sessions.facts_at),
               apis = coalesce(excluded.apis, sessions.apis),
               apis_at = coalesce(excluded.apis_at, sessions.apis_at),
               definitions = coalesce(excluded.definitions, sessions.definitions),
               definitions_at = coalesce(excluded.definitions_at, sessions.definitions_at)
         where sessions.session < excluded.session
        returning cluster_id
        "#,
        &clusters,
        &numbers,
        &hubs,
        &boots,
        &addresses,
        &serials,
        &versions,
        &facts as _,
        to_sql(now),
        &apis as _,
        &definitions as _,
        &believed,
    )
    .fetch_all(db)
    .await?;
    Ok(written.into_iter().map(ClusterId::new).collect())
}

/// The newest agents of those of these clusters that had one, and their rows until the transaction ends.
pub(crate) async fn lock_guests(
    db: &mut Connection,
    clusters: &[ClusterId],
) -> Result<BTreeMap<ClusterId, Before>, StoreError> {
    let clusters: Vec<_> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select cluster_id, boot, address, since, apis, definitions, facts as "facts: Json<BTreeMap<String, String>>",
               rivalry as "conflict: Json<IdentityConflict>"
          from sessions
         where cluster_id = any($1)
         order by cluster_id
           for update
        "#,
        &clusters,
    )
    .fetch_all(db)
    .await?;
    let guests = rows.into_iter().map(|row| {
        let (facts, conflict) = (row.facts.0, row.conflict.map(|conflict| conflict.0));
        let digest = |bytes: Option<Vec<u8>>| super::digest(&bytes?, "sessions").ok();
        let guest =
            Guest { boot: row.boot, uid: facts.get(UID_FACT).cloned(), address: row.address, at: from_sql(row.since) };
        let seen = Seen { facts, apis: digest(row.apis), definitions: digest(row.definitions) };
        (ClusterId::new(row.cluster_id), Before { guest, conflict, seen })
    });
    Ok(guests.collect())
}

/// What a stream said of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) facts: BTreeMap<String, String>,
    pub(crate) apis: Option<Digest>,
    pub(crate) definitions: Option<Digest>,
}

/// What a stream says of its cluster now.
pub(crate) struct Said<'a> {
    pub(crate) facts: &'a BTreeMap<String, String>,
    /// What is `None` stays as it was.
    pub(crate) apis: Option<Digest>,
    pub(crate) definitions: Option<Digest>,
}

/// Writes down what a stream says of its cluster, and says what it said before; `None`: there is a newer one, or another
/// agent with its identity, of which it may be the cluster.
pub(crate) async fn mark_seen(
    db: &mut Connection,
    cluster: ClusterId,
    session: SessionNumber,
    said: &Said<'_>,
    now: Timestamp,
) -> Result<Option<Seen>, StoreError> {
    let bytes = |digest: &Option<Digest>| digest.as_ref().map(|digest| digest.as_bytes().to_vec());
    let row = sqlx::query!(
        r#"
        with before as (
            select cluster_id, facts, apis, definitions
              from sessions
             where cluster_id = $1 and session = $2 and rivalry ->> 'contested_at' is null
               for update
        )
        update sessions s
           set facts = $3, facts_at = $6, apis = coalesce($4, s.apis),
               apis_at = case when $4::bytea is null then s.apis_at else $6 end,
               definitions = coalesce($5, s.definitions),
               definitions_at = case when $5::bytea is null then s.definitions_at else $6 end
          from before b
         where s.cluster_id = b.cluster_id
        returning b.facts as "facts!: Json<BTreeMap<String, String>>", b.apis as "apis?",
                  b.definitions as "definitions?"
        "#,
        cluster.as_uuid(),
        session.get(),
        Json(said.facts) as _,
        bytes(&said.apis),
        bytes(&said.definitions),
        to_sql(now),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let apis = row.apis.map(|digest| super::digest(&digest, "sessions")).transpose()?;
    let definitions = row.definitions.map(|digest| super::digest(&digest, "sessions")).transpose()?;
    Ok(Some(Seen { facts: row.facts.0, apis, definitions }))
}

/// Remembers the agent before this one; `None` forgets it.
pub(crate) async fn mark_identity_conflict(
    db: &mut Connection,
    cluster: ClusterId,
    conflict: Option<&IdentityConflict>,
) -> Result<(), StoreError> {
    sqlx::query!("update sessions set rivalry = $2 where cluster_id = $1", cluster.as_uuid(), conflict.map(Json) as _,)
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
        with held as (
            select s.cluster_id, e.at
              from sessions s
              join unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) as e (cluster_id, session, at)
                   using (cluster_id, session)
             where s.ended_at is null
             -- In the order of all who take several.
             order by s.cluster_id
               for no key update of s
        )
        update sessions s
           set ended_at = held.at, away_since = coalesce(s.away_since, held.at)
          from held
         where s.cluster_id = held.cluster_id
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

/// Keeps the streams of all members of these rollouts, and of others that are held after them, as they are until the
/// transaction ends.
pub(crate) async fn hold_members(
    db: &mut Connection,
    rollouts: &[RolloutId],
    others: &[ClusterId],
) -> Result<(), StoreError> {
    let rollouts: Vec<_> = rollouts.iter().map(|rollout| rollout.as_uuid()).collect();
    let others: Vec<_> = others.iter().map(|cluster| cluster.as_uuid()).collect();
    sqlx::query!(
        r#"
        with held as (
            select s.cluster_id
              from sessions s
             where s.cluster_id in (
                   select cluster_id from rollout_clusters where rollout_id = any($1) union select unnest($2::uuid[])
             )
             -- In the order of all who take several.
             order by s.cluster_id
               for share
        )
        select count(*) from held
        "#,
        &rollouts,
        &others,
    )
    .fetch_one(db)
    .await?;
    Ok(())
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
        with held as (
            select s.cluster_id
              from sessions s
             where s.hub_id = $1 and s.ended_at is null and s.caught_up_at is not null
             -- In the order of all who take several.
             order by s.cluster_id
               for no key update of s
        )
        update sessions s
           set caught_up_at = null, away_since = coalesce(s.away_since, $2::timestamptz - (now() - h.heartbeat_at))
          from held, hubs h
         where s.cluster_id = held.cluster_id and h.hub_id = $1
        "#,
        hub,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes down that what agents had kept to themselves has arrived and is durable. Of two agents with one identity nobody
/// knows which of them is heard.
pub(crate) async fn mark_caught_up(
    db: &mut Connection,
    streams: &[(ClusterId, SessionNumber)],
    now: Timestamp,
) -> Result<(), StoreError> {
    let clusters: Vec<_> = streams.iter().map(|(cluster, _)| cluster.as_uuid()).collect();
    let numbers: Vec<_> = streams.iter().map(|(_, number)| number.get()).collect();
    sqlx::query!(
        r#"
        with held as (
            select s.cluster_id, s.session
              from sessions s
              join unnest($1::uuid[], $2::bigint[]) as c (cluster_id, session) using (cluster_id, session)
             where s.rivalry ->> 'contested_at' is null
             -- In the order of all who take several.
             order by s.cluster_id
               for no key update of s
        )
        update sessions s
           set caught_up_at = $3, heard_at = case when away_since is null then heard_at else $3 end, away_since = null,
               heard_before_from = case when away_since is null then heard_before_from else heard_at end,
               heard_before_until = coalesce(away_since, heard_before_until)
          from held
         where s.cluster_id = held.cluster_id and s.session = held.session
        "#,
        &clusters,
        &numbers,
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::installation::mark_hub_heartbeat;
    use crate::store::rows::Rows;
    use crate::store::{Pool, ask_raw, certificates, clusters, execute_in};

    fn opened(cluster: ClusterId, session: i64, hub: Uuid, facts: &BTreeMap<String, String>) -> Opened<'_> {
        Opened {
            cluster,
            session: SessionNumber::new(session),
            hub,
            boot: clock::new_id(),
            address: "192.0.2.1:1",
            serial: "1",
            agent_version: "1",
            facts,
            apis: None,
            definitions: None,
            is_believed: true,
        }
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_stream_takes_the_place_of_an_older_one_and_of_no_newer(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (cluster, hub, other, facts) =
            (rows.cluster("c1").await, clock::new_id(), clock::new_id(), BTreeMap::new());
        let (db, now) = (&mut rows.db, clock::now());
        mark_opened(db, &[opened(cluster, 7, hub, &facts)], now).await.expect("written");

        let late = mark_opened(db, &[opened(cluster, 6, other, &facts)], now).await.expect("written");
        assert!(late.is_empty(), "there is a newer one");
        assert_eq!(list_open(db, hub).await.expect("read"), [(cluster, SessionNumber::new(7))]);

        let next = mark_opened(db, &[opened(cluster, 8, other, &facts)], now).await.expect("written");
        assert!(next.contains(&cluster));
        assert!(list_open(db, hub).await.expect("read").is_empty());
        let replaced = list_replaced(db, &[(cluster, SessionNumber::new(7))]).await.expect("read");
        assert_eq!(replaced, [(cluster, SessionNumber::new(7))]);
        let end = |session| End { cluster, session: SessionNumber::new(session), at: now };
        assert!(mark_ended(db, &[end(7)]).await.expect("written").is_empty(), "it was replaced");
        assert_eq!(mark_ended(db, &[end(8)]).await.expect("written"), [cluster]);
        assert!(mark_ended(db, &[end(8)]).await.expect("written").is_empty(), "it has ended");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn an_absence_lasts_from_when_it_was_heard_last_until_all_that_it_kept_has_come(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (cluster, hub, facts) = (rows.cluster("c1").await, clock::new_id(), BTreeMap::new());
        let (db, start) = (&mut rows.db, clock::now());
        let at = |minutes: i64| start + SignedDuration::from_mins(minutes);
        mark_hub_heartbeat(db, hub, std::time::Duration::from_hours(1)).await.expect("it lives");
        let is = "select bool_and(is_heard) and bool_and(since - (select min(created_at) from clusters) < interval '10 minutes')
                    from presences";
        mark_opened(db, &[opened(cluster, 1, hub, &facts)], at(0)).await.expect("written");
        mark_caught_up(db, &[(cluster, SessionNumber::new(1))], at(1)).await.expect("written");
        assert!(ask_raw(db, is).await.expect("read"), "it is heard");

        mark_ended(db, &[End { cluster, session: SessionNumber::new(1), at: at(5) }]).await.expect("written");
        mark_opened(db, &[opened(cluster, 2, hub, &facts)], at(20)).await.expect("written");
        let away = "select not is_heard and is_connected and since - (select min(created_at) from clusters)
                           between interval '4 minutes' and interval '6 minutes' from presences";
        assert!(ask_raw(db, away).await.expect("read"), "it is there, and has not been heard since");
        mark_caught_up(db, &[(cluster, SessionNumber::new(1))], at(21)).await.expect("written");
        assert!(ask_raw(db, away).await.expect("read"), "that is an earlier stream");

        mark_caught_up(db, &[(cluster, SessionNumber::new(2))], at(21)).await.expect("written");
        let back = "select is_heard and since - (select min(created_at) from clusters) > interval '20 minutes'
                           and heard_until - (select min(created_at) from clusters) < interval '6 minutes' from presences";
        assert!(ask_raw(db, back).await.expect("read"), "and it is known until when it was heard before");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn whose_identity_two_agents_use_is_not_heard(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (cluster, hub, facts) = (rows.cluster("c1").await, clock::new_id(), BTreeMap::new());
        let (db, now) = (&mut rows.db, clock::now());
        mark_hub_heartbeat(db, hub, std::time::Duration::from_hours(1)).await.expect("it lives");
        mark_opened(db, &[opened(cluster, 1, hub, &facts)], now).await.expect("written");
        execute_in(db, r#"update sessions set rivalry = '{"contested_at": "2026-01-01T00:00:00Z"}'"#)
            .await
            .expect("written");

        mark_caught_up(db, &[(cluster, SessionNumber::new(1))], now).await.expect("written");

        assert!(ask_raw(db, "select not is_heard and is_contested from presences").await.expect("read"));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_number_is_for_whoever_has_a_certificate_of_its_own_that_nobody_revoked(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (one, other) = (rows.cluster("c1").await, rows.cluster("c2").await);
        let (db, now) = (&mut rows.db, clock::now());
        for (serial, cluster) in [("01", one), ("02", other)] {
            let until = now + SignedDuration::from_hours(1);
            certificates::insert(db, serial, cluster, now, until, None).await.expect("written");
        }

        let first = admit(db, "01", one).await.expect("asked").expect("it is let in");
        let second = admit(db, "01", one).await.expect("asked").expect("it is let in");
        assert!(first < second, "each has its own");
        assert_eq!(admit(db, "02", one).await.expect("asked"), None, "of another cluster");
        assert_eq!(admit(db, "03", one).await.expect("asked"), None, "of nobody");
        execute_in(db, "update certificates set revoked_at = now() where serial = '02'").await.expect("written");
        assert_eq!(admit(db, "02", other).await.expect("asked"), None);
        clusters::mark_revoked(db, one, now).await.expect("written");
        assert_eq!(admit(db, "01", one).await.expect("asked"), None);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_a_stream_does_not_say_anew_stays_and_only_the_newest_says_anything(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (cluster, hub, none) = (rows.cluster("c1").await, clock::new_id(), BTreeMap::new());
        let (db, now) = (&mut rows.db, clock::now());
        mark_opened(db, &[opened(cluster, 2, hub, &none)], now).await.expect("written");
        let apis = Digest::of(b"apis");
        sqlx::query("insert into api_sets (digest, apis, seen_at) values ($1, '', now())")
            .bind(apis.as_bytes().as_slice())
            .execute(&mut **db)
            .await
            .expect("written");
        let facts = BTreeMap::from([("kubernetes.minor".to_owned(), "1.33".to_owned())]);
        let mut says = async |session, apis| {
            let said = Said { facts: &facts, apis, definitions: None };
            let seen = mark_seen(db, cluster, SessionNumber::new(session), &said, now).await.expect("written");
            seen.map(|seen| (seen.facts.len(), seen.apis))
        };

        assert_eq!(says(1, None).await, None, "it was replaced");
        assert_eq!(says(2, Some(apis)).await, Some((0, None)), "what was said before");
        assert_eq!(says(2, None).await, Some((1, Some(apis))));
        assert_eq!(says(2, None).await, Some((1, Some(apis))), "nothing of it was forgotten");
    }
}
