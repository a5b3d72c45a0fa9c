//! What each step reads when the fleet is large and almost nothing has changed.

#![allow(clippy::large_futures, reason = "a test awaits each once, and its stack is its own")]
#![allow(clippy::print_stderr, reason = "the table of the benchmark is for people who run it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::report::{Counts, Report, Verdict};
use bellwether_core::session::{Listed as Held, root};
use bellwether_core::{ClusterId, Digest, ObjectKey, ReportSequence, SessionNumber};
use bellwether_proto::compression;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::scene::{ONE, insert_repo};
use crate::bundle::Bundle;
use crate::process::clock;
use crate::record::queue::{AgentEvent, Incoming};
use crate::rollout::Rollouts;
use crate::source::Source;
use crate::source::git::upstream::Upstream;
use crate::store::bundles::Blob;
use crate::store::growth::{self, Common, Kind, Size};
use crate::store::work::{self, Stage};
use crate::store::{self, Pool};
use crate::work::change::Change;
use crate::worker::stage::{Detached as _, Transactional as _};
use crate::{Hub, link, worker};

/// One hub, and the rows of a fleet that all its targets have settled in.
struct Fleet {
    hub: Arc<Hub>,
    folder: TempDir,
    upstream: Upstream,
}

impl Fleet {
    async fn new(pool: &Pool, size: Size) -> Self {
        let (hub, folder) = crate::testing::hub(pool).await;
        let upstream = Upstream::new();
        let mut db = hub.pool.acquire().await.expect("a connection");
        let repo = insert_repo(&mut db, &hub.project, &upstream).await;
        drop(db);
        let fleet = Self { hub, folder, upstream };
        let commit = fleet.upstream.push("main", "A push", &[("app/a.yaml", ONE)]);
        fleet.tell(Stage::Source, repo.as_uuid()).await;
        fleet.settle().await;
        let mirror = fleet.hub.mirrors.of(repo);
        let reader = mirror.reader().expect("it was fetched");
        let inputs_digest = reader.digest_of(&commit, &["app".to_owned()].into()).expect("it is there");
        let common = Common { hub: fleet.hub.id, inputs_digest: &inputs_digest, parameters: no_values() };
        growth::fill(pool, size, common, &bundles(size.targets)).await.expect("it is filled");
        fleet
    }

    /// Small enough for every run, and what is read of it follows from the indexes that there are.
    async fn small(pool: &Pool) -> Self {
        let fleet = Self::new(pool, SMALL).await;
        growth::prefer_indexes(&fleet.pools()).await.expect("it is set");
        fleet
    }

    fn pools(&self) -> [&Pool; 3] {
        [&self.hub.pool, &self.hub.vital, &self.hub.requests]
    }

    fn cluster(number: usize) -> ClusterId {
        ClusterId::new(growth::id(Kind::Cluster, number))
    }

    async fn tell(&self, stage: Stage, key: uuid::Uuid) {
        let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await.expect("a transaction");
        change.tell(stage, &[key], clock::now(), None).await.expect("it is told");
        change.commit().await.expect("it commits");
    }

    /// Every stage reconciles what is due until nothing is; says how many subjects that were.
    async fn settle(&self) -> usize {
        let mut count = 0;
        loop {
            let mut due_now = 0;
            for stage in [Stage::Source, Stage::Bundle, Stage::Rollout] {
                due_now += self.reconcile(stage).await;
            }
            if due_now == 0 {
                return count;
            }
            count += due_now;
        }
    }

    async fn reconcile(&self, stage: Stage) -> usize {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let due = work::list_due(&mut db, stage, clock::now(), &[], 16).await.expect("what is due");
        drop(db);
        for item in &due {
            match stage {
                Stage::Source => drop(Source.reconcile(&self.hub, item).await.expect("a reconcile")),
                Stage::Bundle => drop(Bundle.reconcile(&self.hub, item).await.expect("a reconcile")),
                Stage::Link => unreachable!("agents are told by their streams"),
                Stage::CommitStatus => unreachable!("no host is told"),
                Stage::Rollout => {
                    let now = clock::now();
                    let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await.expect("a transaction");
                    let taken = work::take_due(&mut change, stage, item.key, now).await.expect("it is taken");
                    let trace = taken.and_then(|taken| taken.trace_id);
                    let trace = trace.as_deref();
                    Rollouts.reconcile(&self.hub, &mut change, item.key, trace, now).await.expect("a reconcile");
                    change.commit().await.expect("it commits");
                }
            }
        }
        due.len()
    }

