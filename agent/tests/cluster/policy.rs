//! What a cluster's owner allows, whatever the hub says, in a real API server.

use bellwether_core::Generation;
use bellwether_core::report::{ObjectLine, Outcome, Report, Verdict};
use bellwether_core::session::{Action, Replace, SyncOptions};
use serde_json::{Value, json};

use crate::fixture::Fixture;

const REFUSED: &str = "refused by the cluster's policy: ";

/// A policy that names the one project that there is.
fn policy(rule: &str, more: &str) -> String {
    format!(
        "apiVersion: bellwether.dev/v1\nkind: AgentPolicy\ndefault: deny\n{more}\nprojects:\n- name: default\n{rule}\n"
    )
}

fn only(namespace: &str) -> String {
    policy(&format!("  namespaces: [{namespace}]"), "")
}

fn is_well(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
}

fn line<'a>(report: &'a Report, name: &str) -> Option<&'a ObjectLine> {
    report.lines.iter().find(|line| line.key.name == name)
}

/// It is said of the object of this name, after what all refusals begin with.
fn is_refused<'a>(name: &'a str, words: &'a str) -> impl Fn(&Report) -> bool + 'a {
    move |report| line(report, name).is_some_and(|line| line.message.strip_prefix(REFUSED) == Some(words))
}

/// As the target's, in a namespace of somebody else.
fn in_other(fixture: &Fixture, name: &str) -> Value {
    let mut object = fixture.config_map(name, "1");
    object["metadata"]["namespace"] = other(fixture).into();
    object
}

fn other(fixture: &Fixture) -> String {
    fixture.namespace.replace("shop", "other")
}

async fn create_other(fixture: &Fixture) {
    fixture.post("/api/v1/namespaces", &json!({"metadata": {"name": other(fixture)}})).await;
}

fn in_other_path(fixture: &Fixture, name: &str) -> String {
    format!("/api/v1/namespaces/{}/configmaps/{name}", other(fixture))
}

#[tokio::test]
async fn an_object_in_a_namespace_that_is_not_allowed_is_refused_by_name_and_applied_once_the_policy_allows_it() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    create_other(&fixture).await;
    fixture.write_policy(&only(&fixture.namespace));
    fixture.assign(1, &[fixture.config_map("a", "1"), in_other(&fixture, "b")]);
    fixture.start_agent();

    let words = format!("projects[0].namespaces does not allow \"{}\"", other(&fixture));
    let report = fixture.report(is_refused("b", &words)).await;

    assert_eq!((report.verdict, report.may_pass()), (Verdict::Failed, false));
    assert_eq!((line(&report, "b").expect("told").outcome, report.objects.in_place), (Outcome::Rejected, 1));
    assert!(fixture.is_there("a").await);
    fixture.wait_for(&in_other_path(&fixture, "b"), Value::is_null).await;
    let told = |profile: &bellwether_core::session::Profile| profile.facts.contains_key("agent.policy");
    let fact = fixture.profile(told).await.facts["agent.policy"].clone();
    assert!(fact.starts_with("1 project, default deny ("), "{fact}");

    let both = format!("{}, {}", fixture.namespace, other(&fixture));
    fixture.write_policy(&only(&both));
    fixture.report(is_well(1)).await;
    fixture.wait_for(&in_other_path(&fixture, "b"), Value::is_object).await;
}

#[tokio::test]
async fn a_namespace_that_is_written_on_what_has_none_and_a_namespace_itself_pass_no_policy() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    create_other(&fixture).await;
    let rule = format!("  namespaces: [{}]\n  clusterScoped: [core/Namespace]", fixture.namespace);
    fixture.write_policy(&policy(&rule, ""));
    let rights = json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    let of_secrets = fixture.object("rbac.authorization.k8s.io/v1", "ClusterRole", &fixture.namespace, &rights);
    let mut theirs = fixture.namespace_object();
    theirs["metadata"]["name"] = other(&fixture).into();
    fixture.assign(1, &[fixture.config_map("a", "1"), of_secrets, theirs]);
    fixture.start_agent();

    let words = "projects[0].clusterScoped does not allow rbac.authorization.k8s.io/ClusterRole";
    fixture.report(is_refused(&fixture.namespace, words)).await;
    let words = format!("projects[0].namespaces does not allow \"{}\"", other(&fixture));
    fixture.report(is_refused(&other(&fixture), &words)).await;

    let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{}", fixture.namespace);
    fixture.wait_for(&path, Value::is_null).await;
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_lets_nothing_be_written_and_a_whole_one_heals_what_was_left() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.write_policy(&only(&fixture.namespace));
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;

    let broken = format!("{}  namespace: [{}]\n", only(&fixture.namespace), fixture.namespace);
    fixture.write_policy(&broken);
    let is_told = |profile: &bellwether_core::session::Profile| {
        profile.facts.get("agent.policy").is_some_and(|fact| fact.starts_with("unreadable: nothing is written"))
    };
    fixture.profile(is_told).await;
    fixture.assign_pruning(2, &[fixture.config_map("b", "1")], &[fixture.config_map("a", "1")]);
    let report = fixture.report(|report| line(report, "b").is_some_and(|it| it.message.starts_with(REFUSED))).await;

    let message = &line(&report, "b").expect("it is told").message;
    assert!(message.contains("cannot be read, so nothing is written") && message.contains("`namespace`"), "{message}");
    assert!(fixture.is_there("a").await && !fixture.is_there("b").await);
    fixture.write_policy(&only(&fixture.namespace));
    fixture.report(is_well(2)).await;
    fixture.wait_until("a", false).await;
}

