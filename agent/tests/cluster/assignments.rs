//! What the people of a cluster see of a target there, and how they stop it.

use std::time::Duration;

use bellwether_core::Generation;
use bellwether_core::report::Verdict;
use bellwether_core::session::Action;
use serde_json::{Value, json};

use crate::fixture::Fixture;

const SUSPEND: &str = "bellwether.dev/suspend";

fn is_ready(shown: &Value) -> bool {
    let conditions = shown["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

fn path(shown: &Value) -> String {
    format!("/apis/bellwether.dev/v1alpha1/assignments/{}", shown["metadata"]["name"].as_str().expect("has a name"))
}

impl Fixture {
    async fn suspend(&self, shown: &Value, text: Option<&str>) {
        self.merge(&path(shown), "kubectl-annotate", &json!({"metadata": {"annotations": {SUSPEND: text}}})).await;
    }

    async fn is_suspended(&self, is_so: bool) -> Value {
        let status = if is_so { "True" } else { "False" };
        let says = |one: &Value| one["type"] == "Suspended" && one["status"] == status;
        self.shown(|shown| shown["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(says))).await
    }
}

#[tokio::test]
async fn a_target_is_shown_in_its_cluster_and_kubectl_waits_for_it_and_gets_no_old_answer() {
    let mut fixture = fixture!();
    fixture.define_assignments().await;
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();

    let shown = fixture.shown(is_ready).await;

    assert_eq!((&shown["spec"]["target"], &shown["spec"]["generation"]), (&json!("shop"), &json!(1)));
    assert_eq!((&shown["status"]["health"], &shown["status"]["synced"]), (&json!("healthy"), &json!(true)));
    assert_eq!(shown["status"]["objects"], json!({"total": 2, "inPlace": 2, "healthy": 2}));
    let name = format!("asg/{}", shown["metadata"]["name"].as_str().expect("has a name"));
    let Some((is_there, listed)) = fixture.kubectl(&["get", &name]).await else { return };
    assert!(is_there && listed.starts_with("NAME") && listed.contains("healthy   true"), "{listed}");
    assert!(["TARGET", "REVISION", "HEALTH", "SYNCED", "AGE"].iter().all(|it| listed.contains(it)), "{listed}");
    let wait = ["wait", "--for=condition=Ready", &name, "--timeout=60s"];
    assert!(fixture.kubectl(&wait).await.expect("it ran").0);

    // What is never ready: a Deployment of an image that nobody has, on no node.
    let pod = json!({"containers": [{"name": "a", "image": "a"}], "nodeSelector": {"node": "none"}});
    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    let web = fixture.object("apps/v1", "Deployment", "web", &json!({"spec": spec}));
    fixture.assign(2, &[fixture.namespace_object(), web]);
    fixture.shown(|shown| shown["spec"]["generation"] == 2).await;
    let (is_ready, told) =
        fixture.kubectl(&["wait", "--for=condition=Ready", &name, "--timeout=3s"]).await.expect("it ran");

    assert!(!is_ready && told.contains("timed out"), "{told}");
}

#[tokio::test]
async fn a_target_at_rest_costs_no_request_and_a_restart_that_changes_nothing_writes_nothing() {
    let mut fixture = fixture!();
    fixture.define_assignments().await;
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    let shown = fixture.shown(is_ready).await;
    fixture.wait_for_quiet_journal().await;

    let rested = fixture.shown(is_ready).await;
    assert_eq!(rested["metadata"]["resourceVersion"], shown["metadata"]["resourceVersion"], "six seconds later");
    fixture.kill_agent().await;
    fixture.start_agent_without_token();
    fixture.reports(|reports| reports.iter().filter(|report| report.applied).count() == 2).await;
    // Longer than what is said at a start is held back.
    tokio::time::sleep(Duration::from_secs(12)).await;

    let restarted = fixture.shown(is_ready).await;
    assert_eq!(restarted["metadata"]["resourceVersion"], shown["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn what_somebody_changes_of_it_changes_nothing_that_is_applied_and_is_written_again() {
    let mut fixture = fixture!();
    fixture.define_assignments().await;
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    let shown = fixture.shown(is_ready).await;
    let before = fixture.fetch("ConfigMap", "a").await;

    let forged = json!({"spec": {"generation": 99, "bundle": "sha256:0"}, "status": {"health": "failed"}});
    fixture.merge(&path(&shown), "somebody", &forged).await;
    fixture.merge(&format!("{}/status", path(&shown)), "somebody", &forged).await;
    fixture
        .shown(|shown| is_ready(shown) && shown["spec"]["generation"] == 1 && shown["status"]["health"] == "healthy")
        .await;
    fixture.remove(&path(&shown)).await;
    let again = fixture.shown(is_ready).await;

    assert_ne!(again["metadata"]["uid"], shown["metadata"]["uid"]);
    assert_eq!(fixture.fetch("ConfigMap", "a").await, before);
}

#[tokio::test]
async fn a_suspended_target_is_neither_applied_nor_put_right_until_somebody_resumes_it() {
    let mut fixture = fixture!();
    fixture.define_assignments().await;
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    let shown = fixture.shown(is_ready).await;

    fixture.suspend(&shown, Some("reason=INC-42")).await;
    let held = fixture.is_suspended(true).await;
    assert_eq!(
        (&held["status"]["suspended"]["by"], &held["status"]["suspended"]["reason"]),
        (&json!("kubectl-annotate"), &json!("INC-42"))
    );
    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "2"), fixture.config_map("b", "1")]);
    fixture.report(|report| report.generation == Generation::new(2) && report.verdict == Verdict::Progressing).await;
    fixture.shown(|shown| shown["spec"]["generation"] == 2 && shown["status"]["synced"] == false).await;
    // A process that begins meanwhile keeps its hands off, too.
    fixture.wait_for_quiet_journal().await;
    fixture.kill_agent().await;
    fixture.start_agent_without_token();
    fixture
        .reports(|reports| reports.iter().filter(|report| report.generation == Generation::new(2)).count() >= 2)
        .await;
    fixture.wait_for_quiet_journal().await;

    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "theirs");
    assert!(!fixture.is_there("b").await);
    fixture.suspend(&shown, None).await;
    fixture.report(|report| report.applied && report.verdict == Verdict::Healthy).await;
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "2");
    fixture.is_suspended(false).await;
}

#[tokio::test]
async fn a_suspension_ends_by_itself_and_what_was_changed_meanwhile_is_put_right() {
    let mut fixture = fixture!();
    fixture.define_assignments().await;
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    let shown = fixture.shown(is_ready).await;

    fixture.suspend(&shown, Some("until=8s")).await;
    fixture.is_suspended(true).await;
    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "theirs");

    fixture.wait_for_value("a", "1").await;
    fixture.is_suspended(false).await;
}

