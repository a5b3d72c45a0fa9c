//! What targets render to.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::render::LeftOutHook;
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
    /// Hooks that are not applied.
    pub(crate) left_out_hooks: Vec<LeftOutHook>,
}

/// As a row has them.
pub(super) type StoredSources = Stored<Vec<ReadSource>>;
pub(super) type StoredHooks = Stored<Vec<LeftOutHook>>;

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
    pub(super) left_out_hooks: StoredHooks,
    /// Of the variants, and in the same order what they render to.
    pub(super) parameters: Vec<Vec<u8>>,
    pub(super) digests: Vec<Vec<u8>>,
}

/// The columns of a render, `r`, and what else is read with it. Whoever asks has `StoredSources` and `StoredHooks` in scope.
macro_rules! render_rows {
    ($besides:literal, $which:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query!(
            "select " + $besides + r#"
                   r.render_id, r.target_id, r.revision_id, r.target_version, r.inputs, r.inputs_digest, r.variables,
                   r.engine, r.sources as "sources: StoredSources", r.left_out_hooks as "left_out_hooks: StoredHooks",
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
            left_out_hooks: $row.left_out_hooks,
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
                    engine, sources, left_out_hooks)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $11, $12, $13)
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
        Json(&render.left_out_hooks) as _,
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

/// These of a render's variants, but for what clusters are to run.
pub(crate) async fn delete_variants(
    db: &mut Connection,
    render: RenderId,
    parameters: &[Digest],
) -> Result<(), StoreError> {
    if parameters.is_empty() {
        return Ok(());
    }
    let parameters: Vec<_> = parameters.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    sqlx::query!(
        r#"
        delete from render_variants v
         using renders r
         where v.render_id = $1
           and r.render_id = v.render_id
           and v.parameters = any($2)
           and not exists (select from assignments a where a.target_id = r.target_id and a.digest = v.digest)
        "#,
        render.as_uuid(),
        &parameters,
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
            left_out_hooks: row.left_out_hooks.read("renders", "left_out_hooks").unwrap_or_default(),
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
    (sources, left_out_hooks): (&[ReadSource], &Vec<LeftOutHook>),
    engine: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update renders
           set inputs = $2, inputs_digest = $3, sources = $4, engine = $5, left_out_hooks = $6
         where render_id = $1
        "#,
        render.as_uuid(),
        inputs,
        inputs_digest,
        Json(sources) as _,
        engine,
        Json(left_out_hooks) as _,
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::installation::mark_hub_heartbeat;
    use crate::store::rows::{MAIN, Rows};
    use crate::store::targets::Target;
    use crate::store::{Pool, wanted};

    async fn one(rows: &mut Rows) -> (Target, RevisionId) {
        (rows.target("shop").await, rows.revision(MAIN, "aaa").await)
    }

    fn no_parameters(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_variant_that_is_there_is_never_another_and_the_last_of_each_counts(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, revision) = one(&mut rows).await;
        let (a, b, c) = (rows.bundle("a").await, rows.bundle("b").await, rows.bundle("c").await);
        let before = rows.render_with(&target, revision, &[("eu", c), ("us", c)], None).await;
        let since = rows.render_with(&target, revision, &[("eu", a), ("us", a)], None).await;
        let last = rows.render_with(&target, revision, &[("eu", b)], None).await;

        let more = [(no_parameters("eu"), c), (no_parameters("asia"), c)].into();
        insert_variants(&mut rows.db, last, &more).await.expect("written");
        let given = list_given_since(&mut rows.db, target.id, since).await.expect("read");

        let expected = [(no_parameters("eu"), b), (no_parameters("us"), a), (no_parameters("asia"), c)];
        assert_eq!(given, expected.into());
        let first = find(&mut rows.db, before).await.expect("read").expect("it is there");
        assert_eq!(first.variants[&no_parameters("us")], c);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn the_render_that_most_clusters_run_is_found_and_of_two_the_newer(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, revision) = one(&mut rows).await;
        let (a, b) = (rows.bundle("a").await, rows.bundle("b").await);
        let (one, two) = (rows.render(&target, revision, a).await, rows.render(&target, revision, b).await);
        let last = rows.render(&target, revision, a).await;
        let rollout = rows.rollout(&target, one).await;
        for (name, digest) in [("c1", a), ("c2", b)] {
            let cluster = rows.cluster(name).await;
            rows.assign(cluster, &rollout, digest).await;
        }

        let found = find_most_run(&mut rows.db, target.id, target.version, last).await.expect("read");
        assert_eq!(found, Some(two));
        let third = rows.cluster("c3").await;
        rows.assign(third, &rollout, a).await;
        let found = find_most_run(&mut rows.db, target.id, target.version, last).await.expect("read");
        assert_eq!(found, Some(one), "the last one is not asked about");
        let of_another = find_most_run(&mut rows.db, target.id, Version::new(2), last).await.expect("read");
        assert_eq!(of_another, None);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_target_is_at_a_commit_what_was_rendered_there_or_before(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, first) = one(&mut rows).await;
        let bundle = rows.bundle("a").await;
        let render = rows.render(&target, first, bundle).await;
        rows.revision(MAIN, "bbb").await;
        let third = rows.revision(MAIN, "ccc").await;
        let last = rows.render(&target, third, bundle).await;
        let again = rows.render(&target, third, bundle).await;
        rows.revision("refs/heads/release", "ddd").await;
        let mut at = async |commit| {
            let found = find_at_commit(&mut rows.db, target.id, commit).await.expect("read");
            found.map(|render| render.id)
        };

        assert_eq!(at("aa").await, Some(render));
        assert_eq!(at("bbb").await, Some(render), "that commit did not move its folder");
        assert_eq!(at("c").await, Some(again), "the newest there");
        assert_eq!(at("ddd").await, None, "that is another ref's");
        assert_ne!(last, again);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn only_hubs_that_are_gone_in_the_middle_of_this_render_count_as_dead_of_it(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, revision) = one(&mut rows).await;
        let (db, now) = (&mut rows.db, clock::now());
        let (us, dead, living, left, earlier, other) =
            (clock::new_id(), clock::new_id(), clock::new_id(), clock::new_id(), clock::new_id(), clock::new_id());
        let of = (revision, target.version);
        mark_hub_heartbeat(db, living, std::time::Duration::from_mins(1)).await.expect("it lives");
        for hub in [us, dead, living, left] {
            begin_try(db, target.id, hub, of, now).await.expect("noted");
        }
        begin_try(db, target.id, earlier, of, now - SignedDuration::from_hours(2)).await.expect("noted");
        begin_try(db, target.id, other, (revision, Version::new(2)), now).await.expect("noted");
        leave_try(db, target.id, left).await.expect("noted");
        let since = now - SignedDuration::from_hours(1);

        assert_eq!(count_deaths(db, target.id, us, of, since).await.expect("counted"), 1);
        end_tries(db, target.id).await.expect("noted");
        assert_eq!(count_deaths(db, target.id, us, of, since).await.expect("counted"), 0);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_a_target_stores_is_summed_for_a_day_and_then_anew(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, _) = one(&mut rows).await;
        let (db, start) = (&mut rows.db, clock::now());
        let mut add = async |bytes, hours| {
            let now = start + SignedDuration::from_hours(hours);
            add_stored(db, target.id, bytes, now - SignedDuration::from_hours(24), now).await.expect("written")
        };

        assert_eq!([add(5, 0).await, add(7, 23).await], [5, 12]);
        assert_eq!([add(1, 25).await, add(1, 48).await], [1, 2], "the day counts from its first byte");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn renders_that_something_names_or_that_are_the_last_are_used(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, revision) = one(&mut rows).await;
        let bundle = rows.bundle("a").await;
        let mut renders = Vec::new();
        for _ in 0..6 {
            renders.push(rows.render(&target, revision, bundle).await);
        }
        let rollout = rows.rollout(&target, renders[0]).await;
        let cluster = rows.cluster("c1").await;
        let elsewhere = crate::store::rollouts::Rollout { render: renders[1], ..rollout.clone() };
        rows.assign(cluster, &elsewhere, bundle).await;
        wanted::mark(&mut rows.db, &target, revision, (renders[2], b"", renders[2])).await.expect("written");

        let unused = list_unused(&mut rows.db, 1, 10).await.expect("read");

        assert_eq!(unused, [renders[4].as_uuid(), renders[3].as_uuid()]);
        assert_eq!(list_unused(&mut rows.db, 1, 1).await.expect("read").len(), 1);
        delete(&mut rows.db, &unused).await.expect("they go");
        assert!(delete(&mut rows.db, &[renders[0].as_uuid()]).await.is_err(), "its rollout keeps it");
    }
}
