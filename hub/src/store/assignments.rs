//! What each cluster is to run.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::rollout::Presence;
use bellwether_core::session::{Action, Adopt, DriftMode, Prune, Replace, SyncOptions};
use bellwether_core::{ClusterId, Digest, Generation, Labels, Name, ObjectKey, RenderId, RolloutId, TargetId, TraceId};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::columns::text;
use super::stored::{Entry, Stored};
use super::{Connection, StoreError, from_sql, to_sql};

#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) cluster: ClusterId,
    pub(crate) target: TargetId,
    pub(crate) digest: Digest,
    pub(crate) generation: Generation,
    pub(crate) rollout: RolloutId,
    pub(crate) render: RenderId,
    pub(crate) action: Action,
    pub(crate) prunable: Vec<ObjectKey>,
    /// Part of its generation, as the bundle is.
    pub(crate) options: SyncOptions,
}

/// Writes assignments to clusters that differ, or whose member is `retried`, each under a generation of its own, and says
/// which.
///
/// In the order of the clusters: whoever writes some of the same waits instead of deadlocking.
pub(crate) async fn mark(
    db: &mut Connection,
    mut assignments: Vec<Assignment>,
    retried: &BTreeSet<ClusterId>,
    now: Timestamp,
) -> Result<Vec<(ClusterId, Generation)>, StoreError> {
    assignments.sort_unstable_by_key(|one| one.cluster);
    let clusters: Vec<Uuid> = assignments.iter().map(|one| one.cluster.as_uuid()).collect();
    let targets: Vec<Uuid> = assignments.iter().map(|one| one.target.as_uuid()).collect();
    let digests: Vec<Vec<u8>> = assignments.iter().map(|one| one.digest.as_bytes().to_vec()).collect();
    let rollouts: Vec<Uuid> = assignments.iter().map(|one| one.rollout.as_uuid()).collect();
    let renders: Vec<Uuid> = assignments.iter().map(|one| one.render.as_uuid()).collect();
    let actions: Vec<String> = assignments.iter().map(|one| one.action.as_str().to_owned()).collect();
    let prunable: Vec<Json<&Vec<ObjectKey>>> = assignments.iter().map(|one| Json(&one.prunable)).collect();
    let options: Vec<Json<&SyncOptions>> = assignments.iter().map(|one| Json(&one.options)).collect();
    let retried: Vec<bool> = assignments.iter().map(|one| retried.contains(&one.cluster)).collect();
    let rows = sqlx::query!(
        r#"
        insert into assignments
               (cluster_id, target_id, digest, rollout_id, render_id, action, prunable, options, generation, retried,
                assigned_at)
        select cluster_id, target_id, digest, rollout_id, render_id, action, prunable,
               -- Of the target as it is now: see mark_options.
               options || jsonb_build_object('namespace', (select t.spec ->> 'namespace'
                                                             from targets t
                                                            where t.target_id = numbered.target_id)),
               generation, case when is_retried then generation end, $8::timestamptz
          from (select *, nextval('generations') as generation
                  from unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::uuid[], $5::uuid[], $6::text[], $7::jsonb[],
                              $9::jsonb[], $10::bool[])
                       as given (cluster_id, target_id, digest, rollout_id, render_id, action, prunable, options,
                                 is_retried)) numbered
            on conflict (cluster_id, target_id) do update
           set digest = excluded.digest, generation = excluded.generation, rollout_id = excluded.rollout_id,
               render_id = excluded.render_id, action = excluded.action, prunable = excluded.prunable,
               options = excluded.options, retried = excluded.retried, assigned_at = excluded.assigned_at
        returning cluster_id, generation
        "#,
        &clusters,
        &targets,
        &digests,
        &rollouts,
        &renders,
        &actions,
        &prunable as _,
        to_sql(now),
        &options as _,
        &retried,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (ClusterId::new(row.cluster_id), Generation::new(row.generation))).collect())
}

