//! A hub with a real Postgres, a real Git repository and clusters that are played by the tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_core::report::{Counts, Report, Verdict};
use bellwether_core::target::TargetSpec;
use bellwether_core::{ClusterId, ProjectId, RepoId, ReportSequence, SessionNumber, TargetId, Version};
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::Hub;
use crate::bundle::Bundle;
use crate::commit_status::Statuses;
use crate::process::clock;
use crate::rollout::Rollouts;
use crate::source::Source;
use crate::source::git::upstream::Upstream;
use crate::store::assignments::Listed;
use crate::store::clusters::Cluster;
use crate::store::projects::Project;
use crate::store::reports::Received;
use crate::store::sessions::{self, Opened};
use crate::store::targets::Target;
use crate::store::work::{self, Stage};
use crate::store::{self, Connection, Pool};
use crate::work::change::Change;
use crate::worker::stage::{Detached as _, Transactional as _};

pub(super) struct Scene {
    pub(super) hub: Arc<Hub>,
    pub(super) upstream: Upstream,
    pub(super) repo: RepoId,
    pub(super) clusters: Vec<ClusterId>,
    pub(super) folder: TempDir,
}

impl Scene {
    /// Clusters that are connected, and a repo with two targets, `one` and `two`, each with a folder of its name.
    pub(super) async fn new(pool: &Pool, clusters: i64) -> Self {
        Self::with(pool, clusters, &[], &json!({"waves": [{"name": "all", "maxConcurrent": "100%"}]})).await
    }

    /// The same, on a hub with other settings and with another strategy.
    pub(super) async fn with(pool: &Pool, clusters: i64, settings: &[&str], rollout: &serde_json::Value) -> Self {
        let (hub, folder) = crate::testing::hub_with(pool, settings).await;
        let upstream = Upstream::new();
        let mut db = hub.pool.acquire().await.expect("a connection");
        store::installation::mark_hub_heartbeat(&mut db, hub.id, std::time::Duration::from_mins(10))
            .await
            .expect("a heartbeat");
        let repo = insert_repo(&mut db, &hub.project, &upstream).await;
        let mut joined = Vec::new();
        for number in 1..=clusters {
            joined.push(join(&mut db, &hub, number).await);
        }
        for name in ["one", "two"] {
            insert_target(&mut db, &hub.project, repo, name, rollout).await;
        }
        drop(db);
        Self { hub, upstream, repo, clusters: joined, folder }
    }

    pub(super) async fn push(&self, files: &[(&str, &str)]) {
        self.upstream.push("main", "A push", files);
        self.tell(Stage::Source, self.repo.as_uuid()).await;
        self.reconcile(Stage::Source).await;
    }

    pub(super) async fn tell(&self, stage: Stage, key: Uuid) {
        let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await.expect("a transaction");
        change.tell(stage, &[key], clock::now(), None).await.expect("it is told");
        change.commit().await.expect("it commits");
    }

