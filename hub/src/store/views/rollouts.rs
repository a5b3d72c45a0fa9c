//! Rollouts as they are explained to people.

use std::collections::BTreeMap;

use bellwether_core::api::MemberDocument;
use bellwether_core::rollout::{self, Member, MemberState, Notable, Presence};
use bellwether_core::{ClusterId, Generation, Name, RenderId, RolloutId, TargetId};
use uuid::Uuid;

use crate::store::columns;
use crate::store::rollouts::{self, Rollout as Row};
use crate::store::sources::ReadSource;
use crate::store::stored::Stored;
use crate::store::{Connection, StoreError, digest, from_sql, name};

/// A rollout, with what explains it.
pub(crate) struct RolloutView {
    pub(crate) row: Row,
    pub(crate) target: Name,
    /// With its waves counted and, of all members, those that are named.
    pub(crate) rollout: rollout::Rollout,
    pub(crate) from_commit: Option<String>,
    pub(crate) to_commit: Option<String>,
    /// The commit of what waits until it ends: another one, or the same with another spec.
    pub(crate) newer: Option<String>,
    /// Other repos that it was rendered from.
    pub(crate) sources: Vec<ReadSource>,
}

/// In the order of the rows.
pub(crate) async fn load(db: &mut Connection, rows: Vec<Row>) -> Result<Vec<RolloutView>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let mut waves = rollouts::list_waves(db, &ids).await?;
    let members = list_named_members(db, &ids).await?;
    let commits = list_commits(db, rows.iter().flat_map(|row| row.from_render.into_iter().chain([row.render]))).await?;
    let targets = list_targets(db, rows.iter().map(|row| row.target)).await?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(target) = targets.get(&row.target) else { continue };
        let mut rollout = row.with_waves(waves.remove(&row.id).unwrap_or_default());
        for member in members.get(&row.id).into_iter().flatten() {
            member.clone().explain(&mut rollout);
        }
        views.push(RolloutView {
            rollout,
            target: target.name.clone(),
            newer: target.newer.clone().filter(|_| row.ended_at.is_none() && target.current == Some(row.id)),
            from_commit: row.from_render.and_then(|render| Some(commits.get(&render)?.0.clone())),
            to_commit: commits.get(&row.render).map(|(commit, _)| commit.clone()),
            sources: commits.get(&row.render).map(|(_, sources)| sources.clone()).unwrap_or_default(),
            row,
        });
    }
    Ok(views)
}

/// A member that says why its wave is as it is.
#[derive(Clone)]
enum Named {
    /// It failed, or is in flight.
    Notable { wave: u32, notable: Notable },
    /// It waits for its turn and is there.
    Next(Box<(Member, Presence)>),
}

impl Named {
    /// One that failed comes before one in flight.
    fn explain(self, rollout: &mut rollout::Rollout) {
        match self {
            Self::Next(next) => rollout.next.push(*next),
            Self::Notable { wave, notable } => {
                let Some(wave) = rollout.waves.get_mut(wave as usize) else { return };
                if notable.state == MemberState::Failed || wave.notable.is_none() {
                    wave.notable = Some(notable);
                }
            }
        }
    }
}

async fn list_named_members(
    db: &mut Connection,
    ids: &[RolloutId],
) -> Result<BTreeMap<RolloutId, Vec<Named>>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_file!("src/store/sql/view_members.sql", &ids).fetch_all(db).await?;
    let mut named: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        let wave = u32::try_from(row.wave).unwrap_or(u32::MAX);
        let state = columns::word(&row.state, "rollout_clusters")?;
        let one = if state == MemberState::Waiting {
            let digest = digest(&row.digest, "rollout_clusters")?;
            let member = Member::waiting(ClusterId::new(row.cluster_id), wave, digest, None);
            Named::Next(Box::new((member, Presence::Connected { since: from_sql(row.since) })))
        } else {
            Named::Notable { wave, notable: Notable { cluster_name: row.cluster, state, reason: row.reason } }
        };
        named.entry(RolloutId::new(row.rollout_id)).or_default().push(one);
    }
    Ok(named)
}

/// The commits that these renders are of, and what they read of other repos.
async fn list_commits(
    db: &mut Connection,
    renders: impl Iterator<Item = RenderId>,
) -> Result<BTreeMap<RenderId, (String, Vec<ReadSource>)>, StoreError> {
    let renders: Vec<Uuid> = renders.map(RenderId::as_uuid).collect();
    let rows = sqlx::query!(
        r#"
        select r.render_id, v.commit_id, r.sources as "sources: Stored<Vec<ReadSource>>"
          from renders r
          join revisions v using (revision_id)
         where r.render_id = any($1)
        "#,
        &renders,
    )
    .fetch_all(db)
    .await?;
    let of = |sources: Stored<Vec<ReadSource>>| sources.read("renders", "sources").unwrap_or_default();
    Ok(rows.into_iter().map(|row| (RenderId::new(row.render_id), (row.commit_id, of(row.sources)))).collect())
}

/// What of a target its rollouts are explained by.
struct Followed {
    name: Name,
    /// The rollout over the whole target that counts.
    current: Option<RolloutId>,
    /// The commit of what is wanted since then.
    newer: Option<String>,
}

