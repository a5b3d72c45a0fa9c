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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::rows::Rows;
    use crate::store::{Pool, clusters};

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    async fn issue(rows: &mut Rows, serial: &str, cluster: ClusterId, at: Timestamp, from: Option<&str>) {
        insert(&mut rows.db, serial, cluster, at, at + 24 * HOUR, from).await.expect("written");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_certificate_is_replaced_once_a_later_one_was_used(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (cluster, now) = (rows.cluster("c1").await, clock::now());
        issue(&mut rows, "01", cluster, now, None).await;
        issue(&mut rows, "02", cluster, now + HOUR, Some("01")).await;
        let db = &mut rows.db;

        assert!(!is_replaced(db, "01", cluster).await.expect("asked"), "its answer may have been lost");
        assert!(mark_used(db, "02", cluster, now + HOUR).await.expect("marked"));
        assert!(is_replaced(db, "01", cluster).await.expect("asked"));
        assert!(!is_replaced(db, "02", cluster).await.expect("asked"));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_was_issued_and_never_used_is_revoked_and_what_was_used_stays(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (cluster, now) = (rows.cluster("c1").await, clock::now());
        for (serial, from) in [("01", None), ("02", None), ("03", Some("01")), ("04", Some("01")), ("05", Some("02"))] {
            issue(&mut rows, serial, cluster, now, from).await;
        }
        let db = &mut rows.db;
        let used = mark_all_used(db, &[("01", cluster), ("04", cluster), ("99", cluster)], now).await.expect("marked");
        assert_eq!(used, ["01", "04"].map(str::to_owned).into());

        revoke_unused_successors(db, "01", now).await.expect("written");
        assert_eq!(list_revoked(db, now).await.expect("read"), ["03"]);
        revoke_unused(db, cluster, now).await.expect("written");
        assert_eq!(list_revoked(db, now).await.expect("read"), ["02", "03"], "what came for the join token");
        assert!(!mark_used(db, "03", cluster, now).await.expect("marked"), "and cannot be used any more");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn nobody_uses_a_certificate_of_another_cluster_or_of_one_that_is_revoked_or_gone(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (one, other, now) = (rows.cluster("c1").await, rows.cluster("c2").await, clock::now());
        issue(&mut rows, "01", one, now, None).await;
        issue(&mut rows, "02", other, now, None).await;
        let db = &mut rows.db;

        assert!(!mark_used(db, "01", other, now).await.expect("marked"));
        clusters::mark_revoked(db, one, now).await.expect("written");
        assert!(!mark_used(db, "01", one, now).await.expect("marked"));
        clusters::delete(db, other).await.expect("it goes");
        assert_eq!(list_revoked(db, now).await.expect("read"), ["02"], "who is gone is refused by serial");
        assert!(list_revoked(db, now + 25 * HOUR).await.expect("read").is_empty(), "it has ended by itself");
        assert_eq!(delete_ended(db, now + 25 * HOUR, 1).await.expect("swept"), 1, "so many at once");
    }
}
