//! What clusters are asked of a bundle that nobody assigned, and what they answered.

use bellwether_core::{ClusterId, TargetId};
use jiff::Timestamp;
use uuid::Uuid;

use super::{Connection, StoreError, from_sql, to_sql};

/// A question that the hub with a cluster's stream has taken.
pub(crate) struct Taken {
    pub(crate) cluster: ClusterId,
    pub(crate) id: Uuid,
    /// Sealed.
    pub(crate) asked: Vec<u8>,
    pub(crate) expires_at: Timestamp,
}

/// The same of several clusters.
pub(crate) async fn insert(
    db: &mut Connection,
    (id, target): (Uuid, TargetId),
    asked: &[u8],
    clusters: &[Uuid],
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into dry_runs (dry_run_id, target_id, asked, expires_at) values ($1, $2, $3, $4)",
        id,
        target.as_uuid(),
        asked,
        to_sql(expires_at),
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "insert into dry_run_clusters (dry_run_id, cluster_id) select $1, cluster from unnest($2::uuid[]) as cluster",
        id,
        clusters,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What these clusters are to be asked and nobody has taken, as long as somebody waits for it.
pub(crate) async fn take(
    db: &mut Connection,
    clusters: &[ClusterId],
    now: Timestamp,
) -> Result<Vec<Taken>, StoreError> {
    let clusters: Vec<_> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        update dry_run_clusters c
           set taken_at = $2
          from dry_runs d
         where d.dry_run_id = c.dry_run_id and c.cluster_id = any($1) and c.taken_at is null and d.expires_at > $2
        returning c.cluster_id, d.dry_run_id, d.asked, d.expires_at
        "#,
        &clusters,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    let taken = rows.into_iter().map(|row| Taken {
        cluster: ClusterId::new(row.cluster_id),
        id: row.dry_run_id,
        asked: row.asked,
        expires_at: from_sql(row.expires_at),
    });
    Ok(taken.collect())
}

/// The first answer counts; nothing where nobody waits for it any more.
pub(crate) async fn answer(db: &mut Connection, id: Uuid, cluster: ClusterId, answer: &[u8]) -> Result<(), StoreError> {
    sqlx::query!(
        "update dry_run_clusters set answer = $3 where dry_run_id = $1 and cluster_id = $2 and answer is null",
        id,
        cluster.as_uuid(),
        answer,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How many of them have no answer yet; those that no hub has taken only if they count.
pub(crate) async fn count_unanswered(
    db: &mut Connection,
    ids: &[Uuid],
    untaken_count: bool,
) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
          from dry_run_clusters
         where dry_run_id = any($1) and answer is null and ($2 or taken_at is not null)
        "#,
        ids,
        untaken_count,
    )
    .fetch_one(db)
    .await?;
    Ok(count)
}

/// A cluster, whether it was asked, and what it answered.
pub(crate) struct Answered {
    pub(crate) cluster: ClusterId,
    pub(crate) was_taken: bool,
    /// As its agent packed it.
    pub(crate) answer: Option<Vec<u8>>,
}

pub(crate) async fn list_answers(db: &mut Connection, ids: &[Uuid]) -> Result<Vec<Answered>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select cluster_id, taken_at is not null as "was_taken!", answer
          from dry_run_clusters
         where dry_run_id = any($1)
        "#,
        ids,
    )
    .fetch_all(db)
    .await?;
    let answers = rows.into_iter().map(|row| Answered {
        cluster: ClusterId::new(row.cluster_id),
        was_taken: row.was_taken,
        answer: row.answer,
    });
    Ok(answers.collect())
}

pub(crate) async fn delete(db: &mut Connection, ids: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query!("delete from dry_runs where dry_run_id = any($1)", ids).execute(db).await?;
    Ok(())
}

/// Of which nobody waits for the answers since before; says how many.
pub(crate) async fn delete_expired(db: &mut Connection, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        r#"
        delete from dry_runs
         where dry_run_id in (select dry_run_id from dry_runs where expires_at < $1 limit $2)
        "#,
        to_sql(before),
        limit,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}
