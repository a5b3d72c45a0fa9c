//! Rollouts, their waves and members: rows in, [`bellwether_core::rollout`]'s values out.

mod members;
mod waves;

use bellwether_core::rollout::{self, Kind, Past, RolloutState, Strategy, Wave};
use bellwether_core::{ProjectId, RenderId, RolloutId, TargetId};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use crate::store::columns::{signed, unsigned, word};
use crate::store::stored::{Entry, Stored};
use crate::store::{Connection, StoreError, from_sql, to_sql};

pub(crate) use self::members::{
    Which, count_under_way, insert_members, is_any_unsettled, list_members, list_moving, list_ran, list_renders_before,
    list_targets_of, mark_history, mark_members, mark_overtaken,
};
pub(crate) use self::waves::{find_empty_wave, insert_waves, list_waves, mark_wave};
pub(crate) use crate::store::columns::text;

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

/// Whole rows; `which` says which of them.
macro_rules! rows {
    ($which:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"
            select rollout_id, target_id, render_id, from_render_id, kind, strategy as "strategy: Stored<Strategy>",
                   failures_max, state, state_since, reason, trace_id, created_at, ended_at
              from rollouts o
            "# + $which
            $(, $argument)*
        )
    };
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

/// The last place in the order of a target's rollouts, whether or not there is a rollout at it.
pub(crate) async fn find_newest(db: &mut Connection, target: TargetId) -> Result<Option<Uuid>, StoreError> {
    let newest = sqlx::query_scalar!(
        r#"
        select greatest(
                   (select rollout_id from rollouts where target_id = $1 order by rollout_id desc limit 1),
                   (select current_from from target_states where target_id = $1)
               )
        "#,
        target.as_uuid(),
    )
    .fetch_one(db)
    .await?;
    Ok(newest)
}

/// The rollout of each of these targets that people are shown: the newest that goes on, or else the newest. One that
/// cannot be read is left out; nothing is decided by it.
pub(crate) async fn list_shown(db: &mut Connection, targets: &[TargetId]) -> Result<Vec<Rollout>, StoreError> {
    let targets: Vec<Uuid> = targets.iter().map(|id| id.as_uuid()).collect();
    let rows = rows!(
        r#"
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
    let row = rows!("where rollout_id = $1", id.as_uuid()).fetch_optional(db).await?;
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
    let rows = rows!(
        r#"
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

/// So many of the rollouts over a whole target, newest first.
pub(crate) async fn list_past(db: &mut Connection, target: TargetId, limit: i64) -> Result<Vec<Past>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select o.render_id, o.from_render_id, o.state = 'done' as "done!", o.kind = 'rollback' as "is_rollback!",
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
        done: row.done,
        is_rollback: row.is_rollback,
    });
    Ok(past.collect())
}

/// A page, newest first, before one; of one target or of all that a project has.
pub(crate) async fn list(
    db: &mut Connection,
    project: ProjectId,
    target: Option<TargetId>,
    before: Uuid,
    limit: i64,
) -> Result<Vec<Entry<Rollout>>, StoreError> {
    let rows = rows!(
        r#"
         where ($1::uuid is null or target_id = $1) and rollout_id < $2
           and exists (select from targets t where t.target_id = o.target_id and t.project_id = $4)
         order by rollout_id desc
         limit $3
        "#,
        target.map(TargetId::as_uuid),
        before,
        limit,
        project.as_uuid(),
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
                      select rollout_id, state, ended_at
                        from rollouts
                       where target_id = t.target_id
                       order by rollout_id desc
                      offset $2
                      ) as r
                where ended_at < $1
                  and not exists (
                      select from target_states s where s.target_id = t.target_id and s.current_from = r.rollout_id
                  )
                  -- Somebody may catch up with it: with one that is done, and with no other.
                  and not (r.state = 'done' and exists (
                      select from rollout_clusters m
                       where m.rollout_id = r.rollout_id and m.is_unsettled and not m.overtaken
                  ))
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
