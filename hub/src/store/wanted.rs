//! What each target is to run, at which version of its spec, and who is left out of that.

use std::collections::BTreeMap;

use bellwether_core::rollout::{Aside, Member, MemberState, RolloutState};
use bellwether_core::target::TargetSpec;
use bellwether_core::{ClusterId, Digest, RenderId, RevisionId, RolloutId, TargetId, Version};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::renders::{Render, StoredHooks, StoredSources, render_of, render_rows};
use super::stored::Stored;
use super::targets::Target;
use super::{Connection, StoreError, columns, to_sql};

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
    /// Tells what was rolled out last over the whole target.
    pub(crate) rolled: Option<RenderId>,
    /// The state of the rollout of that, unless the target is held.
    pub(crate) main: Option<RolloutState>,
}

pub(crate) async fn find(db: &mut Connection, target: TargetId) -> Result<Option<Wanted>, StoreError> {
    let row = render_rows!(
        r#"
        w.target_version as wanted_version, w.recipe, w.since, s.rolled_since as "rolled?", o.state as "main?",
        case when w.spec_version = w.target_version then w.spec end as "spec: Stored<TargetSpec>",
        "#,
        r#"
          from wanted_renders w
          join renders r using (render_id)
          left join target_states s on s.target_id = w.target_id
          left join rollouts o on o.rollout_id = s.current_from and not s.held
         where w.target_id = $1
        "#,
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
        rolled: row.rolled.map(RenderId::new),
        main: row.main.map(|state| columns::word(&state, "rollouts")).transpose()?,
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

#[cfg(test)]
mod tests {
    use bellwether_core::rollout::RolloutState;

    use super::*;
    use crate::process::clock;
    use crate::store::rollouts::{insert_members, insert_waves, mark_members, mark_overtaken};
    use crate::store::rows::{MAIN, Rows};
    use crate::store::{Pool, execute_in};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_late_render_takes_the_place_of_none_that_is_of_a_newer_revision_or_spec(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let first = rows.target("shop").await;
        let edited = Target { version: Version::new(2), ..first.clone() };
        let (one, two) = (rows.revision(MAIN, "a").await, rows.revision(MAIN, "b").await);
        let bundle = rows.bundle("a").await;
        let mut marked = async |target: &Target, revision| {
            let render = rows.render(target, revision, bundle).await;
            mark(&mut rows.db, target, revision, (render, b"", render)).await.expect("written");
            let wanted = find(&mut rows.db, target.id).await.expect("read").expect("it is there");
            wanted.render.id == render
        };

        assert!(marked(&first, two).await, "it is the first");
        assert!(!marked(&first, one).await, "of an older revision");
        assert!(marked(&first, two).await, "the same again");
        assert!(marked(&edited, one).await, "of a newer spec, whatever it was rendered from");
        assert!(!marked(&first, two).await, "of an older spec");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_spec_that_an_earlier_version_of_this_program_left_behind_is_none(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let target = rows.target("shop").await;
        let (revision, bundle) = (rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let render = rows.render(&target, revision, bundle).await;
        mark(&mut rows.db, &target, revision, (render, b"", render)).await.expect("written");

        let own = find(&mut rows.db, target.id).await.expect("read").and_then(|wanted| wanted.spec);
        // It knows no column for the spec, and leaves the one that is there.
        execute_in(&mut rows.db, "update wanted_renders set target_version = target_version + 1")
            .await
            .expect("written");
        let other = find(&mut rows.db, target.id).await.expect("read").and_then(|wanted| wanted.spec);

        assert_eq!((own, other), (Some(target.spec), None));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn only_what_an_earlier_version_or_another_engine_before_this_hub_made_is_made_anew(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (revision, bundle) = (rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let mut ids = BTreeMap::new();
        let mut want = async |rows: &mut Rows, name: &'static str, engine| {
            let target = rows.target(name).await;
            let render = rows.render_with(&target, revision, &[("", bundle)], engine).await;
            mark(&mut rows.db, &target, revision, (render, b"", render)).await.expect("written");
            ids.insert(target.id.as_uuid(), name);
        };
        want(&mut rows, "unsaid", None).await;
        want(&mut rows, "earlier", Some("render 4")).await;
        want(&mut rows, "plain", Some("render 5")).await;
        want(&mut rows, "same", Some("render 5, engine b")).await;
        want(&mut rows, "other", Some("render 5, engine a")).await;
        want(&mut rows, "later", Some("render 6, engine a")).await;
        let hub = clock::new_id();
        want(&mut rows, "since", Some("render 5, engine a")).await;

        let listed = list_made_otherwise(&mut rows.db, 5, Some("render 5, engine b"), hub, 10).await.expect("read");
        let mut names: Vec<_> = listed.iter().map(|id| ids[id]).collect();
        names.sort_unstable();

        assert_eq!(names, ["earlier", "other", "unsaid"]);
        let bounded = list_made_otherwise(&mut rows.db, 5, Some("render 5, engine b"), hub, 2).await.expect("read");
        assert_eq!(bounded.len(), 2);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn who_is_tried_again_is_no_longer_aside_and_everybody_left_out_of_what_ended_is(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let target = rows.target("shop").await;
        let (revision, bundle) = (rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let render = rows.render(&target, revision, bundle).await;
        let rollout = rows.rollout(&target, render).await;
        let mut members = Vec::new();
        for name in ["failed", "skipped", "waiting", "healthy", "overtaken"] {
            members.push(Member::waiting(rows.cluster(name).await, 0, bundle, None));
        }
        let clusters: Vec<_> = members.iter().map(|member| member.cluster).collect();
        let db = &mut rows.db;
        insert_waves(db, rollout.id, &[]).await.expect("written");
        insert_members(db, rollout.id, &members, &BTreeMap::new()).await.expect("written");
        members[0].state = MemberState::Failed;
        members[1].state = MemberState::Skipped;
        members[3].state = MemberState::Healthy;
        mark_members(db, rollout.id, &members.iter().collect::<Vec<_>>()).await.expect("written");

        mark_aside(db, target.id, rollout.id, &members.iter().collect::<Vec<_>>(), clock::now())
            .await
            .expect("written");
        let aside = list_aside(db, target.id).await.expect("read");
        assert_eq!(aside, [(clusters[0], bundle), (clusters[1], bundle)].into());

        members[0].state = MemberState::Waiting;
        mark_aside(db, target.id, rollout.id, &[&members[0]], clock::now()).await.expect("written");
        assert_eq!(list_aside(db, target.id).await.expect("read"), [(clusters[1], bundle)].into());

        mark_members(db, rollout.id, &[&members[0]]).await.expect("written");
        mark_overtaken(db, target.id, RolloutId::new(clock::new_id()), &[clusters[4]]).await.expect("written");
        crate::store::rollouts::mark_state(db, rollout.id, RolloutState::Cancelled, "", clock::now())
            .await
            .expect("written");
        execute_in(db, "update set_aside set cause = 'failed'").await.expect("written");
        mark_left_out(db, target.id, rollout.id, clock::now()).await.expect("written");
        let aside = list_aside(db, target.id).await.expect("read");
        assert_eq!(
            aside.into_keys().collect::<Vec<_>>(),
            clusters[..3],
            "neither who is healthy nor who has another one"
        );
        let causes = "select string_agg(cause, ' ' order by cluster_id) from set_aside";
        let causes = crate::store::ask_text(db, causes).await.expect("read");
        assert_eq!(causes, "ended failed ended", "why somebody was left out of the same before stays");

        delete_aside(db, target.id).await.expect("written");
        assert!(list_aside(db, target.id).await.expect("read").is_empty());
    }
}
