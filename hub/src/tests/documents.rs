//! What documents say of clusters that are away or not heard yet, and of what people ask twice.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::scene::{ONE, Scene, finish};
use crate::process::clock;
use crate::store::sessions::{self, Opened};
use crate::store::work::Stage;
use crate::store::{self, Pool};

impl Scene {
    async fn call(&self, method: Method, route: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = axum::http::Request::builder()
            .method(method)
            .uri(format!("/api/v1/{route}"))
            .header("authorization", format!("Bearer {}", crate::testing::admin_token(&self.folder)))
            .extension(crate::ports::Peer("127.0.0.1:1".parse().expect("is an address")))
            .body(body.map_or_else(axum::body::Body::empty, |body| axum::body::Body::from(body.to_string())))
            .expect("is a request");
        let answer = crate::http::router(self.hub.clone()).oneshot(request).await.expect("it always answers");
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("it is read");
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn show(&self, route: &str) -> Value {
        self.call(Method::GET, route, None).await.1
    }

    async fn rolled_out(pool: &Pool) -> Self {
        let scene = Self::new(pool, 2).await;
        scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
        scene.reconcile(Stage::Bundle).await;
        scene.reconcile(Stage::Rollout).await;
        finish(&scene, 1).await;
        scene
    }

    async fn count_audited(&self, action: &str) -> usize {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
        bodies.iter().filter(|body| String::from_utf8_lossy(body).contains(action)).count()
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_is_back_and_not_heard_yet_is_not_called_healthy(pool: Pool) {
    let scene = Scene::rolled_out(&pool).await;
    assert_eq!(scene.show("targets/one").await["status"]["healthy"], 2);

    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let opened = Opened {
        cluster: scene.clusters[0],
        session: bellwether_core::SessionNumber::new(12),
        hub: scene.hub.id,
        boot: clock::new_id(),
        address: "127.0.0.1:1",
        serial: "1",
        agent_version: "1",
        facts: &std::collections::BTreeMap::new(),
        apis: None,
        definitions: None,
        is_believed: true,
    };
    sessions::mark_opened(&mut db, &[opened], clock::now()).await.expect("a stream");

    assert_eq!(scene.show("targets/one").await["status"]["healthy"], 1);
    let status = scene.show("status?target=one").await;
    let verdicts: Vec<_> = status["rows"].as_array().expect("rows").iter().map(|row| row["verdict"].clone()).collect();
    assert_eq!(verdicts, ["unknown", "healthy"], "{status}");
    assert_eq!(scene.show("clusters/cluster-1").await["status"]["targets"][0]["verdict"], "unknown");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn hooks_that_a_target_leaves_out_are_named_at_the_target_and_at_what_a_cluster_gets(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let hook = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate, namespace: shop, annotations: {helm.sh/hook: pre-rollback}}\n";
    scene.push(&[("one/a.yaml", ONE), ("one/b.yaml", hook), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;

    let named = json!([{"kind": "Job", "name": "migrate", "hook": "pre-rollback"}]);
    assert_eq!(scene.show("targets/one").await["status"]["leftOutHooks"], named);
    assert_eq!(scene.show("targets/one/render?cluster=cluster-1").await["leftOutHooks"], named);
    assert_eq!(scene.show("targets/two").await["status"]["leftOutHooks"], Value::Null);

    // They go on being named where the same is used again, and no longer when they are gone.
    scene.push(&[("README.md", "1")]).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.show("targets/one").await["status"]["leftOutHooks"], named);
    scene.push(&[("one/b.yaml", &hook.replace("pre-rollback", "pre-install"))]).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.show("targets/one").await["status"]["leftOutHooks"], Value::Null);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_was_lost_with_its_hub_is_away_since_then_and_not_since_it_connected(pool: Pool) {
    let scene = Scene::rolled_out(&pool).await;
    let lost = "update sessions set since = now() - interval '3 days', caught_up_at = now() - interval '3 days'";
    store::execute_raw(&pool, lost).await.expect("time goes by");
    let silent = "update hubs set heartbeat_at = now() - interval '20 s', lives_until = now() - interval '5 s'";
    store::execute_raw(&pool, silent).await.expect("time goes by");

    let of_cluster = scene.show("clusters/cluster-1").await["status"]["since"].clone();
    let of_row = scene.show("status?target=one").await["rows"][0]["since"].clone();

    for since in [of_cluster, of_row] {
        let since: jiff::Timestamp = since.as_str().expect("a time").parse().expect("a time");
        let seconds = clock::now().duration_since(since).as_secs();
        assert!((15..120).contains(&seconds), "{seconds}");
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn streams_of_a_hub_that_stops_in_order_have_ended_then(pool: Pool) {
    let scene = Scene::rolled_out(&pool).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");

    store::installation::mark_hub_stopped(&mut db, scene.hub.id, clock::now()).await.expect("it is written");

    let ended = "select bool_and(s.ended_at is not null and not p.is_connected)
                   from sessions s join presences p using (cluster_id)";
    assert!(store::ask_raw(&mut db, ended).await.expect("it is read"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_document_that_was_read_before_its_deletion_brings_nothing_back(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let (_, mut target) = scene.call(Method::GET, "targets/one", None).await;
    let (_, mut repo) = scene.call(Method::GET, "repos/apps", None).await;
    for (document, kind) in [(&mut target, "targets/gone"), (&mut repo, "repos/gone")] {
        document["metadata"]["name"] = json!("gone");
        document.as_object_mut().expect("a document").remove("status");

        let (status, answer) = scene.call(Method::PUT, kind, Some(document.clone())).await;

        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_has_something_fetched_at_once_is_named_in_the_log(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;

    scene.call(Method::POST, "targets/one/refresh", None).await;
    scene.call(Method::POST, "repos/apps/refresh", None).await;

    assert_eq!(
        (scene.count_audited("target.refresh.asked").await, scene.count_audited("repo.refresh.asked").await),
        (1, 1)
    );
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_document_that_is_sent_as_it_stands_does_nothing_and_says_so(pool: Pool) {
    const WRITTEN: &str = "select (select count(*) from work) + (select count(*) from audit_outbox)";

    let scene = Scene::rolled_out(&pool).await;
    let mut db = pool.acquire().await.expect("a connection");
    let mut sent = Vec::new();
    for route in ["targets/one", "repos/apps"] {
        let mut document = scene.show(route).await;
        document.as_object_mut().expect("a document").remove("status");
        let before = store::ask_number(&mut db, WRITTEN).await.expect("it is read");

        let (status, answer) = scene.call(Method::PUT, route, Some(document.clone())).await;

        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(store::ask_number(&mut db, WRITTEN).await.expect("it is read"), before, "{route}");
        sent.push((document, answer));
    }
    assert_eq!(sent[0].1["metadata"]["version"], sent[0].0["metadata"]["version"]);
    assert_eq!(sent[0].1["status"]["pending"], false, "{}", sent[0].1);
    assert_eq!((&sent[1].1["unchanged"], &sent[1].1["webhookSecret"]), (&json!(true), &Value::Null));
    assert_eq!(sent[1].1["repo"]["metadata"]["version"], sent[1].0["metadata"]["version"]);
}