    /// What a cluster's agent holds.
    async fn held_by(&self, number: usize) -> Vec<Held> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let listed = store::assignments::list_of_clusters(&mut db, &[Self::cluster(number)]).await.expect("it is read");
        let held = listed.into_iter().map(|one| one.read.expect("it can be read").assignment).map(|one| Held {
            target: one.target,
            generation: one.generation,
            digest: one.digest,
            action: one.action,
        });
        held.collect()
    }

    /// One agent comes back.
    async fn connect(&self, number: usize, held: &[Held]) {
        let serial = format!("{:016x}", number * 100 + 1);
        link::tests::come_back(&self.hub, Self::cluster(number), &serial, root(held.iter().copied())).await;
    }

    /// One agent says that something it holds is well; it is durable.
    async fn report(&self, number: usize, held: Held) {
        let cluster = Self::cluster(number);
        let report = Report {
            target: held.target,
            generation: held.generation,
            digest: held.digest,
            verdict: Verdict::Healthy,
            applied: true,
            objects: Counts { total: 1, in_place: 1, healthy: 1 },
            lines: Vec::new(),
            suspended: None,
        };
        let (recorded_to, mut recorded) = watch::channel(ReportSequence::default());
        let (queue_to, queue) = mpsc::channel(1);
        let incoming = Incoming {
            cluster,
            session: SessionNumber::new(i64::MAX),
            sequence: ReportSequence::new(1),
            event: AgentEvent::Report(report),
            recorded: recorded_to,
        };
        queue_to.send(incoming).await.unwrap_or_else(|_| panic!("the queue is open"));
        drop(queue_to);
        crate::record::run(Arc::clone(&self.hub), queue, CancellationToken::new()).await;
        recorded.changed().await.expect("it is durable");
    }

    /// A person asks; answered with success.
    async fn ask(&self, method: &str, path: &str, body: serde_json::Value) {
        let request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", crate::testing::admin_token(&self.folder)))
            .extension(crate::ports::Peer("127.0.0.1:1".parse().expect("is an address")))
            .body(axum::body::Body::from(body.to_string()))
            .expect("is a request");
        let answer = crate::http::router(Arc::clone(&self.hub)).oneshot(request).await.expect("it always answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    async fn label(&self, number: usize, labels: serde_json::Value) {
        self.ask("PUT", &format!("/api/v1/clusters/cluster-{number:06}/labels"), labels).await;
    }

    /// What a step reads, by table, and what it answers.
    async fn read_by<T>(&self, step: impl Future<Output = T>) -> (BTreeMap<String, i64>, T) {
        let pools = self.pools();
        let before = growth::rows_read(&pools).await.expect("it is counted");
        let answer = step.await;
        let after = growth::rows_read(&pools).await.expect("it is counted");
        let grown = after.into_iter().map(|(table, rows)| {
            let rows = rows - before.get(&table).copied().unwrap_or(0);
            (table, rows)
        });
        (grown.filter(|&(_, rows)| rows > 0).collect(), answer)
    }

    async fn measure(&self, name: &str, step: impl Future<Output = usize>) {
        let began_at = Instant::now();
        let (read, reconciles) = self.read_by(step).await;
        let took = began_at.elapsed();
        let mut by_table: Vec<_> = read.iter().collect();
        by_table.sort_by_key(|&(_, rows)| std::cmp::Reverse(*rows));
        let all: i64 = read.values().sum();
        let named: Vec<_> = by_table.iter().take(6).map(|(table, rows)| format!("{table} {rows}")).collect();
        eprintln!("{name:44} {all:>12} {reconciles:>10} {:>10.1}   {}", took.as_secs_f64() * 1e3, named.join(", "));
    }
}

fn no_values() -> Digest {
    bellwether_core::parameters::Values::default().digest()
}

