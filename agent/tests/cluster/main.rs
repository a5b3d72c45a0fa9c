//! The whole agent against a real API server, from its join to its reports.
//!
//! `BELLWETHER_TEST_KUBECONFIG` names a kubeconfig of a cluster's administrator. Every test has a namespace, an agent and
//! a hub of its own, so that they run side by side; what they make stays in the cluster, which is thrown away.

/// Skips loudly on a machine without a cluster, and fails in CI.
macro_rules! fixture {
    () => {
        match crate::fixture::Fixture::start().await {
            Some(fixture) => fixture,
            None => return,
        }
    };
}

mod adoption;
mod assignments;
mod contest;
mod discovery;
mod drift;
mod dry_run;
mod fixture;
mod gateway;
mod hooks;
mod hub;
mod impersonating;
mod many;
mod once;
mod own_namespace;
mod ownership;
mod policy;
mod refusals;
mod replacing;
mod sealed;
mod verdicts;
mod watches;
mod yielding;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bellwether_core::report::{ObjectLine, Outcome, Verdict};
use bellwether_core::session::{Action, Profile};
use bellwether_core::{Generation, TargetId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::labelled;

#[tokio::test]
async fn an_agent_joins_applies_what_it_is_assigned_and_says_so() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1"), fixture.config_map("b", "1")]);
    fixture.start_agent();

    let report = fixture.report(|report| report.applied).await;

    assert_eq!((report.generation, report.verdict), (Generation::new(1), Verdict::Healthy));
    assert_eq!((report.objects.total, report.objects.in_place, report.objects.healthy), (3, 3, 3));
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "1");
    let first = &fixture.hub.reports(fixture.target)[0];
    assert_eq!((first.applied, first.verdict), (false, Verdict::Progressing), "the acknowledgement");
    let facts = fixture.hub.facts();
    assert!(facts["kubernetes.version"].starts_with("v1."));
    assert!(facts["kubernetes.version"].starts_with(&format!("v{}.", facts["kubernetes.minor"])), "{facts:?}");
}

#[tokio::test]
async fn an_agent_says_what_its_cluster_serves_and_when_a_definition_comes_and_goes() {
    let mut fixture = fixture!();
    fixture.poll_seconds = "1";
    fixture.start_agent();
    let serves = |profile: &Profile, name: &str| profile.apis.as_ref().is_some_and(|apis| apis.has(name));

    let profile = fixture.profile(|profile| profile.apis.is_some()).await;
    for name in ["v1", "v1/ConfigMap", "v1/Eviction", "apps/v1", "apps/v1/Deployment", "apps/v1/Scale"] {
        assert!(serves(&profile, name), "{name}: {:?}", profile.apis.map(|apis| apis.text().to_owned()));
    }
    assert!(profile.facts.contains_key("kubernetes.minor"), "{:?}", profile.facts);

    let group = format!("{}.example.org", fixture.namespace);
    let (version, kind) = (format!("{group}/v1"), format!("{group}/v1/Widget"));
    assert!(!serves(&profile, &version));
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    fixture.post(definitions, &fixture.definition(&group)).await;
    fixture.profile(|profile| serves(profile, &version) && serves(profile, &kind)).await;
    fixture.remove(&format!("{definitions}/widgets.{group}")).await;
    fixture.profile(|profile| !serves(profile, &version)).await;
}

#[tokio::test]
async fn an_agent_tells_the_definitions_of_its_cluster_when_they_come_change_and_go() {
    let mut fixture = fixture!();
    fixture.poll_seconds = "1";
    let group = format!("{}.example.org", fixture.namespace);
    let name = format!("widgets.{group}");
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut object = fixture.definition(&group);
    fixture.post(path, &object).await;
    fixture.start_agent();
    let digest_of = |profile: &Profile| {
        let definitions = profile.definitions.as_ref()?;
        definitions.entries().find(|(of, _)| *of == name).and_then(|(_, digest)| digest)
    };

    let profile = fixture.profile(|profile| digest_of(profile).is_some()).await;
    let first = digest_of(&profile).expect("it is told");
    let told = fixture.told(first).await;
    assert_eq!(told["spec"]["names"]["kind"], "Widget");
    let size = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/type";
    assert_eq!(told.pointer(size), Some(&json!("integer")));
    assert_eq!(told["metadata"], json!({"name": name}), "and nothing that only this cluster has");

    *object.pointer_mut(size).expect("it is there") = json!("string");
    let change = json!({"spec": {"versions": object["spec"]["versions"]}});
    fixture.merge(&format!("{path}/{name}"), "somebody", &change).await;
    let profile = fixture.profile(|profile| digest_of(profile).is_some_and(|digest| digest != first)).await;
    let told = fixture.told(digest_of(&profile).expect("it is told")).await;
    assert_eq!(told.pointer(size), Some(&json!("string")));

    fixture.remove(&format!("{path}/{name}")).await;
    fixture.profile(|profile| profile.definitions.is_some() && digest_of(profile).is_none()).await;
}

