//! The members of rollouts: clusters, each with its state.

use std::collections::BTreeMap;

use bellwether_core::report::{ObjectLine, Suspended, Verdict, may_pass};
use bellwether_core::rollout::{Evidence, Heard, Member, MemberScope, MemberSnapshot, OVERTAKEN, Presence, Seen};
use bellwether_core::{ClusterId, Digest, Generation, RenderId, RolloutId, TargetId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::store::columns::{signed, text, unsigned, word};
use crate::store::stored::Stored;
use crate::store::{self, Connection, StoreError, from_sql, to_sql};

type DateTime = chrono::DateTime<chrono::Utc>;

/// Writes members that wait, in their order.
pub(crate) async fn insert_members(
    db: &mut Connection,
    rollout: RolloutId,
    members: &[Member],
    renders_before: &BTreeMap<ClusterId, RenderId>,
) -> Result<(), StoreError> {
    let clusters: Vec<Uuid> = members.iter().map(|member| member.cluster.as_uuid()).collect();
    let waves: Vec<i32> = members.iter().map(|member| signed(member.wave)).collect();
    let digests: Vec<Vec<u8>> = members.iter().map(|member| member.digest.as_bytes().to_vec()).collect();
    let before: Vec<Option<Vec<u8>>> =
        members.iter().map(|member| member.digest_before.map(|digest| digest.as_bytes().to_vec())).collect();
    let renders: Vec<Option<Uuid>> =
        members.iter().map(|member| renders_before.get(&member.cluster).map(|render| render.as_uuid())).collect();
    sqlx::query!(
        r#"
        insert into rollout_clusters
               (rollout_id, cluster_id, wave, position, digest, digest_before, render_before_id, state, reason)
        select $1, cluster_id, wave, position, digest, digest_before, render_before_id, 'waiting', ''
          from unnest($2::uuid[], $3::int[], $4::bytea[], $5::bytea[], $6::uuid[])
               with ordinality as m (cluster_id, wave, digest, digest_before, render_before_id, position)
        "#,
        rollout.as_uuid(),
        &clusters,
        &waves,
        &digests,
        &before as _,
        &renders as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What the current rollouts of a target have yet to give their clusters, or have not seen healthy.
pub(crate) async fn list_moving(
    db: &mut Connection,
    target: TargetId,
    from: Option<Uuid>,
) -> Result<BTreeMap<ClusterId, Digest>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select m.cluster_id, m.digest
          from rollouts o
          join rollout_clusters m using (rollout_id)
         where o.target_id = $1
           and o.rollout_id >= $2
           and (o.ended_at is null or o.state = 'done')
           and not m.overtaken
           and m.is_unsettled
        "#,
        target.as_uuid(),
        from.unwrap_or(Uuid::nil()),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| Ok((ClusterId::new(row.cluster_id), store::digest(&row.digest, "rollout_clusters")?)))
        .collect()
}

/// Whether clusters catch up with it, or are to.
pub(crate) async fn is_any_unsettled(db: &mut Connection, rollout: RolloutId) -> Result<bool, StoreError> {
    let is_any = sqlx::query_scalar!(
        r#"
        select exists (
               select from rollout_clusters
                where rollout_id = $1 and is_unsettled
               ) as "is_any!"
        "#,
        rollout.as_uuid(),
    )
    .fetch_one(db)
    .await?;
    Ok(is_any)
}

/// Members that wait or are in flight: nobody waits for those that are away.
pub(crate) async fn count_under_way(db: &mut Connection, rollout: RolloutId) -> Result<u32, StoreError> {
    let count = sqlx::query_scalar!(
        r#"
        select count(*) as "count!"
          from rollout_clusters
         where rollout_id = $1 and not overtaken and is_unsettled and state <> 'offline'
        "#,
        rollout.as_uuid(),
    )
    .fetch_one(db)
    .await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// From now on a later rollout has these clusters.
pub(crate) async fn mark_overtaken(
    db: &mut Connection,
    target: TargetId,
    by: RolloutId,
    clusters: &[ClusterId],
) -> Result<(), StoreError> {
    let clusters: Vec<Uuid> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    sqlx::query!(
        r#"
        update rollout_clusters m
           set overtaken = true, state = case when m.is_unsettled then $4 else m.state end,
               reason = case when m.is_unsettled then $5 else m.reason end
          from rollouts o
         where o.rollout_id = m.rollout_id and o.target_id = $1 and o.rollout_id <> $2
           and (o.ended_at is null or o.state = 'done')
           and m.cluster_id = any($3) and not m.overtaken
        "#,
        target.as_uuid(),
        by.as_uuid(),
        &clusters,
        text(OVERTAKEN.0),
        OVERTAKEN.1,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// From now on the rollouts of a target before this one are history: nobody catches up with them, and nobody is asked for
/// among those that they never reached.
pub(crate) async fn mark_history(db: &mut Connection, target: TargetId, from: Uuid) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update rollout_clusters m
           set overtaken = true, state = $3, reason = $4
          from rollouts o
         where o.rollout_id = m.rollout_id and o.target_id = $1 and o.rollout_id <> $2 and o.ended_at is not null
           and m.is_unsettled
        "#,
        target.as_uuid(),
        from,
        text(OVERTAKEN.0),
        OVERTAKEN.1,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Which of these bundles each cluster was given of a target, the last one if several, or had when a rollout came.
pub(crate) async fn list_ran(
    db: &mut Connection,
    target: TargetId,
    digests: &[Digest],
) -> Result<BTreeMap<ClusterId, Digest>, StoreError> {
    let digests: Vec<Vec<u8>> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let rows = sqlx::query!(
        r#"
        select distinct on (cluster_id) cluster_id as "cluster_id!", digest as "digest!"
          from (
              select m.cluster_id, m.rollout_id, m.digest
                from rollouts o
                join rollout_clusters m using (rollout_id)
               where o.target_id = $1 and m.assigned_at is not null and m.digest = any($2)
               union all
              select m.cluster_id, m.rollout_id, m.digest_before
                from rollouts o
                join rollout_clusters m using (rollout_id)
               where o.target_id = $1 and m.digest_before = any($2)
               ) as ran
         order by cluster_id, rollout_id desc
        "#,
        target.as_uuid(),
        &digests,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| Ok((ClusterId::new(row.cluster_id), store::digest(&row.digest, "rollout_clusters")?)))
        .collect()
}

/// Which render each of these members ran before.
pub(crate) async fn list_renders_before(
    db: &mut Connection,
    rollout: RolloutId,
    clusters: &[ClusterId],
) -> Result<BTreeMap<ClusterId, RenderId>, StoreError> {
    let clusters: Vec<Uuid> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"
        select cluster_id, render_before_id as "render!"
          from rollout_clusters
         where rollout_id = $1 and cluster_id = any($2) and render_before_id is not null
        "#,
        rollout.as_uuid(),
        &clusters,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (ClusterId::new(row.cluster_id), RenderId::new(row.render))).collect())
}

/// Writes members as they are now.
pub(crate) async fn mark_members(
    db: &mut Connection,
    rollout: RolloutId,
    members: &[&Member],
) -> Result<(), StoreError> {
    let clusters: Vec<Uuid> = members.iter().map(|member| member.cluster.as_uuid()).collect();
    let states: Vec<String> = members.iter().map(|member| text(member.state)).collect();
    let generations: Vec<Option<i64>> = members.iter().map(|member| member.generation.map(Generation::get)).collect();
    let assigned_at: Vec<Option<DateTime>> = members.iter().map(|member| member.assigned_at.map(to_sql)).collect();
    let returning: Vec<bool> = members.iter().map(|member| member.returning).collect();
    let judged_from: Vec<Option<DateTime>> = members.iter().map(|member| member.judged_from.map(to_sql)).collect();
    let failing: Vec<Option<DateTime>> = members.iter().map(|member| member.failing_since.map(to_sql)).collect();
    let reasons: Vec<String> = members.iter().map(|member| member.reason.clone()).collect();
    sqlx::query!(
        r#"
        update rollout_clusters m
           set state = n.state, generation = n.generation, assigned_at = n.assigned_at, is_returning = n.is_returning,
               judged_from = n.judged_from, reason = n.reason, failing_since = n.failing_since
          from unnest($2::uuid[], $3::text[], $4::bigint[], $5::timestamptz[], $6::bool[], $7::timestamptz[], $8::text[],
                      $9::timestamptz[])
               as n (cluster_id, state, generation, assigned_at, is_returning, judged_from, reason, failing_since)
         where m.rollout_id = $1 and m.cluster_id = n.cluster_id
        "#,
        rollout.as_uuid(),
        &clusters,
        &states,
        &generations as _,
        &assigned_at as _,
        &returning,
        &judged_from as _,
        &reasons,
        &failing as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

struct MemberRow {
    cluster_id: Uuid,
    cluster_name: String,
    wave: i32,
    digest: Vec<u8>,
    digest_before: Option<Vec<u8>>,
    state: String,
    generation: Option<i64>,
    assigned_at: Option<DateTime>,
    returning: bool,
    judged_from: Option<DateTime>,
    failing_since: Option<DateTime>,
    overtaken: bool,
    reason: String,
    connected: bool,
    since: DateTime,
    heard_from: Option<DateTime>,
    heard_until: Option<DateTime>,
    report_generation: Option<i64>,
    report_digest: Option<Vec<u8>>,
    report_applied: Option<bool>,
    report_verdict: Option<String>,
    report_message: Option<String>,
    report_lines: Option<Stored<Vec<ObjectLine>>>,
    report_suspended: Option<Stored<Suspended>>,
    reported_at: Option<DateTime>,
}

impl TryFrom<MemberRow> for MemberSnapshot {
    type Error = StoreError;

    fn try_from(row: MemberRow) -> Result<Self, StoreError> {
        let table = "rollout_clusters";
        let digest = |bytes: &[u8]| store::digest(bytes, table);
        let since = from_sql(row.since);
        let evidence = match (row.report_generation, row.report_digest, row.report_verdict, row.reported_at) {
            (Some(generation), Some(bytes), Some(verdict), Some(at)) => {
                let verdict: Verdict =
                    verdict.parse().map_err(|_| StoreError::Unreadable { table: "reports", column: "verdict" })?;
                // Lines that cannot be read say nothing that is final.
                let lines = row.report_lines.and_then(|lines| lines.read("reports", "lines").ok()).unwrap_or_default();
                Some(Evidence {
                    generation: Generation::new(generation),
                    digest: digest(&bytes)?,
                    applied: row.report_applied.unwrap_or(false),
                    verdict,
                    may_pass: may_pass(verdict, &lines),
                    at: from_sql(at),
                    message: row.report_message.unwrap_or_default(),
                    suspended: match row.report_suspended.map(|it| it.read("reports", "suspended")) {
                        None => None,
                        Some(Ok(suspended)) => Some(suspended.to_string()),
                        // It is, whatever a later version says of it.
                        Some(Err(_)) => Some("suspended".to_owned()),
                    },
                })
            }
            _ => None,
        };
        let presence = if row.connected { Presence::Connected { since } } else { Presence::Disconnected { since } };
        let heard =
            row.heard_from.map(|from| Heard { from: from_sql(from), until: row.heard_until.map_or(since, from_sql) });
        Ok(Self {
            member: Member {
                cluster: ClusterId::new(row.cluster_id),
                wave: unsigned(row.wave),
                digest: digest(&row.digest)?,
                digest_before: row.digest_before.as_deref().map(digest).transpose()?,
                state: word(&row.state, table)?,
                generation: row.generation.map(Generation::new),
                assigned_at: row.assigned_at.map(from_sql),
                returning: row.returning,
                judged_from: row.judged_from.map(from_sql),
                failing_since: row.failing_since.map(from_sql),
                overtaken: row.overtaken,
                reason: row.reason,
            },
            seen: Seen { evidence, presence, heard },
            cluster_name: row.cluster_name,
        })
    }
}

/// Which members of a rollout to read; all, when it says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Which<'a> {
    /// Those that decisions can be about.
    pub(crate) scope: Option<MemberScope>,
    /// And these, besides those within scope.
    pub(crate) named: &'a [ClusterId],
}

/// Members with their newest report and presence, in the order of their turns.
///
/// Who is there, and since when, says the view `presences`.
pub(crate) async fn list_members(
    db: &mut Connection,
    rollout: RolloutId,
    which: Which<'_>,
    now: Timestamp,
) -> Result<Vec<MemberSnapshot>, StoreError> {
    let named: Vec<Uuid> = which.named.iter().map(|cluster| cluster.as_uuid()).collect();
    let rows = sqlx::query_file_as!(
        MemberRow,
        "src/store/sql/list_members.sql",
        rollout.as_uuid(),
        which.scope.map(|scope| signed(scope.wave)),
        which.scope.is_some_and(|scope| scope.returnable),
        &named,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Targets whose rollouts may care that one of these clusters came or went: live ones, those it has yet to catch up with,
/// and those that would move it.
pub(crate) async fn list_targets_of(db: &mut Connection, clusters: &[ClusterId]) -> Result<Vec<Uuid>, StoreError> {
    let clusters: Vec<Uuid> = clusters.iter().map(|cluster| cluster.as_uuid()).collect();
    let targets = sqlx::query_scalar!(
        r#"
        select o.target_id as "target!"
          from rollouts o
          join rollout_clusters m using (rollout_id)
         where m.cluster_id = any($1) and o.ended_at is null
         union
        select o.target_id
          from rollout_clusters m
          join rollouts o using (rollout_id)
         where m.cluster_id = any($1) and o.state = 'done' and m.is_unsettled
         union
        select target_id from awaited where cluster_id = any($1)
        "#,
        &clusters,
    )
    .fetch_all(db)
    .await?;
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use bellwether_core::rollout::{Kind, MemberState, RolloutState};

    use super::*;
    use crate::process::clock;
    use crate::store::Pool;
    use crate::store::rollouts::Rollout;
    use crate::store::rows::{MAIN, Rows};
    use crate::store::targets::Target;

    async fn rolling(rows: &mut Rows) -> (Target, Rollout) {
        let (target, revision, bundle) =
            (rows.target("shop").await, rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let render = rows.render(&target, revision, bundle).await;
        let rollout = rows.rollout(&target, render).await;
        (target, rollout)
    }

    async fn write(rows: &mut Rows, rollout: &Rollout, members: &[Member]) {
        insert_members(&mut rows.db, rollout.id, members, &BTreeMap::new()).await.expect("written");
        mark_members(&mut rows.db, rollout.id, &members.iter().collect::<Vec<_>>()).await.expect("written");
    }

    async fn names(rows: &mut Rows, rollout: &Rollout, which: Which<'_>) -> Vec<String> {
        let members = list_members(&mut rows.db, rollout.id, which, clock::now()).await.expect("read");
        members.into_iter().map(|member| member.cluster_name).collect()
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn members_come_wave_by_wave_in_the_order_of_their_turns(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (_, rollout) = rolling(&mut rows).await;
        let bundle = rows.bundle("a").await;
        let mut members = Vec::new();
        for (name, wave) in [("c9", 1), ("c3", 0), ("c1", 1), ("c2", 0)] {
            members.push(Member::waiting(rows.cluster(name).await, wave, bundle, None));
        }

        insert_members(&mut rows.db, rollout.id, &members, &BTreeMap::new()).await.expect("written");

        assert_eq!(names(&mut rows, &rollout, Which::default()).await, ["c3", "c2", "c9", "c1"]);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn only_members_are_read_that_something_is_decided_about_and_those_that_are_named(pool: Pool) {
        use MemberState::{Applied, Failed, Healthy, Offline, RolledBack, Skipped, Waiting};
        let mut rows = Rows::new(&pool).await;
        let (target, rollout) = rolling(&mut rows).await;
        let (bundle, before) = (rows.bundle("a").await, rows.bundle("before").await);
        let mut members = BTreeMap::new();
        for (name, wave, state) in [
            ("passed", 0, Healthy),
            ("failed", 0, Failed),
            ("away", 0, Offline),
            ("skipped", 0, Skipped),
            ("late", 1, Waiting),
            ("open", 1, Healthy),
            ("in-flight", 1, Applied),
            ("back", 1, RolledBack),
            ("next", 2, Waiting),
            ("gone-on", 1, Applied),
        ] {
            let member = Member::waiting(rows.cluster(name).await, wave, bundle, Some(before));
            let assigned_at = (state != Waiting && state != Skipped).then(clock::now);
            members.insert(name, Member { state, assigned_at, generation: Some(Generation::new(1)), ..member });
        }
        members.get_mut("back").expect("it is there").returning = true;
        write(&mut rows, &rollout, &members.values().cloned().collect::<Vec<_>>()).await;
        let gone = [members["gone-on"].cluster];
        mark_overtaken(&mut rows.db, target.id, RolloutId::new(clock::new_id()), &gone).await.expect("written");
        let scope = |returnable| Which { scope: Some(MemberScope { wave: 1, returnable }), named: &[] };
        let sorted = |mut names: Vec<String>| {
            names.sort_unstable();
            names.join(" ")
        };

        let forward = sorted(names(&mut rows, &rollout, scope(false)).await);
        let back = sorted(names(&mut rows, &rollout, scope(true)).await);
        let named = Which { named: &[members["next"].cluster, gone[0]], ..scope(false) };
        let named = sorted(names(&mut rows, &rollout, named).await);

        assert_eq!(forward, "away failed in-flight late open");
        assert_eq!(back, "away failed in-flight late open passed", "whoever was given it, and is not going back");
        assert_eq!(named, "away failed gone-on in-flight late next open");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn whom_a_later_rollout_has_is_open_in_no_earlier_one_and_what_was_settled_stays_so(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, first) = rolling(&mut rows).await;
        let bundle = rows.bundle("a").await;
        let (one, two, three) = (rows.cluster("c1").await, rows.cluster("c2").await, rows.cluster("c3").await);
        let with = |cluster, state| Member { state, ..Member::waiting(cluster, 0, bundle, None) };
        let states = [(one, MemberState::Offline), (two, MemberState::Failed), (three, MemberState::Waiting)];
        write(&mut rows, &first, &states.map(|(cluster, state)| with(cluster, state))).await;
        let later = rows.rollout_of(&target, first.render, Kind::ClusterChange).await;
        write(&mut rows, &later, &[with(one, MemberState::Waiting)]).await;

        mark_overtaken(&mut rows.db, target.id, later.id, &[one, two]).await.expect("written");

        let members = list_members(&mut rows.db, first.id, Which::default(), clock::now()).await.expect("read");
        let told: Vec<_> = members.iter().map(|one| (one.member.state, one.member.overtaken)).collect();
        let expected = [(MemberState::Skipped, true), (MemberState::Failed, true), (MemberState::Waiting, false)];
        assert_eq!(told, expected);
        assert_eq!(count_under_way(&mut rows.db, first.id).await.expect("counted"), 1);
        let moving = list_moving(&mut rows.db, target.id, None).await.expect("read");
        assert_eq!(moving.into_keys().collect::<Vec<_>>(), [one, three]);

        rows.end(&first, RolloutState::Done).await;
        mark_history(&mut rows.db, target.id, later.id.as_uuid()).await.expect("written");
        assert!(!is_any_unsettled(&mut rows.db, first.id).await.expect("asked"));
        assert!(is_any_unsettled(&mut rows.db, later.id).await.expect("asked"), "that is the one that counts");
        let woken = list_targets_of(&mut rows.db, &[three]).await.expect("read");
        assert!(woken.is_empty(), "nobody catches up with history");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn nobody_is_said_to_be_under_way_who_is_away(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (_, rollout) = rolling(&mut rows).await;
        let bundle = rows.bundle("a").await;
        let away = Member::waiting(rows.cluster("c1").await, 0, bundle, None);
        write(&mut rows, &rollout, &[Member { state: MemberState::Offline, ..away }]).await;

        assert_eq!(count_under_way(&mut rows.db, rollout.id).await.expect("counted"), 0);
        assert!(is_any_unsettled(&mut rows.db, rollout.id).await.expect("asked"), "it catches up");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_a_cluster_ran_is_what_it_was_given_or_had_and_of_several_the_last(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let (target, first) = rolling(&mut rows).await;
        let (a, b, c) = (rows.bundle("a").await, rows.bundle("b").await, rows.bundle("c").await);
        let (given, waiting, had) = (rows.cluster("c1").await, rows.cluster("c2").await, rows.cluster("c3").await);
        let member = |cluster, digest, before| Member::waiting(cluster, 0, digest, before);
        let now = Member { assigned_at: Some(clock::now()), ..member(given, a, None) };
        write(&mut rows, &first, &[now.clone(), member(waiting, a, None), member(had, b, Some(c))]).await;
        rows.end(&first, RolloutState::Done).await;
        let second = rows.rollout(&target, first.render).await;
        write(&mut rows, &second, &[Member { digest: b, ..now }]).await;

        let ran = list_ran(&mut rows.db, target.id, &[a, b, c]).await.expect("read");
        let of_a = list_ran(&mut rows.db, target.id, &[a]).await.expect("read");

        assert_eq!(ran, [(given, b), (had, c)].into(), "whoever waited was given nothing");
        assert_eq!(of_a, [(given, a)].into());
    }
}
