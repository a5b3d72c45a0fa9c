//! Targets: what to deploy where.

use bellwether_core::parameters::{CLUSTER_APIS, CLUSTER_FACTS_PREFIX, ClusterFacts};
use bellwether_core::session::Action;
use bellwether_core::source::GitRef;
use bellwether_core::target::TargetSpec;
use bellwether_core::{Condition, Labels, Name, ProjectId, RenderId, RepoId, TargetId, Version};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::projects::Project;
use super::stored::{Entry, Stored};
use super::{Connection, StoreError, from_sql, named, to_sql};

#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) id: TargetId,
    pub(crate) project: Project,
    pub(crate) name: Name,
    pub(crate) repo: RepoId,
    /// Full name.
    pub(crate) reference: String,
    pub(crate) spec: TargetSpec,
    pub(crate) version: Version,
    pub(crate) created_at: Timestamp,
    /// A person deleted it, and its clusters have not all answered.
    pub(crate) deletion: Option<Deletion>,
}

/// How a target goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deletion {
    /// Delete or orphan.
    pub(crate) action: Action,
    /// Clusters that have not answered are not waited for.
    pub(crate) forced: bool,
    pub(crate) by: String,
    pub(crate) at: Timestamp,
}

struct Row {
    target_id: Uuid,
    project_id: Uuid,
    project: String,
    name: String,
    repo_id: Uuid,
    r#ref: String,
    spec: Stored<TargetSpec>,
    version: i64,
    created_at: chrono::DateTime<chrono::Utc>,
    deletion: Option<String>,
    deletion_forced: bool,
    deletion_by: Option<String>,
    deletion_at: Option<chrono::DateTime<chrono::Utc>>,
}

/// Whole rows; `which` says which of them.
macro_rules! rows {
    ($which:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"
            select target_id, project_id,
                   (select p.name from projects p where p.project_id = targets.project_id) as "project!", name, repo_id, ref, spec as "spec: Stored<TargetSpec>", version, created_at,
                   deletion, deletion_forced, deletion_by, deletion_at
              from targets
            "# + $which
            $(, $argument)*
        )
    };
}

impl TryFrom<Row> for Target {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let unreadable = |_| StoreError::Unreadable { table: "targets", column: "deletion" };
        let deletion = match (row.deletion, row.deletion_at) {
            (Some(action), Some(at)) => Some(Deletion {
                action: action.parse().map_err(unreadable)?,
                forced: row.deletion_forced,
                by: row.deletion_by.unwrap_or_default(),
                at: from_sql(at),
            }),
            _ => None,
        };
        Ok(Self {
            id: TargetId::new(row.target_id),
            project: Project::read(row.project_id, &row.project)?,
            name: super::name(&row.name, "targets")?,
            repo: RepoId::new(row.repo_id),
            reference: row.r#ref,
            spec: row.spec.read("targets", "spec")?,
            version: Version::new(row.version),
            created_at: from_sql(row.created_at),
            deletion,
        })
    }
}

pub(crate) async fn insert(db: &mut Connection, target: &Target) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into targets (target_id, project_id, name, repo_id, ref, spec, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $7)
        "#,
        target.id.as_uuid(),
        target.project.id.as_uuid(),
        target.name.as_str(),
        target.repo.as_uuid(),
        target.reference,
        Json(&target.spec) as _,
        to_sql(target.created_at),
    )
    .execute(db)
    .await
    .map_err(named)?;
    Ok(())
}

/// Writes a changed spec, if the row is still the one that was seen.
pub(crate) async fn mark_spec(db: &mut Connection, target: &Target, now: Timestamp) -> Result<(), StoreError> {
    let updated = sqlx::query!(
        r#"
        update targets
           set repo_id = $3, ref = $4, spec = $5, version = version + 1, updated_at = $6
         where target_id = $1 and version = $2 and deletion is null
        "#,
        target.id.as_uuid(),
        target.version.get(),
        target.repo.as_uuid(),
        target.reference,
        Json(&target.spec) as _,
        to_sql(now),
    )
    .execute(db)
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Stale { table: "targets" }) }
}

pub(crate) async fn find(db: &mut Connection, id: TargetId) -> Result<Option<Target>, StoreError> {
    let row = rows!("where target_id = $1", id.as_uuid()).fetch_optional(db).await?;
    row.map(TryInto::try_into).transpose()
}

pub(crate) async fn find_by_name(
    db: &mut Connection,
    project: ProjectId,
    name: &Name,
) -> Result<Option<Target>, StoreError> {
    let row = rows!("where project_id = $1 and name = $2", project.as_uuid(), name.as_str()).fetch_optional(db).await?;
    row.map(TryInto::try_into).transpose()
}