/// Of one definition; each is read once for its digest, and then because the hub asks for it.
fn is_second_read(_: &http::Method, uri: &http::Uri) -> bool {
    static READS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());
    if !uri.path().contains("/customresourcedefinitions/") {
        return false;
    }
    let mut reads = READS.lock().unwrap_or_else(PoisonError::into_inner);
    let times = reads.entry(uri.path().to_owned()).or_default();
    *times += 1;
    *times == 2
}

#[tokio::test]
async fn a_definition_that_cannot_be_read_when_the_hub_asks_for_it_is_brought_a_little_later() {
    let mut fixture = fixture!();
    fixture.poll_seconds = "1";
    let group = format!("{}.example.org", fixture.namespace);
    let name = format!("widgets.{group}");
    fixture.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &fixture.definition(&group)).await;
    let gateway = fixture.put_gateway_before("configmaps").await;
    gateway.refuse(is_second_read);
    fixture.start_agent();

    let digest_of = |profile: &Profile| {
        let definitions = profile.definitions.as_ref()?;
        definitions.entries().find(|(of, _)| *of == name).and_then(|(_, digest)| digest)
    };
    let profile = fixture.profile(|profile| digest_of(profile).is_some()).await;

    let told = fixture.told(digest_of(&profile).expect("it is told")).await;
    assert_eq!(told["spec"]["names"]["kind"], "Widget");
}

#[tokio::test]
async fn a_lost_answer_to_the_join_is_asked_for_again_with_the_same_key() {
    let mut fixture = fixture!();
    fixture.hub.lose_answers(2);
    fixture.assign(1, &[fixture.namespace_object()]);
    fixture.start_agent();

    fixture.report(|report| report.applied).await;

    let keys = fixture.hub.enrolled();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[tokio::test]
async fn a_killed_agent_comes_back_without_joining_and_changes_nothing() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;
    let before = fixture.fetch("ConfigMap", "a").await;

    fixture.kill_agent().await;
    fixture.start_agent_without_token();
    fixture.reports(|reports| reports.iter().filter(|report| report.applied).count() == 2).await;

    assert_eq!(fixture.hub.enrolled().len(), 1);
    assert_eq!(fixture.fetch("ConfigMap", "a").await["metadata"], before["metadata"]);
}

#[tokio::test]
async fn what_is_there_already_is_left_alone_and_its_owner_named() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.create_as("somebody", fixture.unlabelled_config_map("taken", "theirs")).await;
    fixture.assign(1, &[fixture.config_map("taken", "ours"), fixture.config_map("free", "1")]);
    fixture.start_agent();

    let report = fixture.report(|report| report.objects.in_place == 1 && report.verdict == Verdict::Failed).await;

    assert_eq!(report.lines.len(), 1);
    assert_eq!((report.lines[0].key.name.as_str(), report.lines[0].outcome), ("taken", Outcome::Exists));
    assert!(report.lines[0].hint.contains("written by somebody"), "{}", report.lines[0].hint);
    assert_eq!(fixture.fetch("ConfigMap", "taken").await["data"]["key"], "theirs");
    assert!(!report.applied);
}

