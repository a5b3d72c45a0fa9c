//! Repos, with what was fetched of them.

use std::collections::BTreeMap;

use bellwether_core::api::NamedCondition;
use bellwether_core::{Condition, ProjectId, RepoId};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use crate::store::repos::{FetchStatus, Repo, shown_credential};
use crate::store::revisions::{self, Revision};
use crate::store::{Connection, StoreError, from_sql, name, to_sql, work};

/// A repo, with what is said of it.
pub(crate) struct RepoView {
    pub(crate) repo: Repo,
    /// A change is on its way.
    pub(crate) pending: bool,
    pub(crate) fetch: FetchStatus,
    /// The newest revision of each ref.
    pub(crate) heads: Vec<Revision>,
}

/// In the order of the repos.
pub(crate) async fn load(db: &mut Connection, repos: Vec<Repo>, now: Timestamp) -> Result<Vec<RepoView>, StoreError> {
    let ids: Vec<_> = repos.iter().map(|repo| repo.id).collect();
    // Read first: when nothing is pending, everything that is read after it is there.
    let mut fetches = list_fetches(db, &ids, now).await?;
    let mut heads = revisions::list_heads(db, &ids).await?;
    let view = |repo: Repo| {
        let (pending, fetch) = fetches.remove(&repo.id).unwrap_or_default();
        RepoView { pending, fetch, heads: heads.remove(&repo.id).unwrap_or_default(), repo }
    };
    Ok(repos.into_iter().map(view).collect())
}

async fn list_fetches(
    db: &mut Connection,
    repos: &[RepoId],
    now: Timestamp,
) -> Result<BTreeMap<RepoId, (bool, FetchStatus)>, StoreError> {
    let repos: Vec<Uuid> = repos.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select r.repo_id as "repo_id!",
               exists (
                   select from work k
                    where k.stage = 'source' and k.key = r.repo_id and k.trace_id is not null and k.due_at <= $2
               ) as "pending!",
               l.fetched_at as "fetched_at?", l.condition as "condition?: Json<Condition>",
               c.updated_at as "since?", c.kind, c.public
          from repos r
          left join repo_fetch_status l using (repo_id)
          left join credentials c using (repo_id)
         where r.repo_id = any($1)
        "#,
        &repos,
        to_sql(work::traced_until(now)),
    )
    .fetch_all(db)
    .await?;
    let fetches = rows.into_iter().map(|row| {
        let fetch = FetchStatus {
            fetched_at: row.fetched_at.map(from_sql),
            condition: row.condition.map(|condition| condition.0),
            credential: shown_credential(row.since, row.kind.as_deref(), row.public)?,
        };
        Ok((RepoId::new(row.repo_id), (row.pending, fetch)))
    });
    fetches.collect()
}

/// What is wrong with a project's repos, by their names.
pub(crate) async fn list_conditions(
    db: &mut Connection,
    project: ProjectId,
) -> Result<Vec<NamedCondition>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select r.name, l.condition as "condition!: Json<Condition>"
          from repos r
          join repo_fetch_status l using (repo_id)
         where r.project_id = $1 and l.condition is not null
         order by r.name
        "#,
        project.as_uuid(),
    )
    .fetch_all(db)
    .await?;

    rows.into_iter()
        .map(|row| {
            Ok(NamedCondition { kind: "Repo".to_owned(), name: name(&row.name, "repos")?, condition: row.condition.0 })
        })
        .collect()
}
