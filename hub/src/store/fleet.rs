//! What runs where: the reads across clusters, sessions, assignments and reports that people ask for.

use bellwether_core::parameters::{Traits, TraitsUsed};
use bellwether_core::report::{Counts, ObjectLine, Suspended, Verdict};
use bellwether_core::rollout::Candidate;
use bellwether_core::{ClusterId, Digest, Generation, Labels, Name, ProjectId, TargetId};
use jiff::Timestamp;
use sqlx::types::Json;

use super::stored::{Entry, Stored};
use super::{Connection, StoreError, from_sql, to_sql, traits};

/// Clusters that a rollout may have as members, joined and not revoked, with at least these labels, by name. A contested one counts as away: nothing is told to it.
/// One of which something cannot be read is none: it keeps what it has.
pub(crate) async fn list_candidates(
    db: &mut Connection,
    project: ProjectId,
    labels: &Labels,
    used: TraitsUsed,
) -> Result<Vec<Candidate>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select c.cluster_id, c.name, c.labels as "labels: Stored<Labels>", p.is_connected and not p.is_contested as "connected!"
          from clusters c
          join presences p using (cluster_id)
         where c.project_id = $1 and c.revoked_at is null and c.labels @> $2
         order by c.name
        "#,
        project.as_uuid(),
        Json(labels) as _,
    )
    .fetch_all(&mut *db)
    .await?;
    let candidates = rows.into_iter().map(|row| {
        let name = row.name.clone();
        let read = || {
            Ok(Candidate {
                cluster: ClusterId::new(row.cluster_id),
                name: super::name(&row.name, "clusters")?,
                labels: row.labels.read("clusters", "labels")?,
                traits: Traits::default(),
                connected: row.connected,
            })
        };
        Entry::of(name, read())
    });
    let mut candidates = candidates.filter_map(Entry::readable).collect();
    traits::give(db, &mut candidates, used).await?;
    Ok(candidates)
}

/// One target in one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    pub(crate) target: Name,
    pub(crate) cluster: Name,
    /// As selectors see it.
    pub(crate) labels: Labels,
    pub(crate) connected: bool,
    /// And what its agent kept to itself while it was away has arrived: what it said last is of now.
    pub(crate) heard: bool,
    pub(crate) since: Option<Timestamp>,
    pub(crate) commit: Option<String>,
    pub(crate) digest: Digest,
    pub(crate) generation: Generation,
    /// What its agent said of exactly this generation and digest; `None`: nothing yet.
    pub(crate) said: Option<Said>,
}

#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) applied: bool,
    pub(crate) verdict: Verdict,
    pub(crate) objects: Counts,
    pub(crate) lines: Vec<ObjectLine>,
    pub(crate) suspended: Option<Suspended>,
    pub(crate) at: Timestamp,
}

struct Row {
    target: String,
    cluster: String,
    labels: Stored<Labels>,
    connected: bool,
    heard: bool,
    since: Option<chrono::DateTime<chrono::Utc>>,
    commit_id: Option<String>,
    digest: Vec<u8>,
    generation: i64,
    applied: Option<bool>,
    verdict: Option<String>,
    total: Option<i32>,
    in_place: Option<i32>,
    healthy: Option<i32>,
    lines: Option<Stored<Vec<ObjectLine>>>,
    suspended: Option<Stored<Suspended>>,
    reported_at: Option<chrono::DateTime<chrono::Utc>>,
}

/// Where an assignment stands in the list: the names of its target and its cluster.
pub(crate) type PlacementPlace = (Name, Name);

/// Some of the assignments that were asked for.
pub(crate) struct PlacementPage {
    pub(crate) items: Vec<Placement>,
    /// The last row, whether or not it could be read; `None`: nothing comes after it.
    pub(crate) next: Option<PlacementPlace>,
}

/// Which assignments are asked for, all of one project: names mean nothing across two.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Placements<'a> {
    OfTargets(ProjectId, &'a [TargetId]),
    InCluster(ProjectId, ClusterId),
}

/// A page of assignments, in order of targets and clusters, after a place. What cannot be read is left out.
pub(crate) async fn list_placements(
    db: &mut Connection,
    of: Placements<'_>,
    after: Option<&PlacementPlace>,
    limit: i64,
    now: Timestamp,
) -> Result<PlacementPage, StoreError> {
    let (project, targets, cluster) = match of {
        Placements::OfTargets(project, targets) => (project, Some(targets), None),
        Placements::InCluster(project, cluster) => (project, None, Some(cluster)),
    };
    let targets: Option<Vec<_>> = targets.map(|targets| targets.iter().map(|id| id.as_uuid()).collect());
    let rows = sqlx::query_file_as!(
        Row,
        "src/store/sql/list_placements.sql",
        targets as _,
        cluster.map(ClusterId::as_uuid),
        after.map(|(target, _)| target.as_str()).unwrap_or_default(),
        after.map(|(_, cluster)| cluster.as_str()).unwrap_or_default(),
        limit,
        to_sql(now),
        project.as_uuid(),
    )
    .fetch_all(db)
    .await?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    let place = |row: &Row| Some((row.target.parse().ok()?, row.cluster.parse().ok()?));
    let next = rows.last().filter(|_| is_full).and_then(place);
    let placements =
        rows.into_iter().map(|row| Entry::of(format!("{} in {}", row.target, row.cluster), row.try_into()));
    Ok(PlacementPage { items: placements.filter_map(Entry::readable).collect(), next })
}

