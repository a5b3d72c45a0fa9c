//! Targets, with what became of them.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::api::SetAside;
use bellwether_core::parameters::TraitsUsed;
use bellwether_core::render::LeftOutHook;
use bellwether_core::rollout::{Candidate, Rendered};
use bellwether_core::signature::Verified;
use bellwether_core::{ClusterId, Condition, Digest, Labels, ProjectId, RolloutId, TargetId, Version};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::rollouts::RolloutView;
use crate::store::sources::ReadSource;
use crate::store::stored::{Entry, Stored};
use crate::store::targets::Target;
use crate::store::{Connection, StoreError, commit_statuses, digest, from_sql, name, rollouts, to_sql, traits, work};

/// Clusters that are named as not done with a deletion: as many as a person reads.
const WAITING_MAX: i64 = 50;
/// As many of those that are left out.
const SET_ASIDE_MAX: usize = 50;
/// Of these are looked at: more, because some were left out of what another cluster gets by now.
const LEFT_OUT_MAX: i64 = 200;

/// A target, with what is said of it.
pub(crate) struct TargetView {
    pub(crate) target: Target,
    pub(crate) facts: Facts,
    /// What clusters are to run of it.
    pub(crate) runs: BTreeMap<ClusterId, Digest>,
    pub(crate) rollout: Option<RolloutView>,
    pub(crate) set_aside: Vec<SetAside>,
    /// Clusters that have not said that they are done with its deletion.
    pub(crate) waits_for: Vec<String>,
    pub(crate) commit_status: Option<commit_statuses::Shown>,
}

/// What its own rows and its clusters' reports say.
#[derive(Default)]
pub(crate) struct Facts {
    /// A change is on its way to it.
    pub(crate) pending: bool,
    /// The newest of its ref.
    pub(crate) commit: Option<String>,
    pub(crate) verified: Option<Verified>,
    pub(crate) held: bool,
    pub(crate) condition: Option<Condition>,
    pub(crate) wanted: Option<WantedView>,
    /// Clusters that have something of it.
    pub(crate) clusters: u32,
    pub(crate) in_place: u32,
    pub(crate) healthy: u32,
}

/// What a target is to run.
pub(crate) struct WantedView {
    /// Of the spec that was rendered.
    pub(crate) target_version: Version,
    pub(crate) variables: Vec<String>,
    pub(crate) variants: BTreeMap<Digest, Digest>,
    /// Other repos that it was rendered from.
    pub(crate) sources: Vec<ReadSource>,
    /// Hooks that it leaves out.
    pub(crate) left_out_hooks: Vec<LeftOutHook>,
}

impl TargetView {
    /// By what it is to run.
    pub(crate) fn traits_used(&self) -> TraitsUsed {
        traits_used(Some(&self.facts))
    }
}

/// A cluster that targets select from.
pub(crate) struct FleetMember {
    pub(crate) candidate: Candidate,
    /// It has joined and is not revoked: a rollout may have it as a member.
    pub(crate) may_move: bool,
}

/// The clusters of these projects, but those whose labels cannot be read.
pub(crate) async fn load_fleet(
    db: &mut Connection,
    projects: &BTreeSet<ProjectId>,
    used: TraitsUsed,
) -> Result<BTreeMap<ProjectId, Vec<FleetMember>>, StoreError> {
    let projects: Vec<Uuid> = projects.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select c.project_id as "project_id!", c.cluster_id as "cluster_id!", c.name as "name!", c.labels as "labels!: Stored<Labels>",
               coalesce(p.is_connected, false) as "connected!",
               p.cluster_id is not null and c.revoked_at is null as "may_move!"
          from clusters c
          left join presences p using (cluster_id)
         where c.project_id = any($1)
        "#,
        &projects,
    )
    .fetch_all(&mut *db)
    .await?;
    let clusters: Vec<_> = rows.iter().map(|row| ClusterId::new(row.cluster_id)).collect();
    let mut traits = traits::load(db, &clusters, used).await?;
    let mut fleets: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        let Some(labels) = Entry::of(&row.name, row.labels.read("clusters", "labels")).readable() else { continue };
        let Some(traits) = traits.remove(&ClusterId::new(row.cluster_id)) else { continue };
        let candidate = Candidate {
            cluster: ClusterId::new(row.cluster_id),
            name: name(&row.name, "clusters")?,
            labels,
            traits,
            connected: row.connected,
        };
        let member = FleetMember { candidate, may_move: row.may_move };
        fleets.entry(ProjectId::new(row.project_id)).or_default().push(member);
    }
    Ok(fleets)
}

