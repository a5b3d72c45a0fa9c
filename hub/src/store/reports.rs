//! The newest report of each cluster and target.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::report::{ObjectLine, Report, Suspended};
use bellwether_core::{ClusterId, Digest, Generation, ReportSequence, SessionNumber, TargetId};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::stored::Stored;
use super::{Connection, StoreError, to_sql};

/// A report as it came: whose, and on which stream.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) cluster: ClusterId,
    pub(crate) session: SessionNumber,
    pub(crate) sequence: ReportSequence,
    pub(crate) report: Report,
}

/// What a report may be about.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    pub(crate) generation: Generation,
    pub(crate) digest: Digest,
    /// Of the rollout that decided it; `None` once that is gone.
    pub(crate) trace_id: Option<String>,
    /// What the newest report says of that, and where that stands; `None`: there is none.
    pub(crate) said: Option<((SessionNumber, ReportSequence), Option<Suspended>)>,
}

/// Of these clusters and targets, those that an assignment connects.
pub(crate) async fn list_assigned(
    db: &mut Connection,
    received: &[Received],
) -> Result<BTreeMap<(ClusterId, TargetId), Assigned>, StoreError> {
    let clusters: Vec<Uuid> = received.iter().map(|one| one.cluster.as_uuid()).collect();
    let targets: Vec<Uuid> = received.iter().map(|one| one.report.target.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select a.cluster_id, a.target_id, a.generation, a.digest, r.trace_id as "trace_id?",
               p.session as "session?", p.sequence as "sequence?", p.suspended as "suspended: Stored<Suspended>"
          from assignments a
          left join rollouts r using (rollout_id)
          left join reports p on p.cluster_id = a.cluster_id and p.target_id = a.target_id
         where (a.cluster_id, a.target_id) in (select * from unnest($1::uuid[], $2::uuid[]))
        "#,
        &clusters,
        &targets,
    )
    .fetch_all(db)
    .await?;
    let assigned = rows.into_iter().map(|row| {
        let key = (ClusterId::new(row.cluster_id), TargetId::new(row.target_id));
        let digest = super::digest(&row.digest, "assignments")?;
        let suspended = row.suspended.and_then(|suspended| suspended.read("reports", "suspended").ok());
        let place = row.session.zip(row.sequence);
        let said =
            place.map(|(session, sequence)| ((SessionNumber::new(session), ReportSequence::new(sequence)), suspended));
        Ok((key, Assigned { generation: Generation::new(row.generation), digest, trace_id: row.trace_id, said }))
    });
    assigned.collect()
}

/// Targets that something is decided about by what these clusters say of them: members of a rollout that goes on, those
/// that have yet to catch up with one that is done, and those that are to let the target go. Of the others a report is
/// for people.
pub(crate) async fn list_decided_by(db: &mut Connection, received: &[&Received]) -> Result<Vec<Uuid>, StoreError> {
    let clusters: Vec<Uuid> = received.iter().map(|one| one.cluster.as_uuid()).collect();
    let targets: Vec<Uuid> = received.iter().map(|one| one.report.target.as_uuid()).collect();
    let targets = sqlx::query_scalar!(
        r#"
        with said as (
            select * from unnest($1::uuid[], $2::uuid[]) as s (cluster_id, target_id)
        )
        select s.target_id as "target!"
          from said s
          join rollouts o on o.target_id = s.target_id and o.ended_at is null
          join rollout_clusters m on m.rollout_id = o.rollout_id and m.cluster_id = s.cluster_id
         union
        select s.target_id
          from said s
          join rollout_clusters m
            on m.cluster_id = s.cluster_id and m.is_unsettled
          join rollouts o on o.rollout_id = m.rollout_id and o.target_id = s.target_id and o.state = 'done'
         union
        select s.target_id
          from said s
          join assignments a on a.cluster_id = s.cluster_id and a.target_id = s.target_id and a.action <> 'apply'
        "#,
        &clusters,
        &targets,
    )
    .fetch_all(db)
    .await?;
    Ok(targets)
}