/// One for each target, of one object.
fn bundles(count: usize) -> Vec<Blob> {
    let bundle = |number: usize| {
        let key: ObjectKey = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "namespace": "default", "name": format!("of-{number}"),
        }))
        .expect("is a key");
        let manifest = Manifest::new(vec![Entry { key, digest: Digest::of(b"{}") }]).expect("is a manifest");
        Blob { digest: manifest.digest(), frame: compression::compress(&manifest.encode()) }
    };
    (1..=count).map(bundle).collect()
}

/// All agents are at a hub that is no more.
const ELSEWHERE: &str = "update sessions set ended_at = null, hub_id = '00000000-0000-7000-8000-000000000000'";
/// All agents are at this hub.
const BACK: &str =
    "update sessions set ended_at = null, hub_id = (select hub_id from hubs order by heartbeat_at desc limit 1)";

/// `./dev bench growth`. Nothing is asserted: it takes minutes, and what a step may read is asserted below on a small fleet.
#[crate::store::database_test(migrations = "../migrations")]
#[ignore = "a measurement of minutes: ./dev bench growth"]
async fn what_each_step_reads_of_a_large_fleet(pool: Pool) {
    let size = Size { clusters: 10_000, targets: 1_000, groups: 10, certificates: 28 };
    let began_at = Instant::now();
    let fleet = Fleet::new(&pool, size).await;
    eprintln!(
        "{} clusters, {} targets, {} groups; filled in {:.0?}",
        size.clusters,
        size.targets,
        size.groups,
        began_at.elapsed()
    );
    eprintln!("{:44} {:>12} {:>10} {:>10}", "step", "rows read", "reconciles", "ms");
    // What is read once: the types of columns, and what is kept in memory.
    let held = fleet.held_by(11).await;
    fleet.connect(11, &held).await;
    fleet.report(11, held[0]).await;
    fleet.settle().await;

    let held = fleet.held_by(21).await;
    fleet.measure("nothing happens", async { fleet.settle().await }).await;
    fleet
        .measure("one agent connects", async {
            fleet.connect(21, &held).await;
            fleet.settle().await
        })
        .await;
    fleet
        .measure("one healthy report, its target is done", async {
            fleet.report(21, held[0]).await;
            fleet.settle().await
        })
        .await;
    fleet
        .measure("one label that no target reads", async {
            fleet.label(41, json!({"group": "g1", "region": "r8", "site": "s10"})).await;
            fleet.settle().await
        })
        .await;
    let spec =
        json!({"repo": "apps", "path": "app", "clusters": {"matchLabels": {"group": "g3"}}, "namespace": "shop"});
    let target = json!({
        "apiVersion": "bellwether.dev/v1", "kind": "Target", "metadata": {"name": "target-000003"}, "spec": spec,
    });
    fleet
        .measure("one target's spec changes", async {
            fleet.ask("PUT", "/api/v1/targets/target-000003", target).await;
            fleet.settle().await
        })
        .await;
    fleet
        .measure("who is revoked, as asked every 2 s", async {
            crate::pki::revocations::refresh(&fleet.hub).await.expect("it is read");
            0
        })
        .await;
    fleet
        .measure("10,000 streams end at once", async {
            let clusters: BTreeSet<_> = (1..=size.clusters).map(Fleet::cluster).collect();
            link::tests::part(&fleet.hub, &clusters).await;
            fleet.settle().await
        })
        .await;
    store::execute_raw(&pool, ELSEWHERE).await.expect("it is");
    store::execute_raw(&pool, "analyze sessions").await.expect("it is");
    fleet
        .measure("a hub with 10,000 streams dies", async {
            worker::heartbeat::beat_and_tell(&fleet.hub).await;
            fleet.settle().await
        })
        .await;
    fleet
        .measure("the hourly sweep", async {
            worker::sweep::sweep(&fleet.hub, clock::now()).await.expect("all of it");
            0
        })
        .await;
    store::execute_raw(&pool, BACK).await.expect("it is");
    fleet
        .measure("one label: to another 100 targets", async {
            fleet.label(51, json!({"group": "g2", "region": "r2", "site": "s12"})).await;
            fleet.settle().await
        })
        .await;
}

/// What every run has.
const SMALL: Size = Size { clusters: 1_000, targets: 100, groups: 10, certificates: 4 };

/// Assignments of the ten targets of one group.
const SMALL_OF_A_GROUP: i64 = 1_000;

