//! What is applied once, as definitions of a chart are with `crds: install`: made where it is absent, and left as it is
//! where it is there, whoever has it.

use bellwether_core::Generation;
use bellwether_core::apply::APPLY_ANNOTATION;
use bellwether_core::object::TARGET_LABEL;
use bellwether_core::report::{ObjectLine, Outcome, Report, Verdict};
use bellwether_core::session::Action;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::gateway::Picked;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn is_done(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
}

/// A group of the test's own, because definitions belong to the whole cluster.
fn group(fixture: &Fixture) -> String {
    format!("{}.example.org", fixture.namespace)
}

fn path(fixture: &Fixture) -> String {
    format!("{DEFINITIONS}/widgets.{}", group(fixture))
}

/// With one more field of a widget, if there is one.
fn definition(fixture: &Fixture, more: Option<&str>) -> Value {
    let mut definition = fixture.definition(&group(fixture));
    definition["metadata"]["annotations"] = json!({APPLY_ANNOTATION: "once"});
    if let Some(more) = more {
        let fields = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        definition.pointer_mut(fields).expect("it is there")[more] = json!({"type": "string"});
    }
    definition
}

fn widget(fixture: &Fixture, spec: &Value) -> Value {
    fixture.object(&format!("{}/v1", group(fixture)), "Widget", "one", &json!({"spec": spec}))
}

fn line(report: &Report) -> Option<&ObjectLine> {
    report.lines.iter().find(|line| line.key.kind == "CustomResourceDefinition")
}

#[tokio::test]
async fn a_definition_that_is_applied_once_is_made_and_then_never_changed_nor_deleted() {
    let mut fixture = fixture!();
    let size = json!({"size": 1});
    let all = |fixture: &Fixture, more| [fixture.namespace_object(), definition(fixture, more), widget(fixture, &size)];
    fixture.assign(1, &all(&fixture, None));
    fixture.start_agent();
    let made = fixture.report(is_done(1)).await;

    assert_eq!(line(&made), None, "it is as it is wanted: {:?}", made.lines);
    let label = json!(fixture.target.as_uuid().simple().to_string());
    let before = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(before["metadata"]["labels"][TARGET_LABEL], label);
    let entries = before["metadata"]["managedFields"].as_array().expect("a list");
    let ours: Vec<_> = entries.iter().filter(|entry| entry["manager"] == "bellwether").collect();
    assert_eq!(ours.iter().map(|entry| &entry["operation"]).collect::<Vec<_>>(), ["Apply"], "{ours:?}");

    // A new version of the chart brings another field.
    fixture.assign(2, &all(&fixture, Some("color")));
    let kept = fixture.report(is_done(2)).await;

    let said = line(&kept).expect("it is said that it was not changed");
    assert_eq!((said.outcome, said.verdict), (Outcome::Unchanged, Verdict::Healthy));
    assert!(said.message.contains("not changed") && said.message.contains(".spec.versions"), "{said:?}");
    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);

    // Somebody who upgrades it by hand is no culprit.
    fixture.merge(&path(&fixture), "kubectl-edit", &json!({"spec": {"names": {"shortNames": ["wg"]}}})).await;
    fixture.assign(3, &all(&fixture, None));
    fixture.report(is_done(3)).await;
    let edited = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(edited["spec"]["names"]["shortNames"], json!(["wg"]));
    assert!(fixture.hub.drifts().is_empty(), "{:?}", fixture.hub.drifts());

    // What is absent is made.
    fixture.remove(&path(&fixture)).await;
    let uid = edited["metadata"]["uid"].clone();
    fixture.wait_for(&path(&fixture), |now| now.is_object() && now["metadata"]["uid"] != uid).await;
    fixture.report(is_done(3)).await;

    let left = [definition(&fixture, None), widget(&fixture, &size)];
    fixture.assign_pruning(4, &[fixture.namespace_object()], &left);
    fixture.report(is_done(4)).await;
    assert!(fixture.wait_for(&path(&fixture), Value::is_object).await["metadata"]["deletionTimestamp"].is_null());
}

#[tokio::test]
async fn a_definition_that_somebody_else_has_is_used_as_it_is() {
    let mut fixture = fixture!();
    let theirs = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{}", group(&fixture)), "annotations": {"meta.helm.sh/release-name": "web"}},
        "spec": definition(&fixture, None)["spec"]});
    fixture.post(&format!("{DEFINITIONS}?fieldManager=helm"), &theirs).await;
    let is_established = |now: &Value| now["status"]["conditions"].as_array().is_some_and(|them| them.len() > 1);
    let before = fixture.wait_for(&path(&fixture), is_established).await;
    let spec = json!({"size": 1});
    fixture.assign(1, &[fixture.namespace_object(), definition(&fixture, Some("color")), widget(&fixture, &spec)]);
    fixture.start_agent();

    let used = fixture.report(is_done(1)).await;

    assert_eq!((used.objects.total, used.objects.in_place), (3, 3), "{used:?}");
    let said = line(&used).expect("it is said that it was there");
    assert!(said.message.contains("it is there") && said.message.contains("not changed"), "{said:?}");
    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert!(is_left_alone(&after, &before), "{after}");
    assert_eq!(after["metadata"]["labels"][TARGET_LABEL], Value::Null);

    // It is nobody's to delete when the target goes.
    fixture.assign_tombstone(2, Action::Delete);
    fixture.report(|report| report.generation == Generation::new(2) && report.applied).await;
    let left = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert!(is_left_alone(&left, &before), "{left}");
}