#[tokio::test]
async fn the_agents_own_object_suspends_all_and_a_text_that_nobody_reads_has_no_end() {
    let mut fixture = fixture!();
    fixture.define_assignments().await;
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.shown(is_ready).await;
    let is_own = |one: &&Value| one["spec"]["agent"] == fixture.home.as_str() && one["spec"]["targetId"].is_null();
    let find = |list: &Value| list["items"].as_array().and_then(|all| all.iter().find(is_own).cloned());
    let list = fixture.wait_for("/apis/bellwether.dev/v1alpha1/assignments", |list| find(list).is_some()).await;
    let agent = find(&list).expect("is there");

    fixture.suspend(&agent, Some("until=whenever")).await;
    let says = |one: &Value| one["type"] == "Suspended" && one["reason"] == "UnreadableAnnotation";
    fixture
        .wait_for(&path(&agent), |agent| {
            agent["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(says))
        })
        .await;
    fixture.is_suspended(true).await;
    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "2")]);
    fixture.report(|report| report.generation == Generation::new(2) && report.suspended.is_some()).await;
    fixture.shown(|shown| shown["spec"]["generation"] == 2 && shown["status"]["synced"] == false).await;

    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "theirs");
    fixture.suspend(&agent, None).await;
    fixture.wait_for_value("a", "2").await;
}

fn is_of_assignments(_: &http::Method, uri: &http::Uri) -> bool {
    uri.path().starts_with("/apis/bellwether.dev/")
}

