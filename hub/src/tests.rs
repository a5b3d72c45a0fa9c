//! Pushes through the stages of one hub, with real Git and Postgres and without agents: what each wakes and writes, and
//! what is swept in the end.

mod documents;
mod growth;
mod rollouts;

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::repo::RepoSpec;
use bellwether_core::report::{Counts, Report, Verdict};
use bellwether_core::target::TargetSpec;
use bellwether_core::{ClusterId, ProjectId, RepoId, ReportSequence, SessionNumber, TargetId, Version};
use serde_json::json;
use tempfile::TempDir;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::Hub;
use crate::bundle::Bundle;
use crate::process::clock;
use crate::rollout::Rollouts;
use crate::source::Source;
use crate::source::git::upstream::Upstream;
use crate::store::assignments::Listed;
use crate::store::clusters::Cluster;
use crate::store::reports::Received;
use crate::store::repos::Repo;
use crate::store::sessions::{self, Opened};
use crate::store::targets::Target;
use crate::store::work::{self, Stage};
use crate::store::{self, Connection, Pool};
use crate::work::change::Change;
use crate::worker::stage::{Detached as _, Transactional as _};

struct Scene {
    hub: Arc<Hub>,
    upstream: Upstream,
    repo: RepoId,
    clusters: Vec<ClusterId>,
    folder: TempDir,
}

impl Scene {
    /// Clusters that are connected, and a repo with two targets, `one` and `two`, each with a folder of its name.
    async fn new(pool: &Pool, clusters: i64) -> Self {
        Self::with(pool, clusters, &[], &json!({"waves": [{"name": "all", "maxConcurrent": "100%"}]})).await
    }

    /// The same, on a hub with other settings and with another strategy.
    async fn with(pool: &Pool, clusters: i64, settings: &[&str], rollout: &serde_json::Value) -> Self {
        let (hub, folder) = crate::testing::hub_with(pool, settings).await;
        let upstream = Upstream::new();
        let mut db = hub.pool.acquire().await.expect("a connection");
        store::installation::mark_hub_heartbeat(&mut db, hub.id, std::time::Duration::from_mins(10))
            .await
            .expect("a heartbeat");
        let repo = insert_repo(&mut db, hub.project, &upstream).await;
        let mut joined = Vec::new();
        for number in 1..=clusters {
            joined.push(join(&mut db, &hub, number).await);
        }
        for name in ["one", "two"] {
            insert_target(&mut db, hub.project, repo, name, rollout).await;
        }
        drop(db);
        Self { hub, upstream, repo, clusters: joined, folder }
    }

    async fn push(&self, files: &[(&str, &str)]) {
        self.upstream.push("main", "A push", files);
        self.tell(Stage::Source, self.repo.as_uuid()).await;
        self.reconcile(Stage::Source).await;
    }

    async fn tell(&self, stage: Stage, key: Uuid) {
        let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await.expect("a transaction");
        change.tell(stage, &[key], clock::now(), None).await.expect("it is told");
        change.commit().await.expect("it commits");
    }

    /// Reconciles all that is due for a stage; says what.
    async fn reconcile(&self, stage: Stage) -> Vec<Uuid> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let due = work::list_due(&mut db, stage, clock::now(), &[], 16).await.expect("what is due");
        drop(db);
        for due in &due {
            match stage {
                Stage::Source => Source.reconcile(&self.hub, due).await.expect("a reconcile"),
                Stage::Bundle => Bundle.reconcile(&self.hub, due).await.expect("a reconcile"),
                Stage::Rollout | Stage::Link => {
                    let now = clock::now();
                    let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await.expect("a transaction");
                    let trace = work::take_due(&mut change, stage, due.key, now).await.expect("it is taken");
                    if stage == Stage::Rollout {
                        let trace = trace.as_deref();
                        Rollouts.reconcile(&self.hub, &mut change, due.key, trace, now).await.expect("a reconcile");
                    }
                    change.commit().await.expect("it commits");
                }
            }
        }
        due.into_iter().map(|due| due.key).collect()
    }

    async fn id(&self, target: &str) -> Uuid {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let name = target.parse().expect("a name");
        let target = store::targets::find_by_name(&mut db, &name).await.expect("it is read");
        target.expect("it is there").id.as_uuid()
    }

    /// Rows of what a revision leaves behind.
    async fn counts(&self) -> BTreeMap<String, i64> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let tables = ["revisions", "renders", "bundles", "objects", "rollouts"];
        store::count_rows(&mut db, &tables).await.expect("they are counted")
    }

    /// What a cluster is to run, by target.
    async fn listing(&self, cluster: ClusterId) -> BTreeMap<String, Listed> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let listed = store::assignments::list_of_clusters(&mut db, &[cluster]).await.expect("it is read");
        let listed = listed.into_iter().map(|one| one.read.expect("it can be read"));
        listed.map(|one| (one.target_name.to_string(), one)).collect()
    }
}

async fn shown(db: &mut Connection, target: TargetId) -> store::rollouts::Rollout {
    store::rollouts::list_shown(db, &[target]).await.expect("it is read").pop().expect("it is there")
}

async fn insert_repo(db: &mut Connection, project: ProjectId, upstream: &Upstream) -> RepoId {
    let id = RepoId::new(clock::new_id());
    let repo = Repo {
        id,
        project,
        name: "apps".parse().expect("a name"),
        spec: RepoSpec { url: upstream.url(), ca: None, poll_seconds: None },
        webhook_secret: Vec::new(),
        version: Version::new(1),
        created_at: clock::now(),
    };
    store::repos::insert(db, &repo).await.expect("a new repo");
    id
}