/// Only what a target is called, and in which project, which can be read whatever its spec says.
pub(crate) async fn find_name(db: &mut Connection, id: TargetId) -> Result<Option<(Project, Name)>, StoreError> {
    let row = sqlx::query!(
        r#"
        select t.name, p.project_id, p.name as project
          from targets t
          join projects p using (project_id)
         where t.target_id = $1
        "#,
        id.as_uuid(),
    );
    let Some(row) = row.fetch_optional(db).await? else { return Ok(None) };
    Ok(Some((Project::read(row.project_id, &row.project)?, super::name(&row.name, "targets")?)))
}

/// A page of a project's, in order of names, after one.
pub(crate) async fn list(
    db: &mut Connection,
    project: ProjectId,
    after: &str,
    limit: i64,
) -> Result<Vec<Entry<Target>>, StoreError> {
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

/// A target, as far as one cluster's labels are concerned.
#[derive(Debug, Clone)]
pub(crate) struct Selecting {
    pub(crate) id: TargetId,
    /// `None`: it cannot be read.
    pub(crate) spec: Option<TargetSpec>,
    /// Values that its manifests use; `None`: it has not rendered as it stands.
    pub(crate) used: Option<Vec<String>>,
}

impl Selecting {
    /// Whether it matters to the target that a cluster is another now. One that cannot be read is told: whoever can read it
    /// decides.
    pub(crate) fn minds(&self, before: Option<ClusterFacts<'_>>, after: Option<ClusterFacts<'_>>) -> bool {
        let used = self.used.as_ref().map(|used| used.iter().cloned().collect());
        self.spec.as_ref().is_none_or(|spec| spec.minds((before, after), used.as_ref()))
    }
}

/// Targets that read what agents say of clusters, or of which nobody knows what they read.
pub(crate) async fn list_using_facts(db: &mut Connection, project: ProjectId) -> Result<Vec<Selecting>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select t.target_id as "target_id!", t.name as "name!", t.spec as "spec!: Stored<TargetSpec>", r.variables as "used?"
          from targets t
          left join lateral (
               select n.variables
                 from wanted_renders w
                 join renders n using (render_id)
                where w.target_id = t.target_id and w.target_version = t.version
                  and not exists (select from render_conditions c where c.target_id = t.target_id)
                limit 1
               ) r on true
         where t.project_id = $1
           and (r.variables is null
                or exists (select from unnest(r.variables) as v (name)
                            where starts_with(v.name, $2) or starts_with(v.name, $3)))
        "#,
        project.as_uuid(),
        CLUSTER_FACTS_PREFIX,
        CLUSTER_APIS,
    )
    .fetch_all(db)
    .await?;
    let using = rows.into_iter().map(|row| {
        let spec = Entry::of(row.name, row.spec.read("targets", "spec")).readable();
        Selecting { id: TargetId::new(row.target_id), spec, used: row.used }
    });
    Ok(using.collect())
}

/// Targets whose `matchLabels` are among either of these labels.
pub(crate) async fn list_selecting(
    db: &mut Connection,
    project: ProjectId,
    before: Option<&Labels>,
    after: Option<&Labels>,
) -> Result<Vec<Selecting>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select t.target_id as "target_id!", t.name as "name!", t.spec as "spec!: Stored<TargetSpec>", r.variables as "used?"
          from targets t
          left join lateral (
               select n.variables
                 from wanted_renders w
                 join renders n using (render_id)
                where w.target_id = t.target_id and w.target_version = t.version
                  and not exists (select from render_conditions c where c.target_id = t.target_id)
                limit 1
               ) r on true
         where t.project_id = $1
           and (coalesce(t.spec #> '{clusters,matchLabels}', '{}') <@ $2
                or coalesce(t.spec #> '{clusters,matchLabels}', '{}') <@ $3)
        "#,
        project.as_uuid(),
        before.map(Json) as _,
        after.map(Json) as _,
    )
    .fetch_all(db)
    .await?;
    let selecting = rows.into_iter().map(|row| {
        let spec = Entry::of(row.name, row.spec.read("targets", "spec")).readable();
        Selecting { id: TargetId::new(row.target_id), spec, used: row.used }
    });
    Ok(selecting.collect())
}

/// A target, as far as Git is concerned.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    pub(crate) id: TargetId,
    pub(crate) version: Version,
    /// Full name.
    pub(crate) reference: String,
    pub(crate) git_ref: GitRef,
}

