//! Repos, their credentials, and how the last fetch of them ended.

use bellwether_core::repo::{CredentialKind, RepoSpec};
use bellwether_core::schedule::{Again, Schedule};
use bellwether_core::{Condition, Name, ProjectId, RepoId, Version};
use jiff::Timestamp;
use sqlx::types::Json;

use super::projects::Project;
use super::stored::{Entry, Stored};
use super::{Connection, StoreError, columns, from_sql, named, to_sql};

#[derive(Debug, Clone)]
pub(crate) struct Repo {
    pub(crate) id: RepoId,
    pub(crate) project: Project,
    pub(crate) name: Name,
    pub(crate) spec: RepoSpec,
    /// Sealed.
    pub(crate) webhook_secret: Vec<u8>,
    pub(crate) version: Version,
    pub(crate) created_at: Timestamp,
}

struct Row {
    repo_id: uuid::Uuid,
    project_id: uuid::Uuid,
    project: String,
    name: String,
    spec: Stored<RepoSpec>,
    webhook_secret: Vec<u8>,
    version: i64,
    created_at: chrono::DateTime<chrono::Utc>,
}

/// Whole rows; `which` says which of them.
macro_rules! rows {
    ($which:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"
            select repo_id, project_id,
                   (select p.name from projects p where p.project_id = repos.project_id) as "project!", name, spec as "spec: Stored<RepoSpec>", webhook_secret, version, created_at
              from repos
            "# + $which
            $(, $argument)*
        )
    };
}

impl TryFrom<Row> for Repo {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: RepoId::new(row.repo_id),
            project: Project::read(row.project_id, &row.project)?,
            name: super::name(&row.name, "repos")?,
            spec: row.spec.read("repos", "spec")?,
            webhook_secret: row.webhook_secret,
            version: Version::new(row.version),
            created_at: from_sql(row.created_at),
        })
    }
}

pub(crate) async fn insert(db: &mut Connection, repo: &Repo) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into repos (repo_id, project_id, name, spec, webhook_secret, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $6)
        "#,
        repo.id.as_uuid(),
        repo.project.id.as_uuid(),
        repo.name.as_str(),
        Json(&repo.spec) as _,
        repo.webhook_secret,
        to_sql(repo.created_at),
    )
    .execute(db)
    .await
    .map_err(named)?;
    Ok(())
}

pub(crate) async fn mark_spec(
    db: &mut Connection,
    id: RepoId,
    seen: Version,
    spec: &RepoSpec,
    now: Timestamp,
) -> Result<(), StoreError> {
    let updated = sqlx::query!(
        "update repos set spec = $3, version = version + 1, updated_at = $4 where repo_id = $1 and version = $2",
        id.as_uuid(),
        seen.get(),
        Json(spec) as _,
        to_sql(now),
    )
    .execute(db)
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Stale { table: "repos" }) }
}

