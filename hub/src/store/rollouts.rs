//! Rollouts, their waves and members: rows in, [`bellwether_core::rollout`]'s values out.

use bellwether_core::report::{ObjectLine, Verdict, may_pass};
use bellwether_core::rollout::{
    self, Evidence, Heard, Kind, Member, MemberScope, MemberSnapshot, OVERTAKEN, Past, PlannedWave, Presence,
    RolloutState, Seen, Strategy, Wave,
};
use bellwether_core::{ClusterId, Digest, Generation, RenderId, RolloutId, TargetId};
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use sqlx::types::Json;
use uuid::Uuid;

use super::stored::{Entry, Stored};
use super::{Connection, StoreError, from_sql, to_sql};

type DateTime = chrono::DateTime<chrono::Utc>;

/// A rollout's own row.
#[derive(Debug, Clone)]
pub(crate) struct Rollout {
    pub(crate) id: RolloutId,
    pub(crate) target: TargetId,
    pub(crate) render: RenderId,
    pub(crate) from_render: Option<RenderId>,
    pub(crate) kind: Kind,
    pub(crate) strategy: Strategy,
    pub(crate) failures_max: u32,
    pub(crate) state: RolloutState,
    pub(crate) state_since: Timestamp,
    pub(crate) reason: String,
    pub(crate) trace_id: String,
    pub(crate) created_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
}

struct Row {
    rollout_id: Uuid,
    target_id: Uuid,
    render_id: Uuid,
    from_render_id: Option<Uuid>,
    kind: String,
    strategy: Stored<Strategy>,
    failures_max: i32,
    state: String,
    state_since: DateTime,
    reason: String,
    trace_id: String,
    created_at: DateTime,
    ended_at: Option<DateTime>,
}

impl TryFrom<Row> for Rollout {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: RolloutId::new(row.rollout_id),
            target: TargetId::new(row.target_id),
            render: RenderId::new(row.render_id),
            from_render: row.from_render_id.map(RenderId::new),
            kind: row.kind.parse().map_err(|_| StoreError::Unreadable { table: "rollouts", column: "kind" })?,
            strategy: row.strategy.read("rollouts", "strategy")?,
            failures_max: unsigned(row.failures_max),
            state: word(&row.state, "rollouts")?,
            state_since: from_sql(row.state_since),
            reason: row.reason,
            trace_id: row.trace_id,
            created_at: from_sql(row.created_at),
            ended_at: row.ended_at.map(from_sql),
        })
    }
}

impl Rollout {
    /// What is decided and explained from, as far as this row and its waves say it.
    pub(crate) fn with_waves(&self, mut waves: Vec<Wave>) -> rollout::Rollout {
        for wave in &mut waves {
            // Clusters may have been deleted since it was planned.
            wave.healthy_min = self.strategy.healthy_min(&wave.name, wave.healthy_min, wave.members);
        }
        rollout::Rollout {
            id: self.id,
            state: self.state,
            since: self.state_since,
            reason: self.reason.clone(),
            failures_max: self.failures_max,
            on_failure: self.strategy.on_failure,
            offline: self.strategy.offline,
            waves,
            next: Vec::new(),
            catch_up: Vec::new(),
            next_at: None,
            intents: Vec::new(),
        }
    }
}

/// States are written as serde writes them, so that rows, documents and code have one spelling.
pub(super) fn word<T: DeserializeOwned>(text: &str, table: &'static str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| StoreError::Unreadable { table, column: "state" })
}

/// The word for a state, in rows and in logs.
pub(crate) fn text<T: serde::Serialize>(state: T) -> String {
    match serde_json::to_value(state) {
        Ok(serde_json::Value::String(text)) => text,
        _ => unreachable!("states are written as words"),
    }
}

fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn millis(number: i64) -> SignedDuration {
    SignedDuration::from_millis(number)
}

fn in_millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) async fn insert(db: &mut Connection, rollout: &Rollout) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into rollouts
               (rollout_id, target_id, render_id, from_render_id, kind, strategy, failures_max, state, state_since,
                reason, trace_id, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $9, $9)
        "#,
        rollout.id.as_uuid(),
        rollout.target.as_uuid(),
        rollout.render.as_uuid(),
        rollout.from_render.map(RenderId::as_uuid),
        rollout.kind.as_str(),
        Json(&rollout.strategy) as _,
        signed(rollout.failures_max),
        text(rollout.state),
        to_sql(rollout.created_at),
        rollout.reason,
        rollout.trace_id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes waves that wait, in their order.