/// What a cluster is to run of one target, with what its agent has to know of that.
pub(crate) struct Listed {
    pub(crate) assignment: Assignment,
    pub(crate) target_name: Name,
    /// The target's own; of one that is gone, as it was when it was assigned.
    pub(crate) namespace: Option<Name>,
    /// Whose the cluster is, and so the target.
    pub(crate) project: Option<Name>,
    /// Under which generation a person asked last to have it tried again there.
    pub(crate) retried: Generation,
    /// Of the rollout that decided it; `None` once that is gone.
    pub(crate) trace: Option<TraceId>,
}

struct Row {
    cluster_id: Uuid,
    target_id: Uuid,
    digest: Vec<u8>,
    generation: i64,
    rollout_id: Uuid,
    render_id: Uuid,
    action: String,
    prunable: Stored<Vec<ObjectKey>>,
    name: String,
    namespace: Option<String>,
    project: Option<String>,
    options: Stored<SyncOptions>,
    retried: Option<i64>,
    trace_id: Option<String>,
}

/// A row of what a cluster is to run: whose it is can always be read.
pub(crate) struct Placed {
    pub(crate) cluster: ClusterId,
    pub(crate) target: TargetId,
    pub(crate) read: Result<Listed, StoreError>,
}

/// In the order of the clusters and targets.
pub(crate) async fn list_of_clusters(db: &mut Connection, clusters: &[ClusterId]) -> Result<Vec<Placed>, StoreError> {
    let clusters: Vec<Uuid> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"
        select a.cluster_id, a.target_id, a.digest, a.generation, a.rollout_id, a.render_id, a.action,
               a.prunable as "prunable: Stored<Vec<ObjectKey>>", coalesce(t.name, a.target_name) as "name!",
               -- Of a target that is gone as it was when it was assigned: whom its agent acts as hangs on it.
               case when t.name is null then a.options ->> 'namespace' else t.namespace end as "namespace?",
               (select p.name
                  from clusters c
                  join projects p on p.project_id = c.project_id
                 where c.cluster_id = a.cluster_id) as "project?",
               a.options as "options: Stored<SyncOptions>", a.retried, r.trace_id as "trace_id?"
          from assignments a
          -- One by one: a plan for all would read every target there is.
          left join lateral (select name, spec ->> 'namespace' as namespace
                               from targets
                              where target_id = a.target_id
                              limit 1) t on true
          left join lateral (select trace_id from rollouts where rollout_id = a.rollout_id limit 1) r on true
         where a.cluster_id = any($1)
           and coalesce(t.name, a.target_name) is not null
         order by a.cluster_id, a.target_id
        "#,
        &clusters,
    )
    .fetch_all(db)
    .await?;
    let placed = rows.into_iter().map(|row| Placed {
        cluster: ClusterId::new(row.cluster_id),
        target: TargetId::new(row.target_id),
        read: row.try_into(),
    });
    Ok(placed.collect())
}

impl TryFrom<Row> for Listed {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let unreadable = |_| StoreError::Unreadable { table: "assignments", column: "action" };
        Ok(Self {
            assignment: Assignment {
                cluster: ClusterId::new(row.cluster_id),
                target: TargetId::new(row.target_id),
                digest: super::digest(&row.digest, "assignments")?,
                generation: Generation::new(row.generation),
                rollout: RolloutId::new(row.rollout_id),
                render: RenderId::new(row.render_id),
                action: row.action.parse().map_err(unreadable)?,
                prunable: row.prunable.read("assignments", "prunable")?,
                options: row.options.read("assignments", "options")?,
            },
            target_name: super::name(&row.name, "targets")?,
            namespace: row.namespace.map(|namespace| super::name(&namespace, "targets")).transpose()?,
            project: row.project.map(|project| super::name(&project, "projects")).transpose()?,
            retried: row.retried.map(Generation::new).unwrap_or_default(),
            trace: row.trace_id.and_then(|trace| trace.parse().ok()),
        })
    }
}

/// What every cluster runs of a target.
pub(crate) async fn list_digests_of_target(
    db: &mut Connection,
    target: TargetId,
) -> Result<Vec<(ClusterId, Digest, RenderId)>, StoreError> {
    let rows = sqlx::query!(
        "select cluster_id, digest, render_id from assignments where target_id = $1 and action = 'apply'",
        target.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let digest = super::digest(&row.digest, "assignments")?;
            Ok((ClusterId::new(row.cluster_id), digest, RenderId::new(row.render_id)))
        })
        .collect()
}

