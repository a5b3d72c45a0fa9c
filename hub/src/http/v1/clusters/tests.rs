//! Clusters, through the whole router.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::http::testing::{api, repo, target};
use crate::link;
use crate::pki::seal;
use crate::process::clock;
use crate::store::{self, Pool};

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_is_registered_once_and_its_token_is_shown_once(pool: Pool) {
    let api = api(&pool).await;

    let (first, registered) = api.ask("POST", "/clusters", r#"{"name":"a","labels":{"ring":"canary"}}"#).await;
    let (second, problem) = api.problem("POST", "/clusters", r#"{"name":"a"}"#).await;
    let (_, shown) = api.ask("GET", "/clusters/a", "").await;

    assert_eq!(first, StatusCode::CREATED);
    assert!(registered.contains("bwj_"), "the answer holds the token");
    assert_eq!((second, problem.code.as_str()), (StatusCode::CONFLICT, "cluster_exists"));
    assert!(!shown.contains("bwj_"), "{shown}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn revoking_and_enrolling_again_leave_nothing_of_before(pool: Pool) {
    let api = api(&pool).await;
    let (_, registered) = api.ask("POST", "/clusters", r#"{"name":"a"}"#).await;
    let registered: Value = serde_json::from_str(&registered).expect("a document");
    let token = registered["token"].as_str().expect("a token").to_owned();
    let id = registered["cluster"]["metadata"]["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let cluster = bellwether_core::ClusterId::new(id);
    let now = clock::now();

    let mut db = api.hub.pool.acquire().await.expect("a connection");
    store::certificates::insert(&mut db, "aa", cluster, now, now + jiff::SignedDuration::from_hours(1), None)
        .await
        .expect("written");
    let (status, again) = api.ask("POST", "/clusters/a/reenroll", "").await;
    assert_eq!(status, StatusCode::CREATED);
    let again: Value = serde_json::from_str(&again).expect("a document");
    let gives_rights = |answer: &Value| answer["manifest"].as_str().is_some_and(|it| it.contains("kind: ClusterRole"));
    assert!(gives_rights(&registered) && !gives_rights(&again), "its rights may have been narrowed: {again}");
    assert!(!store::certificates::mark_used(&mut db, "aa", cluster, now).await.expect("asked"), "it was good still");

    let (status, _) = api.ask("POST", "/clusters/a/revoke", "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = api.ask("POST", "/clusters/a/reenroll", "").await;
    assert_eq!(status, StatusCode::CREATED);
    let mut change = store::begin(&pool).await.expect("a transaction");
    let found = store::clusters::lock_enrollment(&mut change, seal::hash_token(&token)).await.expect("asked");
    assert!(found.is_none(), "the earlier join token came back: {found:?}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_cluster_defines_is_shown_with_when_it_was_told_and_what_is_not_known_is_not_called_missing(pool: Pool) {
    let api = api(&pool).await;
    let told = link::tests::tell_a_definition(&api.hub, "a").await;
    let ask = async |path: &str| {
        let (status, text) = api.ask("GET", path, "").await;
        (status, serde_json::from_str::<Value>(&text).expect("JSON"))
    };

    let (_, all) = ask("/clusters/a/definitions").await;
    let (status, one) = ask("/clusters/a/definitions/widgets.example.org").await;
    let (_, other) = ask("/clusters/a/definitions/gadgets.example.org").await;
    let (_, none) = ask("/clusters/a/definitions/none.example.org").await;

    let digest = told.to_string();
    let widget = json!({"name": "widgets.example.org", "digest": digest, "isStored": true});
    let gadget = json!({"name": "gadgets.example.org", "digest": null, "isStored": false});
    assert_eq!(all["definitions"], json!([gadget, widget]));
    assert!(all["toldAt"].is_string() && all["more"] == 0, "{all}");
    assert_eq!((status, &one["digest"], &one["toldAt"]), (StatusCode::OK, &json!(digest), &all["toldAt"]));
    assert_eq!(one["definition"]["spec"]["names"]["kind"], "Widget");
    assert_eq!((&other["code"], &none["code"]), (&json!("definition_unknown"), &json!("definition_not_found")));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn the_rights_of_an_agent_are_its_own_where_nothing_is_rendered_and_that_is_said(pool: Pool) {
    let api = api(&pool).await;
    api.ask("POST", "/clusters", r#"{"name":"a","namespace":"agents","labels":{"ring":"canary"}}"#).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/apps.git", None)).await;
    let wanted = json!({"repo": "apps", "namespace": "tills", "sync": {"createNamespace": true}});
    api.ask("PUT", "/targets/shop", &target(&wanted)).await;

    let (status, all) = api.ask("GET", "/clusters/a/rbac", "").await;
    let narrowed = target(&json!({"repo": "apps", "clusters": {"matchLabels": {"ring": "stable"}}}));
    api.ask("PUT", "/targets/shop", &narrowed).await;
    let (_, others) = api.ask("GET", "/clusters/a/rbac", "").await;
    let (missing, _) = api.problem("GET", "/clusters/none/rbac", "").await;

    let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let names = |all: &Value| {
        let objects = all["objects"].as_array().expect("objects").clone();
        objects.iter().map(|object| object["metadata"]["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let (all, others) = (parsed(&all), parsed(&others));
    assert_eq!((status, missing), (StatusCode::OK, StatusCode::NOT_FOUND));
    assert_eq!(
        names(&all),
        ["bellwether-agent-agents", "bellwether-agent-agents", "bellwether-agent", "bellwether-agent"]
    );
    let asked = "With these rights the agent cannot make the namespace tills, as its target asks: make it first.";
    assert_eq!(all["notes"], json!([asked, "Not rendered for it as yet, so lacking here, are: shop."]));
    assert_eq!((names(&others), &others["notes"]), (names(&all), &json!([])), "the target does not select it any more");
}
