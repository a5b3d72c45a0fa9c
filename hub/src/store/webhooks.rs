//! What Git hosts say of pushes, as far as it is kept.

use std::collections::BTreeMap;

use bellwether_core::{Digest, RepoId};
use jiff::Timestamp;

use super::{Connection, StoreError, to_sql};

/// A ref of a repo that targets follow or read files at, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Followed {
    /// Full name, or a commit.
    pub(crate) reference: String,
    /// The last commit seen there.
    pub(crate) head: Option<String>,
    /// Something is wrong with it, such as that it is gone.
    pub(crate) has_condition: bool,
    /// A host said where it is, and no fetch has seen it there yet.
    pub(crate) is_expected: bool,
}

pub(crate) async fn list_followed(db: &mut Connection, repo: RepoId) -> Result<Vec<Followed>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select f.ref as "ref!", v.commit_id as "commit_id?",
               exists (select from ref_conditions c where c.repo_id = $1 and c.ref = f.ref) as "has_condition!",
               exists (select from expected_heads e where e.repo_id = $1 and e.ref = f.ref) as "is_expected!"
          from (
               select ref from targets where repo_id = $1
                union
               select ref from target_sources where repo_id = $1
               ) f
          left join lateral (
               select commit_id
                 from revisions
                where repo_id = $1 and ref = f.ref
                order by revision_id desc
                limit 1
               ) v on true
        "#,
        repo.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    let followed = rows.into_iter().map(|row| Followed {
        reference: row.r#ref,
        head: row.commit_id,
        has_condition: row.has_condition,
        is_expected: row.is_expected,
    });
    Ok(followed.collect())
}

/// Whether it was not there yet.
pub(crate) async fn insert_delivery(
    db: &mut Connection,
    repo: RepoId,
    delivery: Digest,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let inserted = sqlx::query!(
        "insert into webhook_deliveries (repo_id, delivery, received_at) values ($1, $2, $3) on conflict do nothing",
        repo.as_uuid(),
        &delivery.as_bytes()[..],
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// What a repo's hosts sent is heard again if they send it again.
pub(crate) async fn delete_deliveries_of(db: &mut Connection, repo: RepoId) -> Result<(), StoreError> {
    sqlx::query!("delete from webhook_deliveries where repo_id = $1", repo.as_uuid()).execute(db).await?;
    Ok(())
}

/// Deletes so many that came before; says how many it deleted.
pub(crate) async fn delete_deliveries(db: &mut Connection, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        r#"
        delete from webhook_deliveries
         where ctid = any (array(select ctid from webhook_deliveries where received_at < $1 limit $2))
        "#,
        to_sql(before),
        limit,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}

/// Where refs are, as a host says: at a commit, or gone.
pub(crate) async fn expect_heads(
    db: &mut Connection,
    repo: RepoId,
    heads: &BTreeMap<String, Option<String>>,
    now: Timestamp,
) -> Result<(), StoreError> {
    if heads.is_empty() {
        return Ok(());
    }
    let (refs, commits): (Vec<_>, Vec<_>) = heads.iter().map(|(name, commit)| (name.clone(), commit.clone())).unzip();
    sqlx::query!(
        r#"
        insert into expected_heads (repo_id, ref, commit_id, told_at)
        select $1, e.ref, e.commit_id, $4
          from unnest($2::text[], $3::text[]) as e (ref, commit_id)
         order by e.ref
            on conflict (repo_id, ref) do update set commit_id = excluded.commit_id, told_at = excluded.told_at
        "#,
        repo.as_uuid(),
        &refs,
        &commits as &[Option<String>],
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn list_expected(
    db: &mut Connection,
    repo: RepoId,
) -> Result<BTreeMap<String, Option<String>>, StoreError> {
    let rows = sqlx::query!("select ref, commit_id from expected_heads where repo_id = $1", repo.as_uuid())
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(|row| (row.r#ref, row.commit_id)).collect())
}

pub(crate) async fn delete_expected(db: &mut Connection, repo: RepoId, refs: &[String]) -> Result<(), StoreError> {
    if refs.is_empty() {
        return Ok(());
    }
    sqlx::query!("delete from expected_heads where repo_id = $1 and ref = any($2)", repo.as_uuid(), refs)
        .execute(db)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::Pool;
    use crate::store::rows::{MAIN, Rows};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_delivery_is_heard_once_until_it_is_forgotten(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (db, repo, now) = (&mut rows.db, rows.repo, clock::now());
        let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
        let hour = SignedDuration::from_hours(1);

        assert!(insert_delivery(db, repo, one, now - hour).await.expect("written"));
        assert!(!insert_delivery(db, repo, one, now).await.expect("written"));
        assert!(insert_delivery(db, repo, other, now).await.expect("written"));
        assert_eq!(delete_deliveries(db, now, 10).await.expect("swept"), 1);
        assert!(insert_delivery(db, repo, one, now).await.expect("written"), "it was long ago");
        delete_deliveries_of(db, repo).await.expect("written");
        assert!(insert_delivery(db, repo, other, now).await.expect("written"), "the secret is another");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_a_host_said_last_of_a_ref_counts_until_it_was_seen(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        rows.target("shop").await;
        rows.revision(MAIN, "a").await;
        let (db, repo, now) = (&mut rows.db, rows.repo, clock::now());
        let gone = BTreeMap::from([(MAIN.to_owned(), None)]);
        let there = BTreeMap::from([(MAIN.to_owned(), Some("b".to_owned()))]);

        expect_heads(db, repo, &gone, now).await.expect("written");
        expect_heads(db, repo, &there, now).await.expect("written");
        assert_eq!(list_expected(db, repo).await.expect("read"), there);
        let followed = list_followed(db, repo).await.expect("read");
        let main = Followed {
            reference: MAIN.to_owned(),
            head: Some("a".to_owned()),
            has_condition: false,
            is_expected: true,
        };
        assert_eq!(followed, std::slice::from_ref(&main));
        delete_expected(db, repo, &[MAIN.to_owned()]).await.expect("written");
        assert_eq!(list_followed(db, repo).await.expect("read"), [Followed { is_expected: false, ..main }]);
    }
}
