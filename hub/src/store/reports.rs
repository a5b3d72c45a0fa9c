//! The newest report of each cluster and target.

use std::collections::BTreeMap;

use bellwether_core::report::{ObjectLine, Report};
use bellwether_core::{ClusterId, Digest, Generation, ReportSequence, SessionNumber, TargetId};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::{Connection, StoreError, to_sql};

/// A report as it came: whose, and on which stream.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) cluster: ClusterId,
    pub(crate) session: SessionNumber,
    pub(crate) sequence: ReportSequence,
    pub(crate) report: Report,
}

/// What a report may be about.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    pub(crate) generation: Generation,
    pub(crate) digest: Digest,
    /// Of the rollout that decided it; `None` once that is gone.
    pub(crate) trace_id: Option<String>,
}

/// Of these clusters and targets, those that an assignment connects.
pub(crate) async fn list_assigned(
    db: &mut Connection,
    received: &[Received],
) -> Result<BTreeMap<(ClusterId, TargetId), Assigned>, StoreError> {
    let clusters: Vec<Uuid> = received.iter().map(|one| one.cluster.as_uuid()).collect();
    let targets: Vec<Uuid> = received.iter().map(|one| one.report.target.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select a.cluster_id, a.target_id, a.generation, a.digest, r.trace_id as "trace_id?"
          from assignments a
          left join rollouts r using (rollout_id)
         where (a.cluster_id, a.target_id) in (select * from unnest($1::uuid[], $2::uuid[]))
        "#,
        &clusters,
        &targets,
    )
    .fetch_all(db)
    .await?;
    let assigned = rows.into_iter().map(|row| {
        let key = (ClusterId::new(row.cluster_id), TargetId::new(row.target_id));
        let digest = super::digest(&row.digest, "assignments")?;
        Ok((key, Assigned { generation: Generation::new(row.generation), digest, trace_id: row.trace_id }))
    });
    assigned.collect()
}

/// Writes reports that are newer than what is there. At most one for each cluster and target, sorted by them: two
/// hubs that write at once wait for each other instead of deadlocking.
pub(crate) async fn mark_newer(db: &mut Connection, received: &[&Received], now: Timestamp) -> Result<(), StoreError> {
    let int = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let clusters: Vec<Uuid> = received.iter().map(|one| one.cluster.as_uuid()).collect();
    let targets: Vec<Uuid> = received.iter().map(|one| one.report.target.as_uuid()).collect();
    let generations: Vec<i64> = received.iter().map(|one| one.report.generation.get()).collect();
    let digests: Vec<Vec<u8>> = received.iter().map(|one| one.report.digest.as_bytes().to_vec()).collect();
    let verdicts: Vec<String> = received.iter().map(|one| one.report.verdict.to_string()).collect();
    let applied: Vec<bool> = received.iter().map(|one| one.report.applied).collect();
    let totals: Vec<i32> = received.iter().map(|one| int(one.report.objects.total)).collect();
    let in_place: Vec<i32> = received.iter().map(|one| int(one.report.objects.in_place)).collect();
    let healthy: Vec<i32> = received.iter().map(|one| int(one.report.objects.healthy)).collect();
    let lines: Vec<Json<&Vec<ObjectLine>>> = received.iter().map(|one| Json(&one.report.lines)).collect();
    let sessions: Vec<i64> = received.iter().map(|one| one.session.get()).collect();
    let sequences: Vec<i64> = received.iter().map(|one| one.sequence.get()).collect();
    sqlx::query!(
        r#"
        insert into reports
               (cluster_id, target_id, generation, digest, verdict, applied, total, in_place, healthy, lines,
                session, sequence, reported_at)
        select *, $13::timestamptz
          from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bytea[], $5::text[], $6::bool[], $7::int[],
                      $8::int[], $9::int[], $10::jsonb[], $11::bigint[], $12::bigint[])
            on conflict (cluster_id, target_id) do update
           set generation = excluded.generation, digest = excluded.digest, verdict = excluded.verdict,
               applied = excluded.applied, total = excluded.total, in_place = excluded.in_place,
               healthy = excluded.healthy, lines = excluded.lines, session = excluded.session,
               sequence = excluded.sequence, reported_at = excluded.reported_at
         where (reports.session, reports.sequence) < (excluded.session, excluded.sequence)
        "#,
        &clusters,
        &targets,
        &generations,
        &digests,
        &verdicts,
        &applied,
        &totals,
        &in_place,
        &healthy,
        &lines as _,
        &sessions,
        &sequences,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The newest verdicts of a cluster, as far as the hub knows: what is written is compared to it, to audit changes.
pub(crate) async fn list_verdicts(
    db: &mut Connection,
    received: &[Received],
) -> Result<Vec<(ClusterId, TargetId, String, Digest)>, StoreError> {
    let clusters: Vec<Uuid> = received.iter().map(|one| one.cluster.as_uuid()).collect();
    let targets: Vec<Uuid> = received.iter().map(|one| one.report.target.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select cluster_id, target_id, verdict, digest
          from reports
         where (cluster_id, target_id) in (select * from unnest($1::uuid[], $2::uuid[]))
        "#,
        &clusters,
        &targets,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let digest = super::digest(&row.digest, "reports")?;
            Ok((ClusterId::new(row.cluster_id), TargetId::new(row.target_id), row.verdict, digest))
        })
        .collect()
}

/// Whether a cluster has said anything on the stream and at the place that its agent says was acknowledged.
pub(crate) async fn is_known(
    db: &mut Connection,
    cluster: ClusterId,
    acked: (SessionNumber, ReportSequence),
) -> Result<bool, StoreError> {
    let known = sqlx::query_scalar!(
        r#"
        select exists (select from reports where cluster_id = $1 and (session, sequence) >= ($2, $3)) as "known!"
        "#,
        cluster.as_uuid(),
        acked.0.get(),
        acked.1.get(),
    )
    .fetch_one(db)
    .await?;
    Ok(known)
}

/// Deletes so much of what was said of assignments that are gone; says how many it deleted.
pub(crate) async fn delete_unassigned(db: &mut Connection, limit: i64) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        r#"
        delete from reports
         where (cluster_id, target_id) in (
               select r.cluster_id, r.target_id
                 from reports r
                where not exists (
                      select from assignments a where a.cluster_id = r.cluster_id and a.target_id = r.target_id
                  )
                limit $1
           )
        "#,
        limit,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}
