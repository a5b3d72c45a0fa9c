//! Targets, through the whole router.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::http::testing::{api, repo, target};
use crate::process::clock;
use crate::store::{self, Pool};

#[crate::store::database_test(migrations = "../migrations")]
async fn a_repo_that_is_not_there_suggests_the_nearest(pool: Pool) {
    let api = api(&pool).await;
    let repo = r#"{"apiVersion":"bellwether.dev/v1","kind":"Repo","metadata":{"name":"apps"},"spec":{"url":"https://example.org/apps.git"}}"#;
    let (created, body) = api.ask("PUT", "/repos/apps", repo).await;
    assert_eq!(created, StatusCode::CREATED, "{body}");

    let body = r#"{"apiVersion":"bellwether.dev/v1","kind":"Target","metadata":{"name":"a"},"spec":{"repo":"aps"}}"#;
    let (status, problem) = api.problem("PUT", "/targets/a", body).await;

    assert_eq!((status, problem.code.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "repo_not_found"));
    assert_eq!(problem.hint.as_deref(), Some("did you mean `apps`?"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_spec_that_was_read_before_a_deletion_is_not_written_after_it(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    api.ask("PUT", "/targets/shop", &target(&json!({"repo": "apps"}))).await;
    let mut db = pool.acquire().await.expect("a connection");
    let shop = "shop".parse().expect("is a name");
    let seen = store::targets::find_by_name(&mut db, api.hub.project.id, &shop)
        .await
        .expect("it is read")
        .expect("it is there");

    let (status, body) = api.ask("DELETE", "/targets/shop?mode=prune", "").await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let written = store::targets::mark_spec(&mut db, &seen, clock::now()).await;

    assert!(matches!(written, Err(store::StoreError::Stale { .. })), "{written:?}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn parameter_values_stand_in_no_audit_entry(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    let values: serde_json::Map<_, _> =
        (0..60).map(|number| (format!("key{number}"), Value::String(format!("hunter2{}", "x".repeat(200))))).collect();
    let spec = json!({"repo": "apps", "path": "apps/shop", "parameters": [{"values": &values}]});

    let (status, body) = api.ask("PUT", "/targets/shop", &target(&spec)).await;

    assert_eq!(status, StatusCode::CREATED, "{body}");
    let entries = api.audited("target.added").await;
    let text = entries[0].to_string();
    assert!(!text.contains("hunter2"), "{text}");
    let digest = bellwether_core::object::digest_of(&values["key0"]).to_string();
    assert!(!text.contains(digest.trim_start_matches("sha256:")), "whoever guesses a value can see that it is right");
    assert_eq!(entries[0]["detail"]["spec"]["path"], "apps/shop", "{text}");
    assert!(text.contains("key59"), "names are told: {text}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_asks_for_a_plan_while_others_are_made_is_told_to_come_again(pool: Pool) {
    let api = api(&pool).await;
    let others = api.hub.reads.plans.acquire_many(2).await.expect("they are open");

    let (status, problem) = api.problem("POST", "/targets/a/plan", "{}").await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "plans_busy"));
    drop(others);

    let (status, problem) = api.problem("POST", "/targets/a/plan", "{}").await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::NOT_FOUND, "target_not_found"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_only_looks_is_shown_no_plan(pool: Pool) {
    let api = api(&pool).await;
    let (_, created) = api.ask("POST", "/tokens", r#"{"name":"wallboard"}"#).await;
    let created: Value = serde_json::from_str(&created).expect("a document");

    let viewer = created["secret"].as_str().expect("the token");
    let (status, body) = api.call("POST", "/api/v1/targets/a/plan", Some(viewer), "{}").await;

    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_only_looks_sees_no_secrets_of_targets(pool: Pool) {
    let api = api(&pool).await;
    let (_, created) = api.ask("POST", "/tokens", r#"{"name":"wallboard"}"#).await;
    let created: Value = serde_json::from_str(&created).expect("a document");
    let viewer = created["secret"].as_str().expect("the token").to_owned();

    for path in ["render?cluster=a", "explain?cluster=a&parameter=b"] {
        let path = format!("/targets/a/{path}");
        let (status, body) = api.call("GET", &format!("/api/v1{path}"), Some(&viewer), "").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
        let (status, body) = api.ask("GET", &path, "").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    }
}
