//! Whose an object is, in a real API server: nothing of a target is lost to a spelling, nothing of others is taken.

use std::time::{Duration, Instant};

use bellwether_core::drift::{Change, Response};
use bellwether_core::object::{OWNER_ANNOTATION, TARGET_LABEL};
use bellwether_core::report::{Outcome, Report, Verdict};
use bellwether_core::session::{Action, DriftMode, SyncOptions};
use bellwether_core::{Generation, TargetId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{Fixture, labelled};

fn is_done(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
}

/// A group of the test's own, because definitions belong to the whole cluster.
fn group(fixture: &Fixture) -> String {
    format!("{}.example.org", fixture.namespace)
}

fn definition(fixture: &Fixture, plural: &str, scope: &str, versions: &[(&str, bool)]) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let versions: Vec<_> = versions
        .iter()
        .enumerate()
        .map(|(index, (name, served))| {
            json!({"name": name, "served": served, "storage": index == 0, "schema": {"openAPIV3Schema": schema}})
        })
        .collect();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{}", group(fixture))},
        "spec": {"group": group(fixture), "scope": scope, "names": {"plural": plural, "kind": "Widget"}, "versions": versions}})
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Somebody installs a definition, and its kind is served.
async fn install(fixture: &Fixture, plural: &str, scope: &str, versions: &[(&str, bool)]) {
    fixture.post(DEFINITIONS, &definition(fixture, plural, scope, versions)).await;
    let path = format!("/apis/{}/{}/{plural}", group(fixture), versions[0].0);
    fixture.wait_for(&path, |list| list["items"].is_array()).await;
}

async fn uninstall(fixture: &Fixture, plural: &str) {
    let path = format!("{DEFINITIONS}/{plural}.{}", group(fixture));
    fixture.remove(&path).await;
    fixture.wait_for(&path, Value::is_null).await;
}

fn widget(fixture: &Fixture, version: &str, namespace: Option<&str>) -> Value {
    let mut widget =
        fixture.object(&format!("{}/{version}", group(fixture)), "Widget", "one", &json!({"spec": {"size": 1}}));
    widget["metadata"]["namespace"] = json!(namespace);
    if namespace.is_none() {
        widget["metadata"].as_object_mut().expect("is an object").remove("namespace");
    }
    widget
}