#[tokio::test]
async fn a_missing_namespace_is_named_and_heals_when_it_appears() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    fixture.start_agent();

    let report = fixture.report(|report| report.verdict == Verdict::Degraded).await;
    let hint = format!("create namespace {}, or add it to the target", fixture.namespace);
    assert_eq!(report.lines[0].outcome, Outcome::Retrying);
    assert!(report.lines[0].hint.starts_with(&hint), "{}", report.lines[0].hint);
    fixture.create_namespace().await;

    let healed = fixture.report(|report| report.applied).await;
    assert_eq!(healed.verdict, Verdict::Healthy);
}

#[tokio::test]
async fn what_did_not_change_is_not_sent() {
    let mut fixture = fixture!();
    // Of a kind that nothing else in the cluster uses, because the API server's counters know only the kind.
    let limits = |name: &str, cpu: &str| {
        let limits = json!([{"type": "Container", "default": {"cpu": cpu}, "defaultRequest": {"cpu": "1m"}}]);
        fixture.object("v1", "LimitRange", name, &json!({"spec": {"limits": limits}}))
    };
    let (a, b, b2) = (limits("a", "1"), limits("b", "1"), limits("b", "2"));
    fixture.assign(1, &[fixture.namespace_object(), a.clone(), b.clone()]);
    fixture.start_agent();
    fixture.report(|report| report.applied && report.generation == Generation::new(1)).await;
    let first = fixture.requests("limitranges").await;

    fixture.assign(2, &[fixture.namespace_object(), a.clone(), b]);
    fixture.report(|report| report.applied && report.generation == Generation::new(2)).await;
    let unchanged = fixture.requests("limitranges").await;
    fixture.assign(3, &[fixture.namespace_object(), a, b2]);
    fixture.report(|report| report.applied && report.generation == Generation::new(3)).await;

    assert_eq!(first, unchanged, "nothing is read or written");
    assert_eq!(fixture.requests("limitranges").await, first + 1, "one object is applied, and not inspected before");
}

#[tokio::test]
async fn a_rejected_object_is_named_with_the_servers_reason_and_the_others_go_on() {
    let mut fixture = fixture!();
    let unknown = fixture.object("v1", "ConfigMap", "unknown", &json!({"dataa": {"key": "1"}}));
    let invalid = fixture.object("v1", "Service", "invalid", &json!({"spec": {"ports": [{"port": 0}]}}));
    let kindless = fixture.object("example.org/v1", "Nothing", "kindless", &json!({}));
    fixture.assign(1, &[fixture.namespace_object(), unknown, invalid, kindless, fixture.config_map("good", "1")]);
    fixture.start_agent();

    let stands = |report: &bellwether_core::report::Report, outcome: Outcome| {
        report.lines.iter().filter(|line| line.outcome == outcome).count()
    };
    let report =
        fixture.report(|report| stands(report, Outcome::Rejected) == 2 && stands(report, Outcome::Retrying) == 1).await;

    let line = |name: &str| report.lines.iter().find(|line| line.key.name == name).expect("has a line");
    assert!(line("unknown").message.contains("dataa"), "{}", line("unknown").message);
    assert!(line("invalid").message.contains("spec.ports[0].port"), "{}", line("invalid").message);
    assert!(line("kindless").hint.contains("definition of Nothing"), "{}", line("kindless").hint);
    assert_eq!((report.verdict, report.objects.in_place), (Verdict::Failed, 2));
    assert_eq!(fixture.fetch("ConfigMap", "good").await["data"]["key"], "1");
}

#[tokio::test]
async fn a_field_that_somebody_else_owns_is_a_conflict_and_nothing_of_the_object_is_sent() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.create_as("somebody", fixture.config_map("shared", "theirs")).await;
    fixture.assign(1, &[fixture.config_map("shared", "ours")]);
    fixture.start_agent();

    let report = fixture.report(|report| report.verdict == Verdict::Failed).await;

    assert_eq!(report.lines[0].outcome, Outcome::Conflict);
    assert_eq!(report.lines[0].message, "field .data.key is managed by somebody");
    assert_eq!(fixture.fetch("ConfigMap", "shared").await["data"]["key"], "theirs");
}