/// In the order of the targets.
pub(crate) async fn load(
    db: &mut Connection,
    targets: Vec<Target>,
    now: Timestamp,
) -> Result<Vec<TargetView>, StoreError> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = targets.iter().map(|target| target.id).collect();
    let mut facts = list_facts(db, &ids, now).await?;
    let mut runs = list_runs(db, &ids).await?;
    let shown = rollouts::list_shown(db, &ids).await?;
    let mut rollouts: BTreeMap<_, _> =
        super::rollouts::load(db, shown).await?.into_iter().map(|view| (view.row.target, view)).collect();
    let ending: Vec<_> = targets.iter().filter(|target| target.deletion.is_some()).map(|target| target.id).collect();
    let mut waiting = list_waiting(db, &ending, now).await?;
    let mut left_out = list_left_out(db, &targets, &facts).await?;
    let told = commit_statuses::list_shown(db, &ids).await?;
    let mut told: BTreeMap<_, _> = told.into_iter().map(|shown| (shown.target, shown)).collect();
    let view = |target: Target| {
        let facts = facts.remove(&target.id).unwrap_or_default();
        let left_out = left_out.remove(&target.id).unwrap_or_default();
        TargetView {
            set_aside: set_aside(left_out, &target, facts.wanted.as_ref()),
            facts,
            runs: runs.remove(&target.id).unwrap_or_default(),
            rollout: rollouts.remove(&target.id),
            waits_for: waiting.remove(&target.id).unwrap_or_default(),
            commit_status: told.remove(&target.id),
            target,
        }
    };
    Ok(targets.into_iter().map(view).collect())
}

async fn list_facts(
    db: &mut Connection,
    targets: &[TargetId],
    now: Timestamp,
) -> Result<BTreeMap<TargetId, Facts>, StoreError> {
    let count = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let until = to_sql(work::traced_until(now));
    let rows = sqlx::query_file!("src/store/sql/view_targets.sql", &uuids(targets), until).fetch_all(db).await?;
    let facts = rows.into_iter().map(|row| {
        let wanted = match (row.wanted_version, row.variables) {
            (Some(version), Some(variables)) => Some(WantedView {
                target_version: Version::new(version),
                variables,
                variants: variants(&row.parameters, &row.digests)?,
                sources: row.sources.and_then(|sources| sources.read("renders", "sources").ok()).unwrap_or_default(),
                left_out_hooks: row
                    .left_out_hooks
                    .and_then(|hooks| hooks.read("renders", "left_out_hooks").ok())
                    .unwrap_or_default(),
            }),
            _ => None,
        };
        let facts = Facts {
            pending: row.pending,
            commit: row.commit,
            verified: row.verified.map(|verified| verified.0),
            held: row.held,
            condition: row.condition.map(|condition| condition.0),
            wanted,
            clusters: count(row.clusters),
            in_place: count(row.in_place),
            healthy: count(row.healthy),
        };
        Ok((TargetId::new(row.target_id), facts))
    });
    facts.collect()
}

/// What parameters render to, both in the same order.
fn variants(parameters: &[Vec<u8>], digests: &[Vec<u8>]) -> Result<BTreeMap<Digest, Digest>, StoreError> {
    let table = "render_variants";
    parameters.iter().zip(digests).map(|(used, gives)| Ok((digest(used, table)?, digest(gives, table)?))).collect()
}

async fn list_runs(
    db: &mut Connection,
    targets: &[TargetId],
) -> Result<BTreeMap<TargetId, BTreeMap<ClusterId, Digest>>, StoreError> {
    let rows = sqlx::query!(
        "select target_id, cluster_id, digest from assignments where target_id = any($1) and action = 'apply'",
        &uuids(targets),
    )
    .fetch_all(db)
    .await?;
    let mut runs: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for row in rows {
        let digest = digest(&row.digest, "assignments")?;
        runs.entry(TargetId::new(row.target_id)).or_default().insert(ClusterId::new(row.cluster_id), digest);
    }
    Ok(runs)
}

