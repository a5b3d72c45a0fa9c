//! What others do to objects of ours in a real API server, and what becomes of it.

use bellwether_core::Generation;
use bellwether_core::drift::{Change, ChangedValue, Response};
use bellwether_core::report::{Outcome, Report, Verdict};
use bellwether_core::session::{DriftMode, SyncOptions};
use serde_json::{Value, json};

use crate::fixture::{FENCE_COUNTS, Fixture};
use crate::gateway::Picked;

fn is_done(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
}

/// A namespace and `a` are in place.
async fn begin(fixture: &mut Fixture) {
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
}

#[tokio::test]
async fn an_edit_is_put_right_its_author_told_and_the_field_is_still_ours_to_change() {
    let mut fixture = fixture!();
    begin(&mut fixture).await;

    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    fixture.wait_for_value("a", "1").await;

    let drift = fixture.drifts(1).await.remove(0);
    assert_eq!((drift.change, drift.response), (Change::Modified, Response::Corrected));
    assert_eq!((drift.manager.as_deref(), drift.operation.as_deref()), (Some("kubectl-edit"), Some("Update")));
    assert_eq!((drift.object.name.as_str(), drift.fields), ("a", vec![".data.key".to_owned()]));
    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "2")]);
    fixture.report(is_done(2)).await;
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "2");
}

#[tokio::test]
async fn what_others_change_is_told_with_what_they_made_of_it_and_of_a_secret_without() {
    let mut fixture = fixture!();
    // As a render writes it: with `stringData` another field is ours, before Kubernetes 1.37 at least.
    let secret = fixture.object("v1", "Secret", "s", &json!({"data": {"password": "b3Vycw=="}}));
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1"), secret]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;

    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    let told = fixture.drifts(1).await.remove(0);
    let path = format!("/api/v1/namespaces/{}/secrets/s", fixture.namespace);
    fixture.merge(&path, "kubectl-edit", &json!({"data": {"password": "dGhlaXJz"}})).await;
    let of_secret = fixture.drifts(2).await.remove(1);

    let value = |text: &str| Some(format!("\"{text}\""));
    let changed =
        ChangedValue { path: ".data.key".to_owned(), found: value("theirs"), wanted: value("1"), is_cut: false };
    assert_eq!((told.values.values, told.values.are_more), (vec![changed], false));
    assert_eq!((of_secret.object.kind.as_str(), of_secret.change), ("Secret", Change::Modified));
    assert_eq!(of_secret.fields, [".data.password"]);
    assert!(of_secret.values.values.is_empty() && of_secret.values.are_more, "it is said that there is more");
}

/// Of one target something is told at most every two seconds: what was applied, and then how it stands.
const TOLD: std::time::Duration = std::time::Duration::from_secs(6);

#[tokio::test]
async fn an_edit_is_put_right_in_two_round_trips() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    begin(&mut fixture).await;
    // Its journal is written, and asked for nothing but whose it is, once what is known of that no longer counts.
    fixture.wait_for_inventory(1).await;
    // And the people of the cluster have been told all that there is to tell so far.
    tokio::time::sleep(FENCE_COUNTS + TOLD).await;

    gateway.follow_requests();
    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    fixture.wait_for_value("a", "1").await;
    let drift = fixture.drifts(1).await.remove(0);

    let mut followed = gateway.followed();
    // What the people of the cluster are told of it comes after it.
    let correction = followed.requests.iter().position(|request| request.starts_with("PATCH a"));
    let round_trips = followed.round_trips_of[correction.expect("it is corrected")];
    followed.requests.truncate(correction.expect("it is corrected") + 1);
    followed.requests.sort_unstable();
    let journal = |number: usize| format!("GET bellwether-journal-{number:012}");
    let expected = ["GET a".to_owned(), journal(2), journal(3), "PATCH a by force".to_owned()];
    assert_eq!((followed.requests.as_slice(), round_trips), (&expected[..], 2));
    assert_eq!((drift.manager.as_deref(), drift.fields), (Some("kubectl-edit"), vec![".data.key".to_owned()]));
}

#[tokio::test]
async fn what_was_never_ours_is_not_forced_whenever_it_comes_between_a_conflict_and_its_answer() {
    let before_it_is_read: Picked = |method, uri| method == http::Method::GET && uri.path().ends_with("/configmaps/a");
    let before_it_is_forced: Picked =
        |method, uri| method == http::Method::PATCH && uri.query().is_some_and(|it| it.contains("force=true"));
    for window in [before_it_is_read, before_it_is_forced] {
        let mut fixture = fixture!();
        fixture.options = SyncOptions { drift: DriftMode::Ignore, ..SyncOptions::default() };
        let gateway = fixture.put_gateway_before("configmaps").await;
        begin(&mut fixture).await;
        fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
        gateway.hold(window);

        let more = fixture.object("v1", "ConfigMap", "a", &json!({"data": {"key": "2", "more": "ours"}}));
        fixture.assign(2, &[fixture.namespace_object(), more]);
        gateway.wait_for_held().await;
        fixture.edit("a", &json!({"data": {"more": "theirs"}})).await;
        gateway.release();

        let is_told = |report: &Report| report.generation == Generation::new(2) && report.verdict >= Verdict::Degraded;
        let report =
            fixture.report(|report| is_told(report) || report.generation == Generation::new(2) && report.applied).await;
        assert_eq!(report.lines.first().map(|line| line.outcome), Some(Outcome::Conflict), "{report:?}");
        assert_eq!(fixture.fetch("ConfigMap", "a").await["data"], json!({"key": "theirs", "more": "theirs"}));
    }
}