/// Besides what has a row for each target: of so few Postgres reads all instead of one, and the large fleet shows more.
fn sum(read: &BTreeMap<String, i64>) -> i64 {
    read.iter()
        .filter(|(table, _)| !["targets", "wanted_renders"].contains(&table.as_str()))
        .map(|(_, rows)| rows)
        .sum()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_step_reads_what_it_is_about_and_not_the_fleet(pool: Pool) {
    let fleet = Fleet::small(&pool).await;
    let held = fleet.held_by(21).await;
    fleet.connect(11, &fleet.held_by(11).await).await;
    fleet.settle().await;

    let connects = async {
        fleet.connect(21, &held).await;
        fleet.settle().await
    };
    let (connects, told_by_connect) = fleet.read_by(connects).await;
    let reports = async {
        fleet.report(21, held[0]).await;
        fleet.settle().await
    };
    let (reports, told_by_report) = fleet.read_by(reports).await;
    let unread = async {
        fleet.label(41, json!({"group": "g1", "region": "r8", "site": "s10"})).await;
        fleet.settle().await
    };
    let (unread, told_by_unread) = fleet.read_by(unread).await;
    let moves = async {
        fleet.label(51, json!({"group": "g2", "region": "r2", "site": "s12"})).await;
        fleet.settle().await
    };
    let (_, told_by_moves) = fleet.read_by(moves).await;
    let (revoked, ()) =
        fleet.read_by(async { crate::pki::revocations::refresh(&fleet.hub).await.expect("it is read") }).await;

    // A cluster has ten targets, whose assignments, rollouts, bundles and reports are read.
    assert_eq!(held.len(), 10);
    assert!(sum(&connects) < 10 * 20, "{connects:?}");
    assert!(sum(&reports) < 40, "{reports:?}");
    assert!(sum(&unread) < 10 * 20, "{unread:?}");
    assert!(sum(&revoked) < 4 * 10, "{revoked:?}");
    assert_eq!((told_by_connect, told_by_report, told_by_unread), (0, 0, 0), "nobody has anything to do");
    // Those that it leaves and those that it comes to, each in bundle and rollout.
    assert!((40..=60).contains(&told_by_moves), "{told_by_moves}");
}

/// A cluster of the first group that nobody has heard of yet, and a certificate of it.
const NEWCOMER: &str = "
    with new as (
        insert into clusters (cluster_id, project_id, name, labels, namespace, created_at, updated_at)
        select '00000001-0000-7000-8000-0000000f4240', project_id, 'newcomer', '{\"group\": \"g1\"}', 'bellwether-system', now(), now()
          from projects
     returning cluster_id)
    insert into certificates (serial, cluster_id, issued_at, not_after)
    select 'newcomer', cluster_id, now(), now() + interval '1 day' from new";

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_joins_wakes_the_targets_that_select_it_and_no_others(pool: Pool) {
    let fleet = Fleet::small(&pool).await;
    store::execute_raw(&pool, NEWCOMER).await.expect("it is registered");
    fleet.settle().await;

    let joins = async {
        link::tests::come_back(&fleet.hub, Fleet::cluster(1_000_000), "newcomer", root([])).await;
        fleet.settle().await
    };
    let (read, told) = fleet.read_by(joins).await;

    // Ten targets, each in bundle and rollout, and once more when the agent has caught up.
    assert!((20..=40).contains(&told), "{told}");
    let rows = |table: &str| read.get(table).copied().unwrap_or(0);
    // What those ten have, a few times over, and what the other ninety have not once.
    let of_the_ten = |times: i64| times * SMALL_OF_A_GROUP;
    assert!(rows("assignments") < of_the_ten(8) && rows("reports") < of_the_ten(4), "{read:?}");
    assert!(rows("rollout_clusters") < of_the_ten(25), "{read:?}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_sweep_reads_what_is_kept_of_targets_and_not_what_clusters_have(pool: Pool) {
    let fleet = Fleet::small(&pool).await;
    let later = clock::now() + jiff::SignedDuration::from_hours(4 * 24);
    let sweep = async |at| worker::sweep::sweep(&fleet.hub, at).await.expect("all of it");

    let (read, ()) = fleet.read_by(sweep(clock::now())).await;
    // Each bundle's objects are marked once in three days, and not at every sweep.
    let (marks, ()) = fleet.read_by(sweep(later)).await;
    let (marked, ()) = fleet.read_by(sweep(later)).await;

    // There are 10,000 assignments, as many reports and members, and 4,000 certificates.
    for table in ["assignments", "reports", "rollout_clusters", "certificates"] {
        assert!(read.get(table).copied().unwrap_or(0) < 2_000, "{table}: {read:?}");
    }
    // Ten renders and twenty rollouts of each target are looked through.
    assert!(sum(&read) < 10_000, "{read:?}");
    let rows = |read: &BTreeMap<String, i64>| read.get("bundles").copied().unwrap_or(0);
    assert!(rows(&marked) < rows(&marks), "{marks:?}, then {marked:?}");
}

/// Tables that grow with the fleet: nobody reads through them for one subject. Of sessions and targets the small fleet has
/// so few that one pass is as good.
const LARGE: [&str; 6] = ["assignments", "reports", "rollout_clusters", "rollouts", "certificates", "render_variants"];

/// Members are found by their cluster or by their rollout, whichever are fewer.
const EITHER: &str = "rollout_clusters_open_idx|rollout_clusters_unsettled_idx";

/// A statement that is asked often, with arguments as they come.
struct FrequentQuery {
    words: &'static [&'static str],
    arguments: Vec<String>,
    /// At least these are used; of `a|b` one.
    indexes: &'static [&'static str],
}

