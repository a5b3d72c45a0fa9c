//! What clusters say of a head that is planned: by agents whose streams another hub has, as by those that this one has.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use bellwether_core::ClusterId;
use bellwether_core::drift::{ChangedValue, ChangedValues};
use bellwether_core::dry_run::{DryRun, DryRunAnswer, DryRuns, Fate, Tried};
use bellwether_core::session::{AgentMessage, DryRan, Hello, HubMessage, PROTOCOL, SyncOptions, root};
use bellwether_proto::{compression, hub_message};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::scene::{ANOTHER, ONE, Scene, go_away};
use crate::Hub;
use crate::process::clock;
use crate::source::git::signers::Signer;
use crate::store::{self, Pool};

/// What an agent answers, object by object.
type Answer = fn(&DryRun) -> Vec<Tried>;

/// A hub beside that of the scene, which has the streams of agents that answer like this.
struct Beside {
    hub: Arc<Hub>,
    tasks: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Beside {
    async fn start(pool: &Pool, scene: &Scene) -> Self {
        let (hub, folder) = crate::testing::hub_beside(pool, &scene.folder).await;
        let mut db = pool.acquire().await.expect("a connection");
        let lives = std::time::Duration::from_mins(10);
        store::installation::mark_hub_heartbeat(&mut db, hub.id, lives).await.expect("it lives");
        store::execute_raw(pool, "select setval('session_numbers', 1000)").await.expect("it is written");
        let mut tasks = JoinSet::new();
        let link = crate::link::run(Arc::clone(&hub), CancellationToken::new());
        tasks.spawn(link);
        Self { hub, tasks, _folder: folder }
    }

    async fn connect(&mut self, cluster: ClusterId, dry_runs: DryRuns, answer: Answer) {
        let (to_hub, said) = mpsc::channel(4);
        let hello = Hello {
            protocol: PROTOCOL,
            version: "1".to_owned(),
            boot: clock::new_id(),
            root: root([]),
            acked: None,
            facts: BTreeMap::new(),
            apis: None,
            definitions: None,
            dry_runs,
            acts_as_accounts: true,
        };
        for message in [AgentMessage::Hello(hello), AgentMessage::Heartbeat] {
            to_hub.send(Ok(message.into())).await.expect("there is room");
        }
        let mut from_hub = crate::link::tests::connect(&self.hub, cluster, ReceiverStream::new(said)).await;
        let (heard, is_heard) = tokio::sync::oneshot::channel();
        let mut heard = Some(heard);
        self.tasks.spawn(async move {
            while let Some(Ok(message)) = from_hub.next().await {
                match hub_message(message).expect("it can be read") {
                    HubMessage::Ack(_) => drop(heard.take().map(|heard| heard.send(()))),
                    HubMessage::DryRun(asked) => {
                        let answer = DryRunAnswer::Tried(answer(&asked)).encode(compression::compress);
                        let ran = DryRan { id: asked.id, answer };
                        to_hub.send(Ok(AgentMessage::DryRan(ran).into())).await.expect("there is room");
                    }
                    _ => {}
                }
            }
        });
        is_heard.await.expect("its heartbeat is answered");
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        super::scene::await_true(
            &mut db,
            "select bool_and(is_heard) from presences join sessions using (cluster_id) where session > 1000",
        )
        .await;
    }
}

fn all(asked: &DryRun, fate: Fate) -> Vec<Tried> {
    asked.manifest.entries().iter().map(|_| Tried::new(fate, "")).collect()
}

async fn plan(scene: &Scene, asked: Value) -> Value {
    let (status, plan) = scene.ask("POST", "/targets/one/plan", &asked.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{plan}");
    plan
}

fn propose(scene: &Scene, files: &[(&str, &str)]) -> String {
    scene.upstream.git(["branch", "--force", "feature", "main"], b"");
    scene.upstream.push("feature", "A proposal", files)
}

async fn asked_of(scene: &Scene) -> Vec<Value> {
    let entries = scene.entries().await;
    entries.into_iter().filter(|entry| entry["action"] == "target.dry_run").collect()
}

async fn rows(pool: &Pool) -> i64 {
    let mut db = pool.acquire().await.expect("a connection");
    store::count_rows(&mut db, &["dry_runs", "dry_run_clusters"]).await.expect("they are counted").values().sum()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn clusters_of_another_hub_are_asked_about_a_branch_and_the_same_change_is_told_apart_by_what_they_say(
    pool: Pool,
) {
    let scene = Scene::new(&pool, 5).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let mut beside = Beside::start(&pool, &scene).await;
    beside.connect(scene.clusters[0], DryRuns::Taken, |asked| all(asked, Fate::Created)).await;
    beside.connect(scene.clusters[1], DryRuns::Taken, |asked| all(asked, Fate::Refused)).await;
    beside.connect(scene.clusters[2], DryRuns::Unknown, |asked| all(asked, Fate::Created)).await;
    beside.connect(scene.clusters[3], DryRuns::Off, |asked| all(asked, Fate::Created)).await;
    go_away(&scene, 4).await;
    let commit = propose(&scene, &[("one/b.yaml", ANOTHER)]);

    let plan = plan(&scene, json!({"ref": {"branch": "feature"}})).await;

    let groups = plan["groups"].as_array().expect("groups");
    let told: Vec<_> = groups
        .iter()
        .map(|group| (&group["clusters"], &group["dryRun"]["answered"], &group["dryRun"]["counts"]))
        .collect();
    let with_unasked = json!(["cluster-1", "cluster-3", "cluster-4", "cluster-5"]);
    let one_or_other = [
        (&json!(["cluster-2"]), &json!(1), &json!({"refused": 2})),
        (&with_unasked, &json!(1), &json!({"created": 2})),
    ];
    assert_eq!(told, one_or_other, "{plan:#}");
    let whole = &plan["dryRun"];
    assert_eq!((&whole["answered"], &whole["refused"]), (&json!(2), &json!(true)));
    let reasons: Vec<_> = whole["unanswered"]
        .as_array()
        .expect("some")
        .iter()
        .map(|one| (&one["clusters"][0], one["reason"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(reasons[0], (&json!("cluster-4"), "dry runs are switched off where its agent runs"));
    assert_eq!(reasons[1], (&json!("cluster-3"), "its agent is from before dry runs"));
    assert!(reasons[2].1.starts_with("not connected since 20"), "{reasons:?}");
    let entries = asked_of(&scene).await;
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0]["commit"], &entries[0]["detail"]["ref"]), (&json!(commit), &json!("refs/heads/feature")));
    assert_eq!(entries[0]["detail"]["clusters"].as_array().map(Vec::len), Some(4));
    assert_eq!(rows(&pool).await, 0, "nothing stays");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn no_more_clusters_are_asked_than_is_said_and_who_is_left_out_is_told(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let mut beside = Beside::start(&pool, &scene).await;
    for cluster in scene.clusters.clone() {
        beside.connect(cluster, DryRuns::Taken, |asked| all(asked, Fate::Unchanged)).await;
    }

    let one = plan(&scene, json!({"dryRunClusters": 1})).await;
    let none = plan(&scene, json!({"dryRun": "none"})).await;
    let (status, problem) = scene.ask("POST", "/targets/one/plan", r#"{"dryRunClusters": 101}"#).await;

    assert_eq!(
        (&one["dryRun"]["answered"], &one["groups"][0]["dryRun"]["answered"]),
        (&json!(1), &json!(1)),
        "{one:#}"
    );
    assert_eq!(one["dryRun"]["unanswered"][0]["clusters"], json!(["cluster-2"]));
    assert_eq!((&none["dryRun"], &none["groups"][0]["dryRun"]), (&Value::Null, &Value::Null));
    assert_eq!(asked_of(&scene).await.len(), 1);
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("dry_run_clusters_invalid")));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_may_be_a_forks_and_what_nobody_signed_is_asked_about_nowhere(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let mut beside = Beside::start(&pool, &scene).await;
    beside.connect(scene.clusters[0], DryRuns::Taken, |_| panic!("it is not asked")).await;
    // As a host keeps what comes from a fork: it gives it to whoever knows its id.
    let commit = propose(&scene, &[("one/b.yaml", ANOTHER)]);
    scene.upstream.git(["update-ref", "refs/pull/1/head", &commit], b"");
    scene.upstream.git(["branch", "-D", "feature"], b"");
    scene.upstream.git(["config", "uploadpack.allowAnySHA1InWant", "true"], b"");

    let by_id = plan(&scene, json!({"ref": {"commit": commit}})).await;
    let (status, _) = scene.ask("POST", "/targets/one/plan", r#"{"ref": {"branch": "../pull/1/head"}}"#).await;
    let ada = Signer::ssh(&["ed25519"]);
    scene.trust(&[&ada]).await;
    propose(&scene, &[("one/b.yaml", ANOTHER)]);
    let unsigned = plan(&scene, json!({"ref": {"branch": "feature"}})).await;

    for (plan, word) in [(&by_id, "a fork's"), (&unsigned, "not signed")] {
        let skipped = plan["dryRun"]["skipped"].as_str().unwrap_or_default();
        assert!(skipped.contains(word), "{plan:#}");
        assert_eq!((&plan["dryRun"]["answered"], &plan["groups"][0]["counts"]["created"]), (&json!(0), &json!(1)));
    }
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(asked_of(&scene).await.is_empty());
    assert_eq!(rows(&pool).await, 0);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_secret_of_the_target_holds_is_told_nowhere_whatever_an_agent_says(pool: Pool) {
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: db, namespace: default}, stringData: {password: hunter2-before}}";
    let scene = Scene::new(&pool, 1).await;
    scene.roll_out(&[("one/a.yaml", ONE), ("one/b.yaml", secret)], 1).await;
    let mut beside = Beside::start(&pool, &scene).await;
    let tell = |asked: &DryRun| {
        let value = |found: &str| ChangedValue {
            path: ".data.url".to_owned(),
            found: Some(format!("\"{found}\"")),
            wanted: None,
            is_cut: false,
        };
        let values = ChangedValues { values: vec![value("db://hunter2-before@x"), value("plain")], are_more: false };
        let tried = Tried { values, ..Tried::new(Fate::Changed, "it holds hunter2-before") };
        asked.manifest.entries().iter().map(|_| tried.clone()).collect()
    };
    beside.connect(scene.clusters[0], DryRuns::Taken, tell).await;

    let plan = plan(&scene, json!({})).await;

    assert!(!plan.to_string().contains("hunter2"), "{plan:#}");
    let object = &plan["groups"][0]["dryRun"]["objects"][0];
    assert_eq!((&object["message"], &object["drifted"]), (&json!("(hidden)"), &json!(true)), "{plan:#}");
    let found: Vec<_> = object["fields"].as_array().expect("fields").iter().map(|field| &field["found"]).collect();
    assert_eq!(found, [&json!("\"(hidden)\""), &json!("\"plain\"")]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_sops_sealed_is_asked_about_nowhere(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let mut beside = Beside::start(&pool, &scene).await;
    beside.connect(scene.clusters[0], DryRuns::Taken, |_| panic!("it is not asked")).await;
    let sealed = "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: 'ENC[AES256_GCM,data:x]'}, sops: {version: 3.9.0, mac: x}}";
    propose(&scene, &[("one/b.yaml", sealed)]);

    let plan = plan(&scene, json!({"ref": {"branch": "feature"}})).await;

    assert_eq!((&plan["unplanned"][0]["clusters"], &plan["groups"]), (&json!(["cluster-1"]), &json!([])), "{plan:#}");
    assert!(asked_of(&scene).await.is_empty());
    assert_eq!(rows(&pool).await, 0);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_agent_that_answers_nonsense_spoils_nobodys_plan(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let mut beside = Beside::start(&pool, &scene).await;
    beside.connect(scene.clusters[0], DryRuns::Taken, |_| vec![Tried::new(Fate::Created, ""); 7]).await;

    let plan = plan(&scene, json!({})).await;

    assert_eq!(plan["dryRun"]["unanswered"][0]["reason"], "its answer could not be read");
    assert_eq!(plan["groups"][0]["counts"]["unchanged"], 1);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_question_that_its_hub_died_over_is_swept_and_rests_sealed_until_then(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    let target = bellwether_core::TargetId::new(scene.id("one").await);
    let (id, now) = (clock::new_id(), clock::now());
    let asked = DryRun {
        id,
        target,
        manifest: bellwether_core::bundle::Manifest::new(Vec::new()).expect("is one"),
        objects: vec![b"hunter2".to_vec()],
        namespace: None,
        project: None,
        options: SyncOptions::default(),
        deadline: jiff::SignedDuration::from_secs(30),
    };
    let sealed = crate::link::dry_runs::seal(&scene.hub, asked);
    assert!(!sealed.windows(7).any(|bytes| bytes == b"hunter2"));
    let clusters = [scene.clusters[0].as_uuid()];
    store::dry_runs::insert(&mut db, (id, target), &sealed, &clusters, now + jiff::SignedDuration::from_secs(30))
        .await
        .expect("it is written");

    crate::worker::sweep::sweep(&scene.hub, now).await.expect("it is swept");
    assert_eq!(rows(&pool).await, 2, "somebody waits for it");
    crate::worker::sweep::sweep(&scene.hub, now + jiff::SignedDuration::from_secs(31)).await.expect("it is swept");

    assert_eq!(rows(&pool).await, 0);
    assert!(store::dry_runs::take(&mut db, &scene.clusters, now).await.expect("it is asked").is_empty());
}
