//! The namespace of a target that makes it where it is absent, in a real API server.

use bellwether_core::Generation;
use bellwether_core::object::{OWNER_ANNOTATION, TARGET_LABEL};
use bellwether_core::report::{ObjectLine, Outcome, Report, Verdict};
use bellwether_core::session::{Action, SyncOptions};
use serde_json::{Value, json};

use crate::fixture::Fixture;

fn is_well(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
}

fn making() -> SyncOptions {
    SyncOptions { create_namespace: true, ..SyncOptions::default() }
}

/// As the hub renders it, with whose it is.
fn owned(mut object: Value, owner: &str) -> Value {
    object["metadata"]["annotations"] = json!({OWNER_ANNOTATION: owner});
    object
}

fn path(fixture: &Fixture) -> String {
    format!("/api/v1/namespaces/{}", fixture.namespace)
}

#[tokio::test]
async fn a_targets_own_namespace_is_made_where_that_is_asked_for_and_stays_when_the_target_goes() {
    let mut fixture = fixture!();
    let object = owned(fixture.config_map("a", "1"), "main/default/shop");
    fixture.assign(1, std::slice::from_ref(&object));
    fixture.start_agent();
    let missing = fixture.report(|report| report.verdict == Verdict::Degraded).await;
    assert!(missing.lines[0].hint.contains("sync.createNamespace: true"), "{missing:?}");

    fixture.options = making();
    fixture.assign(2, std::slice::from_ref(&object));
    fixture.report(is_well(2)).await;

    let namespace = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(namespace["metadata"]["annotations"][OWNER_ANNOTATION], "main/default/shop");
    assert_eq!(namespace["metadata"]["labels"][TARGET_LABEL], Value::Null, "it is no object of the target");
    fixture.assign_tombstone(3, Action::Delete);
    fixture.report(|report| report.generation == Generation::new(3) && report.applied).await;
    fixture.wait_until("a", false).await;
    let namespace = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(namespace["metadata"]["deletionTimestamp"], Value::Null);
}

fn makes_a_namespace(method: &http::Method, uri: &http::Uri) -> bool {
    method == http::Method::POST && uri.path() == "/api/v1/namespaces"
}

#[tokio::test]
async fn a_namespace_that_may_not_be_made_is_what_all_its_objects_lack() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    gateway.refuse_with(http::StatusCode::FORBIDDEN, makes_a_namespace);
    fixture.options = making();
    fixture.assign(1, &[fixture.config_map("a", "1"), fixture.config_map("b", "1")]);
    fixture.start_agent();

    let words = format!("namespace {} is missing, and it cannot be made", fixture.namespace);
    let is_told = |line: &ObjectLine| line.outcome == Outcome::Retrying && line.message.starts_with(&words);
    fixture.report(|report| report.lines.len() == 2 && report.lines.iter().all(is_told)).await;

    gateway.refuse_nothing();
    fixture.report(is_well(1)).await;
}

fn changes_a_namespace(method: &http::Method, uri: &http::Uri) -> bool {
    let name = uri.path().strip_prefix("/api/v1/namespaces/");
    method == http::Method::PATCH && name.is_some_and(|name| !name.contains('/'))
}

#[tokio::test]
async fn a_namespace_whose_making_was_cut_off_is_had_by_the_bundle_that_comes_to_have_it() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    gateway.refuse_with(http::StatusCode::INTERNAL_SERVER_ERROR, changes_a_namespace);
    fixture.options = making();
    let object = owned(fixture.config_map("a", "1"), "main/default/shop");
    fixture.assign(1, std::slice::from_ref(&object));
    fixture.start_agent();
    fixture.report(is_well(1)).await;
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;
    gateway.refuse_nothing();

    let namespace = owned(fixture.namespace_object(), "main/default/other");
    fixture.assign(2, &[namespace, object]);
    fixture.report(is_well(2)).await;

    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert!(after["metadata"]["labels"][TARGET_LABEL].is_string());
}

#[tokio::test]
async fn a_namespace_that_is_there_is_left_as_it_is() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;
    fixture.options = making();
    fixture.assign(1, &[owned(fixture.config_map("a", "1"), "main/default/shop")]);
    fixture.start_agent();

    fixture.report(is_well(1)).await;

    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(after["metadata"]["annotations"], before["metadata"]["annotations"]);
    assert_eq!(after["metadata"]["managedFields"], before["metadata"]["managedFields"]);
}

#[tokio::test]
async fn objects_wait_while_their_namespace_ends_and_it_is_made_anew_when_it_is_gone() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    let mut held = fixture.unlabelled_config_map("held", "1");
    held["metadata"]["finalizers"] = json!(["example.org/hold"]);
    fixture.create_as("somebody", held).await;
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;
    fixture.remove(&path(&fixture)).await;
    fixture.options = making();
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    fixture.start_agent();

    let waits = fixture.report(|report| report.lines.first().is_some_and(|line| !line.message.is_empty())).await;
    assert_eq!(waits.lines[0].outcome, Outcome::Retrying);
    assert!(waits.lines[0].message.contains("being terminated"), "{waits:?}");
    let release = json!({"metadata": {"finalizers": null}});
    fixture.merge(&format!("{}/configmaps/held", path(&fixture)), "somebody", &release).await;

    fixture.report(is_well(1)).await;
    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
}

#[tokio::test]
async fn a_namespace_that_somebody_deletes_with_all_that_is_in_it_is_made_again_with_that() {
    let mut fixture = fixture!();
    fixture.options = making();
    fixture.assign(1, &[fixture.config_map("a", "1"), fixture.config_map("b", "1")]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;

    fixture.remove(&path(&fixture)).await;

    fixture
        .wait_for(&path(&fixture), |now| now.is_object() && now["metadata"]["uid"] != before["metadata"]["uid"])
        .await;
    for name in ["a", "b"] {
        fixture.wait_until(name, true).await;
    }
}

#[tokio::test]
async fn a_namespace_that_was_made_is_had_by_the_bundle_of_the_project_that_comes_to_have_it() {
    let mut fixture = fixture!();
    fixture.options = making();
    let object = owned(fixture.config_map("a", "1"), "main/default/shop");
    fixture.assign(1, std::slice::from_ref(&object));
    fixture.start_agent();
    fixture.report(is_well(1)).await;
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;

    let namespace = owned(fixture.namespace_object(), "main/default/other");
    fixture.assign(2, &[namespace, object]);
    fixture.report(is_well(2)).await;

    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["metadata"]["annotations"][OWNER_ANNOTATION], "main/default/other");
    assert!(after["metadata"]["labels"][TARGET_LABEL].is_string());
}
