//! Whatever people change stands in the log.

use std::sync::Arc;

use bellwether_core::TargetId;
use serde_json::json;
use tower::ServiceExt as _;

use super::scene::{ANOTHER, ONE, Scene, finish, shown};
use crate::store::work::Stage;
use crate::store::{self, Pool};

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
        .extension(crate::ports::Peer("127.0.0.1:1".parse().expect("is an address")))
        .body(axum::body::Body::from(asked))
        .expect("is a request");
    let answer = crate::http::router(Arc::clone(&scene.hub)).oneshot(request).await.expect("it always answers");

    assert_eq!(answer.status(), axum::http::StatusCode::ACCEPTED, "nobody carries it out here");
    let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
    let entries = bodies.iter().map(|body| serde_json::from_slice::<serde_json::Value>(body).expect("is JSON"));
    let told: Vec<_> = entries.filter(|entry| entry["action"] == "rollout.skip.asked").collect();
    assert_eq!((told.len(), &told[0]["cluster"]), (1, &json!(name)));
}

/// A repo that is fetched by ssh.
const SHELL: &str = r#"{"apiVersion": "bellwether.dev/v1", "kind": "Repo", "metadata": {"name": "shell"},
    "spec": {"url": "git@git.example.org:shell.git",
        "knownHosts": "git.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"}}"#;

/// What each route that changes something is sent, in an order in which all of them can be carried out.
const MUTATIONS: &[(&str, &str, &str)] = &[
    ("POST", "/tokens", r#"{"name": "ci", "role": "admin"}"#),
    ("DELETE", "/tokens/ci", ""),
    ("POST", "/clusters", r#"{"name": "new"}"#),
    ("PUT", "/clusters/new/labels", r#"{"ring": "canary"}"#),
    ("PUT", "/clusters/new/annotations", r#"{"contact": "Ann <ann@example.org>"}"#),
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
    ("DELETE", "/repos/spare/credential", ""),
    ("PUT", "/repos/shell", SHELL),
    ("POST", "/repos/shell/credential", ""),
    ("POST", "/repos/spare/webhook-secret", ""),
    ("POST", "/repos/spare/refresh", ""),
    ("POST", "/repos/apps/accept", r#"{"commit": "1f0b7f9c2a6d4e8b9c3a5d7e1f0b7f9c2a6d4e8b"}"#),
    ("DELETE", "/repos/spare", ""),
    ("POST", "/rollouts/ROLLOUT/intents", r#"{"intent": {"verb": "pause"}}"#),
    ("POST", "/targets/one/rollback", "{}"),
    ("POST", "/targets/one/release", "{}"),
    ("POST", "/targets/one/plan", "{}"),
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

    store::heads::mark_waiting(
        &mut db,
        scene.repo,
        "refs/heads/main",
        "1f0b7f9c2a6d4e8b9c3a5d7e1f0b7f9c2a6d4e8b",
        crate::process::clock::now(),
    )
    .await
    .expect("a commit that waits");
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
