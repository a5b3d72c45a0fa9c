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

#[cfg(test)]
mod tests {
    use bellwether_core::rollout::{Member, MemberState};
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::rows::{MAIN, Rows};
    use crate::store::targets::Target;
    use crate::store::{Pool, execute_in};

    async fn rendered(rows: &mut Rows) -> (Target, RenderId) {
        let (target, revision, bundle) =
            (rows.target("shop").await, rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let render = rows.render(&target, revision, bundle).await;
        (target, render)
    }

    async fn ended(rows: &mut Rows, target: &Target, render: RenderId, state: RolloutState) -> Rollout {
        let rollout = rows.rollout(target, render).await;
        rows.end(&rollout, state).await;
        rollout
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn people_are_shown_what_goes_on_or_else_what_ended_last(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, render) = rendered(&mut rows).await;
        let first = rows.rollout_of(&target, render, Kind::ClusterChange).await;
        let second = ended(&mut rows, &target, render, RolloutState::Done).await;
        let shown = async |rows: &mut Rows| list_shown(&mut rows.db, &[target.id]).await.expect("read").remove(0).id;

        assert_eq!(shown(&mut rows).await, first.id);
        rows.end(&first, RolloutState::Superseded).await;
        assert_eq!(shown(&mut rows).await, second.id);
        execute_in(&mut rows.db, "update rollouts set strategy = '0'").await.expect("written");
        let unreadable = list_shown(&mut rows.db, &[target.id]).await.expect("the others could be read");
        assert!(unreadable.is_empty());
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn an_end_is_written_with_the_state_and_goes_when_it_goes_on(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, render) = rendered(&mut rows).await;
        let rollout = rows.rollout(&target, render).await;
        let at = clock::now() + SignedDuration::from_secs(9);

        mark_state(&mut rows.db, rollout.id, RolloutState::Failed, "too many", at).await.expect("written");
        let failed = find(&mut rows.db, rollout.id).await.expect("read").expect("it is there");
        mark_state(&mut rows.db, rollout.id, RolloutState::RollingBack, "", at).await.expect("written");
        let again = find(&mut rows.db, rollout.id).await.expect("read").expect("it is there");

        assert_eq!((failed.state_since, failed.ended_at, failed.reason.as_str()), (at, Some(at), "too many"));
        assert_eq!((again.state, again.ended_at), (RolloutState::RollingBack, None));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn something_may_be_decided_in_what_goes_on_is_caught_up_with_or_was_asked_since_the_last_of_all(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, render) = rendered(&mut rows).await;
        let bundle = rows.bundle("a").await;
        let cluster = rows.cluster("c1").await;
        let behind = async |rows: &mut Rows, kind, state| {
            let rollout = rows.rollout_of(&target, render, kind).await;
            let member = Member { state: MemberState::Offline, ..Member::waiting(cluster, 0, bundle, None) };
            insert_members(&mut rows.db, rollout.id, std::slice::from_ref(&member), &[].into()).await.expect("written");
            mark_members(&mut rows.db, rollout.id, &[&member]).await.expect("written");
            rows.end(&rollout, state).await;
            rollout
        };
        let history = behind(&mut rows, Kind::Revision, RolloutState::Done).await;
        let from = behind(&mut rows, Kind::Revision, RolloutState::Failed).await;
        let caught_up_with = behind(&mut rows, Kind::ClusterChange, RolloutState::Done).await;
        let given_up = behind(&mut rows, Kind::ClusterChange, RolloutState::Cancelled).await;
        let live = rows.rollout(&target, render).await;
        let mut current = async |asked: &[RolloutId]| {
            let from = Some(from.id.as_uuid());
            let current = list_current(&mut rows.db, target.id, from, asked).await.expect("read");
            current.into_iter().map(|rollout| rollout.id).collect::<Vec<_>>()
        };

        assert_eq!(current(&[]).await, [from.id, caught_up_with.id, live.id]);
        let asked = [history.id, given_up.id];
        assert_eq!(current(&asked).await, [from.id, caught_up_with.id, given_up.id, live.id], "not of earlier ones");
        let live_ones = list_live(&mut rows.db, target.id).await.expect("read");
        assert_eq!(live_ones.iter().map(|rollout| rollout.id).collect::<Vec<_>>(), [live.id]);
        let past = list_past(&mut rows.db, target.id, 10).await.expect("read");
        assert_eq!(past.len(), 3, "changes of single clusters are no past of the whole");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn the_last_rollouts_and_the_one_that_a_target_goes_on_from_are_kept(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, render) = rendered(&mut rows).await;
        let mut all = Vec::new();
        for state in [RolloutState::Done, RolloutState::Failed, RolloutState::Done, RolloutState::Done] {
            all.push(ended(&mut rows, &target, render, state).await.id);
        }
        sqlx::query("insert into target_states (target_id, held, current_from) values ($1, false, $2)")
            .bind(target.id.as_uuid())
            .bind(all[0].as_uuid())
            .execute(&mut *rows.db)
            .await
            .expect("written");
        let (db, hour) = (&mut rows.db, SignedDuration::from_hours(1));

        assert_eq!(delete_old(db, clock::now() - hour, 1, 10).await.expect("swept"), 0, "they are young");
        assert_eq!(delete_old(db, clock::now() + hour, 1, 1).await.expect("swept"), 1, "so many at once");
        assert_eq!(delete_old(db, clock::now() + hour, 1, 10).await.expect("swept"), 1);
        let left = list(db, rows.project.id, Some(target.id), Uuid::max(), 10).await.expect("read");
        let left: Vec<_> = left.into_iter().filter_map(Entry::readable).map(|rollout| rollout.id).collect();
        assert_eq!(left, [all[3], all[0]]);
    }
}
