//! Agents' certificates: which were issued, which are used, which are revoked.

use std::collections::BTreeSet;

use bellwether_core::ClusterId;
use jiff::Timestamp;

use super::{Connection, StoreError, to_sql};

pub(crate) async fn insert(
    db: &mut Connection,
    serial: &str,
    cluster: ClusterId,
    issued_at: Timestamp,
    not_after: Timestamp,
    renewed_from: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into certificates (serial, cluster_id, issued_at, not_after, renewed_from)
        values ($1, $2, $3, $4, $5)
        "#,
        serial,
        cluster.as_uuid(),
        to_sql(issued_at),
        to_sql(not_after),
        renewed_from,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether the cluster has used a certificate that was issued after this one.
pub(crate) async fn is_replaced(db: &mut Connection, serial: &str, cluster: ClusterId) -> Result<bool, StoreError> {
    let replaced = sqlx::query_scalar!(
        r#"
        select exists (
               select from certificates newer
                 join certificates this on this.serial = $1
                where newer.cluster_id = $2 and newer.issued_at > this.issued_at and newer.first_used_at is not null
        ) as "replaced!"
        "#,
        serial,
        cluster.as_uuid(),
    )
    .fetch_one(db)
    .await?;
    Ok(replaced)
}

/// Revokes what was issued in place of this one and never used: its answer was lost, or somebody keeps it for later.
pub(crate) async fn revoke_unused_successors(
    db: &mut Connection,
    serial: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update certificates
           set revoked_at = $2
         where renewed_from = $1 and first_used_at is null and revoked_at is null
        "#,
        serial,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Revokes what a cluster was given for its join token and never used.
pub(crate) async fn revoke_unused(db: &mut Connection, cluster: ClusterId, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update certificates
           set revoked_at = $2
         where cluster_id = $1 and renewed_from is null and first_used_at is null and revoked_at is null
        "#,
        cluster.as_uuid(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Marks a certificate as used; false when it is unknown, revoked, or its cluster is.
pub(crate) async fn mark_used(
    db: &mut Connection,
    serial: &str,
    cluster: ClusterId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    Ok(mark_all_used(db, &[(serial, cluster)], now).await?.contains(serial))
}

/// Marks certificates as used, and says which, by their serials: one that is unknown, or revoked, or whose cluster is, is
/// left out.
///
/// The clusters' rows are held to the end of the transaction, so that a revocation comes wholly before or after.
pub(crate) async fn mark_all_used(
    db: &mut Connection,
    certificates: &[(&str, ClusterId)],
    now: Timestamp,
) -> Result<BTreeSet<String>, StoreError> {
    let serials: Vec<_> = certificates.iter().map(|(serial, _)| (*serial).to_owned()).collect();
    let clusters: Vec<_> = certificates.iter().map(|(_, cluster)| cluster.as_uuid()).collect();
    let used = sqlx::query_scalar!(
        r#"
        with good as (
            select c.serial, c.cluster_id, c.first_used_at
              from unnest($1::text[], $2::uuid[]) as u (serial, cluster_id)
              join certificates c using (serial, cluster_id)
              join clusters l using (cluster_id)
             where c.revoked_at is null and l.revoked_at is null
             order by c.cluster_id
               for share of l
        ), marked as (
            update certificates c
               set first_used_at = $3
              from good g
             where c.serial = g.serial and g.first_used_at is null
        )
        select serial as "serial!" from good
        "#,
        &serials,
        &clusters,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    Ok(used.into_iter().collect())
}

pub(crate) async fn mark_all_revoked(
    db: &mut Connection,
    cluster: ClusterId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update certificates set revoked_at = $2 where cluster_id = $1 and revoked_at is null",
        cluster.as_uuid(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Serials that are revoked, or whose clusters are deleted, and that would otherwise still be good.
pub(crate) async fn list_revoked(db: &mut Connection, now: Timestamp) -> Result<Vec<String>, StoreError> {
    let serials = sqlx::query_scalar!(
        r#"
        select serial
          from certificates
         where (revoked_at is not null or cluster_id is null) and not_after > $1
         order by serial
        "#,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    Ok(serials)
}

/// Deletes so many of those that ended before; says how many it deleted.
pub(crate) async fn delete_ended(db: &mut Connection, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        "delete from certificates where serial in (select serial from certificates where not_after < $1 limit $2)",
        to_sql(before),
        limit,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}