#[tokio::test]
async fn nothing_is_deleted_where_the_policy_denies_it_not_by_a_tombstone_and_not_to_be_replaced() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.options = SyncOptions { replace: Replace::Immutable, ..SyncOptions::default() };
    fixture.write_policy(&policy("  prune: deny", ""));
    let immutable = |value: &str| {
        let mut object = fixture.config_map("fixed", value);
        object["immutable"] = true.into();
        object
    };
    let (one, two) = (immutable("1"), immutable("2"));
    fixture.assign(1, &[fixture.config_map("a", "1"), one]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;

    fixture.assign(2, &[fixture.config_map("a", "1"), two]);
    let words = "projects[0].prune denies that anything is deleted";
    fixture.report(is_refused("fixed", words)).await;
    assert_eq!(fixture.fetch("ConfigMap", "fixed").await["data"]["key"], "1");
    fixture.assign_tombstone(3, Action::Delete);
    fixture.report(is_refused("a", words)).await;
    assert!(fixture.is_there("a").await && fixture.is_there("fixed").await);

    fixture.write_policy(&policy("  prune: allow", ""));
    fixture.wait_until("a", false).await;
    fixture.wait_until("fixed", false).await;
}

#[tokio::test]
async fn what_names_an_owner_is_refused_where_deletions_are_denied_and_applied_where_they_are_not() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.write_policy(&policy("  prune: deny", ""));
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;
    let uid = fixture.fetch("ConfigMap", "a").await["metadata"]["uid"].clone();
    let mut owned = fixture.config_map("b", "1");
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": uid}]);
    fixture.assign(2, &[fixture.config_map("a", "1"), owned]);

    let words =
        "projects[0].prune bounds what is deleted, and what has metadata.ownerReferences is deleted with its owner";
    fixture.report(is_refused("b", words)).await;

    assert!(!fixture.is_there("b").await);
    fixture.write_policy(&policy("  prune: allow", ""));
    fixture.report(is_well(2)).await;
}

#[tokio::test]
async fn of_many_that_are_to_go_so_many_are_deleted_in_an_hour_and_the_rest_waits_and_says_so() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.write_policy(&policy("  prune: allow", "pruneMaxPerHour: 2"));
    let names = ["b", "c", "d", "e"];
    let going: Vec<_> = names.iter().map(|name| fixture.config_map(name, "1")).collect();
    let kept = fixture.config_map("a", "1");
    fixture.assign(1, &[std::slice::from_ref(&kept), going.as_slice()].concat());
    fixture.start_agent();
    fixture.report(is_well(1)).await;

    fixture.assign_pruning(2, std::slice::from_ref(&kept), &going);
    let waits = |line: &ObjectLine| line.message.contains("policy: pruneMaxPerHour lets 2 be deleted in an hour");
    let report = fixture.report(|report| report.lines.len() == 2 && report.lines.iter().all(waits)).await;

    assert!(report.lines.iter().all(|line| line.may_pass), "{report:?}");
    let mut there = 0;
    for name in names {
        there += usize::from(fixture.is_there(name).await);
    }
    assert_eq!(there, 2);
    fixture.write_policy(&policy("  prune: allow", "pruneMaxPerHour: 10"));
    for name in names {
        fixture.wait_until(name, false).await;
    }
}

#[tokio::test]
async fn the_targets_own_namespace_is_made_only_where_the_policy_allows_namespaces() {
    let mut fixture = fixture!();
    fixture.options = SyncOptions { create_namespace: true, ..SyncOptions::default() };
    fixture.write_policy(&only(&fixture.namespace));
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    fixture.start_agent();

    let words =
        "it cannot be made: refused by the cluster's policy: projects[0].clusterScoped does not allow core/Namespace";
    fixture.report(|report| line(report, "a").is_some_and(|line| line.message.ends_with(words))).await;

    let rule = format!("  namespaces: [{}]\n  clusterScoped: [core/Namespace]", fixture.namespace);
    fixture.write_policy(&policy(&rule, ""));
    fixture.report(is_well(1)).await;
}

#[tokio::test]
async fn a_target_does_not_write_the_policys_own_config_map_whatever_the_policy_allows() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.write_policy("apiVersion: bellwether.dev/v1\nkind: AgentPolicy\ndefault: allow\n");
    let mut object = fixture.config_map("bellwether-agent-policy", "open");
    object["metadata"]["namespace"] = fixture.home.clone().into();
    fixture.assign(1, &[fixture.config_map("a", "1"), object]);
    fixture.start_agent();

    let is_refused = |line: &ObjectLine| line.message.ends_with("belongs to the cluster's agent");
    fixture.report(|report| line(report, "bellwether-agent-policy").is_some_and(is_refused)).await;

    let path = format!("/api/v1/namespaces/{}/configmaps/bellwether-agent-policy", fixture.home);
    fixture.wait_for(&path, Value::is_null).await;
    assert!(fixture.is_there("a").await);
}

#[tokio::test]
async fn a_target_that_acts_as_no_account_that_the_policy_names_gets_nothing() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.write_policy(&policy("  serviceAccounts: [deployer]", ""));
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    fixture.start_agent();
    let words = "projects[0].serviceAccounts asks for a target with sync.serviceAccount: deployer";
    fixture.report(is_refused("a", words)).await;

    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]}]);
    fixture.allow_account("deployer", "maps", &rules).await;
    fixture.options.service_account = Some("deployer".parse().expect("is a name"));
    fixture.assign(2, &[fixture.config_map("a", "1")]);
    fixture.report(is_well(2)).await;
}
