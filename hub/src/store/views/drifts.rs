//! What others changed in the clusters, as people are shown it.

use bellwether_core::api::DriftDocument;
use bellwether_core::{ClusterId, ObjectKey, ProjectId, TargetId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::store::stored::Stored;
use crate::store::{Connection, StoreError, from_sql, name, to_sql};

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

/// A page of a project's, newest first, before a place; with the place of each.
pub(crate) async fn list(
    db: &mut Connection,
    project: ProjectId,
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
           and t.project_id = $6
         order by d.recorded_at desc, d.drift_id desc
         limit $5
        "#,
        cluster.map(ClusterId::as_uuid),
        target.map(TargetId::as_uuid),
        before.map(|(at, _)| to_sql(at)),
        before.map_or(Uuid::nil(), |(_, id)| id),
        limit,
        project.as_uuid(),
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
            cluster: name(&row.cluster, "clusters")?,
            target: name(&row.target, "targets")?,
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