    /// Reconciles all that is due for a stage; says what.
    pub(super) async fn reconcile(&self, stage: Stage) -> Vec<Uuid> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let due = work::list_due(&mut db, stage, clock::now(), &[], 16).await.expect("what is due");
        drop(db);
        for due in &due {
            match stage {
                Stage::Source => drop(Source.reconcile(&self.hub, due).await.expect("a reconcile")),
                Stage::CommitStatus => drop(Statuses::default().reconcile(&self.hub, due).await.expect("a reconcile")),
                Stage::Bundle => drop(Bundle.reconcile(&self.hub, due).await.expect("a reconcile")),
                Stage::Rollout | Stage::Link => {
                    let now = clock::now();
                    let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await.expect("a transaction");
                    let taken = work::take_due(&mut change, stage, due.key, now).await.expect("it is taken");
                    let trace = taken.and_then(|taken| taken.trace_id);
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

    pub(super) async fn id(&self, target: &str) -> Uuid {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let name = target.parse().expect("a name");
        let target = store::targets::find_by_name(&mut db, self.hub.project.id, &name).await.expect("it is read");
        target.expect("it is there").id.as_uuid()
    }

    /// Rows of what a revision leaves behind.
    pub(super) async fn counts(&self) -> BTreeMap<String, i64> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let tables = ["revisions", "renders", "bundles", "objects", "rollouts"];
        store::count_rows(&mut db, &tables).await.expect("they are counted")
    }

    /// What a cluster is to run, by target.
    pub(super) async fn listing(&self, cluster: ClusterId) -> BTreeMap<String, Listed> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let listed = store::assignments::list_of_clusters(&mut db, &[cluster]).await.expect("it is read");
        let listed = listed.into_iter().map(|one| one.read.expect("it can be read"));
        listed.map(|one| (one.target_name.to_string(), one)).collect()
    }
}

pub(super) async fn shown(db: &mut Connection, target: TargetId) -> store::rollouts::Rollout {
    store::rollouts::list_shown(db, &[target]).await.expect("it is read").pop().expect("it is there")
}

pub(super) async fn insert_repo(db: &mut Connection, project: &Project, upstream: &Upstream) -> RepoId {
    insert_repo_named(db, project, "apps", upstream).await
}

pub(super) async fn insert_repo_named(
    db: &mut Connection,
    project: &Project,
    name: &str,
    upstream: &Upstream,
) -> RepoId {
    let repo = crate::testing::repo(project, name, &upstream.url());
    store::repos::insert(db, &repo).await.expect("a new repo");
    repo.id
}

pub(super) async fn insert_target(
    db: &mut Connection,
    project: &Project,
    repo: RepoId,
    name: &str,
    rollout: &serde_json::Value,
) {
    let spec = json!({"repo": "apps", "path": name, "rollout": rollout});
    let target = Target {
        id: TargetId::new(clock::new_id()),
        project: project.clone(),
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

pub(super) async fn join(db: &mut Connection, hub: &Hub, number: i64) -> ClusterId {
    let (id, now) = (ClusterId::new(clock::new_id()), clock::now());
    let cluster = Cluster {
        id,
        project: hub.project.clone(),
        name: format!("cluster-{number}").parse().expect("a name"),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
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
        apis: None,
        definitions: None,
        is_believed: true,
    };
    sessions::mark_opened(db, &[opened], now).await.expect("a stream");
    sessions::mark_caught_up(db, &[(id, SessionNumber::new(number))], now).await.expect("it has caught up");
    id
}

pub(super) const ONE: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: one, namespace: default}}";
pub(super) const ANOTHER: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: another, namespace: default}}";