#[tokio::test]
async fn an_object_of_the_cluster_survives_a_change_of_the_namespace_that_it_does_not_have() {
    let mut fixture = fixture!();
    install(&fixture, "widgets", "Cluster", &[("v1", true)]).await;
    let spellings = [Some("a"), Some("b"), None, Some("a")].map(|namespace| widget(&fixture, "v1", namespace));
    let path = format!("/apis/{}/v1/widgets/one", group(&fixture));
    fixture.assign(1, &[fixture.namespace_object(), spellings[0].clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    let before = fixture.wait_for(&path, Value::is_object).await["metadata"]["uid"].clone();

    for (generation, pair) in (2..).zip(spellings.windows(2)) {
        fixture.assign_pruning(generation, &[fixture.namespace_object(), pair[1].clone()], &pair[..1]);
        fixture.report(is_done(generation)).await;
    }

    let after = fixture.wait_for(&path, |_| true).await;
    assert_eq!((&after["metadata"]["uid"], &after["metadata"]["deletionTimestamp"]), (&before, &Value::Null));
    // It is still followed under its last name.
    fixture.remove(&path).await;
    fixture.wait_for(&path, Value::is_object).await;
    assert_eq!(fixture.drifts(1).await[0].change, Change::Deleted);
}

#[tokio::test]
async fn one_object_that_stands_twice_is_refused_and_not_applied_in_turns() {
    let mut fixture = fixture!();
    install(&fixture, "widgets", "Cluster", &[("v1", true)]).await;
    let twice = [Some("a"), None].map(|namespace| widget(&fixture, "v1", namespace));
    fixture.assign(1, &[fixture.namespace_object(), twice[0].clone(), twice[1].clone()]);
    fixture.start_agent();

    let report = fixture.report(|report| report.verdict == Verdict::Failed && report.lines.len() == 2).await;

    for line in &report.lines {
        assert_eq!(line.outcome, Outcome::Rejected);
        assert!(line.message.contains("stands twice"), "{}", line.message);
    }
}

#[tokio::test]
async fn what_is_of_a_kind_that_somebody_deleted_is_gone_and_comes_back_under_its_new_path() {
    let mut fixture = fixture!();
    install(&fixture, "widgets", "Namespaced", &[("v1", true)]).await;
    let widget = widget(&fixture, "v1", Some(&fixture.namespace));
    fixture.assign(1, &[fixture.namespace_object(), widget.clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;

    uninstall(&fixture, "widgets").await;
    fixture.assign_pruning(2, &[fixture.namespace_object()], std::slice::from_ref(&widget));
    fixture.report(is_done(2)).await;

    install(&fixture, "widgetes", "Namespaced", &[("v1", true)]).await;
    fixture.assign(3, &[fixture.namespace_object(), widget.clone()]);
    fixture.report(is_done(3)).await;
    let path = format!("/apis/{}/v1/namespaces/{}/widgetes/one", group(&fixture), fixture.namespace);
    fixture.wait_for(&path, Value::is_object).await;

    uninstall(&fixture, "widgetes").await;
    fixture.assign_tombstone(4, Action::Delete);
    fixture.report(|report| report.generation == Generation::new(4) && report.applied).await;
}

#[tokio::test]
async fn an_object_whose_version_is_no_longer_served_is_deleted_through_another_one() {
    let mut fixture = fixture!();
    install(&fixture, "widgets", "Namespaced", &[("v1", true), ("v1beta1", true)]).await;
    let widget = widget(&fixture, "v1beta1", Some(&fixture.namespace));
    fixture.assign(1, &[fixture.namespace_object(), widget.clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    let definition = definition(&fixture, "widgets", "Namespaced", &[("v1", true), ("v1beta1", false)]);
    fixture.merge(&format!("{DEFINITIONS}/widgets.{}", group(&fixture)), "fixture", &definition).await;
    let old = format!("/apis/{}/v1beta1/widgets", group(&fixture));
    fixture.wait_for(&old, Value::is_null).await;

    fixture.assign_pruning(2, &[fixture.namespace_object()], &[widget]);
    fixture.report(is_done(2)).await;

    let path = format!("/apis/{}/v1/namespaces/{}/widgets/one", group(&fixture), fixture.namespace);
    assert_eq!(fixture.wait_for(&path, |_| true).await, Value::Null, "it is deleted and not only forgotten");
}

#[tokio::test]
async fn what_an_api_server_that_is_away_may_hold_is_not_forgotten() {
    let mut fixture = fixture!();
    install(&fixture, "widgets", "Namespaced", &[("v1", true)]).await;
    let widget = widget(&fixture, "v1", Some(&fixture.namespace));
    fixture.assign(1, &[fixture.namespace_object(), widget.clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    fixture.kill_agent().await;
    uninstall(&fixture, "widgets").await;
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let (name, group) = (format!("v1.{}", group(&fixture)), group(&fixture));
    let service = format!("{services}/{name}");
    fixture.wait_for(&service, Value::is_null).await;
    let spec = json!({"group": group, "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15,
        "insecureSkipTLSVerify": true, "service": {"name": "away", "namespace": fixture.namespace}});
    let away = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": name}, "spec": spec});
    fixture.post(services, &away).await;

    // One that has never seen the kind.
    fixture.start_agent_without_token();
    fixture.assign_pruning(2, &[fixture.namespace_object()], &[widget]);
    let second = |report: &Report| report.generation == Generation::new(2) && report.verdict == Verdict::Degraded;
    let report = fixture.report(second).await;
    assert!(report.lines[0].message.contains("knows no Widget"), "{:?}", report.lines);

    fixture.remove(&service).await;
    fixture.report(is_done(2)).await;
}

#[tokio::test]
async fn a_strangers_object_under_a_name_that_was_ours_is_neither_adopted_nor_deleted() {
    let mut fixture = fixture!();
    fixture.options = SyncOptions { drift: DriftMode::Warn, ..SyncOptions::default() };
    let ours = fixture.config_map("a", "1");
    fixture.assign(1, &[fixture.namespace_object(), ours.clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    let mut theirs = fixture.unlabelled_config_map("a", "1");
    theirs["data"] = json!({"other": "theirs"});

    fixture.delete("a").await;
    fixture.report(|report| report.verdict == Verdict::Degraded).await;
    fixture.create_as("somebody", theirs.clone()).await;
    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "2")]);

    let second = |report: &Report| report.generation == Generation::new(2) && report.verdict == Verdict::Failed;
    let report = fixture.report(second).await;
    assert_eq!(report.lines[0].outcome, Outcome::Exists);
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"], theirs["data"]);
    fixture.assign_pruning(3, &[fixture.namespace_object()], &[ours]);
    fixture.report(is_done(3)).await;
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"], theirs["data"]);
}

#[tokio::test]
async fn a_copy_with_our_label_that_we_never_applied_is_not_deleted() {
    let mut fixture = fixture!();
    fixture.options = SyncOptions { drift: DriftMode::Ignore, ..SyncOptions::default() };
    let a = fixture.config_map("a", "1");
    fixture.assign(1, &[fixture.namespace_object(), a.clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    fixture.delete("a").await;
    fixture.create_as("somebody", fixture.config_map("a", "theirs")).await;

    fixture.assign_pruning(2, &[fixture.namespace_object()], &[a]);

    let report = fixture.report(is_done(2)).await;
    assert!(fixture.is_there("a").await);
    assert!(report.lines[0].message.contains("not applied by this target"), "{:?}", report.lines);
}

#[tokio::test]
async fn an_object_whose_label_names_another_target_is_put_right() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;

    for stranger in ["somebody", "0192f0a1b2c37d4e8f60718293a4b5c6"] {
        fixture.edit("a", &json!({"metadata": {"labels": {TARGET_LABEL: stranger}}})).await;
        let ours = fixture.target.as_uuid().simple().to_string();
        fixture.wait_for_object("v1", "configmaps", "a", |a| a["metadata"]["labels"][TARGET_LABEL] == ours).await;
    }

    assert!(fixture.drifts(2).await.iter().all(|drift| drift.change == Change::Unlabelled));
}

#[tokio::test]
async fn an_object_that_is_restored_from_a_backup_becomes_what_git_says() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "new")]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    fixture.wait_for_inventory(1).await;
    let backup = fixture.config_map("a", "old");

    fixture.kill_agent().await;
    fixture.delete("a").await;
    fixture.create_as("backup", backup.clone()).await;
    fixture.start_agent_without_token();
    fixture.wait_for_value("a", "new").await;
    let drift = fixture.drifts(1).await.remove(0);
    assert_eq!((drift.change, drift.response), (Change::Replaced, Response::Corrected));
    assert_eq!(drift.manager.as_deref(), Some("backup"));

    // The same while the agent runs; whoever is faster makes it.
    for _ in 0..5 {
        fixture.delete("a").await;
        fixture.try_create_as("backup", &backup).await;
        fixture.wait_for_value("a", "new").await;
    }
    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "newest")]);
    fixture.report(is_done(2)).await;
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "newest");
}

#[tokio::test]
async fn what_git_takes_out_goes_though_somebody_applied_the_same_file() {
    let mut fixture = fixture!();
    let pod = |containers: &Value| {
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}});
        json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template}})
    };
    let (web, helper) = (json!({"name": "web", "image": "web:1"}), json!({"name": "helper", "image": "helper:1"}));
    let debug = json!([{"name": "DEBUG", "value": "1"}, {"name": "MODE", "value": "fast"}]);
    let mut verbose = web.clone();
    verbose["env"] = debug;
    let before = fixture.object("apps/v1", "Deployment", "web", &pod(&json!([verbose, helper])));
    fixture.assign(1, &[fixture.namespace_object(), before.clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    let path = format!("/apis/apps/v1/namespaces/{}/deployments/web", fixture.namespace);
    fixture.apply_as("kubectl", &path, &before).await;

    let after = fixture.object("apps/v1", "Deployment", "web", &pod(&json!([web])));
    fixture.assign(2, &[fixture.namespace_object(), after]);
    fixture.report(is_done(2)).await;

    let live = fixture.wait_for(&path, Value::is_object).await;
    let containers = live["spec"]["template"]["spec"]["containers"].as_array().expect("a list").clone();
    assert_eq!(containers.len(), 1, "{containers:#?}");
    assert_eq!((&containers[0]["name"], &containers[0]["env"]), (&json!("web"), &Value::Null));
}

#[tokio::test]
async fn custom_resources_are_gone_before_what_answers_their_finalizers_goes() {
    let mut fixture = fixture!();
    install(&fixture, "widgets", "Namespaced", &[("v1", true)]).await;
    let widget = widget(&fixture, "v1", Some(&fixture.namespace));
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("operator", "1"), widget]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    let path = format!("/apis/{}/v1/namespaces/{}/widgets/one", group(&fixture), fixture.namespace);
    fixture.merge(&path, "operator", &json!({"metadata": {"finalizers": ["example.org/hold"]}})).await;

    fixture.assign_tombstone(2, Action::Delete);
    fixture.report(|report| report.lines.iter().any(|line| line.message == "being deleted")).await;
    assert!(fixture.is_there("operator").await);
    fixture.merge(&path, "operator", &json!({"metadata": {"finalizers": null}})).await;

    fixture.report(|report| report.generation == Generation::new(2) && report.applied).await;
    assert!(!fixture.is_there("operator").await);
}

