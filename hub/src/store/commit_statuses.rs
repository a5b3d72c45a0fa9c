//! What hosts were told of commits, and what there is to tell.

use bellwether_core::commit_status::{CommitState, CommitStatus};
use bellwether_core::rollout::RolloutState;
use bellwether_core::{RepoId, TargetId};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::columns::{text, unsigned, word};
use super::{Connection, StoreError, from_sql, to_sql};

/// Most changes reach a few clusters within it: of those the host is told once, that it was a success.
const PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// Rollouts of a target that its host is told of: who enables that on a Friday tells nothing of Monday's.
const ROLLOUTS_MAX: i64 = 5;
/// More than those, so that nothing is told twice.
const KEPT: i64 = 20;

/// A commit that was rolled out, and what its host has heard of it.
pub(crate) struct Rolled {
    pub(crate) commit: String,
    pub(crate) state: RolloutState,
    pub(crate) reason: String,
    pub(crate) members: u32,
    /// `None`: nothing, or it is not known what.
    pub(crate) told: Option<Told>,
    pub(crate) pipeline: Option<i64>,
    /// The last try failed.
    pub(crate) is_untold: bool,
    /// Tries that failed since the host last took one.
    pub(crate) tries: u32,
}

/// What a host has taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) context: String,
    pub(crate) status: CommitStatus,
}

/// A little later, the stage looks at a target, or at all that follow a repo, whose host is told. False: there is none.
pub(crate) async fn announce(db: &mut Connection, of: Uuid, now: Timestamp) -> Result<bool, StoreError> {
    let told = sqlx::query!(
        r#"
        insert into work (stage, key, due_at)
        select 'commit_status', t.target_id, $2
          from targets t
          join repos r using (repo_id)
         where (t.target_id = $1 or t.repo_id = $1) and r.spec -> 'commitStatus' is not null
        "#,
        of,
        to_sql(now + PAUSE),
    )
    .execute(db)
    .await?;
    Ok(told.rows_affected() > 0)
}

/// The commits of a target's last rollouts, the newest first, each with its last one. Clusters that join later do not make a commit another one.
pub(crate) async fn list_rolled(
    db: &mut Connection,
    target: TargetId,
    repo: RepoId,
) -> Result<Vec<Rolled>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select o.commit_id, o.state, o.reason, coalesce(s.tries, 0) as "tries!",
               s.context as "context?", s.state as "told_state?", s.description as "description?",
               s.pipeline as "pipeline?", s.error is not null as "is_untold!",
               (select count(*) from rollout_clusters m where m.rollout_id = o.rollout_id) as "members!"
          from (select distinct on (v.commit_id) v.commit_id, o.rollout_id, o.state, o.reason
                  from (select * from rollouts
                         where target_id = $1 and kind <> 'cluster_change'
                         order by rollout_id desc
                         limit $3) o
                  join renders r using (render_id)
                  join revisions v using (revision_id)
                 where v.repo_id = $2
                 order by v.commit_id, o.rollout_id desc) o
          left join commit_statuses s on s.target_id = $1 and s.commit_id = o.commit_id
         order by o.rollout_id desc
        "#,
        target.as_uuid(),
        repo.as_uuid(),
        ROLLOUTS_MAX,
    )
    .fetch_all(db)
    .await?;
    let count = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let rolled = rows.into_iter().map(|row| {
        let told = match (row.context, row.told_state, row.description) {
            (Some(context), Some(state), Some(description)) => {
                let state = word::<CommitState>(&state, "commit_statuses")?;
                Some(Told { context, status: CommitStatus { state, description } })
            }
            _ => None,
        };
        Ok(Rolled {
            commit: row.commit_id,
            state: word(&row.state, "rollouts")?,
            reason: row.reason,
            members: count(row.members),
            told,
            pipeline: row.pipeline,
            is_untold: row.is_untold,
            tries: unsigned(row.tries),
        })
    });
    rolled.collect()
}

/// What came of telling a host.
pub(crate) enum Outcome {
    Taken(Told, Option<i64>),
    /// What it took before stands there still.
    Refused(String),
    /// It may have taken it.
    Unknown(String),
    /// It had taken it before.
    Known,
}

/// Writes that down; of a target that is gone nothing.
pub(crate) async fn mark(
    db: &mut Connection,
    target: TargetId,
    (commit, context): (&str, &str),
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (taken, error, keeps) = match outcome {
        Outcome::Taken(told, pipeline) => (Some((told, pipeline)), None, false),
        Outcome::Refused(error) => (None, Some(error), true),
        Outcome::Unknown(error) => (None, Some(error), false),
        Outcome::Known => (None, None, true),
    };
    let told = taken.map(|(told, _)| told);
    sqlx::query!(
        r#"
        insert into commit_statuses as s
               (target_id, commit_id, context, state, description, told_at, pipeline, tried_at, error, tries)
        select target_id, $2, $3, $4, $5, case when $4::text is not null then $7::timestamptz end, $6, $7, $8,
               case when $8::text is null then 0 else 1 end
          from targets
         where target_id = $1
            on conflict (target_id, commit_id) do update
           set context = case when $9 then s.context else excluded.context end,
               state = case when $9 then s.state else excluded.state end,
               description = case when $9 then s.description else excluded.description end,
               told_at = case when $9 then s.told_at else excluded.told_at end,
               pipeline = coalesce(excluded.pipeline, s.pipeline),
               tried_at = excluded.tried_at, error = excluded.error,
               tries = case when $8::text is null then 0 else s.tries + 1 end
        "#,
        target.as_uuid(),
        commit,
        context,
        told.map(|told| text(told.status.state)),
        told.map(|told| told.status.description.as_str()),
        taken.and_then(|(_, pipeline)| *pipeline),
        to_sql(now),
        error.map(String::as_str),
        keeps,
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        r#"
        delete from commit_statuses
         where target_id = $1
           and commit_id not in (select commit_id from commit_statuses
                                  where target_id = $1
                                  order by tried_at desc
                                  limit $2)
        "#,
        target.as_uuid(),
        KEPT,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What was tried last of a target.
pub(crate) struct Shown {
    pub(crate) target: TargetId,
    pub(crate) commit: String,
    pub(crate) context: String,
    /// `None`: the host has not taken anything of this commit.
    pub(crate) state: Option<CommitState>,
    pub(crate) told_at: Option<Timestamp>,
    pub(crate) error: Option<String>,
}

/// Of these targets, as far as something was tried and can be read.
pub(crate) async fn list_shown(db: &mut Connection, targets: &[TargetId]) -> Result<Vec<Shown>, StoreError> {
    let targets: Vec<Uuid> = targets.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select distinct on (s.target_id) s.target_id, s.commit_id, s.context, s.state, s.told_at, s.error
          from commit_statuses s
          join targets t using (target_id)
          join repos r using (repo_id)
         where s.target_id = any($1) and r.spec -> 'commitStatus' is not null
         order by s.target_id, s.tried_at desc
        "#,
        &targets,
    )
    .fetch_all(db)
    .await?;
    let shown = rows.into_iter().map(|row| Shown {
        target: TargetId::new(row.target_id),
        commit: row.commit_id,
        context: row.context,
        state: row.state.and_then(|state| word(&state, "commit_statuses").ok()),
        told_at: row.told_at.map(from_sql),
        error: row.error,
    });
    Ok(shown.collect())
}