#[tokio::test]
async fn a_definition_and_an_object_of_its_kind_come_in_one_bundle() {
    let mut fixture = fixture!();
    let group = format!("{}.example.org", fixture.namespace);
    let widget = fixture.object(&format!("{group}/v1"), "Widget", "one", &json!({"spec": {"size": 3}}));
    fixture.assign(1, &[fixture.namespace_object(), fixture.definition(&group), widget]);
    fixture.start_agent();

    let report = fixture.report(|report| report.applied && report.verdict == Verdict::Healthy).await;

    assert_eq!(report.objects.healthy, 3);
    let waited = fixture.hub.reports(fixture.target);
    let held_up = |name: &str| waited.iter().flat_map(|report| &report.lines).any(|line| line.key.name == name);
    assert!(held_up("one"), "it waits for its definition");
}

#[tokio::test]
async fn health_is_what_the_object_says_of_this_generation() {
    let mut fixture = fixture!();
    // The cluster has a scheduler: only a node that is not there keeps the pods waiting.
    let deployment = |node: &Value| {
        let pod = json!({"containers": [{"name": "a", "image": "a"}], "nodeSelector": node});
        let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": pod});
        json!({"spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template}})
    };
    let nowhere = fixture.object("apps/v1", "Deployment", "web", &deployment(&json!({"node": "none"})));
    fixture.assign(1, &[fixture.namespace_object(), nowhere]);
    fixture.start_agent();
    let applied = fixture.report(|report| report.applied).await;
    assert_eq!(applied.verdict, Verdict::Progressing);

    let anywhere = fixture.object("apps/v1", "Deployment", "web", &deployment(&json!({})));
    fixture.assign(2, &[fixture.namespace_object(), anywhere]);

    fixture.report(|report| report.generation == Generation::new(2) && report.verdict == Verdict::Healthy).await;
}

#[tokio::test]
async fn a_cut_session_is_taken_up_again_and_newer_assignments_arrive() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;

    fixture.hub.cut_sessions();
    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "2")]);
    fixture.report(|report| report.applied && report.generation == Generation::new(2)).await;

    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "2");
    assert!(fixture.hub.sessions() >= 2);
}

#[tokio::test]
async fn a_refused_token_ends_the_agent_with_a_hint() {
    let fixture = fixture!();

    let error = fixture.run_agent_with_token("bwj_other").await.expect_err("it cannot join");

    assert!(error.with_sources().contains("the token is not known"), "{}", error.with_sources());
    assert!(error.hint().is_some_and(|hint| hint.contains("cluster reenroll")), "{:?}", error.hint());
}

#[tokio::test]
async fn what_left_the_bundle_is_deleted_when_the_new_objects_are_healthy() {
    let mut fixture = fixture!();
    let (a, old) = (fixture.config_map("a", "1"), fixture.config_map("old", "1"));
    fixture.assign(1, &[fixture.namespace_object(), a.clone(), old.clone()]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;

    fixture.assign_pruning(2, &[fixture.namespace_object(), a], &[old]);
    let is_done = |generation, verdict| {
        move |report: &bellwether_core::report::Report| {
            report.generation == Generation::new(generation) && report.verdict == verdict
        }
    };
    fixture.report(is_done(2, Verdict::Healthy)).await;
    assert!(fixture.is_there("a").await && !fixture.is_there("old").await);

    fixture.assign_tombstone(3, Action::Delete);
    let gone = fixture.report(is_done(3, Verdict::Healthy)).await;
    assert!(gone.applied && !fixture.is_there("a").await);
    assert!(gone.lines[0].message.starts_with("never deleted"), "the namespace stays: {:?}", gone.lines);
}

#[tokio::test]
async fn a_target_that_was_deleted_everywhere_leaves_nothing_in_the_agent() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    let kept = TargetId::new(Uuid::now_v7());
    fixture.assign_to(kept, &[labelled(fixture.config_map("kept", "1"), kept)]);
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.wait_for_journal(&[fixture.target, kept]).await;
    fixture.report(|report| report.verdict == Verdict::Healthy).await;
    fixture.assign_tombstone(2, Action::Delete);
    fixture.report(|report| report.generation == Generation::new(2) && report.applied).await;

    // As a hub does that has heard of it.
    fixture.hub.forget(fixture.target);
    fixture.hub.cut_sessions();
    fixture.wait_for_journal(&[kept]).await;

    fixture.kill_agent().await;
    fixture.start_agent_without_token();
    let listed = fixture.hub.listed_root();
    fixture.wait_for_hello(listed).await;
    assert!(!fixture.is_there("a").await && fixture.is_there("kept").await);
}

