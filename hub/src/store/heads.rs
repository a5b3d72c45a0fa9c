//! Commits that wait at their refs for somebody to let them in.

use std::collections::BTreeMap;

use bellwether_core::RepoId;
use jiff::Timestamp;

use super::{Connection, StoreError, to_sql};

/// Another commit takes the place of the one before, accepted or not.
pub(crate) async fn mark_waiting(
    db: &mut Connection,
    repo: RepoId,
    reference: &str,
    commit: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into waiting_heads as w (repo_id, ref, commit_id, seen_at)
        values ($1, $2, $3, $4)
            on conflict (repo_id, ref) do update
           set commit_id = excluded.commit_id, seen_at = excluded.seen_at, accepted_at = null
         where w.commit_id <> excluded.commit_id
        "#,
        repo.as_uuid(),
        reference,
        commit,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether somebody has let this commit in at this ref.
pub(crate) async fn is_accepted(
    db: &mut Connection,
    repo: RepoId,
    reference: &str,
    commit: &str,
) -> Result<bool, StoreError> {
    let is_accepted = sqlx::query_scalar!(
        r#"
        select exists (
               select from waiting_heads
                where repo_id = $1 and ref = $2 and commit_id = $3 and accepted_at is not null
               ) as "is_accepted!"
        "#,
        repo.as_uuid(),
        reference,
        commit,
    )
    .fetch_one(db)
    .await?;
    Ok(is_accepted)
}

/// At which refs the commit waited, at that ref or at any.
pub(crate) async fn mark_accepted(
    db: &mut Connection,
    repo: RepoId,
    commit: &str,
    reference: Option<&str>,
    now: Timestamp,
) -> Result<Vec<String>, StoreError> {
    let references = sqlx::query_scalar!(
        r#"
        update waiting_heads
           set accepted_at = $4
         where repo_id = $1 and commit_id = $2 and accepted_at is null and ($3::text is null or ref = $3)
        returning ref
        "#,
        repo.as_uuid(),
        commit,
        reference,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    Ok(references)
}

/// Refs, and the commits that wait there.
pub(crate) async fn list_waiting(db: &mut Connection, repo: RepoId) -> Result<BTreeMap<String, String>, StoreError> {
    let rows = sqlx::query!(
        "select ref, commit_id from waiting_heads where repo_id = $1 and accepted_at is null",
        repo.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.r#ref, row.commit_id)).collect())
}

/// What is at the ref now waits for nobody.
pub(crate) async fn delete_waiting(db: &mut Connection, repo: RepoId, reference: &str) -> Result<(), StoreError> {
    sqlx::query!("delete from waiting_heads where repo_id = $1 and ref = $2", repo.as_uuid(), reference)
        .execute(db)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;
    use crate::store::Pool;
    use crate::store::rows::{MAIN, Rows};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_somebody_let_in_is_that_commit_there_and_no_other(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (db, repo, now) = (&mut rows.db, rows.repo, clock::now());
        let release = "refs/heads/release";
        for reference in [MAIN, release] {
            mark_waiting(db, repo, reference, "a", now).await.expect("written");
        }

        assert!(mark_accepted(db, repo, "b", None, now).await.expect("written").is_empty(), "it does not wait");
        assert_eq!(mark_accepted(db, repo, "a", Some(MAIN), now).await.expect("written"), [MAIN]);
        mark_waiting(db, repo, MAIN, "a", now).await.expect("written");
        assert!(is_accepted(db, repo, MAIN, "a").await.expect("asked"), "the same commit was let in");
        assert!(!is_accepted(db, repo, release, "a").await.expect("asked"));
        let waiting = list_waiting(db, repo).await.expect("read");
        assert_eq!(waiting, [(release.to_owned(), "a".to_owned())].into());

        mark_waiting(db, repo, MAIN, "b", now).await.expect("written");
        assert!(!is_accepted(db, repo, MAIN, "a").await.expect("asked"), "another one waits there now");
        assert!(!is_accepted(db, repo, MAIN, "b").await.expect("asked"));
        delete_waiting(db, repo, MAIN).await.expect("written");
        assert_eq!(list_waiting(db, repo).await.expect("read").len(), 1);
    }
}