/// What a cluster was assigned last of a target.
pub(crate) struct Replaced {
    pub(crate) digest: Digest,
    /// What that allowed to be deleted.
    pub(crate) prunable: Vec<ObjectKey>,
    /// The cluster has said that all of it is in place and healthy.
    pub(crate) is_done: bool,
    /// Of what clusters run of the target something is known to be lost.
    pub(crate) is_any_lost: bool,
}

/// What these clusters are assigned of a target now. Of a row that cannot be read nothing is known, so nothing may go.
pub(crate) async fn list_replaced(
    db: &mut Connection,
    target: TargetId,
    clusters: &[ClusterId],
) -> Result<BTreeMap<ClusterId, Replaced>, StoreError> {
    let clusters: Vec<Uuid> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select a.cluster_id, a.digest, a.prunable as "prunable: Stored<Vec<ObjectKey>>",
               coalesce(r.applied and r.verdict = 'healthy', false) as "is_done!",
               exists (select from lost_content l where l.target_id = $1) as "is_any_lost!"
          from assignments a
          left join reports r
            on r.cluster_id = a.cluster_id and r.target_id = a.target_id
           and r.generation = a.generation and r.digest = a.digest
         where a.target_id = $1 and a.cluster_id = any($2) and a.action = 'apply'
        "#,
        target.as_uuid(),
        &clusters,
    )
    .fetch_all(db)
    .await?;
    let replaced = rows.into_iter().map(|row| {
        let (cluster, is_done, is_any_lost) = (ClusterId::new(row.cluster_id), row.is_done, row.is_any_lost);
        let read = || {
            let digest = super::digest(&row.digest, "assignments")?;
            let prunable = row.prunable.read("assignments", "prunable")?;
            Ok((cluster, Replaced { digest, prunable, is_done, is_any_lost }))
        };
        Entry::of(cluster, read())
    });
    Ok(replaced.filter_map(Entry::readable).collect())
}