#[tokio::test]
async fn nothing_is_pruned_when_something_left_that_the_plan_does_not_name() {
    let mut fixture = fixture!();
    let [a, b, c] = ["a", "b", "c"].map(|name| fixture.config_map(name, "1"));
    fixture.assign(1, &[fixture.namespace_object(), a.clone(), b.clone(), c]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;

    fixture.assign_pruning(2, &[fixture.namespace_object(), a], &[b]);
    let refused = fixture.report(|report| report.verdict == Verdict::Degraded).await;

    let line = refused.lines.iter().find(|line| line.key.name == "c").expect("it has a line");
    assert_eq!((line.outcome, line.message.as_str()), (Outcome::Pruning, "prune refused: not in the plan"));
    assert!(fixture.is_there("b").await && fixture.is_there("c").await);
}

#[tokio::test]
async fn what_somebody_asked_to_keep_is_not_deleted_and_its_line_says_so() {
    let mut fixture = fixture!();
    let [a, kept, old] = ["a", "kept", "old"].map(|name| fixture.config_map(name, "1"));
    fixture.assign(1, &[fixture.namespace_object(), a.clone(), kept.clone(), old.clone()]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;
    fixture.edit("kept", &json!({"metadata": {"annotations": {"helm.sh/resource-policy": "keep"}}})).await;

    fixture.assign_pruning(2, &[fixture.namespace_object(), a], &[kept, old]);
    let is_done = |generation| {
        move |report: &bellwether_core::report::Report| {
            report.generation == Generation::new(generation) && report.applied && report.verdict == Verdict::Healthy
        }
    };
    let pruned = fixture.report(is_done(2)).await;
    assert!(fixture.is_there("kept").await && !fixture.is_there("old").await);
    fixture.assign_tombstone(3, Action::Delete);
    let deleted = fixture.report(is_done(3)).await;

    assert!(fixture.is_there("kept").await && !fixture.is_there("a").await);
    for report in [pruned, deleted] {
        let line = report.lines.iter().find(|line| line.key.name == "kept").expect("it has a line");
        assert!(line.message.contains("helm.sh/resource-policy"), "{line:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_down_is_told_with_its_reason_and_applied_when_it_can() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;
    fixture.wait_for_inventory(1).await;
    let quotas = format!("/api/v1/namespaces/{}/resourcequotas", fixture.home);
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
        "spec": {"hard": {"count/secrets": "0"}}});
    fixture.post(&quotas, &quota).await;
    fixture.wait_for_path(&format!("{quotas}/full"), |quota| !quota["status"]["hard"].is_null()).await;

    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "2")]);

    let is_second = |report: &bellwether_core::report::Report| report.generation == Generation::new(2);
    let told = fixture.report(|report| is_second(report) && !report.lines.is_empty()).await;
    assert!(!told.applied && told.lines[0].key.kind == "Secret", "{told:?}");
    assert!(told.lines[0].message.contains("exceeded quota"), "{:?}", told.lines);
    fixture.remove(&format!("{quotas}/full")).await;
    fixture.report(|report| is_second(report) && report.verdict == Verdict::Healthy && report.lines.is_empty()).await;
}

#[tokio::test]
async fn where_it_cannot_be_told_who_acts_nothing_is_let_go() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("secrets").await;
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;
    gateway.hold(|method, uri| method == http::Method::GET && uri.path().ends_with("/configmaps/a"));
    fixture.assign_tombstone(2, Action::Orphan);
    gateway.wait_for_held().await;
    tokio::time::sleep(fixture::FENCE_COUNTS).await;
    gateway.refuse(|method, uri| method == http::Method::GET && uri.path().contains("/secrets/bellwether-journal-"));
    gateway.release();

    let is_second = |report: &bellwether_core::report::Report| report.generation == Generation::new(2);
    let says_why = |line: &ObjectLine| line.message.contains("whether this agent was replaced");
    let told = fixture.report(|report| is_second(report) && report.lines.iter().any(says_why)).await;
    assert!(!told.applied, "{told:?}");
    fixture.report(|report| is_second(report) && report.verdict >= Verdict::Degraded).await;
    assert!(fixture.fetch("ConfigMap", "a").await["metadata"]["labels"]["bellwether.dev/target"].is_string());
    gateway.refuse_nothing();
    fixture.report(|report| is_second(report) && report.applied).await;
    assert_eq!(fixture.fetch("ConfigMap", "a").await["metadata"]["labels"], Value::Null);
}