impl TryFrom<Row> for Placement {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let count = |number: Option<i32>| u32::try_from(number.unwrap_or(0)).unwrap_or(0);
        let said = match (row.verdict, row.reported_at) {
            (Some(verdict), Some(at)) => Some(Said {
                applied: row.applied.unwrap_or(false),
                verdict: verdict.parse().map_err(|_| StoreError::Unreadable { table: "reports", column: "verdict" })?,
                objects: Counts { total: count(row.total), in_place: count(row.in_place), healthy: count(row.healthy) },
                lines: row.lines.map_or(Ok(Vec::new()), |lines| lines.read("reports", "lines"))?,
                suspended: row.suspended.map(|it| it.read("reports", "suspended")).transpose()?,
                at: from_sql(at),
            }),
            _ => None,
        };
        Ok(Self {
            target: super::name(&row.target, "targets")?,
            cluster: super::name(&row.cluster, "clusters")?,
            labels: row.labels.read("clusters", "labels")?,
            connected: row.connected,
            heard: row.heard,
            since: row.since.map(from_sql),
            commit: row.commit_id,
            digest: super::digest(&row.digest, "assignments")?,
            generation: Generation::new(row.generation),
            said,
        })
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::report::Report;
    use bellwether_core::{ReportSequence, SessionNumber};

    use super::*;
    use crate::process::clock;
    use crate::store::installation::mark_hub_heartbeat;
    use crate::store::reports::{Received, mark_newer};
    use crate::store::rows::{MAIN, Rows};
    use crate::store::{Pool, clusters, execute_in};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn who_has_joined_and_may_is_a_candidate_with_whether_it_can_be_told_anything(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (hub, silent) = (clock::new_id(), clock::new_id());
        mark_hub_heartbeat(&mut rows.db, hub, std::time::Duration::from_mins(1)).await.expect("it lives");
        rows.cluster("never-joined").await;
        for (name, at) in [("there", hub), ("away", silent), ("contested", hub), ("revoked", hub), ("other", hub)] {
            let cluster = rows.cluster(name).await;
            rows.connect(cluster, at).await;
        }
        let db = &mut rows.db;
        execute_in(db, r#"update clusters set labels = '{"ring": "canary", "a": "b"}' where name <> 'other'"#)
            .await
            .expect("written");
        let contested = r#"update sessions set rivalry = '{"contested_at": "2026-01-01T00:00:00Z"}'
                            where cluster_id = (select cluster_id from clusters where name = 'contested')"#;
        execute_in(db, contested).await.expect("written");
        let revoked = "revoked".parse().expect("a name");
        let revoked = clusters::find_by_name(db, rows.project.id, &revoked).await.expect("read").expect("it is there");
        clusters::mark_revoked(db, revoked.id, clock::now()).await.expect("written");
        let canary = Labels::from([("ring".to_owned(), "canary".to_owned())]);

        let candidates = list_candidates(db, rows.project.id, &canary, TraitsUsed::NONE).await.expect("read");

        let told: Vec<_> = candidates.iter().map(|one| (one.name.as_str(), one.connected)).collect();
        assert_eq!(told, [("away", false), ("contested", false), ("there", true)]);
        let all = list_candidates(db, rows.project.id, &Labels::new(), TraitsUsed::NONE).await.expect("read");
        assert_eq!(all.len(), 4);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_an_agent_said_is_shown_of_exactly_what_it_is_to_run_and_pages_go_on_behind_a_place(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, revision) = (rows.target("shop").await, rows.revision(MAIN, "abc").await);
        let bundle = rows.bundle("a").await;
        let render = rows.render(&target, revision, bundle).await;
        let rollout = rows.rollout(&target, render).await;
        let mut reports = Vec::new();
        for (number, name) in (1..).zip(["c1", "c2", "c3"]) {
            let cluster = rows.cluster(name).await;
            let generation = rows.assign(cluster, &rollout, bundle).await;
            let report = Report {
                target: target.id,
                generation,
                digest: bundle,
                applied: true,
                verdict: Verdict::Healthy,
                objects: Counts::default(),
                lines: Vec::new(),
                suspended: None,
            };
            let sequence = ReportSequence::new(number);
            reports.push(Received { cluster, session: SessionNumber::new(1), sequence, report });
        }
        reports[1].report.digest = Digest::of(b"another");
        let (db, now) = (&mut rows.db, clock::now());
        mark_newer(db, &reports[..2].iter().collect::<Vec<_>>(), now).await.expect("written");
        let targets = [target.id];
        let of = Placements::OfTargets(rows.project.id, &targets);

        let first = list_placements(db, of, None, 2, now).await.expect("read");
        let rest = list_placements(db, of, first.next.as_ref(), 2, now).await.expect("read");

        let told = |page: &PlacementPage| {
            let items = page.items.iter();
            items.map(|one| (one.cluster.to_string(), one.said.is_some(), one.commit.clone())).collect::<Vec<_>>()
        };
        let commit = Some("abc".to_owned());
        assert_eq!(told(&first), [("c1".to_owned(), true, commit.clone()), ("c2".to_owned(), false, commit.clone())]);
        assert_eq!((told(&rest), rest.next), (vec![("c3".to_owned(), false, commit)], None));
        let other = Placements::InCluster(ProjectId::new(clock::new_id()), reports[0].cluster);
        let elsewhere = list_placements(db, other, None, 10, now).await.expect("read");
        assert!(elsewhere.items.is_empty(), "of another project nothing is told");
    }
}
