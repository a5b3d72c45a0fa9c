//! Commits seen at refs.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::signature::Verified;
use bellwether_core::{Condition, RepoId, RevisionId};
use jiff::Timestamp;
use sqlx::types::Json;

use super::{Connection, StoreError, from_sql, to_sql};

#[derive(Debug, Clone)]
pub(crate) struct Revision {
    pub(crate) id: RevisionId,
    pub(crate) reference: String,
    /// Of a range of versions, which was the newest in it.
    pub(crate) tag: Option<String>,
    pub(crate) commit: String,
    pub(crate) author: String,
    pub(crate) subject: String,
    /// By which of the keys that its repo had it was found signed.
    pub(crate) verified: Option<Verified>,
    pub(crate) seen_at: Timestamp,
    pub(crate) trace_id: String,
}

struct Row {
    revision_id: uuid::Uuid,
    r#ref: String,
    tag: Option<String>,
    commit_id: String,
    author: String,
    subject: String,
    verified: Option<Json<Verified>>,
    seen_at: chrono::DateTime<chrono::Utc>,
    trace_id: String,
}

impl From<Row> for Revision {
    fn from(row: Row) -> Self {
        Self {
            id: RevisionId::new(row.revision_id),
            reference: row.r#ref,
            tag: row.tag,
            commit: row.commit_id,
            author: row.author,
            subject: row.subject,
            verified: row.verified.map(|verified| verified.0),
            seen_at: from_sql(row.seen_at),
            trace_id: row.trace_id,
        }
    }
}

pub(crate) async fn insert(db: &mut Connection, repo: RepoId, revision: &Revision) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into revisions (revision_id, repo_id, ref, tag, commit_id, author, subject, verified, seen_at, trace_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        "#,
        revision.id.as_uuid(),
        repo.as_uuid(),
        revision.reference,
        revision.tag,
        revision.commit,
        revision.author,
        revision.subject,
        revision.verified.as_ref().map(Json) as _,
        to_sql(revision.seen_at),
        revision.trace_id,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The keys of its repo are others since it was seen.
pub(crate) async fn mark_verified(
    db: &mut Connection,
    id: RevisionId,
    verified: Option<&Verified>,
) -> Result<(), StoreError> {
    sqlx::query!("update revisions set verified = $2 where revision_id = $1", id.as_uuid(), verified.map(Json) as _,)
        .execute(db)
        .await?;
    Ok(())
}

/// The newest revision at a ref, and what is wrong with that ref.
pub(crate) async fn find_head(
    db: &mut Connection,
    repo: RepoId,
    reference: &str,
) -> Result<(Option<Revision>, Option<Condition>), StoreError> {
    let row = sqlx::query!(
        r#"
        select v.revision_id as "revision_id?", v.tag as "tag?", v.commit_id as "commit_id?", v.author as "author?",
               v.subject as "subject?", v.verified as "verified?: Json<Verified>", v.seen_at as "seen_at?", v.trace_id as "trace_id?",
               c.condition as "condition?: Json<Condition>"
          from (values ($1::uuid, $2::text)) as r (repo_id, ref)
          left join lateral (
               select revision_id, tag, commit_id, author, subject, verified, seen_at, trace_id
                 from revisions
                where repo_id = r.repo_id and ref = r.ref
                order by revision_id desc
                limit 1
               ) v on true
          left join ref_conditions c using (repo_id, ref)
        "#,
        repo.as_uuid(),
        reference,
    )
    .fetch_one(db)
    .await?;
    let revision = || {
        Some(Revision {
            id: RevisionId::new(row.revision_id?),
            reference: reference.to_owned(),
            tag: row.tag,
            commit: row.commit_id?,
            author: row.author?,
            subject: row.subject?,
            verified: row.verified.map(|verified| verified.0),
            seen_at: from_sql(row.seen_at?),
            trace_id: row.trace_id?,
        })
    };
    Ok((revision(), row.condition.map(|condition| condition.0)))
}

pub(crate) async fn find(db: &mut Connection, id: RevisionId) -> Result<Option<Revision>, StoreError> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select revision_id, ref, tag, commit_id, author, subject, verified as "verified: Json<Verified>", seen_at,
               trace_id
          from revisions
         where revision_id = $1
        "#,
        id.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(Into::into))
}

/// The newest revision of each ref of these repos.
pub(crate) async fn list_heads(
    db: &mut Connection,
    repos: &[RepoId],
) -> Result<BTreeMap<RepoId, Vec<Revision>>, StoreError> {
    let repos: Vec<_> = repos.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select distinct on (repo_id, ref) repo_id as "repo_id!", revision_id, ref, tag, commit_id, author, subject,
               verified as "verified: Json<Verified>", seen_at, trace_id
          from revisions
         where repo_id = any($1)
         order by repo_id, ref, revision_id desc
        "#,
        &repos,
    )
    .fetch_all(db)
    .await?;
    let mut heads: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        let revision = Revision {
            id: RevisionId::new(row.revision_id),
            reference: row.r#ref,
            tag: row.tag,
            commit: row.commit_id,
            author: row.author,
            subject: row.subject,
            verified: row.verified.map(|verified| verified.0),
            seen_at: from_sql(row.seen_at),
            trace_id: row.trace_id,
        };
        heads.entry(RepoId::new(row.repo_id)).or_default().push(revision);
    }
    Ok(heads)
}