impl FrequentQuery {
    fn new(words: &'static [&'static str], arguments: &[String], indexes: &'static [&'static str]) -> Self {
        Self { words, arguments: arguments.to_vec(), indexes }
    }

    fn list(project: uuid::Uuid) -> Vec<Self> {
        let cluster = || format!("'{}'", growth::id(Kind::Cluster, 21));
        let target = || format!("'{}'", growth::id(Kind::Target, 1));
        let rollout = || format!("'{}'", growth::id(Kind::Rollout, 39));
        let array = |one: String| format!("array[{one}]::uuid[]");
        let (clusters, targets) = (|| array(cluster()), || array(target()));
        let none = || array(format!("'{}'", uuid::Uuid::nil()));
        vec![
            Self::new(
                &["coalesce(t.name, a.target_name)", "any($1)"],
                &[clusters()],
                &["assignments_pkey", "rollouts_pkey"],
            ),
            Self::new(
                &["union select target_id from awaited where cluster_id"],
                &[clusters()],
                &[EITHER, "rollouts_live_idx", "awaited_pkey"],
            ),
            Self::new(&["union select a.target_id from sessions s join awaited a"], &[none()], &[EITHER]),
            Self::new(&["with said as"], &[clusters(), targets()], &[EITHER]),
            Self::new(
                &["a.digest, r.trace_id", "unnest($1::uuid[], $2::uuid[])"],
                &[clusters(), targets()],
                &["assignments_pkey"],
            ),
            Self::new(
                &["(r.session, r.sequence) >= (a.session, a.sequence)"],
                &[clusters(), "array[1]::bigint[]".into(), "array[1]::bigint[]".into()],
                &["reports_pkey"],
            ),
            Self::new(&["as \"is_any!\"", "from rollout_clusters"], &[rollout()], &["rollout_clusters_unsettled_idx"]),
            Self::new(
                &["from rollouts o where target_id = $1 and (ended_at is null"],
                &[target(), rollout(), none()],
                &["rollout_clusters_unsettled_idx"],
            ),
            Self::new(
                &["select m.cluster_id, m.digest from rollouts o"],
                &[target(), rollout()],
                &["rollout_clusters_unsettled_idx"],
            ),
            Self::new(
                &["select cluster_id, digest, render_id from assignments"],
                &[target()],
                &["assignments_target_render_idx"],
            ),
            Self::new(
                &["c.labels @> $2"],
                &[format!("'{project}'"), "'{\"site\": \"s10\"}'".to_owned()],
                &["clusters_labels_idx"],
            ),
            Self::new(&["with recursive found"], &[format!("'{project}'")], &["clusters_namespace_idx"]),
            Self::new(
                &["select serial from certificates", "not_after > $1"],
                &["now()".into()],
                &["certificates_refused_idx"],
            ),
            Self::new(
                &["select render_id from renders where target_id = t.target_id"],
                &["10".into(), "100".into()],
                &["renders_target_id_idx", "assignments_target_render_idx"],
            ),
        ]
    }

    /// What is wrong with how Postgres carries it out.
    async fn faults(&self, db: &mut store::Connection) -> Vec<String> {
        let query = growth::query_with(self.words);
        let mut faults = Vec::new();
        for plan in growth::plans(db, &query, &self.arguments).await.expect("it can be planned") {
            let mut nodes = Vec::new();
            collect(&plan, &mut nodes);
            let of = |name: &str| nodes.iter().filter_map(|node| node[name].as_str()).collect::<BTreeSet<_>>();
            let reads_through = nodes
                .iter()
                .filter(|node| node["Node Type"].as_str().is_some_and(|kind| kind.ends_with("Seq Scan")))
                .filter_map(|node| node["Relation Name"].as_str())
                .filter(|table| LARGE.contains(table));
            faults.extend(reads_through.map(|table| format!("{:?} reads through {table}", self.words)));
            let used = of("Index Name");
            let unused = self.indexes.iter().filter(|index| !index.split('|').any(|one| used.contains(one)));
            faults.extend(unused.map(|index| format!("{:?} does not use {index}: {used:?}", self.words)));
        }
        faults
    }
}