/// Writes reports that are newer than what is there. At most one for each cluster and target, sorted by them: two
/// hubs that write at once wait for each other instead of deadlocking.
pub(crate) async fn mark_newer(db: &mut Connection, received: &[&Received], now: Timestamp) -> Result<(), StoreError> {
    let int = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let clusters: Vec<Uuid> = received.iter().map(|one| one.cluster.as_uuid()).collect();
    let targets: Vec<Uuid> = received.iter().map(|one| one.report.target.as_uuid()).collect();
    let generations: Vec<i64> = received.iter().map(|one| one.report.generation.get()).collect();
    let digests: Vec<Vec<u8>> = received.iter().map(|one| one.report.digest.as_bytes().to_vec()).collect();
    let verdicts: Vec<String> = received.iter().map(|one| one.report.verdict.to_string()).collect();
    let applied: Vec<bool> = received.iter().map(|one| one.report.applied).collect();
    let totals: Vec<i32> = received.iter().map(|one| int(one.report.objects.total)).collect();
    let in_place: Vec<i32> = received.iter().map(|one| int(one.report.objects.in_place)).collect();
    let healthy: Vec<i32> = received.iter().map(|one| int(one.report.objects.healthy)).collect();
    let lines: Vec<Json<&Vec<ObjectLine>>> = received.iter().map(|one| Json(&one.report.lines)).collect();
    let suspended: Vec<Option<Json<&Suspended>>> =
        received.iter().map(|one| one.report.suspended.as_ref().map(Json)).collect();
    let sessions: Vec<i64> = received.iter().map(|one| one.session.get()).collect();
    let sequences: Vec<i64> = received.iter().map(|one| one.sequence.get()).collect();
    sqlx::query!(
        r#"
        insert into reports
               (cluster_id, target_id, generation, digest, verdict, applied, total, in_place, healthy, lines,
                session, sequence, suspended, reported_at)
        select *, $14::timestamptz
          from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bytea[], $5::text[], $6::bool[], $7::int[],
                      $8::int[], $9::int[], $10::jsonb[], $11::bigint[], $12::bigint[], $13::jsonb[])
            on conflict (cluster_id, target_id) do update
           set generation = excluded.generation, digest = excluded.digest, verdict = excluded.verdict,
               applied = excluded.applied, total = excluded.total, in_place = excluded.in_place,
               healthy = excluded.healthy, lines = excluded.lines, session = excluded.session,
               sequence = excluded.sequence, suspended = excluded.suspended, reported_at = excluded.reported_at
         where (reports.session, reports.sequence) < (excluded.session, excluded.sequence)
        "#,
        &clusters,
        &targets,
        &generations,
        &digests,
        &verdicts,
        &applied,
        &totals,
        &in_place,
        &healthy,
        &lines as _,
        &sessions,
        &sequences,
        &suspended as _,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The newest verdicts of a cluster, as far as the hub knows: what is written is compared to it, to audit changes.
pub(crate) async fn list_verdicts(
    db: &mut Connection,
    received: &[Received],
) -> Result<Vec<(ClusterId, TargetId, String, Digest)>, StoreError> {
    let clusters: Vec<Uuid> = received.iter().map(|one| one.cluster.as_uuid()).collect();
    let targets: Vec<Uuid> = received.iter().map(|one| one.report.target.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select cluster_id, target_id, verdict, digest
          from reports
         where (cluster_id, target_id) in (select * from unnest($1::uuid[], $2::uuid[]))
        "#,
        &clusters,
        &targets,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let digest = super::digest(&row.digest, "reports")?;
            Ok((ClusterId::new(row.cluster_id), TargetId::new(row.target_id), row.verdict, digest))
        })
        .collect()
}

/// Of these clusters, those that have said anything on the stream and at the place that their agent says was acknowledged.
pub(crate) async fn list_known(
    db: &mut Connection,
    acked: &[(ClusterId, (SessionNumber, ReportSequence))],
) -> Result<BTreeSet<ClusterId>, StoreError> {
    if acked.is_empty() {
        return Ok(BTreeSet::new());
    }
    let clusters: Vec<_> = acked.iter().map(|(cluster, _)| cluster.as_uuid()).collect();
    let sessions: Vec<_> = acked.iter().map(|(_, (session, _))| session.get()).collect();
    let sequences: Vec<_> = acked.iter().map(|(_, (_, sequence))| sequence.get()).collect();
    let known = sqlx::query_scalar!(
        r#"
        select a.cluster_id as "cluster_id!"
          from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as a (cluster_id, session, sequence)
         where exists (
               select from reports r
                where r.cluster_id = a.cluster_id and (r.session, r.sequence) >= (a.session, a.sequence)
               )
        "#,
        &clusters,
        &sessions,
        &sequences,
    )
    .fetch_all(db)
    .await?;
    Ok(known.into_iter().map(ClusterId::new).collect())
}

#[cfg(test)]
mod tests {
    use bellwether_core::report::{Counts, Verdict};
    use bellwether_core::rollout::{Member, MemberState, RolloutState};
    use bellwether_core::session::Action;

    use super::*;
    use crate::process::clock;
    use crate::store::rollouts::{insert_members, mark_members};
    use crate::store::rows::{MAIN, Rows};
    use crate::store::targets::Target;
    use crate::store::{Pool, assignments};