/// Targets that follow a repo or are rendered from it, once for each ref, but those that cannot be read: they move with no
/// commit until they can.
pub(crate) async fn list_followers(db: &mut Connection, repo: RepoId) -> Result<Vec<Follower>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select target_id as "target_id!", version as "version!", ref as "reference!",
               git_ref as "git_ref!: Stored<GitRef>"
          from (
              select target_id, version, ref, coalesce(spec -> 'ref', '{"branch": "main"}') as git_ref
                from targets
               where repo_id = $1
               union all
              select s.target_id, t.version, s.ref, s.reference
                from target_sources s
                join targets t using (target_id)
               where s.repo_id = $1
               ) f
        "#,
        repo.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    let followers = rows.into_iter().map(|row| {
        let follower = |git_ref| Follower {
            id: TargetId::new(row.target_id),
            version: Version::new(row.version),
            reference: row.reference,
            git_ref,
        };
        Entry::of(row.target_id, row.git_ref.read("targets", "ref").map(follower))
    });
    Ok(followers.filter_map(Entry::readable).collect())
}

/// Targets that follow a ref of a repo, or are rendered from it, and may be moved by what is new there: all but these, as
/// they were. One that did not render is among them, because why it did not may have been fixed elsewhere.
pub(crate) async fn list_ids_moved(
    db: &mut Connection,
    repo: RepoId,
    reference: &str,
    unmoved: &[(TargetId, Version)],
) -> Result<Vec<Uuid>, StoreError> {
    let ids: Vec<Uuid> = unmoved.iter().map(|(id, _)| id.as_uuid()).collect();
    let versions: Vec<i64> = unmoved.iter().map(|(_, version)| version.get()).collect();
    let moved = sqlx::query_scalar!(
        r#"
        select t.target_id
          from targets t
          left join unnest($3::uuid[], $4::bigint[]) as u (target_id, version) using (target_id, version)
          left join render_conditions c using (target_id)
         where t.target_id in (
               select target_id from targets where repo_id = $1 and ref = $2
                union
               select target_id from target_sources where repo_id = $1 and ref = $2
               )
           and (u.target_id is null or c.target_id is not null)
        "#,
        repo.as_uuid(),
        reference,
        &ids,
        &versions,
    )
    .fetch_all(db)
    .await?;
    Ok(moved)
}

/// What the rollout stage knows of a target besides its rollouts.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) held: bool,
    pub(crate) condition: Option<Condition>,
    /// Tells what was rolled out last over the whole target from other content.
    pub(crate) rolled_since: Option<RenderId>,
    /// The rollout of that, or where there was nothing to move, a place in their order.
    pub(crate) current_from: Option<Uuid>,
}

pub(crate) async fn find_state(db: &mut Connection, id: TargetId) -> Result<State, StoreError> {
    let row = sqlx::query!(
        r#"
        select held, condition as "condition: Json<Condition>", rolled_since, current_from
          from target_states
         where target_id = $1
        "#,
        id.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map_or_else(State::default, |row| State {
        held: row.held,
        condition: row.condition.map(|condition| condition.0),
        rolled_since: row.rolled_since.map(RenderId::new),
        current_from: row.current_from,
    }))
}

pub(crate) async fn mark_state(db: &mut Connection, id: TargetId, state: &State) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into target_states (target_id, held, condition, rolled_since, current_from)
        values ($1, $2, $3, $4, $5)
            on conflict (target_id) do update
           set held = excluded.held, condition = excluded.condition, rolled_since = excluded.rolled_since,
               current_from = excluded.current_from
        "#,
        id.as_uuid(),
        state.held,
        state.condition.as_ref().map(Json) as _,
        state.rolled_since.map(RenderId::as_uuid),
        state.current_from,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes what is decided about from now on.
