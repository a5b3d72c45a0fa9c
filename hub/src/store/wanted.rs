//! What each target is to run, at which version of its spec, and who is left out of that.

use std::collections::BTreeMap;

use bellwether_core::rollout::{Aside, Member, MemberState};
use bellwether_core::target::TargetSpec;
use bellwether_core::{ClusterId, Digest, RenderId, RevisionId, RolloutId, TargetId, Version};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::renders::{Render, StoredHooks, StoredSources, render_of, render_rows};
use super::stored::Stored;
use super::targets::Target;
use super::{Connection, StoreError, to_sql};

/// What a target is to run.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) target_version: Version,
    pub(crate) render: Render,
    /// That was rendered; `None`: written by an earlier version, or not readable by this one.
    pub(crate) spec: Option<TargetSpec>,
    /// What earlier versions compare: SHA-256 of the spec without its sync options, as JSON.
    pub(crate) recipe: Vec<u8>,
    /// The first render in a row that gave the same.
    pub(crate) since: RenderId,
}

pub(crate) async fn find(db: &mut Connection, target: TargetId) -> Result<Option<Wanted>, StoreError> {
    let row = render_rows!(
        r#"
        w.target_version as wanted_version, w.recipe, w.since,
        case when w.spec_version = w.target_version then w.spec end as "spec: Stored<TargetSpec>",
        "#,
        "from wanted_renders w join renders r using (render_id) where w.target_id = $1",
        target.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Wanted {
        target_version: Version::new(row.wanted_version),
        render: render_of!(row)?,
        spec: row.spec.and_then(|spec| spec.read("wanted_renders", "spec").ok()),
        recipe: row.recipe,
        since: RenderId::new(row.since),
    }))
}