/// The API server itself goes on writing the status of a definition for a while.
fn is_left_alone(now: &Value, before: &Value) -> bool {
    let is_ours = |entry: &Value| entry["manager"] == "bellwether";
    ["uid", "generation", "labels", "annotations"].iter().all(|part| now["metadata"][part] == before["metadata"][part])
        && !now["metadata"]["managedFields"].as_array().is_some_and(|entries| entries.iter().any(is_ours))
}

fn once(mut object: Value) -> Value {
    object["metadata"]["annotations"] = json!({APPLY_ANNOTATION: "once"});
    object
}

#[tokio::test]
async fn what_is_to_be_applied_once_only_later_is_deleted_neither_with_the_file_nor_with_its_target() {
    let mut fixture = fixture!();
    let (other, first) = (fixture.config_map("other", "1"), fixture.config_map("key", "1"));
    fixture.assign(1, &[fixture.namespace_object(), other.clone(), first]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    let later = once(fixture.config_map("key", "2"));
    fixture.assign(2, &[fixture.namespace_object(), other.clone(), later.clone()]);
    fixture.report(is_done(2)).await;
    let left = fixture.fetch("ConfigMap", "key").await;
    assert_eq!((&left["data"]["key"], &left["metadata"]["annotations"]), (&json!("1"), &Value::Null));

    fixture.kill_agent().await;
    fixture.assign_pruning(3, &[fixture.namespace_object(), other], &[later]);
    fixture.start_agent_without_token();
    let report = fixture.report(is_done(3)).await;
    let asked = report.lines.iter().find(|line| line.key.name == "key").expect("it is said that it stays");
    assert!(asked.message.contains(APPLY_ANNOTATION), "{asked:?}");
    fixture.assign_tombstone(4, Action::Delete);
    fixture.report(|report| report.generation == Generation::new(4) && report.applied).await;

    assert!(!fixture.is_there("other").await);
    let left = fixture.fetch("ConfigMap", "key").await;
    assert!(left["metadata"]["deletionTimestamp"].is_null() && left["metadata"]["labels"][TARGET_LABEL].is_null());
}

#[tokio::test]
async fn what_was_made_once_and_not_finished_is_ours_as_if_it_had_been_applied() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    let is_finish: Picked = |method, uri| method == Method::PATCH && uri.path().ends_with("/configmaps/key");
    gateway.refuse_with(StatusCode::SERVICE_UNAVAILABLE, is_finish);
    let with = |data: Value| fixture.object("v1", "ConfigMap", "key", &json!({"data": data}));
    let (first, second) = (once(with(json!({"a": "1", "b": "1"}))), with(json!({"a": "2"})));
    fixture.assign(1, &[fixture.namespace_object(), first]);
    fixture.start_agent();
    fixture.report(|report| report.lines.iter().any(|line| line.message == "not here")).await;
    assert!(fixture.is_there("key").await);

    gateway.refuse_nothing();
    fixture.report(is_done(1)).await;

    let made = fixture.fetch("ConfigMap", "key").await;
    let entries = made["metadata"]["managedFields"].as_array().expect("a list");
    let ours: Vec<_> = entries.iter().filter(|entry| entry["manager"] == "bellwether").collect();
    assert_eq!(ours.iter().map(|entry| &entry["operation"]).collect::<Vec<_>>(), ["Apply"], "{ours:?}");
    // Git wants it as all else by now: what it no longer says goes, and so does the object.
    fixture.assign(2, &[fixture.namespace_object(), second.clone()]);
    fixture.report(is_done(2)).await;
    let applied = fixture.fetch("ConfigMap", "key").await;
    assert_eq!((&applied["data"], &applied["metadata"]["annotations"]), (&json!({"a": "2"}), &Value::Null));
    fixture.assign_pruning(3, &[fixture.namespace_object()], &[second]);
    fixture.report(is_done(3)).await;
    assert!(!fixture.is_there("key").await);
}

#[tokio::test]
async fn any_object_may_ask_to_be_applied_once() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    let mut first = fixture.config_map("settings", "by somebody");
    first["metadata"].as_object_mut().expect("is an object").remove("labels");
    fixture.create_as("somebody", first).await;
    let once = ["settings", "fresh"].map(|name| once(fixture.config_map(name, "from Git")));
    let other = fixture.config_map("other", "1");
    fixture.assign(1, &[&[other.clone()][..], &once[..]].concat());
    fixture.start_agent();

    let report = fixture.report(is_done(1)).await;

    assert_eq!(report.objects.in_place, 3, "{report:?}");
    assert_eq!(fixture.fetch("ConfigMap", "settings").await["data"]["key"], "by somebody");
    assert_eq!(fixture.fetch("ConfigMap", "fresh").await["data"]["key"], "from Git");
    // It is left when the target drops it.
    fixture.assign_pruning(2, &[other], &once);
    fixture.report(is_done(2)).await;
    assert!(fixture.is_there("fresh").await && fixture.is_there("settings").await);
}