pub(crate) async fn insert_waves(
    db: &mut Connection,
    rollout: RolloutId,
    waves: &[PlannedWave],
) -> Result<(), StoreError> {
    let names: Vec<String> = waves.iter().map(|wave| wave.name.clone()).collect();
    let concurrent_max: Vec<i32> = waves.iter().map(|wave| signed(wave.concurrent_max)).collect();
    let healthy_min: Vec<i32> = waves.iter().map(|wave| signed(wave.healthy_min)).collect();
    let soak_ms: Vec<i64> = waves.iter().map(|wave| in_millis(wave.soak)).collect();
    sqlx::query!(
        r#"
        insert into rollout_waves (rollout_id, wave, name, state, concurrent_max, healthy_min, soak_ms)
        select $1, place - 1, name, 'waiting', concurrent_max, healthy_min, soak_ms
          from unnest($2::text[], $3::int[], $4::int[], $5::bigint[])
               with ordinality as w (name, concurrent_max, healthy_min, soak_ms, place)
        "#,
        rollout.as_uuid(),
        &names,
        &concurrent_max,
        &healthy_min,
        &soak_ms,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes members that wait, in their order.
pub(crate) async fn insert_members(
    db: &mut Connection,
    rollout: RolloutId,
    members: &[Member],
    renders_before: &BTreeMap<ClusterId, RenderId>,
) -> Result<(), StoreError> {
    let clusters: Vec<Uuid> = members.iter().map(|member| member.cluster.as_uuid()).collect();
    let waves: Vec<i32> = members.iter().map(|member| signed(member.wave)).collect();
    let digests: Vec<Vec<u8>> = members.iter().map(|member| member.digest.as_bytes().to_vec()).collect();
    let before: Vec<Option<Vec<u8>>> =
        members.iter().map(|member| member.digest_before.map(|digest| digest.as_bytes().to_vec())).collect();
    let renders: Vec<Option<Uuid>> =
        members.iter().map(|member| renders_before.get(&member.cluster).map(|render| render.as_uuid())).collect();
    sqlx::query!(
        r#"
        insert into rollout_clusters
               (rollout_id, cluster_id, wave, position, digest, digest_before, render_before_id, state, reason)
        select $1, cluster_id, wave, position, digest, digest_before, render_before_id, 'waiting', ''
          from unnest($2::uuid[], $3::int[], $4::bytea[], $5::bytea[], $6::uuid[])
               with ordinality as m (cluster_id, wave, digest, digest_before, render_before_id, position)
        "#,
        rollout.as_uuid(),
        &clusters,
        &waves,
        &digests,
        &before as _,
        &renders as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The rollout of each of these targets that people are shown: the newest that goes on, or else the newest. One that
/// cannot be read is left out; nothing is decided by it.
pub(crate) async fn list_shown(db: &mut Connection, targets: &[TargetId]) -> Result<Vec<Rollout>, StoreError> {
    let targets: Vec<Uuid> = targets.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"
        select rollout_id, target_id, render_id, from_render_id, kind, strategy as "strategy: Stored<Strategy>",
               failures_max, state, state_since, reason, trace_id, created_at, ended_at
          from rollouts
         where rollout_id in (
               select (select o.rollout_id
                         from rollouts o
                        where o.target_id = t.target_id
                        order by o.ended_at is null desc, o.rollout_id desc
                        limit 1)
                 from unnest($1::uuid[]) as t (target_id)
               )
        "#,
        &targets,
    )
    .fetch_all(db)
    .await?;
    let shown = rows.into_iter().map(|row| Entry::of(row.rollout_id, row.try_into()));
    Ok(shown.filter_map(Entry::readable).collect())
}

pub(crate) async fn find(db: &mut Connection, id: RolloutId) -> Result<Option<Rollout>, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select rollout_id, target_id, render_id, from_render_id, kind, strategy as "strategy: Stored<Strategy>",
               failures_max, state, state_since, reason, trace_id, created_at, ended_at
          from rollouts
         where rollout_id = $1
        "#,
        id.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// The rollouts of a target that something may be decided in, oldest first: the one over all of it, whatever its state,
/// and of those since then the ones that go on, that clusters catch up with, and that were asked something.
pub(crate) async fn list_current(
    db: &mut Connection,
    target: TargetId,
    from: Option<Uuid>,
    asked: &[RolloutId],
) -> Result<Vec<Rollout>, StoreError> {
    let asked: Vec<Uuid> = asked.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"
        select rollout_id, target_id, render_id, from_render_id, kind, strategy as "strategy: Stored<Strategy>",
               failures_max, state, state_since, reason, trace_id, created_at, ended_at
          from rollouts o
         where target_id = $1
           and (ended_at is null
                or rollout_id = $2
                or (rollout_id > $2 and rollout_id = any($3))
                or (rollout_id > $2 and state = 'done'
                    and exists (
                        select from rollout_clusters m
                         where m.rollout_id = o.rollout_id and not m.overtaken
                           and m.is_unsettled
                    )))
         order by rollout_id
        "#,
        target.as_uuid(),
        from.unwrap_or(Uuid::max()),
        &asked,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Rollouts of a target that are not over.
pub(crate) async fn list_live(db: &mut Connection, target: TargetId) -> Result<Vec<Rollout>, StoreError> {
    list_current(db, target, None, &[]).await
}

/// What the current rollouts of a target have yet to give their clusters, or have not seen healthy.
pub(crate) async fn list_moving(
    db: &mut Connection,
    target: TargetId,
    from: Option<Uuid>,
) -> Result<BTreeMap<ClusterId, Digest>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select m.cluster_id, m.digest
          from rollouts o
          join rollout_clusters m using (rollout_id)
         where o.target_id = $1
           and o.rollout_id >= $2
           and (o.ended_at is null or o.state = 'done')
           and not m.overtaken
           and m.is_unsettled
        "#,
        target.as_uuid(),
        from.unwrap_or(Uuid::nil()),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| Ok((ClusterId::new(row.cluster_id), super::digest(&row.digest, "rollout_clusters")?)))
        .collect()
}

/// Whether clusters catch up with it, or are to.
pub(crate) async fn is_any_unsettled(db: &mut Connection, rollout: RolloutId) -> Result<bool, StoreError> {
    let is_any = sqlx::query_scalar!(
        r#"
        select exists (
               select from rollout_clusters
                where rollout_id = $1 and is_unsettled
               ) as "is_any!"
        "#,
        rollout.as_uuid(),
    )
    .fetch_one(db)
    .await?;
    Ok(is_any)
}

/// Members that wait or are in flight: nobody waits for those that are away.
pub(crate) async fn count_under_way(db: &mut Connection, rollout: RolloutId) -> Result<u32, StoreError> {
    let count = sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
          from rollout_clusters
         where rollout_id = $1 and not overtaken and is_unsettled and state <> 'offline'
        "#,
        rollout.as_uuid(),
    )
    .fetch_one(db)
    .await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// From now on a later rollout has these clusters.
pub(crate) async fn mark_overtaken(
    db: &mut Connection,
    target: TargetId,
    by: RolloutId,
    clusters: &[ClusterId],
) -> Result<(), StoreError> {
    let clusters: Vec<Uuid> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    sqlx::query!(
        r#"
        update rollout_clusters m
           set overtaken = true, state = case when m.is_unsettled then $4 else m.state end,
               reason = case when m.is_unsettled then $5 else m.reason end
          from rollouts o
         where o.rollout_id = m.rollout_id and o.target_id = $1 and o.rollout_id <> $2
           and (o.ended_at is null or o.state = 'done')
           and m.cluster_id = any($3) and not m.overtaken
        "#,
        target.as_uuid(),
        by.as_uuid(),
        &clusters,
        text(OVERTAKEN.0),
        OVERTAKEN.1,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// From now on the rollouts of a target before this one are history: nobody catches up with them.
pub(crate) async fn mark_history(db: &mut Connection, target: TargetId, from: Uuid) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update rollout_clusters m
           set overtaken = true, state = $3, reason = $4
          from rollouts o
         where o.rollout_id = m.rollout_id and o.target_id = $1 and o.rollout_id <> $2 and o.state = 'done'
           and m.is_unsettled
        "#,
        target.as_uuid(),
        from,
        text(OVERTAKEN.0),
        OVERTAKEN.1,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// So many of the rollouts over a whole target, newest first.
pub(crate) async fn list_past(db: &mut Connection, target: TargetId, limit: i64) -> Result<Vec<Past>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select o.render_id, o.from_render_id,
               exists (
                   select from rollout_clusters m where m.rollout_id = o.rollout_id and m.assigned_at is not null
               ) as "assigned!"
          from rollouts o
         where o.target_id = $1 and o.kind <> 'cluster_change'
         order by o.rollout_id desc
         limit $2
        "#,
        target.as_uuid(),
        limit,
    )
    .fetch_all(db)
    .await?;
    let past = rows.into_iter().map(|row| Past {
        render: RenderId::new(row.render_id),
        from_render: row.from_render_id.map(RenderId::new),
        assigned: row.assigned,
    });
    Ok(past.collect())
}

/// Which of these bundles each cluster was given of a target, the last one if several, or had when a rollout came.
pub(crate) async fn list_ran(
    db: &mut Connection,
    target: TargetId,
    digests: &[Digest],
) -> Result<BTreeMap<ClusterId, Digest>, StoreError> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let rows = sqlx::query!(
        r#"
        select distinct on (cluster_id) cluster_id as "cluster_id!", digest as "digest!"
          from (
              select m.cluster_id, m.rollout_id, m.digest
                from rollouts o
                join rollout_clusters m using (rollout_id)
               where o.target_id = $1 and m.assigned_at is not null and m.digest = any($2)
               union all
              select m.cluster_id, m.rollout_id, m.digest_before
                from rollouts o
                join rollout_clusters m using (rollout_id)
               where o.target_id = $1 and m.digest_before = any($2)
               ) as ran
         order by cluster_id, rollout_id desc
        "#,
        target.as_uuid(),
        &digests,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| Ok((ClusterId::new(row.cluster_id), super::digest(&row.digest, "rollout_clusters")?)))
        .collect()
}

/// Which render each of these members ran before.
pub(crate) async fn list_renders_before(
    db: &mut Connection,
    rollout: RolloutId,
    clusters: &[ClusterId],
) -> Result<BTreeMap<ClusterId, RenderId>, StoreError> {
    let clusters: Vec<Uuid> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select cluster_id, render_before_id as "render!"
          from rollout_clusters
         where rollout_id = $1 and cluster_id = any($2) and render_before_id is not null
        "#,
        rollout.as_uuid(),
        &clusters,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (ClusterId::new(row.cluster_id), RenderId::new(row.render))).collect())
}