async fn list_targets(
    db: &mut Connection,
    targets: impl Iterator<Item = TargetId>,
) -> Result<BTreeMap<TargetId, Followed>, StoreError> {
    let targets: Vec<Uuid> = targets.map(TargetId::as_uuid).collect();
    let rows = sqlx::query!(
        r#"
        select t.target_id as "target_id!", t.name as "name!", s.current_from as "current?", v.commit_id as "newer?"
          from targets t
          left join target_states s using (target_id)
          left join wanted_renders w on w.target_id = t.target_id and w.since is distinct from s.rolled_since
          left join revisions v on v.revision_id = w.revision_id
         where t.target_id = any($1)
        "#,
        &targets,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let name = name(&row.name, "targets")?;
            let current = row.current.map(RolloutId::new);
            Ok((TargetId::new(row.target_id), Followed { name, current, newer: row.newer }))
        })
        .collect()
}

/// Where a member stands in the list of its rollout: its wave, and its cluster's name.
pub(crate) type MemberPlace = (i32, String);

/// A page of members, after a place.
pub(crate) async fn list_members(
    db: &mut Connection,
    rollout: RolloutId,
    after: Option<MemberPlace>,
    limit: i64,
) -> Result<Vec<(MemberDocument, MemberPlace)>, StoreError> {
    let table = "rollout_clusters";
    let (wave, cluster) = after.unwrap_or((-1, String::new()));
    let rows = sqlx::query!(
        r#"
        select c.name as cluster, m.wave as place, w.name as wave, m.state, m.digest, m.digest_before, m.generation, m.reason
          from rollout_clusters m
          join rollout_waves w using (rollout_id, wave)
          join clusters c using (cluster_id)
         where m.rollout_id = $1 and (m.wave, c.name) > ($2, $3::text)
         order by m.wave, c.name
         limit $4
        "#,
        rollout.as_uuid(),
        wave,
        cluster,
        limit,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let document = MemberDocument {
                cluster: name(&row.cluster, "clusters")?,
                wave: row.wave,
                state: columns::word(&row.state, table)?,
                digest: digest(&row.digest, table)?,
                digest_before: row.digest_before.as_deref().map(|bytes| digest(bytes, table)).transpose()?,
                generation: row.generation.map(Generation::new),
                reason: row.reason,
            };
            Ok((document, (row.place, row.cluster)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bellwether_core::rollout::RolloutState;

    use super::*;
    use crate::process::clock;
    use crate::store::rows::{MAIN, Rows};
    use crate::store::{Pool, execute_in};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn members_come_in_pages_wave_by_wave_and_by_name(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let target = rows.target("shop").await;
        let (revision, bundle) = (rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let render = rows.render(&target, revision, bundle).await;
        let rollout = rows.rollout(&target, render).await;
        let mut members = Vec::new();
        for (name, wave) in [("c9", 1), ("c3", 0), ("c1", 1), ("c2", 0)] {
            members.push(Member::waiting(rows.cluster(name).await, wave, bundle, None));
        }
        let db = &mut rows.db;
        rollouts::insert_members(db, rollout.id, &members, &BTreeMap::new()).await.expect("written");
        let waves = "insert into rollout_waves (rollout_id, wave, name, state, concurrent_max, healthy_min, soak_ms)
                     select rollout_id, wave, name, 'waiting', 1, 1, 0
                       from rollouts, unnest(array[0, 1], array['canary', 'others']) as w (wave, name)";
        execute_in(db, waves).await.expect("written");

        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = list_members(db, rollout.id, after, 3).await.expect("a page");
            after = page.last().map(|(_, place)| place.clone());
            read.extend(page.into_iter().map(|(member, _)| format!("{} {}", member.wave, member.cluster)));
            if after.is_none() {
                break;
            }
        }

        assert_eq!(read, ["canary c2", "canary c3", "others c1", "others c9"]);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_rollout_is_told_with_the_commits_that_it_goes_from_and_to(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let target = rows.target("shop").await;
        let bundle = rows.bundle("a").await;
        let (first, second) = (rows.revision(MAIN, "first").await, rows.revision(MAIN, "second").await);
        let (from, to) = (rows.render(&target, first, bundle).await, rows.render(&target, second, bundle).await);
        let before = rows.rollout(&target, from).await;
        rows.end(&before, RolloutState::Done).await;
        let rollout = Row { from_render: Some(from), ..rows.rollout(&target, to).await };
        let unknown = Row { target: TargetId::new(clock::new_id()), ..before };

        let views = load(&mut rows.db, vec![rollout.clone(), unknown]).await.expect("they are read");

        assert_eq!(views.len(), 1, "one of a target that is gone");
        assert_eq!((views[0].row.id, views[0].target.as_str()), (rollout.id, "shop"));
        assert_eq!(views[0].from_commit.as_deref(), Some("first"));
        assert_eq!(views[0].to_commit.as_deref(), Some("second"));
        assert_eq!(views[0].newer, None);
        assert!(load(&mut rows.db, Vec::new()).await.expect("nothing is asked").is_empty());
    }
}
