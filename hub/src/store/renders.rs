//! What targets render to.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::{Condition, Digest, RenderId, RepoId, RevisionId, TargetId, Version};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::sources::{ReadSource, inputs_of};
use super::stored::Stored;
use super::{Connection, StoreError, to_sql};

/// One rendering of a target at a revision.
#[derive(Debug, Clone)]
pub(crate) struct Render {
    pub(crate) id: RenderId,
    pub(crate) target: TargetId,
    pub(crate) revision: RevisionId,
    pub(crate) target_version: Version,
    /// Paths of the commit that it came from, and of those of its sources, below their mounts.
    pub(crate) inputs: Vec<String>,
    /// Of what was there.
    pub(crate) inputs_digest: String,
    pub(crate) variables: Vec<String>,
    /// Digest of the used parameters → bundle.
    pub(crate) variants: BTreeMap<Digest, Digest>,
    /// The versions of what made it; `None`: one that did not say so.
    pub(crate) engine: Option<String>,
    /// Other repos that it came from.
    pub(crate) sources: Vec<ReadSource>,
}

/// As a row has them.
pub(super) type StoredSources = Stored<Vec<ReadSource>>;

pub(super) struct Row {
    pub(super) render_id: Uuid,
    pub(super) target_id: Uuid,
    pub(super) revision_id: Uuid,
    pub(super) target_version: i64,
    pub(super) inputs: Vec<String>,
    pub(super) inputs_digest: String,
    pub(super) variables: Vec<String>,
    pub(super) engine: Option<String>,
    pub(super) sources: StoredSources,
    /// Of the variants, and in the same order what they render to.
    pub(super) parameters: Vec<Vec<u8>>,
    pub(super) digests: Vec<Vec<u8>>,
}

/// The columns of a render, `r`, and what else is read with it. Whoever asks has `StoredSources` in scope.
macro_rules! render_rows {
    ($besides:literal, $which:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query!(
            "select " + $besides + r#"
                   r.render_id, r.target_id, r.revision_id, r.target_version, r.inputs, r.inputs_digest, r.variables,
                   r.engine, r.sources as "sources: StoredSources",
                   array(select v.parameters from render_variants v where v.render_id = r.render_id
                          order by v.parameters) as "parameters!",
                   array(select v.digest from render_variants v where v.render_id = r.render_id
                          order by v.parameters) as "digests!"
            "# + $which
            $(, $argument)*
        )
    };
}

/// The render out of such a row.
macro_rules! render_of {
    ($row:ident) => {
        $crate::store::renders::Render::try_from($crate::store::renders::Row {
            render_id: $row.render_id,
            target_id: $row.target_id,
            revision_id: $row.revision_id,
            target_version: $row.target_version,
            inputs: $row.inputs,
            inputs_digest: $row.inputs_digest,
            variables: $row.variables,
            engine: $row.engine,
            sources: $row.sources,
            parameters: $row.parameters,
            digests: $row.digests,
        })
    };
}

pub(super) use {render_of, render_rows};

pub(crate) async fn insert(db: &mut Connection, render: &Render, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        with render as (
            insert into renders
                   (render_id, target_id, revision_id, target_version, inputs, inputs_digest, variables, created_at,
                    engine, sources)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $11, $12)
            returning render_id
        )
        insert into render_variants (render_id, parameters, digest)
        select render_id, parameters, digest from render, unnest($9::bytea[], $10::bytea[]) as v (parameters, digest)
        "#,
        render.id.as_uuid(),
        render.target.as_uuid(),
        render.revision.as_uuid(),
        render.target_version.get(),
        &render.inputs,
        render.inputs_digest,
        &render.variables,
        to_sql(now),
        &render.variants.keys().map(|digest| digest.as_bytes().to_vec()).collect::<Vec<_>>(),
        &render.variants.values().map(|digest| digest.as_bytes().to_vec()).collect::<Vec<_>>(),
        render.engine.as_deref(),
        Json(&render.sources) as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The newest of a target.
