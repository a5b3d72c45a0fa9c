//! An agent before an API server that only knows the discovery of old, names of versions and a list for each of them, and
//! before what answers in its place.

use bellwether_core::Generation;
use bellwether_core::report::{Report, Verdict};
use bellwether_core::session::{Action, Profile};
use http::StatusCode;
use serde_json::json;

#[tokio::test]
async fn an_api_server_that_lists_each_version_for_itself_is_worked_with() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    gateway.serve_older_discovery();
    fixture.poll_seconds = "1";
    let group = format!("{}.example.org", fixture.namespace);
    let version = format!("{group}/v1");
    let pod = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let spec = json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": pod}});
    let rest = [
        fixture.config_map("a", "1"),
        fixture.object("apps/v1", "Deployment", "web", &spec),
        fixture.definition(&group),
        fixture.object(&version, "Widget", "one", &json!({"spec": {"size": 3}})),
    ];
    let mut all = vec![fixture.namespace_object()];
    all.extend(rest.iter().cloned());
    let stands = |generation| {
        let generation = Generation::new(generation);
        move |report: &Report| report.generation == generation && report.applied && report.verdict == Verdict::Healthy
    };
    let serves = |profile: &Profile, name: &str| profile.apis.as_ref().is_some_and(|apis| apis.has(name));

    fixture.assign(1, &all);
    fixture.start_agent();

    fixture.report(stands(1)).await;
    let kind = format!("{version}/Widget");
    let names = ["v1/ConfigMap", "v1/Eviction", "apps/v1/Deployment", "apps/v1/Scale", &version, &kind];
    fixture.profile(|profile| names.iter().all(|name| serves(profile, name))).await;
    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    fixture.wait_for_value("a", "1").await;

    fixture.assign_pruning(2, &[fixture.namespace_object()], &rest);
    fixture.report(stands(2)).await;
    assert!(!fixture.is_there("a").await);
    assert!(gateway.counts().version_lists > 0, "what is aggregated was never asked for in its place");
}

#[tokio::test]
async fn what_answers_in_place_of_discovery_lets_nothing_count_as_deleted() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    fixture.create_namespace().await;
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;
    fixture.kill_agent().await;
    gateway.refuse_with(StatusCode::OK, |_, uri| matches!(uri.path(), "/api" | "/apis"));
    fixture.assign_tombstone(2, Action::Delete);

    fixture.start_agent_without_token();

    let is_second = |report: &Report| report.generation == Generation::new(2);
    let is_told = |report: &Report| report.lines.iter().any(|line| !line.message.is_empty());
    let told = fixture.report(|report| is_second(report) && (report.applied || is_told(report))).await;
    assert!(!told.applied && fixture.is_there("a").await, "{told:#?}");
    gateway.refuse_nothing();
    fixture.report(|report| is_second(report) && report.applied).await;
    assert!(!fixture.is_there("a").await);
}
