//! What others changed in the clusters.

use bellwether_core::api::DriftDocument;
use bellwether_core::drift::Drift;
use bellwether_core::{ClusterId, ObjectKey, TargetId};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::stored::Stored;
use super::{Connection, StoreError, from_sql, to_sql};

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
                recorded_at)
        select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
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
    )
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// A place in the list: when the hub took it, and which.
pub(crate) type Place = (Timestamp, Uuid);

struct Row {
    drift_id: Uuid,
    cluster: String,
    target: String,
    object: Stored<ObjectKey>,
    change: String,
    action: String,
    manager: Option<String>,
    operation: Option<String>,
    fields: Vec<String>,
    found_at: chrono::DateTime<chrono::Utc>,
    recorded_at: chrono::DateTime<chrono::Utc>,
}

/// A page, newest first, before a place; with the place of each.
pub(crate) async fn list(
    db: &mut Connection,
    cluster: Option<ClusterId>,
    target: Option<TargetId>,
    before: Option<Place>,
    limit: i64,
) -> Result<Vec<(DriftDocument, Place)>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select d.drift_id, c.name as cluster, t.name as target, d.object as "object: Stored<ObjectKey>", d.change,
               d.action, d.manager, d.operation, d.fields, d.found_at, d.recorded_at
          from drift_events d
          join clusters c using (cluster_id)
          join targets t using (target_id)
         where ($1::uuid is null or d.cluster_id = $1)
           and ($2::uuid is null or d.target_id = $2)
           and ($3::timestamptz is null or (d.recorded_at, d.drift_id) < ($3, $4::uuid))
         order by d.recorded_at desc, d.drift_id desc
         limit $5
        "#,
        cluster.map(ClusterId::as_uuid),
        target.map(TargetId::as_uuid),
        before.map(|(at, _)| to_sql(at)),
        before.map_or(Uuid::nil(), |(_, id)| id),
        limit,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

impl TryFrom<Row> for (DriftDocument, Place) {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let unreadable = |column| StoreError::Unreadable { table: "drift_events", column };
        let place = (from_sql(row.recorded_at), row.drift_id);
        let document = DriftDocument {
            id: row.drift_id,
            at: from_sql(row.found_at),
            cluster: super::name(&row.cluster, "clusters")?,
            target: super::name(&row.target, "targets")?,
            object: row.object.read("drift_events", "object")?,
            manager: row.manager,
            operation: row.operation,
            change: row.change.parse().map_err(|_| unreadable("change"))?,
            action: row.action.parse().map_err(|_| unreadable("action"))?,
            fields: row.fields,
        };
        Ok((document, place))
    }
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