/// Every cluster says that it runs what it was assigned; each time after the one before.
pub(super) async fn finish(scene: &Scene, time: i64) {
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
                suspended: None,
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

/// The streams of a cluster end.
pub(super) async fn go_away(scene: &Scene, number: usize) {
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let open = sessions::list_open(&mut db, scene.hub.id).await.expect("they are read");
    let cluster = scene.clusters[number];
    let ends = open.into_iter().filter(|(one, _)| *one == cluster);
    let ends: Vec<_> = ends.map(|(cluster, session)| sessions::End { cluster, session, at: clock::now() }).collect();
    assert_eq!(sessions::mark_ended(&mut db, &ends).await.expect("it is written"), [cluster]);
}

/// Its agent is back, with what it is to run.
pub(super) async fn come_back(scene: &Scene, number: usize) {
    say(scene, number, json!({})).await;
}

/// Its agent is back, and says this of its cluster. It stays connected.
pub(super) async fn say(scene: &Scene, number: usize, facts: serde_json::Value) {
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
    let facts = serde_json::from_value(facts).expect("facts");
    crate::link::tests::say_hello(&scene.hub, cluster, &serial, held, facts).await;
}

/// A person gives a cluster a label.
pub(super) async fn label(scene: &Scene, number: usize, labels: serde_json::Value) {
    let mut change = Change::begin(&scene.hub.pool, &scene.hub.signals).await.expect("a transaction");
    let cluster = store::clusters::find(&mut change, scene.clusters[number]).await.expect("read").expect("it is there");
    let labels = serde_json::from_value(labels).expect("labels");
    store::clusters::mark_labels(&mut change, cluster.id, cluster.version, &labels, clock::now())
        .await
        .expect("written");
    change.tell_of_labels(&cluster, Some(&cluster.labels), Some(&labels), clock::now()).await.expect("it is told");
    change.commit().await.expect("it commits");
}

impl Scene {
    /// What clusters are to run of target `one`, in their order.
    pub(super) async fn listings(&self) -> Vec<Option<bellwether_core::Digest>> {
        let mut listings = Vec::new();
        for cluster in &self.clusters {
            listings.push(self.listing(*cluster).await.get("one").map(|listed| listed.assignment.digest));
        }
        listings
    }

    /// As if hubs had ended, as often as is borne, whenever they rendered the target's last revision.
    pub(super) async fn die_of_rendering(&self, target: &str) {
        let (target, now) = (TargetId::new(self.id(target).await), clock::now());
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let (head, _) = store::revisions::find_head(&mut db, self.repo, "refs/heads/main").await.expect("it is read");
        let of = (head.expect("it was pushed").id, Version::new(1));
        for _ in 0..3 {
            store::renders::begin_try(&mut db, target, clock::new_id(), of, now).await.expect("it is noted");
        }
    }

    pub(super) async fn condition(&self, target: &str) -> Option<String> {
        let id = TargetId::new(self.id(target).await);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let rendering = store::renders::find_condition(&mut db, id).await.expect("it is read");
        let lost = store::lost::find(&mut db, id).await.expect("it is read").and_then(|lost| lost.condition);
        rendering.or(lost).map(|condition| condition.code)
    }

    pub(super) async fn change_spec(&self, target: &str, change: impl FnOnce(&mut TargetSpec)) {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let name = target.parse().expect("a name");
        let mut target = store::targets::find_by_name(&mut db, self.hub.project.id, &name)
            .await
            .expect("it is read")
            .expect("it is there");
        change(&mut target.spec);
        store::targets::mark_spec(&mut db, &target, clock::now()).await.expect("it is written");
    }

    /// Another project, as a later version makes them.
    pub(super) async fn add_project(&self, name: &str) -> Project {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let (id, name) = (ProjectId::new(clock::new_id()), name.parse().expect("a name"));
        store::projects::ensure(&mut db, id, name, clock::now()).await.expect("it is written")
    }

    pub(super) async fn join(&mut self) -> ClusterId {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let number = i64::try_from(self.clusters.len()).expect("a few") + 1;
        let joined = join(&mut db, &self.hub, number).await;
        self.clusters.push(joined);
        joined
    }

    /// A person changed something of it: followed by a trace.
    pub(super) async fn tell_by_a_person(&self, target: &str) {
        let (target, trace) = (self.id(target).await, clock::new_trace());
        let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await.expect("a transaction");
        change.tell(Stage::Rollout, &[target], clock::now(), Some(&trace)).await.expect("it is told");
        change.commit().await.expect("it commits");
    }

    /// The rollout stage looks at this target.
    pub(super) async fn decide(&self, target: &str) {
        self.tell(Stage::Rollout, self.id(target).await).await;
        self.reconcile(Stage::Rollout).await;
    }
}

/// Asked again and again, until it is so.
pub(super) async fn await_true(db: &mut Connection, question: &'static str) {
    let is_so = async {
        while !store::ask_raw(db, question).await.expect("it is answered") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), is_so).await.expect(question);
}

/// From now on the target `two` is for clusters with this label only.
pub(super) const TWO_IS_FOR_LATE_ONES: &str =
    r#"update targets set spec = spec || '{"clusters": {"matchLabels": {"ring": "late"}}}' where name = 'two'"#;
