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

#[cfg(test)]
mod tests {
    use bellwether_core::repo::{ForcePush, RepoSpec};
    use bellwether_core::schedule::Schedule;
    use bellwether_core::{ProjectId, Version};
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::Pool;
    use crate::store::repos;
    use crate::store::rows::{MAIN, Rows};
    use crate::store::work::Stage;

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_repo_is_pending_while_somebodys_change_is_on_its_way_and_polls_are_nobodys(pool: Pool) {
        let (mut rows, now) = (Rows::new(&pool).await, clock::now());
        rows.revision(MAIN, "a").await;
        rows.revision("refs/heads/release", "b").await;
        let db = &mut rows.db;
        let repo = repos::find(db, rows.repo).await.expect("read").expect("it is there");
        let mut look = async |key: uuid::Uuid, trace_id: Option<&str>, due_at| {
            work::append(db, Stage::Source, &[key], due_at, trace_id).await.expect("it is told");
            load(db, vec![repo.clone()], now).await.expect("it is read").remove(0)
        };

        let polled = look(repo.id.as_uuid(), None, now).await;
        let elsewhere = look(clock::new_id(), Some("a trace"), now).await;
        let later = look(repo.id.as_uuid(), Some("a trace"), now + SignedDuration::from_hours(2)).await;
        let asked = look(repo.id.as_uuid(), Some("a trace"), now).await;

        assert!(!polled.pending && !elsewhere.pending && !later.pending);
        assert!(asked.pending);
        let mut heads: Vec<_> = asked.heads.iter().map(|head| head.commit.as_str()).collect();
        heads.sort_unstable();
        assert_eq!((heads, asked.fetch.fetched_at), (vec!["a", "b"], None));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_is_wrong_with_a_projects_repos_comes_by_name_and_of_no_other_project(pool: Pool) {
        let (mut rows, now) = (Rows::new(&pool).await, clock::now());
        let (project, other) = (rows.project.id, ProjectId::new(clock::new_id()));
        let db = &mut rows.db;
        let model = repos::find(db, rows.repo).await.expect("read").expect("it is there");
        let spec = RepoSpec { force_push: ForcePush::Allow, ..model.spec.clone() };
        let mut bad = async |name: &str| {
            let id = RepoId::new(clock::new_id());
            let name = name.parse().expect("a name");
            let repo = Repo { id, name, spec: spec.clone(), version: Version::new(1), ..model.clone() };
            repos::insert(db, &repo).await.expect("a repo");
            let down = Condition::new("git_unreachable", "it is down", None, None);
            repos::mark_failed(db, id, Some(&down), &Schedule::default(), now).await.expect("written");
        };
        bad("b").await;
        bad("a").await;
        repos::mark_fetched(db, rows.repo, &Schedule::default(), now).await.expect("written");

        let told = list_conditions(db, project).await.expect("they are read");

        let told: Vec<_> = told.iter().map(|one| (one.name.as_str(), one.condition.code.as_str())).collect();
        assert_eq!(told, [("a", "git_unreachable"), ("b", "git_unreachable")]);
        assert!(list_conditions(db, other).await.expect("they are read").is_empty());
    }
}