    fn received(cluster: ClusterId, target: TargetId, place: (i64, i64), verdict: Verdict) -> Received {
        let report = Report {
            target,
            generation: Generation::new(1),
            digest: Digest::of(b"a"),
            applied: true,
            verdict,
            objects: Counts::default(),
            lines: Vec::new(),
            suspended: None,
        };
        Received { cluster, session: SessionNumber::new(place.0), sequence: ReportSequence::new(place.1), report }
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_report_that_comes_late_or_again_changes_nothing(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let cluster = rows.cluster("c1").await;
        let target = member_of(&mut rows, cluster, "shop", RolloutState::Done, MemberState::Healthy).await.id;
        let db = &mut rows.db;
        let mut say = async |place, verdict: Verdict| {
            let report = received(cluster, target, place, verdict);
            mark_newer(db, &[&report], clock::now()).await.expect("written");
            list_verdicts(db, &[report]).await.expect("read").remove(0).2
        };

        assert_eq!(say((7, 5), Verdict::Progressing).await, "progressing");
        assert_eq!(say((7, 4), Verdict::Failed).await, "progressing", "it was overtaken");
        assert_eq!(say((7, 5), Verdict::Failed).await, "progressing", "it came again");
        assert_eq!(say((7, 6), Verdict::Degraded).await, "degraded");
        assert_eq!(say((8, 1), Verdict::Healthy).await, "healthy", "a later stream counts from one");
        assert_eq!(say((7, 9), Verdict::Failed).await, "healthy", "of a stream that was replaced");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_an_agent_was_acknowledged_is_known_while_something_as_late_is_there(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (one, other) = (rows.cluster("c1").await, rows.cluster("c2").await);
        let target = member_of(&mut rows, one, "shop", RolloutState::Done, MemberState::Healthy).await.id;
        let db = &mut rows.db;
        mark_newer(db, &[&received(one, target, (7, 5), Verdict::Healthy)], clock::now()).await.expect("written");
        let mut knows = async |cluster, session, sequence| {
            let acked = [(cluster, (SessionNumber::new(session), ReportSequence::new(sequence)))];
            !list_known(db, &acked).await.expect("read").is_empty()
        };

        assert!(knows(one, 7, 5).await && knows(one, 7, 4).await && knows(one, 6, 9).await);
        assert!(!knows(one, 7, 6).await, "a database from before that");
        assert!(!knows(one, 8, 1).await && !knows(other, 7, 5).await);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_report_wakes_only_what_is_decided_by_it(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let cluster = rows.cluster("c1").await;
        let mut all = Vec::new();
        for (name, state, member) in [
            ("live", RolloutState::Rolling, MemberState::Healthy),
            ("settled", RolloutState::Done, MemberState::Healthy),
            ("behind", RolloutState::Done, MemberState::Offline),
            ("given-up", RolloutState::Failed, MemberState::Offline),
            ("leaving", RolloutState::Done, MemberState::Healthy),
        ] {
            let target = member_of(&mut rows, cluster, name, state, member).await;
            all.push(received(cluster, target.id, (1, 1), Verdict::Healthy));
            if name == "leaving" {
                let given = assignments::mark_tombstones(&mut rows.db, target.id, Action::Delete, 10, clock::now());
                given.await.expect("written");
            }
        }

        let decided = list_decided_by(&mut rows.db, &all.iter().collect::<Vec<_>>()).await.expect("read");

        let of = |place: usize| decided.contains(&all[place].report.target.as_uuid());
        assert_eq!([of(0), of(1), of(2), of(3), of(4)], [true, false, true, false, true]);
        let stranger = received(rows.cluster("c2").await, all[0].report.target, (1, 1), Verdict::Healthy);
        assert!(list_decided_by(&mut rows.db, &[&stranger]).await.expect("read").is_empty());
        let assigned = list_assigned(&mut rows.db, &[all[0].clone(), stranger]).await.expect("read");
        assert_eq!(assigned.into_keys().collect::<Vec<_>>(), [(cluster, all[0].report.target)]);
    }

    async fn member_of(
        rows: &mut Rows,
        cluster: ClusterId,
        name: &str,
        state: RolloutState,
        is: MemberState,
    ) -> Target {
        let (target, revision, bundle) =
            (rows.target(name).await, rows.revision(MAIN, name).await, rows.bundle("a").await);
        let render = rows.render(&target, revision, bundle).await;
        let rollout = rows.rollout(&target, render).await;
        let member = Member::waiting(cluster, 0, bundle, None);
        insert_members(&mut rows.db, rollout.id, std::slice::from_ref(&member), &BTreeMap::new())
            .await
            .expect("written");
        mark_members(&mut rows.db, rollout.id, &[&Member { state: is, ..member }]).await.expect("written");
        rows.assign(cluster, &rollout, bundle).await;
        rows.end(&rollout, state).await;
        target
    }
}
