//! Targets whose objects the agent asks for as a ServiceAccount of theirs, in a real API server.

use bellwether_core::Generation;
use bellwether_core::report::{ObjectLine, Outcome, Report, Verdict};
use bellwether_core::session::{Action, DriftMode, SyncOptions};
use serde_json::{Value, json};

use crate::fixture::Fixture;

const DEPLOYER: &str = "deployer";

fn as_deployer() -> SyncOptions {
    SyncOptions { service_account: Some(DEPLOYER.parse().expect("is a name")), ..SyncOptions::default() }
}

fn rule(group: &str, plural: &str, verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": [plural], "verbs": verbs})
}

fn is_well(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
}

fn line<'a>(report: &'a Report, name: &str) -> Option<&'a ObjectLine> {
    report.lines.iter().find(|line| line.key.name == name)
}

/// Refused for good, as far as the agent can tell.
fn is_refused(report: &Report, name: &str) -> bool {
    line(report, name).is_some_and(|line| line.outcome == Outcome::Rejected)
}

fn deployment(fixture: &Fixture) -> Value {
    let labels = json!({"app": "web"});
    let pod = json!({"containers": [{"name": "web", "image": "web:1"}]});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod}});
    fixture.object("apps/v1", "Deployment", "web", &json!({"spec": spec}))
}

#[tokio::test]
async fn what_the_account_may_not_do_is_refused_in_the_api_servers_words_and_the_rest_is_applied_and_pruned_as_it() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.options = as_deployer();
    fixture.allow_account(DEPLOYER, "maps", &json!([rule("", "configmaps", &["get", "create", "patch"])])).await;
    fixture.assign(1, &[fixture.config_map("a", "1"), fixture.config_map("b", "1"), deployment(&fixture)]);
    fixture.start_agent();

    let report = fixture.report(|report| is_refused(report, "web")).await;

    let user = format!("User \"system:serviceaccount:{}:{DEPLOYER}\" cannot", fixture.namespace);
    let refused = line(&report, "web").expect("it is told");
    assert!(refused.message.contains(&user) && refused.message.contains("deployments"), "{refused:?}");
    let hint = format!("give ServiceAccount {}/{DEPLOYER} the right", fixture.namespace);
    assert!(refused.hint.starts_with(&hint), "{refused:?}");
    assert_eq!(report.objects.in_place, 2);
    let map = fixture.fetch("ConfigMap", "a").await;
    let managers = map["metadata"]["managedFields"].as_array().expect("has managers");
    assert!(managers.iter().any(|it| it["manager"] == "bellwether" && it["operation"] == "Apply"), "{managers:?}");

    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    fixture.wait_for_value("a", "1").await;
    // What it may not look for may be there, and nothing goes before that is known.
    fixture.allow_account(DEPLOYER, "looks", &json!([rule("apps", "deployments", &["get"])])).await;
    fixture.assign_pruning(2, &[fixture.config_map("a", "1")], &[fixture.config_map("b", "1"), deployment(&fixture)]);
    let report = fixture.report(|report| line(report, "b").is_some_and(|it| it.message.contains(&user))).await;
    assert!(line(&report, "b").expect("is told").message.contains("cannot delete"), "{report:?}");
    assert!(fixture.is_there("b").await);

    fixture.allow_account(DEPLOYER, "prune", &json!([rule("", "configmaps", &["delete"])])).await;
    fixture.wait_until("b", false).await;
}

#[tokio::test]
async fn an_agent_that_may_only_watch_and_act_as_an_account_applies_corrects_and_prunes_by_the_accounts_rights() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.options = as_deployer();
    let watches = [
        rule("", "configmaps", &["list", "watch"]),
        rule("apiextensions.k8s.io", "customresourcedefinitions", &["get", "list", "watch"]),
        rule("apiregistration.k8s.io", "apiservices", &["list"]),
        // Its own; in a cluster a Role of its namespace gives them.
        rule("", "secrets", &["get", "list", "create", "update", "patch", "delete"]),
    ];
    fixture.narrow_agent(&json!(watches)).await;
    fixture
        .allow_account(DEPLOYER, "all", &json!([rule("", "configmaps", &["get", "create", "patch", "delete"])]))
        .await;
    fixture.assign(1, &[fixture.config_map("a", "1"), fixture.config_map("b", "1")]);
    fixture.start_agent();

    let report = fixture.report(|report| is_refused(report, "a")).await;
    let refused = line(&report, "a").expect("it is told");
    assert!(refused.message.contains(" cannot impersonate"), "{refused:?}");
    assert!(refused.hint.starts_with("let the agent act as ServiceAccount"), "{refused:?}");

    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", fixture.namespace);
    let may_act = json!({"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": [DEPLOYER], "verbs": ["impersonate"]});
    fixture.post(&format!("{rbac}/roles"), &json!({"metadata": {"name": "acting"}, "rules": [may_act]})).await;
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "acting"});
    let subjects = json!([{"kind": "ServiceAccount", "namespace": fixture.home, "name": "agent"}]);
    let binding = json!({"metadata": {"name": "acting"}, "roleRef": role, "subjects": subjects});
    fixture.post(&format!("{rbac}/rolebindings"), &binding).await;
    fixture.report(is_well(1)).await;
    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;
    fixture.wait_for_value("a", "1").await;
    fixture.assign_pruning(2, &[fixture.config_map("a", "2")], &[fixture.config_map("b", "1")]);
    fixture.wait_until("b", false).await;
    fixture.assign_tombstone(3, Action::Delete);
    fixture.wait_until("a", false).await;
}

#[tokio::test]
async fn a_target_that_warns_asks_as_its_account_too() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.options = SyncOptions { drift: DriftMode::Warn, ..as_deployer() };
    let role = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles/all", fixture.namespace);
    fixture.allow_account(DEPLOYER, "all", &json!([rule("", "configmaps", &["get", "create", "patch"])])).await;
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;

    fixture.merge(&role, "test", &json!({"rules": [rule("", "configmaps", &["create", "patch"])]})).await;
    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;

    let is_told = |report: &Report| line(report, "a").is_some_and(|line| line.message.contains("cannot get"));
    fixture.report(is_told).await;
    assert!(fixture.hub.drifts().is_empty(), "nothing is told of what its account may not read");
}

#[tokio::test]
async fn nobody_acts_as_an_account_of_the_agents_own_namespace() {
    let mut fixture = fixture!();
    fixture.options = as_deployer();
    fixture.namespace.clone_from(&fixture.home);
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    fixture.start_agent();

    let report = fixture.report(|report| is_refused(report, "a")).await;

    assert!(
        !report.may_pass() && report.lines[0].message.contains("is in the namespace of the cluster's agent"),
        "{report:?}"
    );
    assert!(!fixture.is_there("a").await);
}

#[tokio::test]
async fn what_is_well_as_the_agents_is_asked_for_anew_as_an_account_and_is_not_well_where_that_may_not() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;

    fixture.options = as_deployer();
    fixture.assign(2, &[fixture.config_map("a", "1")]);
    let second = |report: &Report| report.generation == Generation::new(2);
    let is_settled = |report: &Report| report.verdict == Verdict::Healthy || is_refused(report, "a");
    let report = fixture.report(|report| second(report) && is_settled(report)).await;

    assert!(is_refused(&report, "a"), "{report:?}");
    let rules = json!([rule("", "configmaps", &["get", "create", "patch"])]);
    fixture.allow_account(DEPLOYER, "maps", &rules).await;
    fixture.report(is_well(2)).await;
}
