//! Registered clusters and their join tokens.

use std::collections::BTreeSet;

use bellwether_core::enrollment::JoinToken;
use bellwether_core::labels::Annotations;
use bellwether_core::{ClusterId, Digest, Labels, Name, ProjectId, Version};
use jiff::Timestamp;
use sqlx::types::Json;

use super::projects::Project;
use super::stored::{Entry, Stored};
use super::{Connection, StoreError, from_sql, named, to_sql};

#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) project: Project,
    pub(crate) name: Name,
    pub(crate) labels: Labels,
    pub(crate) annotations: Annotations,
    pub(crate) namespace: String,
    pub(crate) version: Version,
    pub(crate) created_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
}

struct Row {
    cluster_id: uuid::Uuid,
    project_id: uuid::Uuid,
    project: String,
    name: String,
    labels: Stored<Labels>,
    annotations: Stored<Annotations>,
    namespace: String,
    version: i64,
    created_at: chrono::DateTime<chrono::Utc>,
    revoked_at: Option<chrono::DateTime<chrono::Utc>>,
}

/// Whole rows; `which` says which of them.
macro_rules! rows {
    ($which:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"
            select cluster_id, project_id,
                   (select p.name from projects p where p.project_id = clusters.project_id) as "project!", name, labels as "labels: Stored<Labels>",
                   annotations as "annotations: Stored<Annotations>", namespace, version, created_at, revoked_at
              from clusters
            "# + $which
            $(, $argument)*
        )
    };
}

impl TryFrom<Row> for Cluster {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: ClusterId::new(row.cluster_id),
            project: Project::read(row.project_id, &row.project)?,
            name: super::name(&row.name, "clusters")?,
            labels: row.labels.read("clusters", "labels")?,
            annotations: row.annotations.read("clusters", "annotations")?,
            namespace: row.namespace,
            version: Version::new(row.version),
            created_at: from_sql(row.created_at),
            revoked_at: row.revoked_at.map(from_sql),
        })
    }
}

pub(crate) async fn insert(db: &mut Connection, cluster: &Cluster) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into clusters (cluster_id, project_id, name, labels, annotations, namespace, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $7)
        "#,
        cluster.id.as_uuid(),
        cluster.project.id.as_uuid(),
        cluster.name.as_str(),
        Json(&cluster.labels) as _,
        Json(&cluster.annotations) as _,
        cluster.namespace,
        to_sql(cluster.created_at),
    )
    .execute(db)
    .await
    .map_err(named)?;
    Ok(())
}

pub(crate) async fn find(db: &mut Connection, id: ClusterId) -> Result<Option<Cluster>, StoreError> {
    let row = rows!("where cluster_id = $1", id.as_uuid()).fetch_optional(db).await?;
    row.map(TryInto::try_into).transpose()
}

/// Those of these that can be read.
pub(crate) async fn list_of(db: &mut Connection, ids: &[ClusterId]) -> Result<Vec<Cluster>, StoreError> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = rows!("where cluster_id = any($1)", &ids).fetch_all(db).await?;
    Ok(rows.into_iter().filter_map(|row| Entry::of(row.name.clone(), row.try_into()).readable()).collect())
}

pub(crate) async fn find_by_name(
    db: &mut Connection,
    project: ProjectId,
    name: &Name,
) -> Result<Option<Cluster>, StoreError> {
    let row = rows!("where project_id = $1 and name = $2", project.as_uuid(), name.as_str()).fetch_optional(db).await?;
    row.map(TryInto::try_into).transpose()
}

/// Holds a cluster's row against whoever writes a row that names it, such as a member of a rollout, until the transaction ends.
pub(crate) async fn lock_whole(db: &mut Connection, id: ClusterId) -> Result<(), StoreError> {
    sqlx::query!("select from clusters where cluster_id = $1 for update", id.as_uuid()).execute(db).await?;
    Ok(())
}

/// Finds a cluster and holds its row: what is decided about who it is comes one after the other.
pub(crate) async fn lock(db: &mut Connection, id: ClusterId) -> Result<Option<Cluster>, StoreError> {
    sqlx::query!("select from clusters where cluster_id = $1 for no key update", id.as_uuid())
        .fetch_optional(&mut *db)
        .await?;
    find(db, id).await
}

