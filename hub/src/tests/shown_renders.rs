//! What one cluster gets, as people are shown it: Secrets hidden unless somebody says so in the log, and a large bundle in
//! pieces.

use std::sync::Arc;

use axum::http::StatusCode;
use bellwether_core::object::OBJECT_BYTES_MAX;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::scene::{ONE, Scene};
use crate::store::Pool;
use crate::store::work::Stage;

const SECRET: &str = "{apiVersion: v1, kind: Secret, metadata: {name: db, namespace: default, annotations: \
    {kubectl.kubernetes.io/last-applied-configuration: hunter3}}, data: {password: aHVudGVyMg==}}";

async fn shown(scene: &Scene, query: &str) -> Value {
    let (status, rendered) = scene.ask("GET", &format!("/targets/one/render?cluster=cluster-1{query}"), "").await;
    assert_eq!(status, StatusCode::OK, "{rendered}");
    rendered
}

async fn told(scene: &Scene) -> Vec<Value> {
    let entries = scene.entries().await.into_iter();
    entries.filter(|entry| entry["action"] == "target.secrets.shown").collect()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn values_of_secrets_are_hidden_until_somebody_asks_for_them_which_stands_in_the_log(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("one/b.yaml", SECRET)]).await;
    scene.reconcile(Stage::Bundle).await;

    let hidden = shown(&scene, "").await;

    let text = hidden.to_string();
    assert!(!text.contains("aHVudGVyMg") && !text.contains("hunter"), "{text}");
    let secret = &hidden["objects"][1]["body"];
    assert_eq!((&secret["kind"], &secret["data"]), (&json!("Secret"), &json!({"password": "(hidden)"})));
    assert_eq!((&hidden["objects"][0]["body"]["kind"], &hidden["hiddenSecrets"]), (&json!("ConfigMap"), &json!(1)));
    assert_eq!(told(&scene).await.len(), 0, "nothing was shown");

    let whole = shown(&scene, "&secrets=true").await;

    assert_eq!(whole["objects"][1]["body"]["data"]["password"], "aHVudGVyMg==");
    assert_eq!((&whole["hiddenSecrets"], &whole["objects"][1]["digest"]), (&json!(0), &hidden["objects"][1]["digest"]));
    let entries = told(&scene).await;
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    assert_eq!((&entry["target"], &entry["cluster"]), (&json!("one"), &json!("cluster-1")));
    assert_eq!(entry["detail"], json!({"bundle": whole["digest"], "secrets": 1}));
    assert!(!entry.to_string().contains("aHVudGVyMg"), "{entry}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_asks_for_secrets_where_there_are_none_is_shown_none_and_nothing_is_written(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;

    let whole = shown(&scene, "&secrets=true").await;

    assert_eq!(whole["objects"].as_array().map(Vec::len), Some(1));
    assert_eq!(told(&scene).await.len(), 0);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_large_bundle_is_shown_in_pieces_and_never_whole_in_memory(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let (count, bytes) = (40, 200 * 1024);
    let files: Vec<_> = (0..count)
        .map(|number| {
            let head =
                format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{number:02}, namespace: shop}}\ndata:\n");
            (format!("one/{number:02}.yaml"), format!("{head}  a: {}\n", "x".repeat(bytes)))
        })
        .collect();
    scene.push(&files.iter().map(|(file, text)| (&**file, &**text)).collect::<Vec<_>>()).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition_of("one").await, None);
    let request = axum::http::Request::get("/api/v1/targets/one/render?cluster=cluster-1")
        .header("authorization", format!("Bearer {}", crate::testing::admin_token(&scene.folder)))
        .extension(crate::ports::Peer("127.0.0.1:1".parse().expect("is an address")))
        .body(axum::body::Body::empty())
        .expect("is a request");

    let answer = crate::http::router(Arc::clone(&scene.hub)).oneshot(request).await.expect("it always answers");
    assert_eq!(answer.status(), StatusCode::OK);
    let pieces: Vec<_> = answer.into_body().into_data_stream().collect().await;

    let pieces: Vec<_> = pieces.into_iter().map(|piece| piece.expect("it comes whole")).collect();
    assert!(
        pieces.iter().all(|piece| piece.len() < 2 * OBJECT_BYTES_MAX),
        "{:?}",
        pieces.iter().map(tokio_util::bytes::Bytes::len).max()
    );
    let whole: Value = serde_json::from_slice(&pieces.concat()).expect("it is one document");
    let objects = whole["objects"].as_array().expect("a list");
    assert_eq!((objects.len(), objects[39]["body"]["data"]["a"].as_str().map(str::len)), (count, Some(bytes)));
    assert_eq!(whole["target"], "one");
}