async fn insert_target(db: &mut Connection, project: ProjectId, repo: RepoId, name: &str, rollout: &serde_json::Value) {
    let spec = json!({"repo": "apps", "path": name, "rollout": rollout});
    let target = Target {
        id: TargetId::new(clock::new_id()),
        project,
        name: name.parse().expect("a name"),
        repo,
        reference: "refs/heads/main".to_owned(),
        spec: serde_json::from_value::<TargetSpec>(spec).expect("a spec"),
        version: Version::new(1),
        created_at: clock::now(),
        deletion: None,
    };
    store::targets::insert(db, &target).await.expect("a new target");
}

async fn join(db: &mut Connection, hub: &Hub, number: i64) -> ClusterId {
    let (id, now) = (ClusterId::new(clock::new_id()), clock::now());
    let cluster = Cluster {
        id,
        project: hub.project,
        name: format!("cluster-{number}").parse().expect("a name"),
        labels: BTreeMap::new(),
        namespace: "bellwether-system".to_owned(),
        version: Version::new(1),
        created_at: now,
        revoked_at: None,
    };
    store::clusters::insert(db, &cluster).await.expect("a new cluster");
    let opened = Opened {
        cluster: id,
        session: SessionNumber::new(number),
        hub: hub.id,
        boot: clock::new_id(),
        address: "127.0.0.1:1",
        serial: "1",
        agent_version: "1",
        facts: &BTreeMap::new(),
    };
    sessions::mark_opened(db, &opened, now).await.expect("a stream");
    sessions::mark_caught_up(db, id, SessionNumber::new(number), now).await.expect("it has caught up");
    id
}

const ONE: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: one, namespace: default}}";
const ANOTHER: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: another, namespace: default}}";

#[crate::store::database_test(migrations = "../migrations")]
async fn a_push_wakes_only_targets_whose_folder_it_moved(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let first = [("one/a.yaml", ONE), ("two/a.yaml", ONE), ("README.md", "1")];
    scene.push(&first).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await.len(), 2, "the first revision concerns both");

    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("one").await]);

    scene.push(&[("README.md", "2")]).await;
    assert!(scene.reconcile(Stage::Bundle).await.is_empty(), "none of its files is a target's");

    // What does not render may have been fixed elsewhere.
    scene.push(&[("two/a.yaml", "not: [yaml")]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("two").await]);
    scene.push(&[("README.md", "3")]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("two").await]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_push_assigns_every_cluster_at_once_and_says_what_may_be_pruned(pool: Pool) {
    let scene = Scene::new(&pool, 5).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    scene.reconcile(Stage::Link).await;
    let mut before = Vec::new();
    for cluster in &scene.clusters {
        before.push(scene.listing(*cluster).await);
    }
    finish(&scene, 1).await;

    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    let mut generations = Vec::new();
    for (cluster, before) in scene.clusters.iter().zip(before) {
        let after = scene.listing(*cluster).await;
        let (one, two) = (&after["one"].assignment, &after["two"].assignment);
        assert!(one.generation > before["one"].assignment.generation);
        let prunable: Vec<_> = one.prunable.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(prunable, ["one"]);
        assert!(before["one"].assignment.prunable.is_empty());
        assert_eq!(two.generation, before["two"].assignment.generation, "it did not move");
        generations.push(one.generation);
    }
    generations.sort_unstable();
    generations.dedup();
    assert_eq!(generations.len(), 5, "each assignment has a generation of its own");
    let mut told = scene.reconcile(Stage::Link).await;
    told.sort_unstable();
    assert_eq!(told, scene.clusters.iter().map(|cluster| cluster.as_uuid()).collect::<Vec<_>>());
}

/// Every cluster says that it runs what it was assigned; each time after the one before.
async fn finish(scene: &Scene, time: i64) {
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    for (number, cluster) in (1..).zip(&scene.clusters) {
        for (sequence, listed) in (10 * time..).zip(scene.listing(*cluster).await.into_values()) {
            let report = Report {
                target: listed.assignment.target,
                generation: listed.assignment.generation,
                digest: listed.assignment.digest,
                applied: true,
                verdict: Verdict::Healthy,
                objects: Counts::default(),
                lines: Vec::new(),
            };
            let (session, sequence) = (SessionNumber::new(number), ReportSequence::new(sequence));
            let received = Received { cluster: *cluster, session, sequence, report };
            store::reports::mark_newer(&mut db, &[&received], clock::now()).await.expect("it is written");
        }
    }
    drop(db);
    for target in ["one", "two"] {
        scene.tell(Stage::Rollout, scene.id(target).await).await;
    }
    scene.reconcile(Stage::Rollout).await;
}

/// From now on the target `two` is for clusters with this label only.
const TWO_IS_FOR_LATE_ONES: &str =
    r#"update targets set spec = spec || '{"clusters": {"matchLabels": {"ring": "late"}}}' where name = 'two'"#;

/// The streams of a cluster end.
async fn go_away(scene: &Scene, number: usize) {
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let open = sessions::list_open(&mut db, scene.hub.id).await.expect("they are read");
    let cluster = scene.clusters[number];
    let ends = open.into_iter().filter(|(one, _)| *one == cluster);
    let ends: Vec<_> = ends.map(|(cluster, session)| sessions::End { cluster, session, at: clock::now() }).collect();
    assert_eq!(sessions::mark_ended(&mut db, &ends).await.expect("it is written"), [cluster]);
}

/// Its agent is back, with what it is to run.
async fn come_back(scene: &Scene, number: usize) {
    let cluster = scene.clusters[number];
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    store::execute_raw(&scene.hub.pool, "select setval('session_numbers', 1000 + nextval('session_numbers'))")
        .await
        .expect("it is written");
    let serial = clock::new_id().simple().to_string();
    let until = clock::now() + jiff::SignedDuration::from_hours(24);
    store::certificates::insert(&mut db, &serial, cluster, clock::now(), until, None).await.expect("it is new");
    let held = scene.listing(cluster).await.into_values().map(|one| one.assignment);
    let held = held.map(|one| bellwether_core::session::Listed {
        target: one.target,
        generation: one.generation,
        action: one.action,
        digest: one.digest,
    });
    let held = bellwether_core::session::root(held);
    crate::link::tests::come_back(&scene.hub, cluster, &serial, held).await;
}