/// A page of a project's, in order of names, after one.
pub(crate) async fn list(
    db: &mut Connection,
    project: ProjectId,
    after: &str,
    limit: i64,
) -> Result<Vec<Entry<Cluster>>, StoreError> {
    let rows = rows!(
        r#"
         where project_id = $1 and name > $2
         order by name
         limit $3
        "#,
        project.as_uuid(),
        after,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| Entry::of(row.name.clone(), row.try_into())).collect())
}

pub(crate) async fn mark_labels(
    db: &mut Connection,
    id: ClusterId,
    seen: Version,
    labels: &Labels,
    now: Timestamp,
) -> Result<(), StoreError> {
    let updated = sqlx::query!(
        "update clusters set labels = $3, version = version + 1, updated_at = $4 where cluster_id = $1 and version = $2",
        id.as_uuid(),
        seen.get(),
        Json(labels) as _,
        to_sql(now),
    )
    .execute(db)
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Stale { table: "clusters" }) }
}

pub(crate) async fn mark_annotations(
    db: &mut Connection,
    id: ClusterId,
    seen: Version,
    annotations: &Annotations,
    now: Timestamp,
) -> Result<(), StoreError> {
    let updated = sqlx::query!(
        r#"
        update clusters set annotations = $3, version = version + 1, updated_at = $4
         where cluster_id = $1 and version = $2
        "#,
        id.as_uuid(),
        seen.get(),
        Json(annotations) as _,
        to_sql(now),
    )
    .execute(db)
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Stale { table: "clusters" }) }
}