/// So many of the targets that are to run what an earlier version of this program made, or an engine of other versions before a
/// hub began. What a later version made is a newer hub's.
pub(crate) async fn list_made_otherwise(
    db: &mut Connection,
    version: u32,
    made_by: Option<&str>,
    hub: Uuid,
    limit: i64,
) -> Result<Vec<Uuid>, StoreError> {
    let targets = sqlx::query_scalar!(
        r#"
        select w.target_id
          from wanted_renders w
          join renders r using (render_id)
         cross join lateral (select coalesce(substring(r.engine from '^render ([0-9]+)')::integer, 0) as version) m
         where m.version < $1
            or (m.version = $1 and r.engine like '%, engine %' and r.engine <> $2 and r.render_id < $3)
         limit $4
        "#,
        i32::try_from(version).unwrap_or(i32::MAX),
        made_by,
        hub,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(targets)
}

/// Writes what is wanted from now on, unless what stands is of a newer spec or revision: a late render is history.
pub(crate) async fn mark(
    db: &mut Connection,
    target: &Target,
    revision: RevisionId,
    wanted: (RenderId, &[u8], RenderId),
) -> Result<(), StoreError> {
    let (render, recipe, since) = wanted;
    sqlx::query!(
        r#"
        insert into wanted_renders
               (target_id, target_version, revision_id, render_id, recipe, since, spec, spec_version)
        values ($1, $2, $3, $4, $5, $6, $7, $2)
            on conflict (target_id) do update
           set target_version = excluded.target_version, revision_id = excluded.revision_id,
               render_id = excluded.render_id, recipe = excluded.recipe, since = excluded.since,
               spec = excluded.spec, spec_version = excluded.spec_version
         where (wanted_renders.target_version, wanted_renders.revision_id)
               <= (excluded.target_version, excluded.revision_id)
        "#,
        target.id.as_uuid(),
        target.version.get(),
        revision.as_uuid(),
        render.as_uuid(),
        recipe,
        since.as_uuid(),
        Json(&target.spec) as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Which bundle each cluster that is set aside does not get by itself.
pub(crate) async fn list_aside(
    db: &mut Connection,
    target: TargetId,
) -> Result<BTreeMap<ClusterId, Digest>, StoreError> {
    let rows = sqlx::query!("select cluster_id, digest from set_aside where target_id = $1", target.as_uuid())
        .fetch_all(db)
        .await?;
    rows.into_iter().map(|row| Ok((ClusterId::new(row.cluster_id), super::digest(&row.digest, "set_aside")?))).collect()
}

/// Sets those members aside that were skipped or failed, and no longer those that are tried again.
pub(crate) async fn mark_aside(
    db: &mut Connection,
    target: TargetId,
    rollout: RolloutId,
    members: &[&Member],
    now: Timestamp,
) -> Result<(), StoreError> {
    let again = members.iter().filter(|member| member.state == MemberState::Waiting);
    let again: Vec<Uuid> = again.map(|member| member.cluster.as_uuid()).collect();
    if !again.is_empty() {
        sqlx::query!("delete from set_aside where target_id = $1 and cluster_id = any($2)", target.as_uuid(), &again,)
            .execute(&mut *db)
            .await?;
    }
    let aside: Vec<_> = members.iter().filter_map(|member| Some((member, member.aside()?))).collect();
    if aside.is_empty() {
        return Ok(());
    }
    let clusters: Vec<Uuid> = aside.iter().map(|(member, _)| member.cluster.as_uuid()).collect();
    let digests: Vec<Vec<u8>> = aside.iter().map(|(member, _)| member.digest.as_bytes().to_vec()).collect();
    let causes: Vec<String> = aside.iter().map(|(_, cause)| cause.as_str().to_owned()).collect();
    sqlx::query!(
        r#"
        insert into set_aside (target_id, cluster_id, digest, cause, rollout_id, set_at)
        select $1, cluster_id, digest, cause, $5, $6::timestamptz
          from unnest($2::uuid[], $3::bytea[], $4::text[]) as a (cluster_id, digest, cause)
            on conflict (target_id, cluster_id) do update
           set digest = excluded.digest, cause = excluded.cause, rollout_id = excluded.rollout_id,
               set_at = excluded.set_at
        "#,
        target.as_uuid(),
        &clusters,
        &digests,
        &causes,
        rollout.as_uuid(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Sets everybody aside who is left out of what a rollout that has ended would have given.
pub(crate) async fn mark_left_out(
    db: &mut Connection,
    target: TargetId,
    rollout: RolloutId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let left_out = MemberState::ALL.into_iter().filter(|state| state.is_left_out());
    let left_out: Vec<String> = left_out.map(super::rollouts::text).collect();
    sqlx::query!(
        r#"
        insert into set_aside as s (target_id, cluster_id, digest, cause, rollout_id, set_at)
        select $1, cluster_id, digest, $4, $2, $3::timestamptz
          from rollout_clusters
         where rollout_id = $2 and not overtaken and state = any($5)
            on conflict (target_id, cluster_id) do update
           set digest = excluded.digest, cause = excluded.cause, rollout_id = excluded.rollout_id,
               set_at = excluded.set_at
         where s.digest <> excluded.digest
        "#,
        target.as_uuid(),
        rollout.as_uuid(),
        to_sql(now),
        Aside::Ended.as_str(),
        &left_out,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes whom a target waits for. True: one of them has come back meanwhile.
///
/// The row of a stream that begins is written before it asks who waits for its cluster. Holding the rows of those that are
/// away, it comes after this and finds what is written here, or it was before and is seen.
pub(crate) async fn mark_awaited(
    db: &mut Connection,
    target: TargetId,
    clusters: &[ClusterId],
) -> Result<bool, StoreError> {
    let clusters: Vec<Uuid> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    sqlx::query!("delete from awaited where target_id = $1 and cluster_id <> all($2)", target.as_uuid(), &clusters,)
        .execute(&mut *db)
        .await?;
    if clusters.is_empty() {
        return Ok(false);
    }
    let new = sqlx::query_scalar!(
        r#"
        insert into awaited (cluster_id, target_id)
        select cluster_id, $1
          from sessions
         where cluster_id = any($2)
           and not exists (select from awaited a where a.cluster_id = sessions.cluster_id and a.target_id = $1)
         order by cluster_id
           for share
            on conflict do nothing
        returning cluster_id
        "#,
        target.as_uuid(),
        &clusters,
    )
    .fetch_all(&mut *db)
    .await?;
    let is_back = sqlx::query_scalar!(
        r#"select exists (select from presences where cluster_id = any($1) and is_connected and not is_contested) as "is_back!""#,
        &new,
    )
    .fetch_one(db)
    .await?;
    Ok(is_back)
}

/// New content is for everybody.
pub(crate) async fn delete_aside(db: &mut Connection, target: TargetId) -> Result<(), StoreError> {
    sqlx::query!("delete from set_aside where target_id = $1", target.as_uuid()).execute(db).await?;
    Ok(())
}