/// A page, newest first, before one; of one target or of all.
pub(crate) async fn list(
    db: &mut Connection,
    target: Option<TargetId>,
    before: Uuid,
    limit: i64,
) -> Result<Vec<Entry<Rollout>>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select rollout_id, target_id, render_id, from_render_id, kind, strategy as "strategy: Stored<Strategy>",
               failures_max, state, state_since, reason, trace_id, created_at, ended_at
          from rollouts
         where ($1::uuid is null or target_id = $1) and rollout_id < $2
         order by rollout_id desc
         limit $3
        "#,
        target.map(TargetId::as_uuid),
        before,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| Entry::of(row.rollout_id, row.try_into())).collect())
}

pub(crate) async fn mark_state(
    db: &mut Connection,
    id: RolloutId,
    state: RolloutState,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update rollouts
           set state = $2, reason = $3, state_since = $4::timestamptz, updated_at = $4, version = version + 1,
               ended_at = case when $5 then $4::timestamptz end
         where rollout_id = $1
        "#,
        id.as_uuid(),
        text(state),
        reason,
        to_sql(now),
        state.is_over(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes a wave as it is now.
pub(crate) async fn mark_wave(
    db: &mut Connection,
    rollout: RolloutId,
    place: u32,
    wave: &Wave,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update rollout_waves
           set state = $3, opened_at = $4, soak_until = $5, soak_left_ms = $6, soak_from = $7
         where rollout_id = $1 and wave = $2
        "#,
        rollout.as_uuid(),
        signed(place),
        text(wave.state),
        wave.opened_at.map(to_sql),
        wave.soak_until.map(to_sql),
        wave.soak_left.map(in_millis),
        wave.soak_from.map(to_sql),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes members as they are now.
pub(crate) async fn mark_members(
    db: &mut Connection,
    rollout: RolloutId,
    members: &[&Member],
) -> Result<(), StoreError> {
    let clusters: Vec<Uuid> = members.iter().map(|member| member.cluster.as_uuid()).collect();
    let states: Vec<String> = members.iter().map(|member| text(member.state)).collect();
    let generations: Vec<Option<i64>> = members.iter().map(|member| member.generation.map(Generation::get)).collect();
    let assigned_at: Vec<Option<DateTime>> = members.iter().map(|member| member.assigned_at.map(to_sql)).collect();
    let returning: Vec<bool> = members.iter().map(|member| member.returning).collect();
    let judged_from: Vec<Option<DateTime>> = members.iter().map(|member| member.judged_from.map(to_sql)).collect();
    let failing: Vec<Option<DateTime>> = members.iter().map(|member| member.failing_since.map(to_sql)).collect();
    let reasons: Vec<String> = members.iter().map(|member| member.reason.clone()).collect();
    sqlx::query!(
        r#"
        update rollout_clusters m
           set state = n.state, generation = n.generation, assigned_at = n.assigned_at, is_returning = n.is_returning,
               judged_from = n.judged_from, reason = n.reason, failing_since = n.failing_since
          from unnest($2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[], $6::bool[], $7::timestamptz[], $8::text[],
                      $9::timestamptz[])
               as n (cluster_id, state, generation, assigned_at, is_returning, judged_from, reason, failing_since)
         where m.rollout_id = $1 and m.cluster_id = n.cluster_id
        "#,
        rollout.as_uuid(),
        &clusters,
        &states,
        &generations as _,
        &assigned_at as _,
        &returning,
        &judged_from as _,
        &reasons,
        &failing as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

struct MemberRow {
    cluster_id: Uuid,
    cluster_name: String,
    wave: i32,
    digest: Vec<u8>,
    digest_before: Option<Vec<u8>>,
    state: String,
    generation: Option<i64>,
    assigned_at: Option<DateTime>,
    returning: bool,
    judged_from: Option<DateTime>,
    failing_since: Option<DateTime>,
    overtaken: bool,
    reason: String,
    connected: bool,
    since: DateTime,
    heard_from: Option<DateTime>,
    heard_until: Option<DateTime>,
    report_generation: Option<i64>,
    report_digest: Option<Vec<u8>>,
    report_applied: Option<bool>,
    report_verdict: Option<String>,
    report_message: Option<String>,
    report_lines: Option<Stored<Vec<ObjectLine>>>,
    reported_at: Option<DateTime>,
}

impl TryFrom<MemberRow> for MemberSnapshot {
    type Error = StoreError;

    fn try_from(row: MemberRow) -> Result<Self, StoreError> {
        let table = "rollout_clusters";
        let digest = |bytes: &[u8]| super::digest(bytes, table);
        let since = from_sql(row.since);
        let evidence = match (row.report_generation, row.report_digest, row.report_verdict, row.reported_at) {
            (Some(generation), Some(bytes), Some(verdict), Some(at)) => {
                let verdict: Verdict =
                    verdict.parse().map_err(|_| StoreError::Unreadable { table: "reports", column: "verdict" })?;
                // Lines that cannot be read say nothing that is final.
                let lines = row.report_lines.and_then(|lines| lines.read("reports", "lines").ok()).unwrap_or_default();
                Some(Evidence {
                    generation: Generation::new(generation),
                    digest: digest(&bytes)?,
                    applied: row.report_applied.unwrap_or(false),
                    verdict,
                    may_pass: may_pass(verdict, &lines),
                    at: from_sql(at),
                    message: row.report_message.unwrap_or_default(),
                })
            }
            _ => None,
        };
        let presence = if row.connected { Presence::Connected { since } } else { Presence::Disconnected { since } };
        let heard =
            row.heard_from.map(|from| Heard { from: from_sql(from), until: row.heard_until.map_or(since, from_sql) });
        Ok(Self {
            member: Member {
                cluster: ClusterId::new(row.cluster_id),
                wave: unsigned(row.wave),
                digest: digest(&row.digest)?,
                digest_before: row.digest_before.as_deref().map(digest).transpose()?,
                state: word(&row.state, table)?,
                generation: row.generation.map(Generation::new),
                assigned_at: row.assigned_at.map(from_sql),
                returning: row.returning,
                judged_from: row.judged_from.map(from_sql),
                failing_since: row.failing_since.map(from_sql),
                overtaken: row.overtaken,
                reason: row.reason,
            },
            seen: Seen { evidence, presence, heard },
            cluster_name: row.cluster_name,
        })
    }
}

/// Which members of a rollout to read; all, when it says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Which<'a> {
    /// Those that decisions can be about.
    pub(crate) scope: Option<MemberScope>,
    /// And these, besides those within scope.
    pub(crate) named: &'a [ClusterId],
}

/// Members with their newest report and presence, in the order of their turns.
///
/// Who is there, and since when, says the view `presences`.
pub(crate) async fn list_members(
    db: &mut Connection,
    rollout: RolloutId,
    which: Which<'_>,
    now: Timestamp,
) -> Result<Vec<MemberSnapshot>, StoreError> {
    let named: Vec<Uuid> = which.named.iter().map(|cluster| cluster.as_uuid()).collect();
    let rows = sqlx::query_file_as!(
        MemberRow,
        "src/store/sql/list_members.sql",
        rollout.as_uuid(),
        which.scope.map(|scope| signed(scope.wave)),
        which.scope.is_some_and(|scope| scope.returnable),
        &named,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

struct WaveRow {
    rollout_id: Uuid,
    name: String,
    state: String,
    concurrent_max: i32,
    healthy_min: i32,
    soak_ms: i64,
    opened_at: Option<DateTime>,
    soak_from: Option<DateTime>,
    soak_until: Option<DateTime>,
    soak_left_ms: Option<i64>,
    members: i64,
    overtaken: i64,
    waiting: i64,
    in_flight: i64,
    healthy: i64,
    failed: i64,
    offline: i64,
    skipped: i64,
    rolled_back: i64,
    silent: i64,
    returnable: i64,
    first_installs: i64,
}

impl TryFrom<WaveRow> for Wave {
    type Error = StoreError;

    fn try_from(row: WaveRow) -> Result<Self, StoreError> {
        let count = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Self {
            name: row.name,
            state: word(&row.state, "rollout_waves")?,
            concurrent_max: unsigned(row.concurrent_max),
            healthy_min: unsigned(row.healthy_min),
            soak: millis(row.soak_ms),
            opened_at: row.opened_at.map(from_sql),
            soak_from: row.soak_from.map(from_sql),
            soak_until: row.soak_until.map(from_sql),
            soak_left: row.soak_left_ms.map(millis),
            members: count(row.members),
            overtaken: count(row.overtaken),
            waiting: count(row.waiting),
            in_flight: count(row.in_flight),
            healthy: count(row.healthy),
            failed: count(row.failed),
            offline: count(row.offline),
            skipped: count(row.skipped),
            rolled_back: count(row.rolled_back),
            silent: count(row.silent),
            heard_for: None,
            returnable: count(row.returnable),
            first_installs: count(row.first_installs),
            notable: None,
        })
    }
}

/// The waves of these rollouts in their order, with their members counted and none of them named.
pub(crate) async fn list_waves(
    db: &mut Connection,
    rollouts: &[RolloutId],
) -> Result<BTreeMap<RolloutId, Vec<Wave>>, StoreError> {
    let ids: Vec<Uuid> = rollouts.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_file_as!(WaveRow, "src/store/sql/list_waves.sql", &ids).fetch_all(db).await?;
    let mut waves: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        waves.entry(RolloutId::new(row.rollout_id)).or_default().push(row.try_into()?);
    }
    Ok(waves)
}

/// Targets whose rollouts may care that one of these clusters came or went: live ones, those it has yet to catch up with,
/// and those that would move it.
pub(crate) async fn list_targets_of(db: &mut Connection, clusters: &[ClusterId]) -> Result<Vec<Uuid>, StoreError> {
    let clusters: Vec<Uuid> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    let targets = sqlx::query_scalar!(
        r#"
        select o.target_id as "target!"
          from rollouts o
          join rollout_clusters m using (rollout_id)
         where m.cluster_id = any($1) and o.ended_at is null
         union
        select o.target_id
          from rollout_clusters m
          join rollouts o using (rollout_id)
         where m.cluster_id = any($1) and o.state = 'done' and m.is_unsettled
         union
        select target_id from awaited where cluster_id = any($1)
        "#,
        &clusters,
    )
    .fetch_all(db)
    .await?;
    Ok(targets)
}

/// Deletes so many of those that ended before, besides the last ones of each target, the one over all of it that it goes on
/// from, and those that clusters have yet to catch up with; says how many it deleted.
pub(crate) async fn delete_old(
    db: &mut Connection,
    before: Timestamp,
    kept: i64,
    limit: i64,
) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        r#"
        delete from rollouts
         where rollout_id in (
               select rollout_id
                 from targets t
                cross join lateral (
                      select rollout_id, ended_at
                        from rollouts
                       where target_id = t.target_id
                       order by rollout_id desc
                      offset $2
                      ) as r
                where ended_at < $1
                  and not exists (
                      select from target_states s where s.target_id = t.target_id and s.current_from = r.rollout_id
                  )
                  -- Somebody may catch up with it.
                  and not exists (
                      select from rollout_clusters m
                       where m.rollout_id = r.rollout_id and m.is_unsettled and not m.overtaken
                  )
                limit $3
               )
        "#,
        to_sql(before),
        kept,
        limit,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}
