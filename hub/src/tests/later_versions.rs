//! Rows that a later version wrote, and rows that nobody can read.

use std::sync::Arc;

use bellwether_core::TargetId;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::scene::{ANOTHER, ONE, Scene, finish};
use crate::bundle::Bundle;
use crate::process::clock;
use crate::store::work::{self, Stage};
use crate::store::{self, Pool};
use crate::worker::stage::{Detached as _, Progress};

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
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> (axum::http::StatusCode, serde_json::Value) {
        let request = axum::http::Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("authorization", format!("Bearer {}", crate::testing::admin_token(&self.folder)))
            .extension(crate::ports::Peer("127.0.0.1:1".parse().expect("is an address")))
            .body(axum::body::Body::from(body.to_owned()))
            .expect("is a request");
        let answer = crate::http::router(Arc::clone(&self.hub)).oneshot(request).await.expect("it always answers");
        let status = answer.status();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("the answer is small");
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Every entry so far, sealed or not.
    pub(super) async fn entries(&self) -> Vec<serde_json::Value> {
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
                   select first_id, target_id, '{"verb": "freeze"}', 'ci', '', now()
                     from targets, (values ('00000000-0000-0000-0000-000000000001'::uuid)) as ids (first_id)
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
    let unanswered = store::intents::find_outcome(&mut db, Uuid::from_u128(1)).await.expect("it is read");
    assert_eq!(unanswered, None, "a hub that understands it answers");
}

struct QueueOf(Stage);

impl QueueOf {
    /// Reconciles one subject of a stage, and leaves the others.
    async fn only(&self, scene: &Scene, key: Uuid) -> Result<Progress, store::StoreError> {
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        let due = work::list_due(&mut db, self.0, clock::now(), &[], 16).await.expect("what is due");
        drop(db);
        let item = due.into_iter().find(|item| item.key == key).expect("it is due");
        Bundle.reconcile(&scene.hub, &item).await
    }
}