/// From now on webhooks are signed with another secret.
pub(crate) async fn mark_webhook_secret(
    db: &mut Connection,
    id: RepoId,
    sealed: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update repos set webhook_secret = $2, updated_at = $3 where repo_id = $1",
        id.as_uuid(),
        sealed,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn delete(db: &mut Connection, id: RepoId) -> Result<(), StoreError> {
    sqlx::query!("delete from repos where repo_id = $1", id.as_uuid()).execute(db).await.map_err(named)?;
    Ok(())
}

pub(crate) async fn find(db: &mut Connection, id: RepoId) -> Result<Option<Repo>, StoreError> {
    let row = rows!("where repo_id = $1", id.as_uuid()).fetch_optional(db).await?;
    row.map(TryInto::try_into).transpose()
}

pub(crate) async fn find_by_name(
    db: &mut Connection,
    project: ProjectId,
    name: &Name,
) -> Result<Option<Repo>, StoreError> {
    let row = rows!("where project_id = $1 and name = $2", project.as_uuid(), name.as_str()).fetch_optional(db).await?;
    row.map(TryInto::try_into).transpose()
}

/// Those of a project, the one that was added first at the front; one that this version cannot read is none that it can fetch.
pub(crate) async fn list_of_project(db: &mut Connection, project: ProjectId) -> Result<Vec<Repo>, StoreError> {
    let rows = rows!("where project_id = $1 order by repo_id", project.as_uuid()).fetch_all(db).await?;
    Ok(rows.into_iter().filter_map(|row| Entry::of(row.name.clone(), row.try_into()).readable()).collect())
}

/// A page of a project's, in order of names, after one.
pub(crate) async fn list(
    db: &mut Connection,
    project: ProjectId,
    after: &str,
    limit: i64,
) -> Result<Vec<Entry<Repo>>, StoreError> {
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

pub(crate) async fn list_ids(db: &mut Connection) -> Result<Vec<RepoId>, StoreError> {
    let ids = sqlx::query_scalar!("select repo_id from repos").fetch_all(db).await?;
    Ok(ids.into_iter().map(RepoId::new).collect())
}

/// What a repo is read with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    /// `None`: an earlier version stored it, which knew of tokens and of keys for ssh.
    pub(crate) kind: Option<CredentialKind>,
    pub(crate) sealed: Vec<u8>,
}

/// In the place of the one before. `public` is what may be shown of it.
pub(crate) async fn mark_credential(
    db: &mut Connection,
    id: RepoId,
    credential: &Credential,
    public: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into credentials (repo_id, sealed, kind, public, updated_at)
        values ($1, $2, $3, $4, $5)
            on conflict (repo_id) do update
           set sealed = excluded.sealed, kind = excluded.kind, public = excluded.public, updated_at = excluded.updated_at
        "#,
        id.as_uuid(),
        credential.sealed,
        credential.kind.map(columns::text),
        public,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The sealed credential, and when the repo is fetched next.
pub(crate) async fn find_access(db: &mut Connection, id: RepoId) -> Result<(Option<Credential>, Schedule), StoreError> {
    let row = sqlx::query!(
        r#"
        select c.sealed as "sealed?", c.kind, l.failures as "failures?", l.not_before, l.retry_at, l.poll_at, l.fetched_again,
               l.fetched_again_for
          from repos r
          left join credentials c using (repo_id)
          left join repo_fetch_status l using (repo_id)
         where r.repo_id = $1
        "#,
        id.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok((None, Schedule::default())) };
    let schedule = Schedule {
        failures: row.failures.unwrap_or(0),
        not_before: row.not_before.map(from_sql),
        retry_at: row.retry_at.map(from_sql),
        poll_at: row.poll_at.map(from_sql),
        again: row.fetched_again.zip(row.fetched_again_for).map(|(times, trace_id)| Again { times, trace_id }),
    };
    let kind = row.kind.map(|kind| columns::word(&kind, "credentials")).transpose()?;
    Ok((row.sealed.map(|sealed| Credential { kind, sealed }), schedule))
}

/// A person asks: pauses after failures, and those that the server asked for, are over.
pub(crate) async fn end_pauses(db: &mut Connection, id: RepoId) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update repo_fetch_status
           set failures = 0, not_before = null, retry_at = null
         where repo_id = $1 and (failures > 0 or not_before is not null or retry_at is not null)
        "#,
        id.as_uuid(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether there was one.
pub(crate) async fn delete_credential(db: &mut Connection, id: RepoId) -> Result<bool, StoreError> {
    let deleted = sqlx::query!("delete from credentials where repo_id = $1", id.as_uuid()).execute(db).await?;
    Ok(deleted.rows_affected() == 1)
}

/// Holds the repo's row, so that no token for its old address is stored while it moves.
pub(crate) async fn lock_by_name(
    db: &mut Connection,
    project: ProjectId,
    name: &Name,
) -> Result<Option<Repo>, StoreError> {
    sqlx::query!(
        "select from repos where project_id = $1 and name = $2 for no key update",
        project.as_uuid(),
        name.as_str(),
    )
    .fetch_optional(&mut *db)
    .await?;
    find_by_name(db, project, name).await
}

/// Holds the repo's row, so that nobody moves it meanwhile; at which version.
pub(crate) async fn lock(db: &mut Connection, id: RepoId) -> Result<Option<Version>, StoreError> {
    let version = sqlx::query_scalar!("select version from repos where repo_id = $1 for no key update", id.as_uuid())
        .fetch_optional(db)
        .await?;
    Ok(version.map(Version::new))
}

/// What may be shown of what a repo is read with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CredentialNote {
    /// `None`: it was stored before that was noted.
    pub(crate) kind: Option<CredentialKind>,
    pub(crate) public: Option<String>,
    /// When it was given or made.
    pub(crate) since: Timestamp,
}

/// How the last fetch ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct FetchStatus {
    pub(crate) fetched_at: Option<Timestamp>,
    pub(crate) condition: Option<Condition>,
    /// What may be shown of what it is read with.
    pub(crate) credential: Option<CredentialNote>,
}

/// `since` is there, if anything is.
pub(crate) fn shown_credential(
    since: Option<chrono::DateTime<chrono::Utc>>,
    kind: Option<&str>,
    public: Option<String>,
) -> Result<Option<CredentialNote>, StoreError> {
    let kind = kind.map(|kind| columns::word(kind, "credentials")).transpose()?;
    Ok(since.map(|since| CredentialNote { kind, public, since: from_sql(since) }))
}

pub(crate) async fn find_fetch_status(db: &mut Connection, id: RepoId) -> Result<FetchStatus, StoreError> {
    let row = sqlx::query!(
        r#"
        select l.fetched_at as "fetched_at?", l.condition as "condition?: Json<Condition>",
               c.updated_at as "since?", c.kind, c.public
          from repos r
          left join repo_fetch_status l using (repo_id)
          left join credentials c using (repo_id)
         where r.repo_id = $1
        "#,
        id.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(FetchStatus::default()) };
    Ok(FetchStatus {
        fetched_at: row.fetched_at.map(from_sql),
        condition: row.condition.map(|condition| condition.0),
        credential: shown_credential(row.since, row.kind.as_deref(), row.public)?,
    })
}

/// A success clears the condition.
pub(crate) async fn mark_fetched(
    db: &mut Connection,
    id: RepoId,
    next: &Schedule,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into repo_fetch_status (repo_id, checked_at, fetched_at, poll_at, fetched_again, fetched_again_for)
        values ($1, $2, $2, $3, $4, $5)
            on conflict (repo_id) do update
           set checked_at = excluded.checked_at, fetched_at = excluded.fetched_at, condition = null,
               failures = 0, not_before = null, retry_at = null,
               poll_at = excluded.poll_at, fetched_again = excluded.fetched_again,
               fetched_again_for = excluded.fetched_again_for
        "#,
        id.as_uuid(),
        to_sql(now),
        next.poll_at.map(to_sql),
        next.again.as_ref().map(|again| again.times),
        next.again.as_ref().map(|again| again.trace_id.as_str()),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A failure keeps what was fetched before, and says what is wrong; of one that is known already only what follows.
pub(crate) async fn mark_failed(
    db: &mut Connection,
    id: RepoId,
    condition: Option<&Condition>,
    next: &Schedule,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into repo_fetch_status as l (repo_id, checked_at, condition, failures, not_before, retry_at, fetched_again, fetched_again_for)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
            on conflict (repo_id) do update
           set checked_at = case when excluded.condition is null then l.checked_at else excluded.checked_at end,
               condition = coalesce(excluded.condition, l.condition),
               failures = excluded.failures, not_before = excluded.not_before, retry_at = excluded.retry_at,
               poll_at = null, fetched_again = excluded.fetched_again, fetched_again_for = excluded.fetched_again_for
        "#,
        id.as_uuid(),
        to_sql(now),
        condition.map(Json) as _,
        next.failures,
        next.not_before.map(to_sql),
        next.retry_at.map(to_sql),
        next.again.as_ref().map(|again| again.times),
        next.again.as_ref().map(|again| again.trace_id.as_str()),
    )
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
    use crate::store::rows::Rows;

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_repo_is_changed_by_whoever_saw_the_last_one_and_stays_while_a_target_uses_it(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        rows.target("shop").await;
        let (db, id) = (&mut rows.db, rows.repo);
        let repo = find(db, id).await.expect("read").expect("it is there");

        mark_spec(db, id, repo.version, &repo.spec, clock::now()).await.expect("written");
        let stale = mark_spec(db, id, repo.version, &repo.spec, clock::now()).await;
        assert!(matches!(stale, Err(StoreError::Stale { table: "repos" })), "{stale:?}");
        let used = delete(db, id).await;
        assert!(matches!(used, Err(StoreError::InUse)), "{used:?}");
        let again = Repo { id: RepoId::new(clock::new_id()), ..repo };
        let taken = insert(db, &again).await;
        assert!(matches!(taken, Err(StoreError::NameTaken)), "{taken:?}");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_was_fetched_is_known_through_failures_and_a_person_ends_pauses(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (db, id, now) = (&mut rows.db, rows.repo, clock::now());
        let later = now + SignedDuration::from_mins(10);
        mark_fetched(db, id, &Schedule { poll_at: Some(later), ..Schedule::default() }, now).await.expect("written");
        let down = Condition::new("git_unreachable", "it is down", None, None);
        let failed = Schedule { failures: 3, not_before: Some(later), retry_at: Some(later), ..Schedule::default() };

        mark_failed(db, id, Some(&down), &failed, later).await.expect("written");
        mark_failed(db, id, None, &failed, later).await.expect("written");
        let status = find_fetch_status(db, id).await.expect("read");
        assert_eq!((status.fetched_at, status.condition), (Some(now), Some(down.clone())), "it is known already");
        assert_eq!(find_access(db, id).await.expect("read"), (None, failed));
        end_pauses(db, id).await.expect("written");
        assert_eq!(find_access(db, id).await.expect("read"), (None, Schedule::default()));
        let still = find_fetch_status(db, id).await.expect("read").condition;
        assert_eq!(still, Some(down), "it is wrong until it was fetched");
        mark_fetched(db, id, &Schedule::default(), later).await.expect("written");
        assert_eq!(find_fetch_status(db, id).await.expect("read").condition, None);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_credential_takes_the_place_of_the_one_before_and_only_what_may_be_shown_is(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (db, id, now) = (&mut rows.db, rows.repo, clock::now());
        let first = Credential { kind: None, sealed: b"one".to_vec() };
        let second = Credential { sealed: b"two".to_vec(), ..first.clone() };

        mark_credential(db, id, &first, Some("ssh-ed25519 AAAA"), now).await.expect("written");
        mark_credential(db, id, &second, None, now).await.expect("written");

        assert_eq!(find_access(db, id).await.expect("read").0, Some(second));
        let shown = find_fetch_status(db, id).await.expect("read").credential;
        assert_eq!(shown, Some(CredentialNote { kind: None, public: None, since: now }));
        assert!(delete_credential(db, id).await.expect("written"));
        assert!(!delete_credential(db, id).await.expect("written"), "there is none");
    }
}
