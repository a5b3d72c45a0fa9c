//! What others changed in the clusters, as people are shown it.

use bellwether_core::api::DriftDocument;
use bellwether_core::drift::ChangedValues;
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
    values: Option<Stored<ChangedValues>>,
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
               d.action, d.manager, d.operation, d.fields, d.found_at, d.recorded_at,
               null::jsonb as "values: Stored<ChangedValues>"
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

/// One of a project's, with what was changed; a list has the paths only.
pub(crate) async fn find(
    db: &mut Connection,
    project: ProjectId,
    id: Uuid,
) -> Result<Option<DriftDocument>, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select d.drift_id, c.name as cluster, t.name as target, d.object as "object: Stored<ObjectKey>", d.change,
               d.action, d.manager, d.operation, d.fields, d.found_at, d.recorded_at,
               d.changed_values as "values: Stored<ChangedValues>"
          from drift_events d
          join clusters c using (cluster_id)
          join targets t using (target_id)
         where d.drift_id = $1 and t.project_id = $2
        "#,
        id,
        project.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| row.try_into().map(|(document, _): (_, Place)| document)).transpose()
}

impl TryFrom<Row> for (DriftDocument, Place) {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let unreadable = |column| StoreError::Unreadable { table: "drift_events", column };
        let place = (from_sql(row.recorded_at), row.drift_id);
        // What a later version wrote in another way is shown without.
        let told = row.values.and_then(|values| values.read("drift_events", "changed_values").ok()).unwrap_or_default();
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
            values: told.values,
            are_more_values: told.are_more,
        };
        Ok((document, place))
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::drift::{Change, ChangedValue, Drift, Response};
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::rows::{MAIN, Rows};
    use crate::store::{Pool, drifts};

    fn changed() -> ChangedValue {
        let value = |text: &str| Some(text.to_owned());
        ChangedValue { path: ".data.a".to_owned(), found: value("\"2\""), wanted: value("\"1\""), is_cut: false }
    }

    fn drift(target: TargetId) -> Drift {
        Drift {
            id: clock::new_id(),
            target,
            object: ObjectKey { api_version: "v1".into(), kind: "ConfigMap".into(), namespace: None, name: "a".into() },
            found_at: clock::now(),
            change: Change::Modified,
            response: Response::Corrected,
            manager: Some("kubectl".to_owned()),
            operation: None,
            fields: vec!["data.a".to_owned()],
            values: ChangedValues { values: vec![changed()], are_more: true },
        }
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn pages_of_drifts_have_each_once_the_newest_first_and_only_what_was_asked_for(pool: Pool) {
        let (mut rows, begin) = (Rows::new(&pool).await, clock::now());
        let (revision, bundle) = (rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let clusters = [rows.cluster("c1").await, rows.cluster("c2").await];
        let (mut targets, mut written) = (Vec::new(), Vec::new());
        for (name, cluster) in ["shop", "till"].into_iter().zip(clusters) {
            let target = rows.target(name).await;
            let render = rows.render(&target, revision, bundle).await;
            let rollout = rows.rollout(&target, render).await;
            rows.assign(cluster, &rollout, bundle).await;
            targets.push(target.id);
        }
        let (project, db) = (rows.project.id, &mut rows.db);
        // Three came at the same moment.
        for (seconds, one) in [(0, 0), (1, 1), (2, 0), (2, 0), (2, 1)] {
            let (drift, at) = (drift(targets[one]), begin + SignedDuration::from_secs(seconds));
            assert!(drifts::insert_new(db, clusters[one], &drift, at).await.expect("written"));
            written.push((at, drift.id));
        }
        written.sort_unstable();
        written.reverse();

        let (mut read, mut before) = (Vec::new(), None);
        loop {
            let page = list(db, project, None, None, before, 2).await.expect("a page");
            before = page.last().map(|(_, place)| *place);
            read.extend(page.iter().map(|(_, place)| *place));
            if page.is_empty() {
                break;
            }
        }
        let of_cluster = list(db, project, Some(clusters[1]), None, None, 10).await.expect("a page");
        let of_target = list(db, project, None, Some(targets[0]), None, 10).await.expect("a page");
        let of_both = list(db, project, Some(clusters[1]), Some(targets[0]), None, 10).await.expect("a page");
        let of_others = list(db, ProjectId::new(clock::new_id()), None, None, None, 10).await.expect("a page");

        assert_eq!(read, written);
        assert!(of_cluster.iter().all(|(one, _)| one.cluster.as_str() == "c2") && of_cluster.len() == 2);
        assert!(of_target.iter().all(|(one, _)| one.target.as_str() == "shop") && of_target.len() == 3);
        assert!(of_both.is_empty() && of_others.is_empty());
        assert_eq!(of_target[0].0.fields, ["data.a"]);
        let one = of_target[0].0.id;
        let shown = find(db, project, one).await.expect("read").expect("it is there");
        assert_eq!((shown.id, shown.values, shown.are_more_values), (one, vec![changed()], true));
        assert_eq!(find(db, ProjectId::new(clock::new_id()), one).await.expect("read"), None, "of another project");
    }
}