pub(crate) async fn find_newest(db: &mut Connection, target: TargetId) -> Result<Option<Uuid>, StoreError> {
    let newest = sqlx::query_scalar!(
        "select render_id from renders where target_id = $1 order by render_id desc limit 1",
        target.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(newest)
}

/// The newest of all.
pub(crate) async fn find_newest_of_all(db: &mut Connection) -> Result<Option<Uuid>, StoreError> {
    Ok(sqlx::query_scalar!("select render_id from renders order by render_id desc limit 1").fetch_optional(db).await?)
}

pub(crate) async fn insert_variants(
    db: &mut Connection,
    render: RenderId,
    variants: &BTreeMap<Digest, Digest>,
) -> Result<(), StoreError> {
    let parameters: Vec<_> = variants.keys().map(|digest| digest.as_bytes().to_vec()).collect();
    let digests: Vec<_> = variants.values().map(|digest| digest.as_bytes().to_vec()).collect();
    sqlx::query!(
        r#"
        insert into render_variants (render_id, parameters, digest)
        select $1, parameters, digest from unnest($2::bytea[], $3::bytea[]) as v (parameters, digest)
            on conflict do nothing
        "#,
        render.as_uuid(),
        &parameters,
        &digests,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What a target's renders from one on gave last for each set of parameters: one that could not be made for some clusters says
/// nothing of what those have.
pub(crate) async fn list_given_since(
    db: &mut Connection,
    target: TargetId,
    since: RenderId,
) -> Result<BTreeMap<Digest, Digest>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select distinct on (v.parameters) v.parameters, v.digest
          from renders r
          join render_variants v using (render_id)
         where r.target_id = $1 and r.render_id >= $2
         order by v.parameters, r.render_id desc
        "#,
        target.as_uuid(),
        since.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    let digest = |bytes: &Vec<u8>| super::digest(bytes, "render_variants");
    rows.iter().map(|row| Ok((digest(&row.parameters)?, digest(&row.digest)?))).collect()
}

/// The render of this version of the spec, before another one, that most clusters run a bundle of; of two the newer.
pub(crate) async fn find_most_run(
    db: &mut Connection,
    target: TargetId,
    version: Version,
    before: RenderId,
) -> Result<Option<RenderId>, StoreError> {
    let render = sqlx::query_scalar!(
        r#"
        select r.render_id
          from renders r
          join render_variants v using (render_id)
          join assignments a on a.target_id = r.target_id and a.digest = v.digest
         where r.target_id = $1 and r.target_version = $2 and r.render_id < $3
         group by r.render_id
         order by count(distinct a.cluster_id) desc, r.render_id desc
         limit 1
        "#,
        target.as_uuid(),
        version.get(),
        before.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(render.map(RenderId::new))
}

pub(crate) async fn find(db: &mut Connection, id: RenderId) -> Result<Option<Render>, StoreError> {
    let row = render_rows!("", "from renders r where r.render_id = $1", id.as_uuid()).fetch_optional(db).await?;
    row.map(|row| render_of!(row)).transpose()
}

/// What it was made of: the revision of the target's own repo, and other repos. Cheaper than all of it.
pub(crate) async fn find_read(
    db: &mut Connection,
    id: RenderId,
) -> Result<Option<(RevisionId, Vec<ReadSource>)>, StoreError> {
    let row = sqlx::query!(
        r#"select revision_id, sources as "sources: StoredSources" from renders where render_id = $1"#,
        id.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| Ok((RevisionId::new(row.revision_id), row.sources.read("renders", "sources")?))).transpose()
}

/// So many of the commits that begin so and that a target was rendered at, or may have been: those of its ref.
pub(crate) async fn list_commits(
    db: &mut Connection,
    target: TargetId,
    prefix: &str,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let commits = sqlx::query_scalar!(
        r#"
        select commit_id as "commit_id!"
          from (
              select x.commit_id, x.revision_id::text as place
                from revisions x
                join targets t on t.target_id = $1
               where (x.repo_id = t.repo_id and x.ref = t.ref)
                  or exists (select from renders r where r.target_id = $1 and r.revision_id = x.revision_id)
               union all
              select s.source ->> 'commit', r.render_id::text
                from renders r
               cross join lateral jsonb_array_elements(r.sources) s (source)
               where r.target_id = $1
               ) c
         where starts_with(commit_id, $2)
         group by commit_id
         order by max(place) desc
         limit $3
        "#,
        target.as_uuid(),
        prefix,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(commits)
}

/// What a target was at by a commit of its repo or of one that it is rendered from: its newest render there, or the one
/// before when the commit did not move its folder.
pub(crate) async fn find_at_commit(
    db: &mut Connection,
    target: TargetId,
    commit: &str,
) -> Result<Option<Render>, StoreError> {
    let row = render_rows!(
        "",
        r#"
          from renders r
          join revisions x using (revision_id)
          join targets t using (target_id)
         cross join lateral (
               select starts_with(x.commit_id, $2)
                      or exists (
                          select from jsonb_array_elements(r.sources) s (source)
                           where starts_with(s.source ->> 'commit', $2)
                      ) as is_of_it
               ) c
         where r.target_id = $1
           and (c.is_of_it
                or (x.ref = t.ref
                    and r.revision_id <= (
                        select n.revision_id
                          from revisions n
                         where n.repo_id = t.repo_id and n.ref = t.ref and starts_with(n.commit_id, $2)
                         order by n.revision_id desc
                         limit 1
                    )))
         order by c.is_of_it desc, r.render_id desc
         limit 1
        "#,
        target.as_uuid(),
        commit,
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| render_of!(row)).transpose()
}

impl TryFrom<Row> for Render {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let digest = |bytes: &Vec<u8>| super::digest(bytes, "render_variants");
        let variants = row.parameters.iter().zip(&row.digests);
        Ok(Self {
            id: RenderId::new(row.render_id),
            target: TargetId::new(row.target_id),
            revision: RevisionId::new(row.revision_id),
            target_version: Version::new(row.target_version),
            inputs: row.inputs,
            inputs_digest: row.inputs_digest,
            variables: row.variables,
            engine: row.engine,
            sources: row.sources.read("renders", "sources")?,
            variants: variants
                .map(|(parameters, variant)| Ok((digest(parameters)?, digest(variant)?)))
                .collect::<Result<_, StoreError>>()?,
        })
    }
}

pub(crate) async fn find_condition(db: &mut Connection, target: TargetId) -> Result<Option<Condition>, StoreError> {
    let condition = sqlx::query_scalar!(
        r#"select condition as "condition: Json<Condition>" from render_conditions where target_id = $1"#,
        target.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(condition.map(|condition| condition.0))
}

/// Says why the newest revision does not render, or that it does.
pub(crate) async fn mark_condition(
    db: &mut Connection,
    target: TargetId,
    revision: Option<RevisionId>,
    condition: Option<&Condition>,
) -> Result<(), StoreError> {
    let Some(condition) = condition else {
        sqlx::query!("delete from render_conditions where target_id = $1", target.as_uuid()).execute(db).await?;
        return Ok(());
    };
    sqlx::query!(
        r#"
        insert into render_conditions (target_id, revision_id, condition)
        values ($1, $2, $3)
            on conflict (target_id) do update
           set revision_id = excluded.revision_id, condition = excluded.condition
        "#,
        target.as_uuid(),
        revision.map(RevisionId::as_uuid),
        Json(condition) as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// How many other hubs ended while they rendered this, having begun since then. One that lives is at it still, or left it.
pub(crate) async fn count_deaths(
    db: &mut Connection,
    target: TargetId,
    besides: Uuid,
    of: (RevisionId, Version),
    since: Timestamp,
) -> Result<i64, StoreError> {
    let deaths = sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
          from render_begins b
         where target_id = $1 and revision_id = $2 and target_version = $3 and begun_at > $4 and hub_id <> $5
           and not exists (select from hubs h where h.hub_id = b.hub_id and h.lives_until > now())
        "#,
        target.as_uuid(),
        of.0.as_uuid(),
        of.1.get(),
        to_sql(since),
        besides,
    )
    .fetch_one(db)
    .await?;
    Ok(deaths)
}

/// A hub begins to render this. The row stays when the hub ends before the render does. A transaction by itself, which does
/// not wait for the disk: it is to outlive this process, and not Postgres.
pub(crate) async fn begin_try(
    db: &mut Connection,
    target: TargetId,
    hub: Uuid,
    of: (RevisionId, Version),
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        with deferred as (
            select set_config('synchronous_commit', 'off', true)
        )
        insert into render_begins (target_id, hub_id, revision_id, target_version, begun_at)
        select $1, $2, $3, $4, $5 from deferred
            on conflict (target_id, hub_id) do update
           set revision_id = excluded.revision_id, target_version = excluded.target_version,
               begun_at = excluded.begun_at
        "#,
        target.as_uuid(),
        hub,
        of.0.as_uuid(),
        of.1.get(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A hub left a render before it was over, and lives.
pub(crate) async fn leave_try(db: &mut Connection, target: TargetId, hub: Uuid) -> Result<(), StoreError> {
    sqlx::query!("delete from render_begins where target_id = $1 and hub_id = $2", target.as_uuid(), hub)
        .execute(db)
        .await?;
    Ok(())
}

/// The render came to an end, good or bad: whoever ended in the middle of it did not do so because of it.
pub(crate) async fn end_tries(db: &mut Connection, target: TargetId) -> Result<(), StoreError> {
    sqlx::query!("delete from render_begins where target_id = $1", target.as_uuid()).execute(db).await?;
    Ok(())
}

/// Adds to what a target's renders have stored within a day; says what that is now. A day that began before `since` is
/// over.
pub(crate) async fn add_stored(
    db: &mut Connection,
    target: TargetId,
    bytes: i64,
    since: Timestamp,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let stored = sqlx::query_scalar!(
        r#"
        insert into render_tries as t (target_id, stored_bytes, stored_since)
        values ($1, $2, $4)
            on conflict (target_id) do update
           set stored_bytes = case when t.stored_since > $3 then t.stored_bytes else 0 end + $2,
               stored_since = case when t.stored_since > $3 then t.stored_since else $4 end
        returning stored_bytes
        "#,
        target.as_uuid(),
        bytes,
        to_sql(since),
        to_sql(now),
    )
    .fetch_one(db)
    .await?;
    Ok(stored)
}

/// The same render was made again, and came from this.
pub(crate) async fn mark_inputs(
    db: &mut Connection,
    render: RenderId,
    (inputs, inputs_digest): (&[String], &str),
    sources: &[ReadSource],
    engine: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update renders set inputs = $2, inputs_digest = $3, sources = $4, engine = $5 where render_id = $1",
        render.as_uuid(),
        inputs,
        inputs_digest,
        Json(sources) as _,
        engine,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A target, and the full name of a ref that it follows or minds.
pub(crate) type AtRef = (TargetId, String);

/// What the last good renders of targets read of a repo: paths of its commits, by the ref that they were read at.
pub(crate) async fn list_inputs(db: &mut Connection, repo: RepoId) -> Result<BTreeMap<AtRef, Vec<String>>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select w.target_id, t.repo_id, t.ref, r.inputs, r.sources as "sources: Stored<Vec<ReadSource>>"
          from targets t
          join wanted_renders w using (target_id)
          join renders r using (render_id)
         where t.target_id in (
               select target_id from targets where repo_id = $1
                union
               select target_id from target_sources where repo_id = $1
               )
        "#,
        repo.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    let mut inputs: BTreeMap<AtRef, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        // Of what this version cannot read it is not known what it reads.
        let Ok(sources) = row.sources.read("renders", "sources") else { continue };
        let target = TargetId::new(row.target_id);
        if row.repo_id == repo.as_uuid() {
            inputs.entry((target, row.r#ref)).or_default().extend(inputs_of(&row.inputs, &sources, None));
        }
        for source in sources.iter().filter(|source| source.repo == repo) {
            let there = inputs_of(&row.inputs, &sources, Some(source));
            inputs.entry((target, source.reference.clone())).or_default().extend(there);
        }
    }
    Ok(inputs.into_iter().map(|(at, inputs)| (at, inputs.into_iter().collect())).collect())
}

/// So many of those that nothing names, besides the last ones of each target.
pub(crate) async fn list_unused(db: &mut Connection, kept: i64, limit: i64) -> Result<Vec<Uuid>, StoreError> {
    let renders = sqlx::query_scalar!(
        r#"
        select render_id
          from targets t
         cross join lateral (
               select render_id from renders where target_id = t.target_id order by render_id desc offset $1
               ) as r
         where not exists (
               select from assignments a where a.target_id = t.target_id and a.render_id = r.render_id
               )
           and not exists (select from rollouts o where o.render_id = r.render_id)
           and not exists (select from rollouts o where o.from_render_id = r.render_id)
           and not exists (select from wanted_renders w where w.render_id = r.render_id)
         limit $2
        "#,
        kept,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(renders)
}

/// What is assigned is named by the rollout that assigned it, or by one since: a foreign key keeps it from going.
pub(crate) async fn delete(db: &mut Connection, renders: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query!("delete from renders where render_id = any($1)", renders).execute(db).await?;
    Ok(())
}