/// Gives so many clusters of a target that are to keep it in another way than theirs new generations of what they have,
/// and says which; a target's own namespace counts where agents make it, or act as an account of it. Whoever judges them by the generation before judges them by the new one.
pub(crate) async fn mark_options(
    db: &mut Connection,
    target: TargetId,
    options: &SyncOptions,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<Uuid>, StoreError> {
    let clusters = sqlx::query_scalar!(
        r#"
        with given as (
            update assignments
               set options = $2::jsonb || (select jsonb_build_object('namespace', spec ->> 'namespace')
                                             from targets
                                            where target_id = $1),
                   generation = nextval('generations'), assigned_at = $4
             where target_id = $1
               and cluster_id in (
                   select cluster_id
                     from assignments
                    where target_id = $1 and action = 'apply'
                      and (coalesce(options ->> 'prune', $5), coalesce(options ->> 'drift', $6),
                           coalesce(options ->> 'adopt', $7), coalesce(options ->> 'replace', $8),
                           coalesce(options ->> 'createNamespace', 'false'), coalesce(options ->> 'serviceAccount', ''),
                           case when $2::jsonb ->> 'createNamespace' = 'true' or $2::jsonb ->> 'serviceAccount' <> ''
                                then coalesce(options ->> 'namespace', '') else '' end)
                          <> ($2::jsonb ->> 'prune', $2::jsonb ->> 'drift', $2::jsonb ->> 'adopt',
                              $2::jsonb ->> 'replace', $2::jsonb ->> 'createNamespace',
                              coalesce($2::jsonb ->> 'serviceAccount', ''),
                              case when $2::jsonb ->> 'createNamespace' = 'true'
                                     or $2::jsonb ->> 'serviceAccount' <> ''
                                   then coalesce((select spec ->> 'namespace' from targets where target_id = $1), '')
                                   else '' end)
                    order by cluster_id
                    limit $3
                   )
            returning cluster_id, rollout_id, generation
        ), judged as (
            update rollout_clusters m
               set generation = g.generation
              from given g
             where m.rollout_id = g.rollout_id and m.cluster_id = g.cluster_id and m.generation is not null
        )
        select cluster_id from given
        "#,
        target.as_uuid(),
        Json(options) as _,
        limit,
        to_sql(now),
        text(Prune::default()),
        text(DriftMode::default()),
        text(Adopt::default()),
        text(Replace::default()),
    )
    .fetch_all(db)
    .await?;
    Ok(clusters)
}

/// A cluster that runs a target, as selectors see it.
pub(crate) struct Holder {
    pub(crate) cluster: ClusterId,
    pub(crate) name: Name,
    pub(crate) labels: Labels,
    /// It was found that the target does not select it any more.
    pub(crate) unselected: bool,
}

/// What a cluster is to run of a target; `None`: nothing.
pub(crate) async fn find_digest(
    db: &mut Connection,
    target: TargetId,
    cluster: ClusterId,
) -> Result<Option<Digest>, StoreError> {
    let digest = sqlx::query_scalar!(
        "select digest from assignments where cluster_id = $1 and target_id = $2 and action = 'apply'",
        cluster.as_uuid(),
        target.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    digest.map(|digest| super::digest(&digest, "assignments")).transpose()
}

/// But those whose labels cannot be read: nothing is decided about them.
pub(crate) async fn list_holders(db: &mut Connection, target: TargetId) -> Result<Vec<Holder>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select a.cluster_id, c.name, c.labels as "labels: Stored<Labels>", a.unselected_at is not null as "unselected!"
          from assignments a
          join clusters c using (cluster_id)
         where a.target_id = $1 and a.action = 'apply'
        "#,
        target.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    let holders = rows.into_iter().map(|row| {
        let read = || {
            Ok(Holder {
                cluster: ClusterId::new(row.cluster_id),
                name: super::name(&row.name, "clusters")?,
                labels: row.labels.read("clusters", "labels")?,
                unselected: row.unselected,
            })
        };
        Entry::of(row.cluster_id, read())
    });
    Ok(holders.filter_map(Entry::readable).collect())
}

/// Writes that a target does not select a cluster any more, or that it does again.
pub(crate) async fn mark_unselected(
    db: &mut Connection,
    target: TargetId,
    cluster: ClusterId,
    since: Option<Timestamp>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update assignments set unselected_at = $3 where target_id = $1 and cluster_id = $2",
        target.as_uuid(),
        cluster.as_uuid(),
        since.map(to_sql),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Gives so many clusters that still run the target a tombstone under a generation of its own, and says which.
pub(crate) async fn mark_tombstones(
    db: &mut Connection,
    target: TargetId,
    action: Action,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<Uuid>, StoreError> {
    let clusters = sqlx::query_scalar!(
        r#"
        update assignments
           set action = $2, generation = nextval('generations'), prunable = '[]', assigned_at = $4
         where target_id = $1
           and cluster_id in (
               select cluster_id from assignments where target_id = $1 and action <> $2 order by cluster_id limit $3
           )
        returning cluster_id
        "#,
        target.as_uuid(),
        action.as_str(),
        limit,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    Ok(clusters)
}

/// Deletes the tombstones of a target that their clusters have carried out.
pub(crate) async fn delete_done(db: &mut Connection, target: TargetId) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        delete from assignments a
         using reports r
         where a.target_id = $1
           and a.action <> 'apply'
           and r.cluster_id = a.cluster_id and r.target_id = a.target_id
           and r.generation = a.generation and r.digest = a.digest and r.applied
        "#,
        target.as_uuid(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A cluster that has not said that it carried out its assignment.
pub(crate) struct Waiting {
    pub(crate) cluster: String,
    pub(crate) connected: bool,
    /// Connected or not.
    pub(crate) since: Timestamp,
}

impl Waiting {
    pub(crate) fn presence(&self) -> Presence {
        let since = self.since;
        if self.connected { Presence::Connected { since } } else { Presence::Disconnected { since } }
    }
}

/// Clusters that have not carried out what they are assigned of a target, by name.
pub(crate) async fn list_waiting(
    db: &mut Connection,
    target: TargetId,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<Waiting>, StoreError> {
    let rows =
        sqlx::query_file!("src/store/sql/list_waiting.sql", target.as_uuid(), limit, to_sql(now)).fetch_all(db).await?;
    let waiting = rows.into_iter();
    let waiting =
        waiting.map(|row| Waiting { cluster: row.name, connected: row.connected, since: from_sql(row.since) });
    Ok(waiting.collect())
}

/// Lets the tombstones of a target outlive it under its name.
pub(crate) async fn mark_outliving(db: &mut Connection, target: TargetId, name: &Name) -> Result<(), StoreError> {
    sqlx::query!("update assignments set target_name = $2 where target_id = $1", target.as_uuid(), name.as_str())
        .execute(db)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bellwether_core::report::{Counts, Report, Verdict};
    use bellwether_core::rollout::{Member, MemberState};
    use bellwether_core::{ReportSequence, SessionNumber};

    use super::*;
    use crate::process::clock;
    use crate::store::reports::{Received, mark_newer};
    use crate::store::rollouts::{Rollout, Which, insert_members, list_members, mark_members};
    use crate::store::rows::{MAIN, Rows, assignment};
    use crate::store::targets::Target;
    use crate::store::{Pool, execute_in, targets};

    /// Clusters that run the bundle `a` of a target.
    async fn running(rows: &mut Rows, names: &[&str]) -> (Target, Rollout, Vec<ClusterId>) {
        let (target, revision, bundle) =
            (rows.target("shop").await, rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let render = rows.render(&target, revision, bundle).await;
        let rollout = rows.rollout(&target, render).await;
        let mut clusters = Vec::new();
        for name in names {
            let cluster = rows.cluster(name).await;
            rows.assign(cluster, &rollout, bundle).await;
            clusters.push(cluster);
        }
        (target, rollout, clusters)
    }

    async fn listed(rows: &mut Rows, cluster: ClusterId) -> Listed {
        let mut listed = list_of_clusters(&mut rows.db, &[cluster]).await.expect("read");
        assert_eq!(listed.len(), 1);
        listed.remove(0).read.expect("it can be read")
    }

    /// The cluster says that all of it is in place, the later under the greater number.
    async fn report(rows: &mut Rows, cluster: ClusterId, generation: Generation, digest: Digest, number: i64) {
        let report = Report {
            target: listed(rows, cluster).await.assignment.target,
            generation,
            digest,
            applied: true,
            verdict: Verdict::Healthy,
            objects: Counts::default(),
            lines: Vec::new(),
            suspended: None,
        };
        let (session, sequence) = (SessionNumber::new(1), ReportSequence::new(number));
        let received = Received { cluster, session, sequence, report };
        mark_newer(&mut rows.db, &[&received], clock::now()).await.expect("written");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn every_assignment_has_a_later_generation_than_all_before_and_says_who_asked_for_it_again(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (_, rollout, clusters) = running(&mut rows, &["c1", "c2"]).await;
        let bundle = rows.bundle("a").await;
        let before = listed(&mut rows, clusters[1]).await;
        let again = clusters.iter().map(|cluster| assignment(*cluster, &rollout, bundle)).rev().collect();

        let given = mark(&mut rows.db, again, &[clusters[0]].into(), clock::now()).await.expect("written");
        let (asked, other) = (listed(&mut rows, clusters[0]).await, listed(&mut rows, clusters[1]).await);

        assert!(given.iter().all(|(_, generation)| *generation > before.assignment.generation), "{given:?}");
        assert_eq!(given.iter().map(|(cluster, _)| *cluster).collect::<Vec<_>>(), clusters, "in their order");
        assert_eq!((asked.retried, other.retried), (asked.assignment.generation, Generation::default()));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_cluster_is_done_with_exactly_what_it_was_assigned_last(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, rollout, clusters) = running(&mut rows, &["c1"]).await;
        let (cluster, [a, b]) = (clusters[0], [rows.bundle("a").await, rows.bundle("b").await]);
        let first = listed(&mut rows, cluster).await.assignment.generation;
        let is_done = async |rows: &mut Rows| {
            list_replaced(&mut rows.db, target.id, &[cluster]).await.expect("read")[&cluster].is_done
        };

        assert!(!is_done(&mut rows).await, "it has said nothing");
        report(&mut rows, cluster, first, b, 1).await;
        assert!(!is_done(&mut rows).await, "of another bundle");
        report(&mut rows, cluster, first, a, 2).await;
        assert!(is_done(&mut rows).await);
        rows.assign(cluster, &rollout, a).await;
        assert!(!is_done(&mut rows).await, "of the generation before");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn who_is_to_keep_it_otherwise_is_judged_by_the_new_generation_and_the_others_are_left_alone(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, rollout, clusters) = running(&mut rows, &["c1", "c2", "c3"]).await;
        let bundle = rows.bundle("a").await;
        let warn = SyncOptions { drift: DriftMode::Warn, ..SyncOptions::default() };
        let third = Assignment { options: warn.clone(), ..assignment(clusters[2], &rollout, bundle) };
        mark(&mut rows.db, vec![third], &BTreeSet::new(), clock::now()).await.expect("written");
        let before = listed(&mut rows, clusters[2]).await.assignment.generation;
        let waiting = clusters.iter().map(|cluster| Member::waiting(*cluster, 0, bundle, None)).collect::<Vec<_>>();
        insert_members(&mut rows.db, rollout.id, &waiting, &BTreeMap::new()).await.expect("written");
        let judged = Member { state: MemberState::Assigned, generation: Some(before), ..waiting[0].clone() };
        mark_members(&mut rows.db, rollout.id, &[&judged]).await.expect("written");
        let mut changed = async |options: &SyncOptions, limit| {
            mark_options(&mut rows.db, target.id, options, limit, clock::now()).await.expect("written")
        };

        assert_eq!(changed(&warn, 1).await, [clusters[0].as_uuid()], "so many at once");
        assert_eq!(changed(&warn, 10).await, [clusters[1].as_uuid()], "who keeps it so has nothing new");
        assert!(changed(&warn, 10).await.is_empty());
        let members = list_members(&mut rows.db, rollout.id, Which::default(), clock::now()).await.expect("read");
        let generations: Vec<_> = members.iter().map(|one| one.member.generation).collect();
        assert_eq!(generations, [Some(listed(&mut rows, clusters[0]).await.assignment.generation), None, None]);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn each_way_to_keep_a_target_is_told_to_clusters_whose_rows_know_nothing_of_it(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, _, clusters) = running(&mut rows, &["c1"]).await;
        let by_an_earlier_version =
            r#"update assignments set options = '{"prune": "afterHealthy", "drift": "correct"}'"#;
        execute_in(&mut rows.db, by_an_earlier_version).await.expect("written");
        let as_before = SyncOptions::default();
        let all = [
            SyncOptions { adopt: Adopt::IfUnowned, ..as_before.clone() },
            SyncOptions { replace: Replace::Immutable, ..as_before.clone() },
            SyncOptions { create_namespace: true, ..as_before.clone() },
            SyncOptions { service_account: Some("deployer".parse().expect("a name")), ..as_before.clone() },
        ];
        let mut changed = async |options: &SyncOptions| {
            mark_options(&mut rows.db, target.id, options, 10, clock::now()).await.expect("written").len()
        };

        assert_eq!(changed(&as_before).await, 0, "what is left out is as it was");
        for options in &all {
            assert_eq!((changed(options).await, changed(options).await), (1, 0), "{options:?}");
        }
        assert_eq!(listed(&mut rows, clusters[0]).await.assignment.options, all[3]);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn another_namespace_of_a_target_that_makes_it_is_told_to_its_clusters(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, rollout, clusters) = running(&mut rows, &["c1"]).await;
        let as_shop = r#"update targets set spec = spec || '{"namespace": "shop"}'"#;
        let as_store = r#"update targets set spec = spec || '{"namespace": "store"}'"#;
        let making = SyncOptions { create_namespace: true, ..SyncOptions::default() };
        let told = async |rows: &mut Rows, options: &SyncOptions| {
            mark_options(&mut rows.db, target.id, options, 10, clock::now()).await.expect("written").len()
        };

        execute_in(&mut rows.db, as_shop).await.expect("written");
        assert_eq!(told(&mut rows, &SyncOptions::default()).await, 0, "nobody makes it");
        assert_eq!((told(&mut rows, &making).await, told(&mut rows, &making).await), (1, 0));
        execute_in(&mut rows.db, as_store).await.expect("written");
        assert_eq!((told(&mut rows, &making).await, told(&mut rows, &making).await), (1, 0));
        execute_in(&mut rows.db, as_shop).await.expect("written");
        let bundle = rows.bundle("a").await;
        let again = Assignment { options: making.clone(), ..assignment(clusters[0], &rollout, bundle) };
        mark(&mut rows.db, vec![again], &BTreeSet::new(), clock::now()).await.expect("written");
        assert_eq!(told(&mut rows, &making).await, 0, "an assignment knows which one it is");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_tombstone_allows_nothing_of_before_and_stays_until_it_is_carried_out(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, rollout, clusters) = running(&mut rows, &["c1", "c2"]).await;
        let bundle = rows.bundle("a").await;
        let key = ObjectKey { api_version: "v1".into(), kind: "Pod".into(), namespace: None, name: "a".into() };
        let more = Assignment { prunable: vec![key], ..assignment(clusters[0], &rollout, bundle) };
        mark(&mut rows.db, vec![more], &BTreeSet::new(), clock::now()).await.expect("written");
        let before = listed(&mut rows, clusters[0]).await.assignment.generation;
        let bury = async |rows: &mut Rows, limit| {
            mark_tombstones(&mut rows.db, target.id, Action::Delete, limit, clock::now()).await.expect("written")
        };

        assert_eq!(bury(&mut rows, 1).await, [clusters[0].as_uuid()]);
        assert_eq!(bury(&mut rows, 10).await, [clusters[1].as_uuid()]);
        assert!(bury(&mut rows, 10).await.is_empty(), "each has one");
        let tombstone = listed(&mut rows, clusters[0]).await.assignment;
        assert_eq!((tombstone.action, tombstone.prunable.len()), (Action::Delete, 0));
        assert!(list_holders(&mut rows.db, target.id).await.expect("read").is_empty());

        report(&mut rows, clusters[0], before, bundle, 1).await;
        delete_done(&mut rows.db, target.id).await.expect("written");
        let waiting = list_waiting(&mut rows.db, target.id, 10, clock::now()).await.expect("read");
        assert_eq!(waiting.len(), 2, "that was the assignment before");
        report(&mut rows, clusters[0], tombstone.generation, bundle, 2).await;
        delete_done(&mut rows.db, target.id).await.expect("written");
        let waiting = list_waiting(&mut rows.db, target.id, 10, clock::now()).await.expect("read");
        assert_eq!(waiting.iter().map(|one| one.cluster.as_str()).collect::<Vec<_>>(), ["c2"]);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_tombstone_outlives_its_target_under_its_name(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, _, clusters) = running(&mut rows, &["c1"]).await;
        mark_tombstones(&mut rows.db, target.id, Action::Orphan, 10, clock::now()).await.expect("written");

        mark_outliving(&mut rows.db, target.id, &target.name).await.expect("written");
        targets::delete(&mut rows.db, target.id).await.expect("it goes");

        let left = listed(&mut rows, clusters[0]).await;
        assert_eq!((left.target_name, left.assignment.action, left.trace), (target.name, Action::Orphan, None));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_tombstone_whose_target_is_gone_says_of_which_namespace_its_account_is(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, _, clusters) = running(&mut rows, &["c1"]).await;
        let as_shop = r#"update targets set spec = spec || '{"namespace": "shop"}'"#;
        execute_in(&mut rows.db, as_shop).await.expect("written");
        let account = Some("deployer".parse().expect("a name"));
        let acting = SyncOptions { service_account: account.clone(), ..SyncOptions::default() };
        mark_options(&mut rows.db, target.id, &acting, 10, clock::now()).await.expect("written");
        let project = listed(&mut rows, clusters[0]).await.project;

        mark_tombstones(&mut rows.db, target.id, Action::Delete, 10, clock::now()).await.expect("written");
        mark_outliving(&mut rows.db, target.id, &target.name).await.expect("written");
        targets::delete(&mut rows.db, target.id).await.expect("it goes");

        let left = listed(&mut rows, clusters[0]).await;
        assert_eq!(left.namespace.as_ref().map(Name::as_str), Some("shop"));
        assert_eq!((left.assignment.options.service_account, &left.project), (account, &project));
        assert!(project.is_some());
    }
}