#[tokio::test]
async fn a_forced_apply_of_somebody_else_is_put_right_and_the_field_is_still_ours_to_change() {
    let mut fixture = fixture!();
    begin(&mut fixture).await;

    fixture.force("a", "theirs").await;
    fixture.wait_for_value("a", "1").await;

    let drift = fixture.drifts(1).await.remove(0);
    assert_eq!((drift.manager.as_deref(), drift.operation.as_deref()), (Some("kubectl"), Some("Apply")));
    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "2")]);
    fixture.report(is_done(2)).await;
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "2");
}

#[tokio::test]
async fn a_scaled_deployment_is_scaled_back() {
    let mut fixture = fixture!();
    let pod = json!({"containers": [{"name": "a", "image": "a"}]});
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod});
    let spec = |replicas: u32| json!({"spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
    let replicas = |count: u32| move |object: &Value| object["spec"]["replicas"] == count;
    fixture.assign(1, &[fixture.namespace_object(), fixture.object("apps/v1", "Deployment", "web", &spec(1))]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;

    fixture.scale("web", 0).await;
    fixture.wait_for_object("apps/v1", "deployments", "web", replicas(1)).await;
    let drift = fixture.drifts(1).await.remove(0);
    // Who scaled it stands nowhere: the API server takes the field from our entry and gives it to none.
    assert_eq!((drift.change, drift.fields), (Change::Modified, vec![".spec.replicas".to_owned()]));

    fixture.assign(2, &[fixture.namespace_object(), fixture.object("apps/v1", "Deployment", "web", &spec(2))]);
    fixture.report(is_done(2)).await;
    fixture.wait_for_object("apps/v1", "deployments", "web", replicas(2)).await;
}

#[tokio::test]
async fn what_is_deleted_or_loses_our_label_comes_back() {
    let mut fixture = fixture!();
    begin(&mut fixture).await;

    fixture.delete("a").await;
    fixture.drifts(1).await;
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "1");
    fixture.edit("a", &json!({"metadata": {"labels": null}})).await;

    let drifts = fixture.drifts(2).await;
    let changes: Vec<_> = drifts.iter().map(|drift| drift.change).collect();
    assert_eq!(changes, [Change::Deleted, Change::Unlabelled]);
    assert!(fixture.fetch("ConfigMap", "a").await["metadata"]["labels"]["bellwether.dev/target"].is_string());
    fixture.report(is_done(1)).await;
}

#[tokio::test]
async fn what_was_never_ours_may_be_changed_by_anybody() {
    let mut fixture = fixture!();
    begin(&mut fixture).await;

    fixture.edit("a", &json!({"data": {"other": "theirs"}, "metadata": {"annotations": {"note": "x"}}})).await;
    // A possible drift is checked within two seconds; this one is after it.
    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    fixture.wait_for_value("a", "1").await;

    let drift = fixture.drifts(1).await.remove(0);
    assert_eq!(drift.fields, [".data.key"]);
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["other"], "theirs");
}

#[tokio::test]
async fn a_target_that_warns_tells_and_changes_nothing_until_the_next_revision() {
    let mut fixture = fixture!();
    fixture.options = SyncOptions { drift: DriftMode::Warn, ..SyncOptions::default() };
    begin(&mut fixture).await;

    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;

    let drift = fixture.drifts(1).await.remove(0);
    assert_eq!((drift.response, drift.manager.as_deref()), (Response::Warned, Some("kubectl-edit")));
    let report = fixture.report(|report| report.verdict == Verdict::Degraded).await;
    assert_eq!(report.lines[0].outcome, Outcome::Drifted);
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "theirs");
    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "2")]);
    fixture.report(is_done(2)).await;
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "2");
}

#[tokio::test]
async fn edits_and_deletes_while_the_hub_is_away_are_healed_at_once_and_told_later() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1"), fixture.config_map("b", "1")]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;

    fixture.hub.go_away();
    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    fixture.delete("b").await;
    fixture.wait_for_value("a", "1").await;
    fixture.wait_for_value("b", "1").await;
    assert!(fixture.hub.drifts().is_empty());
    fixture.hub.come_back();

    let mut changes: Vec<_> = fixture.drifts(2).await.iter().map(|drift| drift.change.as_str()).collect();
    changes.sort_unstable();
    assert_eq!(changes, ["deleted", "modified"]);
}

#[tokio::test]
async fn a_new_process_takes_back_what_was_ours_though_the_hub_is_away() {
    let mut fixture = fixture!();
    begin(&mut fixture).await;
    fixture.wait_for_inventory(1).await;

    fixture.hub.go_away();
    fixture.kill_agent().await;
    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    fixture.start_agent_without_token();

    fixture.wait_for_value("a", "1").await;
    fixture.hub.come_back();
    let drift = fixture.drifts(1).await.remove(0);
    assert_eq!((drift.change, drift.manager.as_deref()), (Change::Modified, Some("kubectl-edit")));
}

#[tokio::test]
async fn an_object_that_a_finalizer_holds_is_waited_for_and_its_finalizer_named() {
    let mut fixture = fixture!();
    let held = fixture.config_map("held", "1");
    fixture.assign(1, &[fixture.namespace_object(), held.clone()]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    fixture.edit("held", &json!({"metadata": {"finalizers": ["example.org/hold"]}})).await;

    fixture.assign_pruning(2, &[fixture.namespace_object()], &[held]);
    let leaving = |report: &Report| report.lines.iter().any(|line| line.message == "being deleted");
    fixture.report(leaving).await;
    assert!(fixture.is_there("held").await);
    fixture.edit("held", &json!({"metadata": {"finalizers": null}})).await;

    fixture.report(is_done(2)).await;
    assert!(!fixture.is_there("held").await);
}