#[tokio::test]
async fn what_lost_our_label_stays_when_git_takes_it_out_and_the_report_says_so() {
    let mut fixture = fixture!();
    fixture.options = SyncOptions { drift: DriftMode::Warn, ..SyncOptions::default() };
    let (a, b) = (fixture.config_map("a", "1"), fixture.config_map("b", "1"));
    fixture.assign(1, &[fixture.namespace_object(), a.clone(), b.clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    fixture.edit("b", &json!({"metadata": {"labels": {TARGET_LABEL: null}}})).await;
    fixture.drifts(1).await;

    fixture.assign_pruning(2, &[fixture.namespace_object(), a], &[b]);
    let report = fixture.report(is_done(2)).await;

    let line = report.lines.iter().find(|line| line.key.name == "b").expect("it has a line");
    assert!(line.message.contains("no longer carries this target's label"), "{}", line.message);
    assert!(fixture.is_there("b").await);
}

#[tokio::test]
async fn an_object_that_moves_to_another_target_is_given_to_it_and_stays() {
    let mut fixture = fixture!();
    let moved = fixture.config_map("moved", "1");
    fixture.assign(1, &[fixture.namespace_object(), moved.clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    let before = fixture.fetch("ConfigMap", "moved").await;

    let other = accept_in_another(&fixture, fixture.config_map("moved", "2")).await;
    fixture.assign_pruning(2, &[fixture.namespace_object()], &[moved]);

    fixture.wait_for_value("moved", "2").await;
    let after = fixture.fetch("ConfigMap", "moved").await;
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"], "it was never gone");
    assert_eq!(after["metadata"]["labels"][TARGET_LABEL], other.as_uuid().simple().to_string());
    let report = fixture.report(is_done(2)).await;
    assert_eq!(report.lines[0].message, "another target of this cluster has it now");
}

/// Another target of the cluster that has this in its bundle, and says so.
async fn accept_in_another(fixture: &Fixture, object: Value) -> TargetId {
    let other = TargetId::new(Uuid::now_v7());
    fixture.assign_to(other, &[labelled(object, other)]);
    let deadline = Instant::now() + Duration::from_mins(1);
    while fixture.hub.reports(other).is_empty() {
        assert!(Instant::now() < deadline, "the other target was not accepted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    other
}

fn label(object: &Value) -> &Value {
    &object["metadata"]["labels"][TARGET_LABEL]
}

#[tokio::test]
async fn what_was_given_to_another_target_is_not_taken_back_by_who_forgot_that() {
    let mut fixture = fixture!();
    let moved = fixture.config_map("moved", "1");
    fixture.assign(1, &[fixture.namespace_object(), moved.clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    fixture.wait_for_inventory(1).await;
    let other = accept_in_another(&fixture, fixture.config_map("moved", "theirs")).await;
    fixture.assign_pruning(2, &[fixture.namespace_object()], &[moved]);
    fixture.wait_for_value("moved", "theirs").await;

    // Before the journal has learned of it; and then somebody puts it back into the first one, too.
    fixture.kill_agent().await;
    fixture.assign(3, &[fixture.namespace_object(), fixture.config_map("moved", "ours")]);
    fixture.start_agent_without_token();

    let third = |report: &Report| report.generation == Generation::new(3) && report.verdict == Verdict::Failed;
    let report = fixture.report(third).await;
    assert_eq!(report.lines[0].outcome, Outcome::Exists, "{:?}", report.lines);
    let after = fixture.fetch("ConfigMap", "moved").await;
    assert_eq!(
        (label(&after), &after["data"]["key"]),
        (&json!(other.as_uuid().simple().to_string()), &json!("theirs"))
    );
}

#[tokio::test]
async fn what_stayed_is_given_to_another_target_that_wants_it_later() {
    let mut fixture = fixture!();
    let [namespace, kept] = kept(&fixture, "1");
    fixture.assign(1, &[namespace.clone(), kept.clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    let before = fixture.fetch("ConfigMap", "kept").await;
    fixture.assign_pruning(2, &[namespace], std::slice::from_ref(&kept));
    let left = fixture.report(is_done(2)).await;
    assert_eq!(left.lines.len(), 1, "{:?}", left.lines);

    let changed = self::kept(&fixture, "2")[1].clone();
    let other = accept_in_another(&fixture, marked(changed, "main/default/other")).await;

    fixture.wait_for_value("kept", "2").await;
    let after = fixture.fetch("ConfigMap", "kept").await;
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(label(&after), &json!(other.as_uuid().simple().to_string()));
}

/// As a renderer marks it.
fn marked(mut object: Value, owner: &str) -> Value {
    object["metadata"]["annotations"][OWNER_ANNOTATION] = json!(owner);
    object
}

/// A target's Namespace and a ConfigMap that asks to be kept.
fn kept(fixture: &Fixture, value: &str) -> [Value; 2] {
    let mut kept = fixture.config_map("kept", value);
    kept["metadata"]["annotations"]["helm.sh/resource-policy"] = json!("keep");
    [fixture.namespace_object(), kept].map(|object| marked(object, "main/default/shop"))
}

#[tokio::test]
async fn what_a_deleted_target_left_is_its_own_again_when_it_is_made_again() {
    let mut fixture = fixture!();
    fixture.assign(1, &kept(&fixture, "1"));
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    fixture.assign_tombstone(2, Action::Delete);
    fixture.report(|report| report.generation == Generation::new(2) && report.applied).await;
    let before = fixture.fetch("ConfigMap", "kept").await;
    let namespace = format!("/api/v1/namespaces/{}", fixture.namespace);
    for left in [before.clone(), fixture.wait_for(&namespace, Value::is_object).await] {
        assert_eq!(left["metadata"]["labels"][TARGET_LABEL], Value::Null, "nobody's: {left:#}");
        assert_eq!(left["metadata"]["annotations"][OWNER_ANNOTATION], "main/default/shop", "whose it was: {left:#}");
    }

    // Another one has no part in it.
    fixture.target = TargetId::new(Uuid::now_v7());
    fixture.assign(1, &kept(&fixture, "2").map(|object| marked(object, "main/default/other")));
    let refused = fixture.report(|report| report.verdict == Verdict::Failed).await;
    assert_eq!(refused.objects.in_place, 1, "a namespace is for all of a project: {refused:?}");
    assert_eq!(refused.lines[0].outcome, Outcome::Exists, "{refused:?}");
    assert!(refused.lines[0].hint.contains("left by main/default/shop"), "{refused:?}");
    fixture.assign_tombstone(2, Action::Delete);
    fixture.report(|report| report.generation == Generation::new(2) && report.applied).await;

    fixture.target = TargetId::new(Uuid::now_v7());
    fixture.assign(1, &kept(&fixture, "1"));
    fixture.report(is_done(1)).await;
    // The same of what was let go of because somebody asked for that.
    fixture.assign_tombstone(2, Action::Orphan);
    fixture.report(|report| report.generation == Generation::new(2) && report.applied).await;
    fixture.target = TargetId::new(Uuid::now_v7());
    fixture.assign(1, &kept(&fixture, "2"));
    fixture.report(is_done(1)).await;
    let after = fixture.fetch("ConfigMap", "kept").await;
    assert_eq!((&after["metadata"]["uid"], &after["data"]["key"]), (&before["metadata"]["uid"], &json!("2")));
    assert_eq!(after["metadata"]["labels"][TARGET_LABEL], fixture.target.as_uuid().simple().to_string());
}
