//! What others changed in the clusters.

use bellwether_core::ClusterId;
use bellwether_core::drift::Drift;
use jiff::Timestamp;
use sqlx::types::Json;

use super::{Connection, StoreError, to_sql};

/// Drifts of one cluster and target within a day: somebody who fights with us over a field every few minutes. What is
/// beyond says nothing new, and rows of all clusters are kept for 90 days.
const PER_TARGET_MAX: i64 = 500;
/// Of a cluster, whose targets somebody changed all at once.
const PER_CLUSTER_MAX: i64 = 5_000;

/// Writes a drift of a cluster that is assigned the target; false: it is not, the drift is there already, the cluster
/// has had its share of this day, or the target is not there: a tombstone outlives it.
pub(crate) async fn insert_new(
    db: &mut Connection,
    cluster: ClusterId,
    drift: &Drift,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let inserted = sqlx::query!(
        r#"
        insert into drift_events
               (drift_id, cluster_id, target_id, object, change, action, manager, operation, fields, found_at,
                recorded_at, changed_values)
        select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $14
         where exists (
               select from assignments a join targets t using (target_id) where a.cluster_id = $2 and t.target_id = $3
         )
           and not exists (
               select from drift_events
                where cluster_id = $2 and recorded_at > $11::timestamptz - interval '1 day'
               offset $12
         )
           and not exists (
               select from drift_events
                where cluster_id = $2 and target_id = $3 and recorded_at > $11::timestamptz - interval '1 day'
               offset $13
         )
            on conflict do nothing
        "#,
        drift.id,
        cluster.as_uuid(),
        drift.target.as_uuid(),
        Json(&drift.object) as _,
        drift.change.as_str(),
        drift.response.as_str(),
        drift.manager,
        drift.operation,
        &drift.fields,
        to_sql(drift.found_at),
        to_sql(now),
        PER_CLUSTER_MAX - 1,
        PER_TARGET_MAX - 1,
        Json(&drift.values) as _,
    )
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Deletes so many of those that were recorded before; says how many it deleted.
pub(crate) async fn delete_before(db: &mut Connection, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        "delete from drift_events where drift_id in (select drift_id from drift_events where recorded_at < $1 limit $2)",
        to_sql(before),
        limit,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}

#[cfg(test)]
mod tests {
    use bellwether_core::drift::{Change, Response};
    use bellwether_core::{ObjectKey, TargetId};
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::rows::{MAIN, Rows};
    use crate::store::{Pool, execute_in};

    fn drift(target: TargetId) -> Drift {
        Drift {
            id: clock::new_id(),
            target,
            object: ObjectKey { api_version: "v1".into(), kind: "ConfigMap".into(), namespace: None, name: "a".into() },
            found_at: clock::now(),
            change: Change::Modified,
            response: Response::Corrected,
            manager: None,
            operation: None,
            fields: Vec::new(),
            values: bellwether_core::drift::ChangedValues::default(),
        }
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_drift_is_written_once_of_what_is_assigned_and_so_many_in_a_day(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, other) = (rows.target("shop").await, rows.target("other").await);
        let (revision, bundle) = (rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let render = rows.render(&target, revision, bundle).await;
        let rollout = rows.rollout(&target, render).await;
        let cluster = rows.cluster("c1").await;
        rows.assign(cluster, &rollout, bundle).await;
        let (db, now, one) = (&mut rows.db, clock::now(), drift(target.id));
        let mut write = async |drift: &Drift, now| insert_new(db, cluster, drift, now).await.expect("written");

        assert!(write(&one, now).await);
        assert!(!write(&one, now).await, "it came again");
        assert!(!write(&drift(other.id), now).await, "the cluster does not run that");
        for _ in 1..PER_TARGET_MAX {
            assert!(write(&drift(target.id), now).await);
        }
        assert!(!write(&drift(target.id), now).await, "that is its share of this day");
        assert!(write(&drift(target.id), now + SignedDuration::from_hours(25)).await);

        execute_in(db, "update drift_events set recorded_at = recorded_at - interval '90 days'")
            .await
            .expect("time passes");
        assert_eq!(
            delete_before(db, now - SignedDuration::from_hours(24), 10).await.expect("swept"),
            10,
            "so many at once"
        );
    }
}