/// A person gives a cluster a label.
async fn label(scene: &Scene, number: usize, labels: serde_json::Value) {
    let mut change = Change::begin(&scene.hub.pool, &scene.hub.signals).await.expect("a transaction");
    let cluster = store::clusters::find(&mut change, scene.clusters[number]).await.expect("read").expect("it is there");
    let labels = serde_json::from_value(labels).expect("labels");
    store::clusters::mark_labels(&mut change, cluster.id, cluster.version, &labels, clock::now())
        .await
        .expect("written");
    change.tell_of_labels(&cluster, Some(&cluster.labels), Some(&labels), clock::now()).await.expect("it is told");
    change.commit().await.expect("it commits");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_is_away_when_it_is_selected_gets_the_target_when_it_is_back(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    store::execute_raw(&pool, TWO_IS_FOR_LATE_ONES).await.expect("it is written");
    label(&scene, 1, json!({"ring": "late"})).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    scene.reconcile(Stage::Rollout).await;

    go_away(&scene, 0).await;
    label(&scene, 0, json!({"ring": "late"})).await;
    let rendered = scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    assert_eq!(rendered, [scene.id("two").await], "no other minds the label");
    assert!(!scene.listing(scene.clusters[0]).await.contains_key("two"), "it is away");
    come_back(&scene, 0).await;
    assert_eq!(scene.reconcile(Stage::Rollout).await, [scene.id("two").await], "no other waits for it");
    assert!(scene.listing(scene.clusters[0]).await.contains_key("two"));

    finish(&scene, 2).await;
    scene.reconcile(Stage::Rollout).await;
    go_away(&scene, 0).await;
    come_back(&scene, 0).await;
    assert!(scene.reconcile(Stage::Rollout).await.is_empty(), "nobody waits for it any more");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_came_back_while_it_was_written_that_they_are_waited_for_is_seen(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    let target = TargetId::new(scene.id("one").await);
    go_away(&scene, 0).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");

    let away = store::wanted::mark_awaited(&mut db, target, &scene.clusters[..1]).await.expect("it is written");
    let both = store::wanted::mark_awaited(&mut db, target, &scene.clusters).await.expect("it is written");
    let concerned = store::rollouts::list_targets_of(&mut db, &scene.clusters).await.expect("it is read");
    store::wanted::mark_awaited(&mut db, target, &[]).await.expect("it is written");
    let nobody = store::rollouts::list_targets_of(&mut db, &scene.clusters).await.expect("it is read");

    assert_eq!((away, both), (false, true));
    assert_eq!((concerned, nobody), (vec![target.as_uuid()], vec![]));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_may_join_again_is_asked_for_again(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let name = "cluster-1";
    let ask = async |what: &str| {
        let request = axum::http::Request::post(format!("/api/v1/clusters/{name}/{what}"))
            .header("authorization", format!("Bearer {}", crate::testing::admin_token(&scene.folder)))
            .extension(crate::pki::tls::Peer("127.0.0.1:1".parse().expect("is an address")))
            .body(axum::body::Body::from("{}"))
            .expect("is a request");
        crate::http::router(Arc::clone(&scene.hub)).oneshot(request).await.expect("it always answers").status()
    };
    assert!(ask("revoke").await.is_success());
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    assert!(scene.listing(scene.clusters[0]).await.is_empty());

    assert!(ask("reenroll").await.is_success());
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    assert!(scene.listing(scene.clusters[0]).await.contains_key("one"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_said_of_an_assignment_goes_with_it_and_signals_to_nobody_go_in_time(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    go_away(&scene, 0).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let two = store::count_rows(&mut db, &["reports", "work"]).await.expect("they are counted");
    store::execute_in(
        &mut db,
        "delete from assignments where cluster_id = (select min(cluster_id::text)::uuid from clusters)",
    )
    .await
    .expect("it goes");
    let one = store::count_rows(&mut db, &["reports"]).await.expect("they are counted");

    scene.tell(Stage::Link, scene.clusters[0].as_uuid()).await;
    scene.tell(Stage::Link, scene.clusters[1].as_uuid()).await;
    let later = clock::now() + jiff::SignedDuration::from_hours(25);
    store::work::delete_unheard(&mut db, clock::now() - jiff::SignedDuration::from_hours(24), 100)
        .await
        .expect("swept");
    let early = store::count_rows(&mut db, &["work"]).await.expect("they are counted");
    let swept = store::work::delete_unheard(&mut db, later, 100).await.expect("swept");

    assert_eq!((two["reports"], one["reports"]), (2, 1));
    assert!(early["work"] >= 2);
    assert!(swept >= 1);
    let heard =
        "select bool_and(key = (select max(cluster_id::text)::uuid from clusters)) from work where stage = 'link'";
    assert!(store::ask_raw(&mut db, heard).await.expect("it is read"), "the other one has a stream");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_sweep_keeps_what_runs_and_what_people_may_go_back_to(pool: Pool) {
    const PUSHES: i64 = 24;
    let scene = Scene::new(&pool, 2).await;
    for number in 1..=PUSHES {
        let text = ONE.replace("namespace: default", &format!("namespace: default, labels: {{push: p{number}}}"));
        scene.push(&[("one/a.yaml", &text), ("two/a.yaml", ANOTHER)]).await;
        scene.reconcile(Stage::Bundle).await;
        scene.reconcile(Stage::Rollout).await;
        finish(&scene, number).await;
    }
    let before = scene.counts().await;

    crate::worker::sweep::sweep(&scene.hub, clock::now()).await.expect("it sweeps");
    assert_eq!(scene.counts().await, before, "all of it is young");
    let later = clock::now() + jiff::SignedDuration::from_hours(100 * 24);
    crate::worker::sweep::sweep(&scene.hub, later).await.expect("it sweeps");

    // The last 20 rollouts of one and the only one of two; what they name, and what the oldest of them moved from; of
    // revisions, those of what is kept.
    let counts =
        [("rollouts", 20 + 1), ("renders", 21 + 1), ("bundles", 21 + 1), ("objects", 21 + 1), ("revisions", 21 + 1)];
    assert_eq!(scene.counts().await, counts.map(|(table, count)| (table.to_owned(), count)).into());
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    for listed in scene.listing(scene.clusters[0]).await.into_values() {
        let digest = listed.assignment.digest;
        let fresh = crate::store::content::Content::default();
        let manifests = fresh.load_manifests(&mut db, &[digest].into()).await.expect("it is read");
        let objects: Vec<_> = manifests[&digest].entries().iter().map(|entry| entry.digest).collect();
        assert_eq!(fresh.load_objects(&scene.hub.pool, &objects).await.expect("all are there").len(), 1);
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_cluster_never_pruned_may_still_go_with_the_next_push(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let prunable = async || {
        let listing = scene.listing(scene.clusters[0]).await;
        listing["one"].assignment.prunable.iter().map(|key| key.name.clone()).collect::<Vec<_>>()
    };
    let roll = async |files: &[(&str, &str)]| {
        scene.push(files).await;
        scene.reconcile(Stage::Bundle).await;
        scene.reconcile(Stage::Rollout).await;
    };
    roll(&[("one/a.yaml", ONE), ("one/b.yaml", ANOTHER)]).await;
    finish(&scene, 1).await;

    roll(&[("one/b.yaml", "")]).await;
    assert_eq!(prunable().await, ["another"]);
    // It is skipped before it has carried that out, and gets the next one instead.
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let target = TargetId::new(scene.id("one").await);
    let row = shown(&mut db, target).await;
    let done = bellwether_core::rollout::RolloutState::Done;
    store::rollouts::mark_state(&mut db, row.id, done, "", clock::now()).await.expect("it is written");
    drop(db);
    roll(&[("one/a.yaml", &ONE.replace("namespace: default", "namespace: default, labels: {a: b}"))]).await;
    assert_eq!(prunable().await, ["another"], "no other plan would ever name it");
    finish(&scene, 2).await;

    roll(&[("one/a.yaml", ONE)]).await;
    assert!(prunable().await.is_empty(), "it was carried out");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_drift_of_a_target_that_its_tombstone_outlives_is_dropped(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let target = TargetId::new(scene.id("one").await);
    let drift = drift_of(target);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");

    let action = bellwether_core::session::Action::Orphan;
    store::assignments::mark_tombstones(&mut db, target, action, 10, clock::now()).await.expect("it is written");
    store::assignments::mark_outliving(&mut db, target, &"one".parse().expect("a name")).await.expect("it is written");
    store::targets::delete(&mut db, target).await.expect("it goes");
    let is_new = store::drifts::insert_new(&mut db, scene.clusters[0], &drift, clock::now()).await;

    assert!(!is_new.expect("it is no error: a batch would be tried again for ever"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_reconcile_whose_rows_another_hub_has_taken_writes_nothing(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let seen_before = work::list_due(&mut db, Stage::Bundle, clock::now(), &[], 16).await.expect("what is due");
    drop(db);
    scene.reconcile(Stage::Bundle).await;
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    let counts = scene.counts().await;

    for due in &seen_before {
        Bundle.reconcile(&scene.hub, due).await.expect("a reconcile");
    }

    assert_eq!(scene.counts().await, counts, "an older render would be taken for the newest");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_commit_that_the_mirror_lacks_is_fetched_and_no_condition(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    // Another hub on the same database, or this one after its folder was lost.
    let (other, _folder) = crate::testing::hub_beside(&pool, &scene.folder).await;
    let other = Scene { hub: other, ..scene };

    assert_eq!(other.reconcile(Stage::Bundle).await.len(), 2);
    assert_eq!(other.reconcile(Stage::Source).await, [other.repo.as_uuid()], "the reconcile asked for it");
    assert_eq!(other.reconcile(Stage::Bundle).await.len(), 2, "their rows stayed");

    assert_eq!(other.counts().await["renders"], 2);
}

impl Scene {
    /// As if hubs had ended, as often as is borne, whenever they rendered the target's last revision.
    async fn die_of_rendering(&self, target: &str) {
        let (target, now) = (TargetId::new(self.id(target).await), clock::now());
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let head = store::revisions::find_head(&mut db, self.repo, "refs/heads/main").await.expect("it is read");
        let of = (head.expect("it was pushed").id, Version::new(1));
        for _ in 0..3 {
            store::renders::begin_try(&mut db, target, of, now - jiff::SignedDuration::from_hours(1), now)
                .await
                .expect("it is noted");
        }
    }

    async fn condition(&self, target: &str) -> Option<String> {
        let id = TargetId::new(self.id(target).await);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        store::renders::find_condition(&mut db, id).await.expect("it is read").map(|condition| condition.code)
    }

    async fn change_spec(&self, target: &str, change: impl FnOnce(&mut TargetSpec)) {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let name = target.parse().expect("a name");
        let mut target = store::targets::find_by_name(&mut db, &name).await.expect("it is read").expect("it is there");
        change(&mut target.spec);
        store::targets::mark_spec(&mut db, &target, clock::now()).await.expect("it is written");
    }

    async fn join(&mut self) -> ClusterId {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let number = i64::try_from(self.clusters.len()).expect("a few") + 1;
        let joined = join(&mut db, &self.hub, number).await;
        self.clusters.push(joined);
        joined
    }

    /// A person changed something of it: followed by a trace.
    async fn tell_by_a_person(&self, target: &str) {
        let (target, trace) = (self.id(target).await, clock::new_trace());
        let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await.expect("a transaction");
        change.tell(Stage::Rollout, &[target], clock::now(), Some(&trace)).await.expect("it is told");
        change.commit().await.expect("it commits");
    }

    /// The rollout stage looks at this target.
    async fn decide(&self, target: &str) {
        self.tell(Stage::Rollout, self.id(target).await).await;
        self.reconcile(Stage::Rollout).await;
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_render_that_hubs_died_of_is_not_begun_again_until_something_changes(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.die_of_rendering("one").await;

    assert_eq!(scene.reconcile(Stage::Bundle).await.len(), 2);
    assert_eq!(scene.condition("one").await.as_deref(), Some("render_broke_down"));
    assert_eq!(scene.condition("two").await, None);
    assert_eq!(scene.counts().await["renders"], 1);
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await, None, "another revision is another render");
    assert_eq!(scene.counts().await["renders"], 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_folder_that_hubs_died_of_is_not_read_again(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    // Whoever reads it says so.
    scene.push(&[("one/a\\b.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("file_name_unsafe"));
    scene.die_of_rendering("one").await;

    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("render_broke_down"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_target_that_has_stored_its_share_of_a_day_stores_nothing_more_and_others_do(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let spend = "update render_tries set stored_bytes = 4294967290, stored_since = now()
                   from targets where targets.target_id = render_tries.target_id and name = 'one'";
    store::execute_raw(&pool, spend).await.expect("it is written");
    let before = scene.counts().await["objects"];

    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("content_share_spent"));
    assert_eq!(scene.counts().await["objects"], before);

    scene.push(&[("two/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("two").await, None);
    assert!(scene.counts().await["objects"] > before);

    store::execute_raw(&pool, "update render_tries set stored_since = stored_since - interval '25 h'")
        .await
        .expect("a day passes");
    let third = "{apiVersion: v1, kind: ConfigMap, metadata: {name: third, namespace: default}}";
    scene.push(&[("one/a.yaml", third)]).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await, None);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_push_concerns_a_target_whose_render_read_something_that_moved(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE), ("base/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let (one, two) = (scene.id("one").await, scene.id("two").await);
    let inputs = store::renders::list_inputs(&mut db, scene.repo).await.expect("they are read");
    assert_eq!(
        inputs,
        [(TargetId::new(one), vec!["one".to_owned()]), (TargetId::new(two), vec!["two".to_owned()])].into()
    );

    // As an engine will say that it looked for a file that is not there, and read another folder.
    let paths = ["one", "base", "missing/values.yaml"].map(ToOwned::to_owned);
    store::renders::end_try(&mut db, TargetId::new(one), Some(&paths)).await.expect("it is written");
    drop(db);
    scene.push(&[("README.md", "1")]).await;
    assert!(scene.reconcile(Stage::Bundle).await.is_empty());
    scene.push(&[("base/a.yaml", ANOTHER)]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [one]);
    scene.push(&[("missing/values.yaml", "a: 1")]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [one]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn objects_in_an_agents_namespace_are_refused_and_the_last_render_stays(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let taken = ONE.replace("namespace: default", "namespace: bellwether-system");

    scene.push(&[("one/b.yaml", &taken)]).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("object_of_the_agent"));
    assert_eq!(scene.counts().await["renders"], 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_changed_spec_moves_nobody_before_it_is_rendered(pool: Pool) {
    let mut scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    let before = scene.listing(scene.clusters[0]).await;

    scene.change_spec("one", |spec| "two".clone_into(&mut spec.path)).await;
    let newcomer = scene.join().await;
    scene.decide("one").await;

    assert!(!scene.listing(newcomer).await.contains_key("one"), "what the old spec renders to is not for it");

    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let after = scene.listing(newcomer).await;
    assert_ne!(after["one"].assignment.digest, before["one"].assignment.digest);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_skipped_cluster_stays_as_it_is_when_others_join(pool: Pool) {
    let mut scene = Scene::new(&pool, 2).await;
    let waves = json!({"waves": [{"name": "all", "maxConcurrent": 1}]});
    scene.change_spec("one", |spec| spec.rollout = serde_json::from_value(waves).expect("a strategy")).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let skipped = scene.clusters[1];
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let target = TargetId::new(scene.id("one").await);
    let rollout = shown(&mut db, target).await.id;
    let asked = store::intents::IntentRow {
        id: clock::new_id(),
        target,
        rollout: Some(rollout),
        verb: store::intents::Verb::Rollout(bellwether_core::rollout::Intent::Skip { cluster: skipped }),
        actor: "alice".to_owned(),
        reason: String::new(),
    };
    store::intents::insert(&mut db, &asked, clock::now()).await.expect("it is written");
    drop(db);
    scene.decide("one").await;
    finish(&scene, 1).await;

    let newcomer = scene.join().await;
    scene.decide("one").await;
    assert!(scene.listing(newcomer).await.contains_key("one"));
    finish(&scene, 2).await;
    let second = scene.join().await;
    scene.decide("one").await;

    assert!(scene.listing(second).await.contains_key("one"));
    assert!(!scene.listing(skipped).await.contains_key("one"), "a person took it out");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn another_way_to_keep_a_target_comes_to_every_cluster_as_a_new_generation(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    let rollouts = scene.counts().await["rollouts"];
    let before = scene.listing(scene.clusters[1]).await;

    scene.change_spec("one", |spec| spec.sync.drift = bellwether_core::session::DriftMode::Ignore).await;
    scene.tell_by_a_person("one").await;
    scene.reconcile(Stage::Rollout).await;
    let unrendered = scene.listing(scene.clusters[1]).await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let after = scene.listing(scene.clusters[1]).await;

    let drift = |listing: &BTreeMap<String, Listed>| listing["one"].assignment.options.drift;
    assert_eq!(drift(&before), bellwether_core::session::DriftMode::Correct);
    assert_eq!(drift(&unrendered), bellwether_core::session::DriftMode::Ignore, "it waits for no render");
    assert!(unrendered["one"].assignment.generation > before["one"].assignment.generation);
    assert_eq!(after["one"].assignment.generation, unrendered["one"].assignment.generation);
    assert_eq!(after["one"].assignment.digest, before["one"].assignment.digest);
    assert_eq!(scene.counts().await["rollouts"], rollouts, "no content moves");
}

/// Asked again and again, until it is so.
async fn await_true(db: &mut Connection, question: &'static str) {
    let is_so = async {
        while !store::ask_raw(db, question).await.expect("it is answered") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), is_so).await.expect(question);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_outage_of_the_database_fails_no_healthy_rollout(pool: Pool) {
    let settings = ["--hub-heartbeat-ms", "100", "--offline-after-ms", "200", "--grace-ms", "2000"];
    let strategy = json!({"offline": "fail", "waves": [{"name": "all", "maxConcurrent": "100%", "soak": "1h"}]});
    let scene = Scene::with(&pool, 2, &settings, &strategy).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    await_true(&mut db, "select count(*) = 2 from rollout_waves where state = 'soaking'").await;
    // Those grace periods of the start are over when the heartbeats have gone on for a while.
    let stop = tokio_util::sync::CancellationToken::new();
    let stage = tokio::spawn(crate::worker::stage::run_transactional(scene.hub.clone(), Rollouts, stop.clone()));
    let heartbeat = tokio::spawn(crate::worker::heartbeat::run(scene.hub.clone(), stop.clone()));
    let agents = tokio::spawn(say_that_all_are_there(scene.hub.clone(), scene.clusters.clone(), stop.clone()));
    await_true(&mut db, "select heartbeat_at > started_at + interval '2100 ms' from hubs").await;

    store::set_outage(&pool, &mut db, true).await.expect("the owner may");
    let due = "insert into work (stage, key, due_at) select 'rollout', target_id, now() from targets returning true";
    assert!(store::ask_raw(&mut db, due).await.expect("it is written"));
    await_true(&mut db, "select clock_timestamp() > heartbeat_at + interval '3 s' from hubs").await;
    store::set_outage(&pool, &mut db, false).await.expect("the owner may");
    await_true(&mut db, "select clock_timestamp() < lives_until from hubs").await;
    await_true(&mut db, "select count(*) = 0 from work where stage = 'rollout' and due_at <= clock_timestamp()").await;

    let unharmed = "select bool_and(state = 'rolling') and (select bool_and(state = 'healthy') from rollout_clusters)
                           and (select bool_and(state = 'soaking') from rollout_waves)
                      from rollouts";
    assert!(store::ask_raw(&mut db, unharmed).await.expect("it is read"));
    stop.cancel();
    for task in [stage, heartbeat, agents] {
        task.await.expect("it ends");
    }
}

/// Writes again and again, whenever it can, that the first stream of each cluster is heard.
async fn say_that_all_are_there(hub: Arc<Hub>, clusters: Vec<ClusterId>, stop: tokio_util::sync::CancellationToken) {
    while !stop.is_cancelled() {
        for (number, cluster) in (1..).zip(&clusters) {
            let Ok(mut db) = hub.pool.acquire().await else { continue };
            let written =
                store::sessions::mark_caught_up(&mut db, *cluster, SessionNumber::new(number), clock::now()).await;
            drop((db, written));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_report_about_a_row_that_cannot_be_read_is_dropped_alone_and_said_once(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    let damage = "update reports set digest = 'x'
                   where cluster_id = (select cluster_id from clusters order by name limit 1) returning true";
    assert!(store::ask_raw(&mut db, damage).await.expect("an intruder can"));

    let (queue, incoming) = tokio::sync::mpsc::channel(8);
    let (recorded_to, recorded) = tokio::sync::watch::channel(ReportSequence::default());
    for (number, cluster) in (1..).zip(&scene.clusters) {
        for (sequence, listed) in (20..).zip(scene.listing(*cluster).await.into_values()) {
            let report = Report {
                target: listed.assignment.target,
                generation: listed.assignment.generation,
                digest: listed.assignment.digest,
                applied: true,
                verdict: Verdict::Failed,
                objects: Counts::default(),
                lines: Vec::new(),
            };
            let (session, sequence) = (SessionNumber::new(number), ReportSequence::new(sequence));
            let (event, recorded) = (crate::record::queue::AgentEvent::Report(report), recorded_to.clone());
            let one = crate::record::queue::Incoming { cluster: *cluster, session, sequence, event, recorded };
            queue.send(one).await.expect("there is room");
        }
    }
    drop(queue);
    crate::record::run(scene.hub.clone(), incoming, tokio_util::sync::CancellationToken::new()).await;

    let others = "select bool_and((verdict = 'failed') = (digest <> 'x')) from reports";
    let said = "select count(*) = 1 from audit_outbox where convert_from(body, 'UTF8') like '%report.dropped%'";
    assert!(store::ask_raw(&mut db, others).await.expect("it is read"));
    assert!(store::ask_raw(&mut db, said).await.expect("it is read"));
    assert_eq!(*recorded.borrow(), ReportSequence::new(21), "their agents could only say the same again");
}

fn drift_of(target: TargetId) -> bellwether_core::drift::Drift {
    bellwether_core::drift::Drift {
        id: clock::new_id(),
        target,
        object: serde_json::from_value(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "one"})).expect("a key"),
        found_at: clock::now(),
        change: bellwether_core::drift::Change::Modified,
        response: bellwether_core::drift::Response::Corrected,
        manager: None,
        operation: None,
        fields: Vec::new(),
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_has_its_share_of_a_days_drifts_and_no_more(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let target = TargetId::new(scene.id("one").await);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let [first, second] = [scene.clusters[0], scene.clusters[1]];

    let mut written = 0;
    for _ in 0..510 {
        let is_new = store::drifts::insert_new(&mut db, first, &drift_of(target), clock::now()).await;
        written += usize::from(is_new.expect("it is no error"));
    }
    let others = store::drifts::insert_new(&mut db, second, &drift_of(target), clock::now()).await;
    let tomorrow = clock::now() + jiff::SignedDuration::from_hours(25);
    let next = store::drifts::insert_new(&mut db, first, &drift_of(target), tomorrow).await;

    assert_eq!(written, 500);
    assert!(others.expect("written") && next.expect("written"), "another cluster, and another day");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_wish_about_one_cluster_names_that_cluster_in_the_log(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let mut db = pool.acquire().await.expect("a connection");
    let target = TargetId::new(scene.id("one").await);
    let row = shown(&mut db, target).await;
    let cluster = scene.clusters[0];
    let name = store::clusters::find(&mut db, cluster).await.expect("it is read").expect("it is there").name;

    let asked = json!({"intent": {"verb": "skip", "cluster": cluster}, "reason": "its disk is broken"}).to_string();
    let request = axum::http::Request::post(format!("/api/v1/rollouts/{}/intents", row.id))
        .header("authorization", format!("Bearer {}", crate::testing::admin_token(&scene.folder)))
        .extension(crate::pki::tls::Peer("127.0.0.1:1".parse().expect("is an address")))
        .body(axum::body::Body::from(asked))
        .expect("is a request");
    let answer = crate::http::router(Arc::clone(&scene.hub)).oneshot(request).await.expect("it always answers");

    assert_eq!(answer.status(), axum::http::StatusCode::ACCEPTED, "nobody carries it out here");
    let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
    let entries = bodies.iter().map(|body| serde_json::from_slice::<serde_json::Value>(body).expect("is JSON"));
    let told: Vec<_> = entries.filter(|entry| entry["action"] == "rollout.skip.asked").collect();
    assert_eq!((told.len(), &told[0]["cluster"]), (1, &json!(name)));
}

/// What a later version may add to each stored form.
const LATER: &[&str] = &[
    r#"update repos set spec = spec || '{"later": 1}'"#,
    r#"update targets set spec = spec || '{"later": {"a": []}, "sync": {"later": true}}'"#,
    r#"update targets set spec = spec || '{"ref": {"branch": "main", "later": 1}, "parameters": [{"later": "x"}]}'"#,
    "update targets set spec = jsonb_set(jsonb_set(spec, '{rollout,later}', '1'), '{rollout,waves,0,later}', '1')",
    r#"update rollouts set strategy = jsonb_set(strategy || '{"later": 1}', '{waves,0,later}', '1')"#,
    r#"update assignments set options = options || '{"later": 1}', prunable = '[{"apiVersion": "v1", "kind": "Secret",
       "name": "x", "later": 1}]'"#,
];

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_later_version_added_to_rows_does_not_stop_this_one(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let before = scene.listing(scene.clusters[0]).await;
    for statement in LATER {
        store::execute_raw(&pool, statement).await.expect("a later version can");
    }

    finish(&scene, 1).await;
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    let after = scene.listing(scene.clusters[0]).await;
    assert!(after["one"].assignment.generation > before["one"].assignment.generation);
    assert_ne!(after["one"].assignment.digest, before["one"].assignment.digest, "it was rendered and rolled out");
}

impl Scene {
    async fn ask(&self, method: &str, path: &str, body: &str) -> (axum::http::StatusCode, serde_json::Value) {
        let request = axum::http::Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("authorization", format!("Bearer {}", crate::testing::admin_token(&self.folder)))
            .extension(crate::pki::tls::Peer("127.0.0.1:1".parse().expect("is an address")))
            .body(axum::body::Body::from(body.to_owned()))
            .expect("is a request");
        let answer = crate::http::router(Arc::clone(&self.hub)).oneshot(request).await.expect("it always answers");
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("the answer is small");
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Every entry so far, sealed or not.
    async fn entries(&self) -> Vec<serde_json::Value> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
        bodies.iter().map(|body| serde_json::from_slice(body).expect("an entry is JSON")).collect()
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_target_and_a_repo_that_cannot_be_read_fail_alone_and_are_named(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let statements = [
        "update targets set spec = '7' where name = 'one'",
        "insert into repos (repo_id, project_id, name, spec, webhook_secret, created_at, updated_at)
           select gen_random_uuid(), project_id, 'broken', '7', '', now(), now() from repos",
    ];
    for statement in statements {
        store::execute_raw(&pool, statement).await.expect("an intruder can");
    }

    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    let two = QueueOf(Stage::Bundle).only(&scene, scene.id("two").await).await;
    two.expect("its neighbour renders");
    let (listed, targets) = scene.ask("GET", "/targets", "").await;
    let (repos_listed, repos) = scene.ask("GET", "/repos", "").await;
    let (shown, status) = scene.ask("GET", "/status", "").await;
    let (refused, problem) = scene.ask("GET", "/targets/one", "").await;

    let names = |list: &serde_json::Value| {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert!(listed.is_success() && repos_listed.is_success() && shown.is_success(), "{listed} {repos_listed} {shown}");
    assert_eq!((names(&targets), names(&repos)), (vec!["two".to_owned()], vec!["apps".to_owned()]));
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let named: Vec<_> = conditions.iter().map(|one| (one["kind"].as_str(), one["name"].as_str())).collect();
    assert!(
        named.contains(&(Some("Target"), Some("one"))) && named.contains(&(Some("Repo"), Some("broken"))),
        "{status}"
    );
    assert_eq!(problem["code"], "row_unreadable", "{refused} {problem}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_intent_that_only_a_later_version_understands_waits_and_holds_up_no_other(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let later = r#"insert into intents (intent_id, target_id, verb, actor, reason, created_at)
                   select uuid_nil, target_id, '{"verb": "freeze"}', 'ci', '', now()
                     from targets, (values ('00000000-0000-0000-0000-000000000000'::uuid)) as ids (uuid_nil)
                    where name = 'one'"#;
    store::execute_raw(&pool, later).await.expect("a later version can");
    let mut db = pool.acquire().await.expect("a connection");
    let target = TargetId::new(scene.id("one").await);
    let row = store::rollouts::list_shown(&mut db, &[target]).await.expect("it is read").remove(0);
    let pause = store::intents::IntentRow {
        id: clock::new_id(),
        target,
        rollout: Some(row.id),
        verb: store::intents::Verb::Rollout(bellwether_core::rollout::Intent::Pause),
        actor: "admin".to_owned(),
        reason: String::new(),
    };
    store::intents::insert(&mut db, &pause, clock::now()).await.expect("it is written");

    scene.tell(Stage::Rollout, target.as_uuid()).await;
    scene.reconcile(Stage::Rollout).await;

    let outcome = store::intents::find_outcome(&mut db, pause.id).await.expect("it is read");
    assert_eq!(outcome.as_deref(), Some("done"));
    let unanswered = store::intents::find_outcome(&mut db, Uuid::nil()).await.expect("it is read");
    assert_eq!(unanswered, None, "a hub that understands it answers");
}

struct QueueOf(Stage);

impl QueueOf {
    /// Reconciles one subject of a stage, and leaves the others.
    async fn only(&self, scene: &Scene, key: Uuid) -> Result<(), store::StoreError> {
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        let due = work::list_due(&mut db, self.0, clock::now(), &[], 16).await.expect("what is due");
        drop(db);
        let item = due.into_iter().find(|item| item.key == key).expect("it is due");
        Bundle.reconcile(&scene.hub, &item).await
    }
}

/// What each route that changes something is sent, in an order in which all of them can be carried out.
const MUTATIONS: &[(&str, &str, &str)] = &[
    ("POST", "/tokens", r#"{"name": "ci", "role": "admin"}"#),
    ("DELETE", "/tokens/ci", ""),
    ("POST", "/clusters", r#"{"name": "new"}"#),
    ("PUT", "/clusters/new/labels", r#"{"ring": "canary"}"#),
    ("POST", "/clusters/new/reenroll", "{}"),
    ("POST", "/clusters/new/revoke", "{}"),
    ("DELETE", "/clusters/new", ""),
    (
        "PUT",
        "/repos/spare",
        r#"{"apiVersion": "bellwether.dev/v1", "kind": "Repo", "metadata": {"name": "spare"},
            "spec": {"url": "https://git.example.org/spare.git"}}"#,
    ),
    ("PUT", "/repos/spare/credential", r#"{"token": "hunter2"}"#),
    ("POST", "/repos/spare/webhook-secret", ""),
    ("POST", "/repos/spare/refresh", ""),
    ("DELETE", "/repos/spare", ""),
    ("POST", "/rollouts/ROLLOUT/intents", r#"{"intent": {"verb": "pause"}}"#),
    ("POST", "/targets/one/rollback", "{}"),
    ("POST", "/targets/one/release", "{}"),
    (
        "PUT",
        "/targets/one",
        r#"{"apiVersion": "bellwether.dev/v1", "kind": "Target", "metadata": {"name": "one"},
            "spec": {"repo": "apps", "path": "elsewhere"}}"#,
    ),
    ("POST", "/targets/one/refresh", ""),
    ("DELETE", "/targets/one?mode=prune", ""),
];

/// `/targets/one/refresh` and `/targets/a/refresh` are one route.
fn route_of(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    path.split('/')
        .enumerate()
        .map(|(place, part)| if place == 2 { "NAME" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[crate::store::database_test(migrations = "../migrations")]
async fn every_route_that_changes_something_writes_its_entry_or_does_nothing(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    for (number, text) in [(1, ONE), (2, ANOTHER)] {
        scene.push(&[("one/a.yaml", text)]).await;
        scene.reconcile(Stage::Bundle).await;
        scene.reconcile(Stage::Rollout).await;
        finish(&scene, number).await;
    }
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    store::execute_raw(&pool, "update target_states set held = true").await.expect("it is held");
    let mut db = pool.acquire().await.expect("a connection");
    let target = TargetId::new(scene.id("one").await);
    let rollout = store::rollouts::list_shown(&mut db, &[target]).await.expect("it is read").remove(0).id;

    let mut silent = Vec::new();
    for (method, path, body) in MUTATIONS {
        let path = path.replace("ROLLOUT", &rollout.to_string());
        let forbidden = "alter table audit_outbox add constraint nothing check (false) not valid";
        store::execute_raw(&pool, forbidden).await.expect("no entry can be written");
        let (without, _) = scene.ask(method, &path, body).await;
        store::execute_raw(&pool, "alter table audit_outbox drop constraint nothing").await.expect("they can again");
        let before = scene.entries().await.len();
        let (status, answer) = scene.ask(method, &path, body).await;
        let entries = scene.entries().await.split_off(before);

        let is_told = entries.iter().any(|entry| entry["actor"]["name"] == "admin" && entry["action"].is_string());
        if !(without.is_server_error() && status.is_success() && is_told) {
            silent
                .push(format!("{method} {path}: {without} without an entry, then {status} {answer} with {entries:?}"));
        }
        for entry in entries {
            let belongs = entry["subject"]["kind"] != "token";
            assert_eq!(entry["project"].as_str(), belongs.then_some("default"), "{entry}");
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));

    let sent: std::collections::BTreeSet<_> =
        MUTATIONS.iter().map(|(method, path, _)| (*method, route_of(path))).collect();
    // Checking the log changes nothing, however it is asked for.
    let changes = |(method, path): &&(&str, &str)| *method != "GET" && *path != "/audit/verify";
    let all = crate::http::ROUTES.iter().filter(changes).map(|(method, path)| (*method, route_of(path)));
    assert_eq!(sent, all.collect(), "a route was added: say in MUTATIONS what it is sent");
}