#[tokio::test]
async fn an_orphaned_object_stays_without_our_label() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;

    fixture.assign_tombstone(2, Action::Orphan);
    fixture.report(|report| report.generation == Generation::new(2) && report.applied).await;

    let a = fixture.fetch("ConfigMap", "a").await;
    assert_eq!((&a["data"]["key"], &a["metadata"]["labels"]), (&json!("1"), &serde_json::Value::Null));
}

#[tokio::test]
async fn an_agent_that_was_killed_in_the_middle_of_a_prune_ends_it() {
    let mut fixture = fixture!();
    let old: Vec<_> = (0..40).map(|number| fixture.config_map(&format!("old-{number:02}"), "1")).collect();
    let mut all = vec![fixture.namespace_object()];
    all.extend(old.iter().cloned());
    fixture.assign(1, &all);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;

    fixture.assign_pruning(2, &[fixture.namespace_object()], &old);
    fixture.wait_until("old-39", false).await;
    fixture.kill_agent().await;
    fixture.start_agent_without_token();
    fixture.report(|report| report.generation == Generation::new(2) && report.verdict == Verdict::Healthy).await;

    for number in 0..40 {
        assert!(!fixture.is_there(&format!("old-{number:02}")).await, "{number}");
    }
}

#[tokio::test]
async fn an_agent_that_starts_while_the_hub_is_away_heals_from_its_journal() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1"), fixture.config_map("b", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;
    let loaded = fixture.hub.loaded();

    fixture.hub.go_away();
    fixture.kill_agent().await;
    fixture.delete("a").await;
    fixture.start_agent_without_token();
    fixture.wait_until("a", true).await;

    let reports = fixture.hub.reports(fixture.target).len();
    fixture.hub.come_back();
    let reports = fixture.reports(|all| all.len() > reports && all.last().is_some_and(|report| report.applied)).await;
    assert_eq!(reports.last().map(|report| report.verdict), Some(Verdict::Healthy));
    assert_eq!(fixture.hub.loaded(), loaded, "nothing is sent again");
}

#[tokio::test]
async fn of_a_journal_that_lost_a_part_only_that_is_sent_again() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1"), fixture.config_map("b", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;
    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "1"), fixture.config_map("b", "2")]);
    let is_second = |report: &bellwether_core::report::Report| report.generation == Generation::new(2);
    fixture.report(|report| is_second(report) && report.verdict == Verdict::Healthy).await;
    let (loaded, reports) = (fixture.hub.loaded(), fixture.hub.reports(fixture.target).len());

    fixture.kill_agent().await;
    fixture.lose_first_entry().await;
    fixture.start_agent_without_token();

    let is_well = |all: &[bellwether_core::report::Report]| {
        all.len() > reports && all.last().is_some_and(|last| is_second(last) && last.verdict == Verdict::Healthy)
    };
    fixture.reports(is_well).await;
    assert_eq!(fixture.hub.loaded() - loaded, 2, "the namespace and `a`, whose bodies stood in the first entry");
}

#[tokio::test]
async fn a_secret_that_only_looks_like_the_journals_is_ignored_and_stops_nobody() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;
    fixture.kill_agent().await;
    // Of any name, of one that the journal comes to, and a copy of a good part under another number.
    fixture.forge_journal("not-even-a-number", None).await;
    fixture.forge_journal("bellwether-journal-000000000003", None).await;
    fixture.forge_journal("bellwether-journal-18446744073709551615", None).await;
    fixture.forge_journal("bellwether-journal-000000000004", Some("bellwether-journal-000000000001")).await;

    fixture.start_agent_without_token();
    fixture.reports(|reports| reports.iter().filter(|report| report.applied).count() == 2).await;
    for generation in 2..6 {
        fixture.assign(generation, &[fixture.namespace_object(), fixture.config_map("a", &generation.to_string())]);
        fixture.report(|report| report.applied && report.generation == Generation::new(generation)).await;
    }

    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "5");
    assert_eq!(fixture.hub.enrolled().len(), 1);
}