pub(crate) async fn mark_revoked(db: &mut Connection, id: ClusterId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!(
        "update clusters set revoked_at = $2, version = version + 1, updated_at = $2 where cluster_id = $1",
        id.as_uuid(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn insert_enrollment(
    db: &mut Connection,
    hash: Digest,
    cluster: ClusterId,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into enrollments (token_hash, cluster_id, created_at, expires_at) values ($1, $2, $3, $4)",
        hash.as_bytes(),
        cluster.as_uuid(),
        to_sql(now),
        to_sql(expires_at),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Which cluster a join token is for.
pub(crate) async fn find_invited(db: &mut Connection, hash: Digest) -> Result<Option<ClusterId>, StoreError> {
    let cluster = sqlx::query_scalar!("select cluster_id from enrollments where token_hash = $1", hash.as_bytes())
        .fetch_optional(db)
        .await?;
    Ok(cluster.map(ClusterId::new))
}

/// Join tokens that nobody may use any more: they do not come back when the cluster is let in again.
pub(crate) async fn delete_enrollments(db: &mut Connection, id: ClusterId) -> Result<(), StoreError> {
    sqlx::query!("delete from enrollments where cluster_id = $1", id.as_uuid()).execute(db).await?;
    Ok(())
}

/// Finds a join token and holds its row: of two that use it at once, the second sees what the first did.
pub(crate) async fn lock_enrollment(db: &mut Connection, hash: Digest) -> Result<Option<JoinToken>, StoreError> {
    let row = sqlx::query!(
        r#"
        select expires_at, first_key,
               exists (select from certificates
                        where cluster_id = e.cluster_id and first_used_at >= e.used_at) as "spent!"
          from enrollments e
         where token_hash = $1
           for update
        "#,
        hash.as_bytes(),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let first_key = row.first_key.map(|bytes| super::digest(&bytes, "enrollments")).transpose()?;
    Ok(Some(JoinToken { expires_at: from_sql(row.expires_at), first_key, spent: row.spent }))
}

pub(crate) async fn mark_enrollment_used(
    db: &mut Connection,
    hash: Digest,
    key: Digest,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update enrollments
           set first_key = $2, used_at = coalesce(used_at, $3)
         where token_hash = $1
        "#,
        hash.as_bytes(),
        key.as_bytes(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A revoked cluster may join again, with a new token and a new certificate.
pub(crate) async fn mark_welcome_again(db: &mut Connection, id: ClusterId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!(
        "update clusters set revoked_at = null, version = version + 1, updated_at = $2 where cluster_id = $1",
        id.as_uuid(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn delete(db: &mut Connection, id: ClusterId) -> Result<(), StoreError> {
    sqlx::query!("delete from clusters where cluster_id = $1", id.as_uuid()).execute(db).await?;
    Ok(())
}

/// Deletes so many of those that ended before; says how many it deleted.
pub(crate) async fn delete_spent_enrollments(
    db: &mut Connection,
    before: Timestamp,
    limit: i64,
) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        "delete from enrollments where token_hash in (select token_hash from enrollments where expires_at < $1 limit $2)",
        to_sql(before),
        limit,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}

/// The namespaces that a project's agents live in.
pub(crate) async fn list_agent_namespaces(
    db: &mut Connection,
    project: ProjectId,
) -> Result<BTreeSet<String>, StoreError> {
    // From one to the next: `distinct` would read every cluster for what is one namespace in most installations.
    let namespaces = sqlx::query_scalar!(
        r#"
        with recursive found as (
            select min(namespace) as namespace from clusters where project_id = $1
             union all
            select (select min(c.namespace) from clusters c where c.project_id = $1 and c.namespace > f.namespace)
              from found f
             where f.namespace is not null
        )
        select namespace as "namespace!" from found where namespace is not null
        "#,
        project.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    Ok(namespaces.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::rows::Rows;
    use crate::store::{Pool, certificates, execute_in};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn labels_are_changed_by_whoever_saw_the_last_ones(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let id = rows.cluster("c1").await;
        let (db, labels) = (&mut rows.db, Labels::from([("ring".to_owned(), "canary".to_owned())]));

        mark_labels(db, id, Version::new(1), &labels, clock::now()).await.expect("written");
        let stale = mark_labels(db, id, Version::new(1), &Labels::new(), clock::now()).await;
        let stale_too = mark_annotations(db, id, Version::new(1), &Annotations::new(), clock::now()).await;

        assert!(matches!(stale, Err(StoreError::Stale { table: "clusters" })), "{stale:?}");
        assert!(stale_too.is_err(), "one version counts for both");
        assert_eq!(find(db, id).await.expect("read").expect("it is there").labels, labels);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_join_token_is_spent_once_a_certificate_that_came_of_it_was_used(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let id = rows.cluster("c1").await;
        let (db, now, hour) = (&mut rows.db, clock::now(), SignedDuration::from_hours(1));
        let (hash, key) = (Digest::of(b"token"), Digest::of(b"key"));
        // Of an earlier life of the cluster.
        certificates::insert(db, "00", id, now - 2 * hour, now + hour, None).await.expect("written");
        certificates::mark_used(db, "00", id, now - hour).await.expect("marked");
        insert_enrollment(db, hash, id, now, now + hour).await.expect("written");
        assert_eq!(find_invited(db, hash).await.expect("read"), Some(id));

        let fresh = lock_enrollment(db, hash).await.expect("read").expect("it is there");
        assert_eq!((fresh.first_key, fresh.spent), (None, false));
        mark_enrollment_used(db, hash, key, now).await.expect("written");
        mark_enrollment_used(db, hash, key, now + hour).await.expect("written");
        certificates::insert(db, "01", id, now, now + hour, None).await.expect("written");
        let lost = lock_enrollment(db, hash).await.expect("read").expect("it is there");
        assert_eq!((lost.first_key, lost.spent), (Some(key), false), "the answer may have been lost");
        certificates::mark_used(db, "01", id, now).await.expect("marked");
        assert!(lock_enrollment(db, hash).await.expect("read").expect("it is there").spent);

        assert_eq!(delete_spent_enrollments(db, now, 10).await.expect("swept"), 0, "it has not ended");
        delete_enrollments(db, id).await.expect("written");
        assert_eq!(find_invited(db, hash).await.expect("read"), None);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn each_namespace_of_agents_is_told_once(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        for name in ["c1", "c2", "c3"] {
            rows.cluster(name).await;
        }
        execute_in(&mut rows.db, "update clusters set namespace = 'edge' where name = 'c2'").await.expect("written");

        let namespaces = list_agent_namespaces(&mut rows.db, rows.project.id).await.expect("read");

        assert_eq!(namespaces, ["bellwether-system", "edge"].map(str::to_owned).into());
        let other = ProjectId::new(clock::new_id());
        assert!(list_agent_namespaces(&mut rows.db, other).await.expect("read").is_empty());
    }
}
