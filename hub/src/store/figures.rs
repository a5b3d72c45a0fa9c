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