#[tokio::test]
async fn an_agent_whose_definition_is_not_served_works_and_shows_its_targets_once_it_is() {
    let mut fixture = fixture!();
    fixture.poll_seconds = "1";
    fixture.define_assignments().await;
    let gateway = fixture.put_gateway_before("configmaps").await;
    gateway.refuse_with(http::StatusCode::NOT_FOUND, is_of_assignments);
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.applied && report.verdict == Verdict::Healthy).await;

    gateway.refuse_nothing();

    fixture.shown(is_ready).await;
}

#[tokio::test]
async fn an_agent_that_may_not_see_what_shows_its_targets_works_without() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    gateway.refuse_with(http::StatusCode::FORBIDDEN, is_of_assignments);
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.applied && report.verdict == Verdict::Healthy).await;

    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;

    fixture.wait_for_value("a", "1").await;
}

#[tokio::test]
async fn what_shows_a_target_stays_its_agents_and_its_targets() {
    let mut fixture = fixture!();
    fixture.define_assignments().await;
    fixture.assign(1, &[fixture.namespace_object()]);
    fixture.start_agent();
    let shown = fixture.shown(is_ready).await;

    let agent = json!({"agent": "elsewhere"});
    for spec in [agent, json!({"targetId": uuid::Uuid::nil()}), json!({"targetId": null}), Value::Null] {
        let answer = fixture
            .send(http::Method::PATCH, &path(&shown), "application/merge-patch+json", &json!({"spec": spec}))
            .await;
        let refused = matches!(&answer, Err(kube::Error::Api(status)) if status.code == 422);
        assert!(refused, "{answer:?}");
    }
}

#[tokio::test]
async fn what_shows_a_target_goes_with_it() {
    let mut fixture = fixture!();
    fixture.define_assignments().await;
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    let shown = fixture.shown(is_ready).await;

    fixture.assign_tombstone(2, Action::Orphan);

    fixture.wait_for(&path(&shown), Value::is_null).await;
}

#[tokio::test]
async fn what_happens_to_a_target_is_told_as_events_and_none_of_them_has_a_value() {
    let mut fixture = fixture!();
    fixture.define_assignments().await;
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "hush-1"), fixture.config_map("b", "1")]);
    fixture.start_agent();
    let shown = fixture.shown(is_ready).await;
    fixture.edit("a", &json!({"data": {"key": "hush-2"}})).await;
    fixture.wait_for_value("a", "hush-1").await;
    let b = fixture.config_map("b", "1");
    fixture.assign_pruning(2, &[fixture.namespace_object(), fixture.config_map("a", "hush-1")], &[b]);
    fixture.wait_until("b", false).await;
    fixture.suspend(&shown, Some("until=whenever")).await;
    fixture.is_suspended(true).await;
    fixture.suspend(&shown, None).await;

    let uid = shown["metadata"]["uid"].as_str().expect("has one");
    let events = format!("/apis/events.k8s.io/v1/namespaces/default/events?fieldSelector=regarding.uid%3D{uid}");
    let has = |list: &Value, reason: &str| {
        list["items"].as_array().is_some_and(|all| all.iter().any(|one| one["reason"] == reason))
    };
    let reasons = ["Applied", "DriftCorrected", "Pruned", "Suspended", "Resumed"];
    let list = fixture.wait_for(&events, |list| reasons.iter().all(|reason| has(list, reason))).await;

    let notes: Vec<_> =
        list["items"].as_array().expect("is a list").iter().map(|one| one["note"].to_string()).collect();
    assert!(notes.iter().any(|note| note.contains("modified by kubectl-edit")), "{notes:?}");
    assert!(notes.iter().all(|note| !note.contains("hush")), "{notes:?}");
}

#[tokio::test]
async fn an_agent_begins_where_the_api_server_fails_for_what_shows_its_targets_alone() {
    let mut fixture = fixture!();
    fixture.define_assignments().await;
    let gateway = fixture.put_gateway_before("configmaps").await;
    gateway.refuse_with(http::StatusCode::INTERNAL_SERVER_ERROR, is_of_assignments);
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.applied && report.verdict == Verdict::Healthy).await;

    gateway.refuse_nothing();

    fixture.shown(is_ready).await;
}