/// The commits of the newest revisions at these refs, by ref.
pub(crate) async fn list_commits_at(
    db: &mut Connection,
    repo: RepoId,
    references: impl Iterator<Item = &str>,
) -> Result<BTreeMap<String, String>, StoreError> {
    let references: BTreeSet<_> = references.map(ToOwned::to_owned).collect();
    let references: Vec<String> = references.into_iter().collect();
    let rows = sqlx::query!(
        r#"
        select r.ref as "reference!", v.commit_id
          from unnest($2::text[]) as r (ref)
         cross join lateral (
               select commit_id from revisions where repo_id = $1 and ref = r.ref order by revision_id desc limit 1
               ) v
        "#,
        repo.as_uuid(),
        &references,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.reference, row.commit_id)).collect())
}

pub(crate) async fn find_ref_condition(
    db: &mut Connection,
    repo: RepoId,
    reference: &str,
) -> Result<Option<Condition>, StoreError> {
    let condition = sqlx::query_scalar!(
        r#"select condition as "condition: Json<Condition>" from ref_conditions where repo_id = $1 and ref = $2"#,
        repo.as_uuid(),
        reference,
    )
    .fetch_optional(db)
    .await?;
    Ok(condition.map(|condition| condition.0))
}

/// Says what is wrong with a ref, or that nothing is.
pub(crate) async fn mark_ref_condition(
    db: &mut Connection,
    repo: RepoId,
    reference: &str,
    condition: Option<&Condition>,
) -> Result<(), StoreError> {
    let Some(condition) = condition else {
        sqlx::query!("delete from ref_conditions where repo_id = $1 and ref = $2", repo.as_uuid(), reference)
            .execute(db)
            .await?;
        return Ok(());
    };
    sqlx::query!(
        r#"
        insert into ref_conditions (repo_id, ref, condition)
        values ($1, $2, $3)
            on conflict (repo_id, ref) do update set condition = excluded.condition
        "#,
        repo.as_uuid(),
        reference,
        Json(condition) as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes so many of those that were seen before and that no render is of, besides the last ones of each ref; says how
/// many it deleted.
pub(crate) async fn delete_unused(
    db: &mut Connection,
    before: Timestamp,
    kept: i64,
    limit: i64,
) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        r#"
        delete from revisions
         where revision_id in (
               select revision_id
                 from (
                     select revision_id, seen_at,
                            row_number() over (partition by repo_id, ref order by revision_id desc) as place
                       from revisions
                      ) as v
                where place > $2 and seen_at < $1
                  and not exists (select from renders r where r.revision_id = v.revision_id)
                limit $3
               )
        "#,
        to_sql(before),
        kept,
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
    use crate::store::rows::{MAIN, Rows};
    use crate::store::{Pool, count_rows};

    fn condition(code: &str) -> Condition {
        Condition::new(code, "", None, None)
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn the_head_of_a_ref_is_what_was_seen_there_last(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        rows.revision(MAIN, "a").await;
        rows.revision("refs/heads/release", "b").await;
        rows.revision(MAIN, "c").await;
        let (db, repo) = (&mut rows.db, rows.repo);

        let (head, wrong) = find_head(db, repo, MAIN).await.expect("read");
        let heads = list_heads(db, &[repo]).await.expect("read").remove(&repo).unwrap_or_default();
        let at = list_commits_at(db, repo, [MAIN, "refs/heads/none", MAIN].into_iter()).await.expect("read");

        assert_eq!((head.map(|head| head.commit).as_deref(), wrong), (Some("c"), None));
        assert_eq!(heads.iter().map(|head| head.commit.as_str()).collect::<Vec<_>>(), ["c", "b"], "one of each ref");
        assert_eq!(at, [(MAIN.to_owned(), "c".to_owned())].into(), "a ref without a commit is left out");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_is_wrong_with_a_ref_is_told_with_its_last_commit_until_nothing_is(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        rows.revision(MAIN, "a").await;
        let (db, repo, lost) = (&mut rows.db, rows.repo, condition("ref_not_found"));

        mark_ref_condition(db, repo, MAIN, Some(&condition("git_unreachable"))).await.expect("written");
        mark_ref_condition(db, repo, MAIN, Some(&lost)).await.expect("written");
        mark_ref_condition(db, repo, "refs/heads/none", Some(&lost)).await.expect("written");
        let (head, wrong) = find_head(db, repo, MAIN).await.expect("read");
        let never_seen = find_head(db, repo, "refs/heads/none").await.expect("read");
        mark_ref_condition(db, repo, MAIN, None).await.expect("written");

        assert_eq!((head.map(|head| head.commit).as_deref(), wrong.as_ref()), (Some("a"), Some(&lost)));
        assert!(never_seen.0.is_none() && never_seen.1.as_ref() == Some(&lost), "{never_seen:?}");
        assert_eq!(find_ref_condition(db, repo, MAIN).await.expect("read"), None);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn the_last_of_each_ref_and_what_was_rendered_are_kept(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let target = rows.target("shop").await;
        let bundle = rows.bundle("a").await;
        let rendered = rows.revision(MAIN, "a").await;
        rows.render(&target, rendered, bundle).await;
        let unused = rows.revision(MAIN, "b").await;
        for commit in ["c", "d"] {
            rows.revision(MAIN, commit).await;
        }
        rows.revision("refs/heads/release", "e").await;
        let (db, later) = (&mut rows.db, clock::now() + SignedDuration::from_hours(1));

        let young = delete_unused(db, clock::now() - SignedDuration::from_hours(1), 2, 10).await.expect("swept");
        let old = delete_unused(db, later, 2, 10).await.expect("swept");

        assert_eq!((young, old), (0, 1));
        assert!(find(db, unused).await.expect("read").is_none());
        assert_eq!(count_rows(db, &["revisions"]).await.expect("counted")["revisions"], 4);
        assert_eq!(delete_unused(db, later, 0, 2).await.expect("swept"), 2, "so many at once, and no more");
    }
}