async fn list_waiting(
    db: &mut Connection,
    targets: &[TargetId],
    now: Timestamp,
) -> Result<BTreeMap<TargetId, Vec<String>>, StoreError> {
    if targets.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query_file!("src/store/sql/view_waiting.sql", &uuids(targets), WAITING_MAX, to_sql(now))
        .fetch_all(db)
        .await?;
    let mut waiting: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        waiting.entry(TargetId::new(row.target_id)).or_default().push(row.name);
    }
    Ok(waiting)
}

/// A cluster that does not get a bundle by itself.
struct LeftOut {
    digest: Digest,
    /// `None`: it cannot be read what it would get.
    candidate: Option<Candidate>,
    said: SetAside,
}

/// Until the spec as it stands is rendered, nobody knows what it gives to whom.
fn known<'a>(target: &Target, wanted: Option<&'a WantedView>) -> Option<&'a WantedView> {
    wanted.filter(|wanted| wanted.target_version == target.version)
}

/// Those that are left out of what is wanted: what was for a cluster once, and what another has by now, is over.
fn set_aside(left_out: Vec<LeftOut>, target: &Target, wanted: Option<&WantedView>) -> Vec<SetAside> {
    let rendered =
        known(target, wanted).map(|wanted| Rendered::new(&target.spec.parameters, &wanted.variables, &wanted.variants));
    let is_wanted = |one: &LeftOut| match (&rendered, &one.candidate) {
        (Some(rendered), Some(candidate)) => rendered.gives(candidate) == Some(one.digest),
        _ => true,
    };
    left_out.into_iter().filter(is_wanted).map(|one| one.said).take(SET_ASIDE_MAX).collect()
}

/// A bounded number of each target, by name. Who runs by now what it was left out of is none of them, nor is who was left
/// out of what the target gives to nobody any more.
async fn list_left_out(
    db: &mut Connection,
    targets: &[Target],
    facts: &BTreeMap<TargetId, Facts>,
) -> Result<BTreeMap<TargetId, Vec<LeftOut>>, StoreError> {
    let ids: Vec<_> = targets.iter().map(|target| target.id).collect();
    let wanted = |target: &Target| known(target, facts.get(&target.id)?.wanted.as_ref()).map(|known| &known.variants);
    let (known, unknown): (Vec<_>, Vec<_>) = targets.iter().partition(|target| wanted(target).is_some());
    let given =
        known.iter().flat_map(|target| wanted(target).into_iter().flatten().map(|(_, digest)| (target.id, *digest)));
    let (given_by, given): (Vec<_>, Vec<_>) =
        given.map(|(id, digest)| (id.as_uuid(), digest.as_bytes().to_vec())).unzip();
    let unknown: Vec<_> = unknown.iter().map(|target| target.id.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select s.target_id, s.cluster_id, s.digest, c.name, c.labels as "labels: Stored<Labels>", s.cause, s.rollout_id,
               s.set_at
          from unnest($1::uuid[]) as t (target_id)
         cross join lateral (
               select s.*
                 from set_aside s
                 left join assignments a on a.cluster_id = s.cluster_id and a.target_id = s.target_id
                where s.target_id = t.target_id and a.digest is distinct from s.digest
                  and (s.target_id = any($2)
                       or (s.target_id, s.digest) in (select * from unnest($3::uuid[], $4::bytea[])))
                order by s.cluster_id
                limit $5) s
          join clusters c using (cluster_id)
         order by s.target_id, c.name
        "#,
        &uuids(&ids),
        &unknown,
        &given_by,
        &given,
        LEFT_OUT_MAX,
    )
    .fetch_all(&mut *db)
    .await?;
    let used = known.iter().fold(TraitsUsed::NONE, |used, target| used.and(traits_used(facts.get(&target.id))));
    let clusters: BTreeSet<_> = rows.iter().map(|row| ClusterId::new(row.cluster_id)).collect();
    let traits = traits::load(db, &clusters.into_iter().collect::<Vec<_>>(), used).await?;
    let mut left_out: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        let labels = Entry::of(&row.name, row.labels.read("clusters", "labels")).readable();
        let (cluster, name) = (ClusterId::new(row.cluster_id), name(&row.name, "clusters")?);
        let candidate = labels.zip(traits.get(&cluster).cloned());
        let candidate = candidate.map(|(labels, traits)| Candidate { cluster, name, labels, traits, connected: false });
        let said = SetAside {
            cluster: row.name,
            cause: row.cause,
            rollout: RolloutId::new(row.rollout_id),
            since: from_sql(row.set_at),
        };
        let one = LeftOut { digest: digest(&row.digest, "set_aside")?, candidate, said };
        left_out.entry(TargetId::new(row.target_id)).or_default().push(one);
    }
    Ok(left_out)
}