fn collect<'a>(plan: &'a serde_json::Value, nodes: &mut Vec<&'a serde_json::Value>) {
    match plan {
        serde_json::Value::Array(all) => all.iter().for_each(|one| collect(one, nodes)),
        serde_json::Value::Object(fields) => {
            nodes.push(plan);
            fields.values().for_each(|one| collect(one, nodes));
        }
        _ => {}
    }
}

const SOME_ARE_AWAITED: &str =
    "insert into awaited select cluster_id, target_id from assignments order by generation limit 2000";

/// All clusters are left out of what all targets gave before their specs changed.
const ALL_LEFT_OUT: &str = "
    insert into set_aside (target_id, cluster_id, digest, cause, rollout_id, set_at)
    select t.target_id, c.cluster_id, sha256('of another bundle'), 'ended', r.rollout_id, now()
      from targets t
     cross join clusters c
     cross join lateral (select rollout_id from rollouts where rollouts.target_id = t.target_id limit 1) r";

#[crate::store::database_test(migrations = "../migrations")]
async fn a_page_of_targets_reads_some_of_those_that_are_left_out_and_not_all(pool: Pool) {
    let fleet = Fleet::small(&pool).await;
    store::execute_raw(&pool, ALL_LEFT_OUT).await.expect("it is written");
    store::execute_raw(&pool, "update targets set version = version + 1").await.expect("it is written");
    store::execute_raw(&pool, "analyze set_aside").await.expect("it is read");

    let (read, ()) = fleet.read_by(fleet.ask("GET", "/api/v1/targets", json!({}))).await;

    let rows = read.get("set_aside").copied().unwrap_or(0);
    assert!((1..=100 * 300).contains(&rows), "{rows} of {} rows", 100 * SMALL.clusters);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_asked_often_is_found_by_index(pool: Pool) {
    let fleet = Fleet::small(&pool).await;
    store::execute_raw(&pool, SOME_ARE_AWAITED).await.expect("it is written");
    store::execute_raw(&pool, "analyze awaited").await.expect("it is read");
    let asked = FrequentQuery::list(fleet.hub.project.id.as_uuid());
    let mut db = store::begin(&pool).await.expect("a transaction");

    let mut faults = Vec::new();
    for asked in &asked {
        faults.extend(asked.faults(&mut db).await);
    }
    drop(db);

    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // That it would be noticed: each index goes, and comes back with the transaction's end. Those of keys cannot.
    for asked in &asked {
        for index in asked.indexes.iter().filter(|index| !index.ends_with("_pkey")) {
            let mut db = store::begin(&pool).await.expect("a transaction");
            for one in index.split('|') {
                growth::drop_index(&mut db, one).await.expect("it is there");
            }
            assert!(!asked.faults(&mut db).await.is_empty(), "nobody notices that {index} is gone");
        }
    }
}