pub(crate) async fn mark_rolled(
    db: &mut Connection,
    id: TargetId,
    since: Option<RenderId>,
    from: Uuid,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into target_states (target_id, held, rolled_since, current_from)
        values ($1, false, $2, $3)
            on conflict (target_id) do update
           set rolled_since = excluded.rolled_since, current_from = excluded.current_from
        "#,
        id.as_uuid(),
        since.map(RenderId::as_uuid),
        from,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes that a target is to go, and how.
pub(crate) async fn mark_deletion(db: &mut Connection, id: TargetId, deletion: &Deletion) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update targets
           set deletion = $2, deletion_forced = $3, deletion_by = $4, deletion_at = $5
         where target_id = $1
        "#,
        id.as_uuid(),
        deletion.action.as_str(),
        deletion.forced,
        deletion.by,
        to_sql(deletion.at),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// With all that was rendered and rolled out of it.
pub(crate) async fn delete(db: &mut Connection, id: TargetId) -> Result<(), StoreError> {
    sqlx::query!("delete from targets where target_id = $1", id.as_uuid()).execute(db).await?;
    Ok(())
}

/// Whether one of these targets exists, and stays.
pub(crate) async fn is_any(db: &mut Connection, ids: &[TargetId]) -> Result<bool, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    let is_any = sqlx::query_scalar!(
        r#"select exists (select from targets where target_id = any($1) and deletion is null) as "is_any!""#,
        &ids,
    )
    .fetch_one(db)
    .await?;
    Ok(is_any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;
    use crate::store::rows::{MAIN, Rows};
    use crate::store::{Pool, execute_in, renders};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_spec_is_changed_by_whoever_saw_the_last_one_and_of_none_that_is_to_go(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let target = rows.target("shop").await;
        let db = &mut rows.db;

        mark_spec(db, &target, clock::now()).await.expect("written");
        let stale = mark_spec(db, &target, clock::now()).await;
        assert!(matches!(stale, Err(StoreError::Stale { table: "targets" })), "{stale:?}");
        let seen = find(db, target.id).await.expect("read").expect("it is there");
        assert_eq!(seen.version.get(), target.version.get() + 1);
        let deletion = Deletion { action: Action::Delete, forced: false, by: "ann".to_owned(), at: clock::now() };
        mark_deletion(db, target.id, &deletion).await.expect("written");
        assert!(mark_spec(db, &seen, clock::now()).await.is_err(), "it is to go");
        assert!(!is_any(db, &[target.id]).await.expect("asked"));
        let read = find(db, target.id).await.expect("read").and_then(|target| target.deletion);
        assert_eq!(read, Some(deletion));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_name_is_taken_once_and_a_page_has_what_can_be_read_and_what_cannot(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (b, a) = (rows.target("b").await, rows.target("a").await);
        let again = Target { id: TargetId::new(clock::new_id()), ..a.clone() };
        let taken = insert(&mut rows.db, &again).await;
        assert!(matches!(taken, Err(StoreError::NameTaken)), "{taken:?}");

        execute_in(&mut rows.db, "update targets set spec = '[]' where name = 'b'").await.expect("written");
        let page = list(&mut rows.db, rows.project.id, "", 10).await.expect("read");

        let told: Vec<_> = page.iter().map(|entry| (entry.name.as_str(), entry.read.is_ok())).collect();
        assert_eq!(told, [("a", true), ("b", false)]);
        let next = list(&mut rows.db, rows.project.id, "a", 10).await.expect("read");
        assert_eq!(next.len(), 1, "a page goes on after a name");
        let name = find_name(&mut rows.db, b.id).await.expect("read").map(|(_, name)| name.to_string());
        assert_eq!(name.as_deref(), Some("b"), "whatever its spec says");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_a_commit_did_not_move_is_left_alone_as_it_was_and_while_it_renders(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (unmoved, edited, failing, moved) = (
            rows.target("unmoved").await,
            rows.target("edited").await,
            rows.target("failing").await,
            rows.target("moved").await,
        );
        let (db, repo) = (&mut rows.db, rows.repo);
        let known: Vec<_> = [&unmoved, &edited, &failing].map(|target| (target.id, target.version)).into();
        mark_spec(db, &edited, clock::now()).await.expect("written");
        let condition = Condition::new("path_not_found", "", None, None);
        renders::mark_condition(db, failing.id, None, Some(&condition)).await.expect("written");

        let mut told = list_ids_moved(db, repo, MAIN, &known).await.expect("read");
        told.sort_unstable();

        assert_eq!(told, [edited.id, failing.id, moved.id].map(TargetId::as_uuid));
        assert!(list_ids_moved(db, repo, "refs/heads/other", &[]).await.expect("read").is_empty());
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_is_rolled_out_is_written_without_touching_what_people_said(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let target = rows.target("shop").await.id;
        let db = &mut rows.db;
        assert!(!find_state(db, target).await.expect("read").held, "nothing is known of it");
        let held =
            State { held: true, condition: Some(Condition::new("no_clusters", "", None, None)), ..State::default() };
        mark_state(db, target, &held).await.expect("written");
        let (since, from) = (RenderId::new(clock::new_id()), clock::new_id());

        mark_rolled(db, target, Some(since), from).await.expect("written");

        let state = find_state(db, target).await.expect("read");
        assert_eq!((state.held, state.condition), (true, held.condition));
        assert_eq!((state.rolled_since, state.current_from), (Some(since), Some(from)));
    }
}