/// By what the target is to run.
fn traits_used(facts: Option<&Facts>) -> TraitsUsed {
    let wanted = facts.and_then(|facts| facts.wanted.as_ref());
    wanted.map_or(TraitsUsed::NONE, |wanted| TraitsUsed::by(&wanted.variables))
}

fn uuids(targets: &[TargetId]) -> Vec<Uuid> {
    targets.iter().map(|id| id.as_uuid()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;
    use crate::store::rows::{MAIN, Rows};
    use crate::store::work::Stage;
    use crate::store::{Pool, execute_in};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_fleet_is_a_projects_clusters_that_can_be_read_and_those_that_joined_may_move(pool: Pool) {
        let (mut rows, hub) = (Rows::new(&pool).await, clock::new_id());
        let (joined, new) = (rows.cluster("c1").await, rows.cluster("c2").await);
        let (revoked, damaged) = (rows.cluster("c3").await, rows.cluster("c4").await);
        for cluster in [joined, revoked, damaged] {
            rows.connect(cluster, hub).await;
        }
        let (project, db) = (rows.project.id, &mut rows.db);
        for statement in [
            "update clusters set revoked_at = now() where name = 'c3'",
            "update clusters set labels = '[]' where name = 'c4'",
        ] {
            execute_in(db, statement).await.expect("it is written");
        }
        let other = ProjectId::new(clock::new_id());

        let fleets = load_fleet(db, &[project, other].into(), TraitsUsed::NONE).await.expect("they are read");

        assert_eq!(fleets.keys().copied().collect::<Vec<_>>(), [project]);
        let mut members: Vec<_> = fleets[&project].iter().map(|one| (one.candidate.cluster, one.may_move)).collect();
        members.sort_unstable();
        let mut expected = vec![(joined, true), (new, false), (revoked, false)];
        expected.sort_unstable();
        assert_eq!(members, expected);
        assert!(fleets[&project].iter().all(|one| !one.candidate.connected), "their hub does not live");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_target_is_told_with_its_head_what_clusters_run_of_it_and_its_rollout(pool: Pool) {
        let (mut rows, now) = (Rows::new(&pool).await, clock::now());
        let (shop, idle) = (rows.target("shop").await, rows.target("idle").await);
        let (revision, bundle) = (rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let render = rows.render(&shop, revision, bundle).await;
        let rollout = rows.rollout(&shop, render).await;
        let cluster = rows.cluster("c1").await;
        rows.assign(cluster, &rollout, bundle).await;
        let db = &mut rows.db;
        work::append(db, Stage::Bundle, &[idle.id.as_uuid()], now, Some("a trace")).await.expect("it is told");

        let views = load(db, vec![idle.clone(), shop.clone()], now).await.expect("they are read");

        assert_eq!(
            views.iter().map(|view| view.target.id).collect::<Vec<_>>(),
            [idle.id, shop.id],
            "as they were given"
        );
        assert!(views[0].facts.pending && !views[1].facts.pending);
        assert!(views.iter().all(|view| view.facts.commit.as_deref() == Some("a")));
        assert_eq!(views[1].runs, [(cluster, bundle)].into());
        assert_eq!((views[1].facts.clusters, views[1].facts.healthy), (1, 0), "it has said nothing yet");
        assert_eq!(views[1].rollout.as_ref().map(|view| view.row.id), Some(rollout.id));
        assert!(views[0].runs.is_empty() && views[0].rollout.is_none() && views[0].waits_for.is_empty());
        assert!(load(db, Vec::new(), now).await.expect("nothing is asked").is_empty());
    }
}