#[tokio::test]
async fn what_is_the_agents_own_is_written_by_no_target_and_the_others_go_on() {
    let mut fixture = fixture!();
    let mut role = fixture.object("rbac.authorization.k8s.io/v1", "ClusterRole", "x", &json!({"rules": []}));
    role["metadata"]["name"] = json!(format!("bellwether-agent-{}", fixture.home));
    role["metadata"].as_object_mut().expect("is an object").remove("namespace");
    let mut secret = fixture.object("v1", "Secret", "in-its-namespace", &json!({}));
    secret["metadata"]["namespace"] = json!(fixture.home);
    let mut marked = fixture.config_map("marked", "1");
    marked["metadata"]["labels"]["bellwether.dev/journal"] = json!("v1");
    let namespace = fixture.namespace_object();
    fixture.assign(1, &[namespace.clone(), secret, marked, fixture.config_map("good", "1")]);
    fixture.start_agent();

    let report = fixture.report(|report| report.objects.in_place == 2 && report.verdict == Verdict::Failed).await;

    fixture.assign(2, &[namespace, role]);
    let second =
        fixture.report(|report| report.generation == Generation::new(2) && report.verdict == Verdict::Failed).await;

    let said = |report: &bellwether_core::report::Report, name: &str| {
        let line = report.lines.iter().find(|line| line.key.name == name).expect("is told");
        assert_eq!((line.outcome, line.may_pass), (Outcome::Rejected, false), "{line:?}");
        line.message.clone()
    };
    assert!(said(&report, "in-its-namespace").ends_with("belongs to the cluster's agent"));
    assert!(said(&second, &format!("bellwether-agent-{}", fixture.home)).ends_with("belongs to the cluster's agent"));
    assert_eq!(said(&report, "marked"), "metadata.labels.bellwether.dev/journal is Bellwether's own");
    assert_eq!(fixture.fetch("ConfigMap", "good").await["data"]["key"], "1");
}

#[tokio::test]
async fn an_agent_that_was_replaced_and_heard_nothing_of_it_ends_before_it_puts_anything_back() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;
    // What it has learned is written down by then: of two who write at once the second would end.
    fixture.wait_for_inventory(1).await;
    fixture.wait_for_quiet_journal().await;
    let first = fixture.take_agent();
    fixture.hub.shut_out();
    fixture.start_agent_without_token();

    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "2")]);

    fixture.report(|report| report.generation == Generation::new(2) && report.applied).await;
    // It sees that the object is not as it applied it, and by whom tells it nothing: they have one name.
    let ended = tokio::time::timeout(Duration::from_mins(1), first).await.expect("it ends");
    let error = ended.expect("it does not panic").expect_err("it stops");
    assert!(error.with_sources().contains("another agent"), "{}", error.with_sources());
    assert_eq!(fixture.fetch("ConfigMap", "a").await["data"]["key"], "2");
    assert!(fixture.hub.drifts().is_empty(), "it was never put back");
}

#[tokio::test]
async fn of_two_agents_with_one_journal_one_stops() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(|report| report.verdict == Verdict::Healthy).await;
    // What it has learned is written down by then: of two who write at once the second would end, and too soon.
    fixture.wait_for_inventory(1).await;
    fixture.wait_for_quiet_journal().await;
    let mut first = fixture.take_agent();
    fixture.start_agent_without_token();
    fixture.reports(|reports| reports.iter().filter(|report| report.applied).count() == 2).await;
    let mut second = fixture.take_agent();

    fixture.assign(2, &[fixture.namespace_object(), fixture.config_map("a", "2")]);
    let ended = tokio::select! {
        ended = &mut first => ended,
        ended = &mut second => ended,
    };

    let error = ended.expect("it does not panic").expect_err("it stops");
    assert!(error.with_sources().contains("another agent"), "{}", error.with_sources());
    fixture.report(|report| report.generation == Generation::new(2) && report.applied).await;
    first.abort();
    second.abort();
}
