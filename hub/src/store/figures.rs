//! What the rows say that a scrape asks for.

use jiff::Timestamp;

use super::work::Stage;
use super::{Connection, StoreError, to_sql};

/// Counts of the whole installation.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) unsealed: i64,
    pub(crate) clusters: i64,
    /// By stage, each of them.
    pub(crate) work_due: Vec<(String, i64)>,
    /// By state, each that a rollout which has not ended can have.
    pub(crate) rollouts: Vec<(String, i64)>,
}

pub(crate) async fn load(db: &mut Connection, now: Timestamp) -> Result<Rows, StoreError> {
    let unsealed = super::audit::count_unsealed(db).await?;
    let clusters = sqlx::query_scalar!(r#"select count(*) as "count!" from clusters where revoked_at is null"#)
        .fetch_one(&mut *db)
        .await?;
    let stages: Vec<_> = Stage::ALL.iter().map(|stage| stage.as_str()).collect();
    let work_due = sqlx::query!(
        r#"
        select s.stage as "stage!", count(w.work_id) as "count!"
          from unnest($2::text[]) as s (stage)
          left join work w on w.stage = s.stage and w.due_at <= $1
         group by s.stage
        "#,
        to_sql(now),
        &stages as _,
    )
    .fetch_all(&mut *db)
    .await?;
    let rollouts = sqlx::query!(
        r#"
        select s.state as "state!", count(r.rollout_id) as "count!"
          from unnest(array['planned', 'rolling', 'paused', 'rolling_back']) as s (state)
          left join rollouts r on r.state = s.state and r.ended_at is null
         group by s.state
        "#,
    )
    .fetch_all(db)
    .await?;
    Ok(Rows {
        unsealed,
        clusters,
        work_due: work_due.into_iter().map(|row| (row.stage, row.count)).collect(),
        rollouts: rollouts.into_iter().map(|row| (row.state, row.count)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use bellwether_core::rollout::RolloutState;
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::rows::{MAIN, Rows as Written};
    use crate::store::{Pool, execute_in, work};

    fn counted(counts: &[(String, i64)], of: &str) -> Option<i64> {
        counts.iter().find(|(name, _)| name == of).map(|(_, count)| *count)
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn each_stage_and_state_is_counted_also_when_it_has_none(pool: Pool) {
        let (mut rows, now) = (Written::new(&pool).await, clock::now());
        let target = rows.target("shop").await;
        let (revision, bundle) = (rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let render = rows.render(&target, revision, bundle).await;
        let ended = rows.rollout(&target, render).await;
        rows.end(&ended, RolloutState::Done).await;
        rows.rollout(&target, render).await;
        for name in ["c1", "c2"] {
            rows.cluster(name).await;
        }
        let db = &mut rows.db;
        execute_in(db, "update clusters set revoked_at = now() where name = 'c2'").await.expect("it is revoked");
        for due_at in [now, now + SignedDuration::from_hours(1)] {
            work::append(db, Stage::Rollout, &[target.id.as_uuid()], due_at, None).await.expect("it is told");
        }

        let figures = load(db, now).await.expect("they are read");

        assert_eq!((figures.clusters, figures.unsealed), (1, 0), "a revoked one is none of them");
        assert_eq!(figures.work_due.len(), Stage::ALL.len());
        assert_eq!(counted(&figures.work_due, Stage::Rollout.as_str()), Some(1), "one is not due yet");
        assert_eq!(counted(&figures.work_due, Stage::Link.as_str()), Some(0));
        assert_eq!(counted(&figures.rollouts, "rolling"), Some(1));
        assert_eq!(counted(&figures.rollouts, "paused"), Some(0));
        assert_eq!(counted(&figures.rollouts, "done"), None, "there is no end of those that have ended");
    }
}
