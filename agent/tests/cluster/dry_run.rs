//! What would become of a bundle, in a real API server: told, and nothing of it done.

use std::collections::BTreeMap;

use bellwether_core::ObjectKey;
use bellwether_core::dry_run::{DryRunAnswer, Fate, Tried, Unanswered};
use bellwether_core::session::{Adopt, DriftMode, Replace, SyncOptions};
use serde_json::{Value, json};

use crate::fixture::Fixture;

/// By the names of the objects.
async fn tried(fixture: &Fixture, objects: &[Value]) -> BTreeMap<String, Tried> {
    let DryRunAnswer::Tried(tried) = fixture.dry_run(objects).await else { panic!("it is answered") };
    let mut keys: Vec<_> = objects.iter().map(|object| ObjectKey::of(object).expect("has a key")).collect();
    keys.sort();
    keys.into_iter().map(|key| key.name).zip(tried).collect()
}

fn fates(tried: &BTreeMap<String, Tried>) -> Vec<(&str, Fate)> {
    tried.iter().map(|(name, tried)| (name.as_str(), tried.fate)).collect()
}

/// Everything of the namespace, as far as tests have it.
async fn standing(fixture: &Fixture) -> Vec<Value> {
    let mut all = Vec::new();
    for (prefix, plural) in [("/api/v1", "configmaps"), ("/api/v1", "secrets"), ("/apis/apps/v1", "deployments")] {
        let path = format!("{prefix}/namespaces/{}/{plural}", fixture.namespace);
        let list = fixture.wait_for(&path, |list| list["items"].is_array()).await;
        let name = |object: &Value| (object["metadata"]["name"].clone(), object["metadata"]["resourceVersion"].clone());
        // Kubernetes makes one by itself.
        let items =
            list["items"].as_array().expect("items").iter().filter(|one| one["metadata"]["name"] != "kube-root-ca.crt");
        all.extend(items.map(|object| json!([plural, name(object).0, name(object).1])));
    }
    all
}

fn secret(fixture: &Fixture, password: &str) -> Value {
    fixture.object("v1", "Secret", "db", &json!({"data": {"password": password}}))
}

fn web(fixture: &Fixture, app: &str) -> Value {
    let labels = json!({"app": app});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "one"}]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": template});
    fixture.object("apps/v1", "Deployment", "web", &json!({"spec": spec}))
}

#[tokio::test]
async fn what_would_become_of_each_object_is_told_and_nothing_is_changed() {
    let mut fixture = fixture!();
    let same = fixture.config_map("same", "1");
    fixture
        .assign(1, &[fixture.namespace_object(), same.clone(), fixture.config_map("other", "1"), web(&fixture, "web")]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;
    fixture.create_as("somebody", fixture.unlabelled_config_map("theirs", "swordfish77")).await;
    fixture.edit("other", &json!({"data": {"key": "by hand"}})).await;
    fixture.wait_for_value("other", "1").await;
    let before = standing(&fixture).await;

    let invalid = fixture.object("v1", "Service", "invalid", &json!({"spec": {"ports": [{"port": 700_077}]}}));
    let unserved = fixture.object("nowhere.example.org/v1", "Thing", "unserved", &json!({}));
    let mut elsewhere = fixture.config_map("elsewhere", "1");
    elsewhere["metadata"]["namespace"] = json!(format!("{}-none", fixture.namespace));
    let objects = [
        fixture.namespace_object(),
        same,
        fixture.config_map("other", "2"),
        fixture.config_map("new", "1"),
        fixture.config_map("theirs", "1"),
        web(&fixture, "another"),
        invalid,
        unserved,
        elsewhere,
    ];
    let tried = tried(&fixture, &objects).await;

    let expected = [
        ("elsewhere", Fate::NamespaceMissing),
        ("invalid", Fate::Refused),
        ("new", Fate::Created),
        ("other", Fate::Changed),
        ("same", Fate::Unchanged),
        (fixture.namespace.as_str(), Fate::Unchanged),
        ("theirs", Fate::Exists),
        ("unserved", Fate::KindMissing),
        ("web", Fate::Refused),
    ];
    assert_eq!(fates(&tried), expected, "{tried:#?}");
    let changed = &tried["other"].values.values;
    let told: Vec<_> =
        changed.iter().map(|one| (one.path.as_str(), one.found.as_deref(), one.wanted.as_deref())).collect();
    assert_eq!(told, [(".data.key", Some("\"1\""), Some("\"2\""))]);
    assert!(tried["invalid"].message.contains("spec.ports[0].port: Invalid value"), "{}", tried["invalid"].message);
    assert!(tried["web"].message.contains("field is immutable"), "{}", tried["web"].message);
    assert!(tried["theirs"].message.contains("written by somebody"), "{}", tried["theirs"].message);
    assert!(!format!("{tried:?}").contains("swordfish"), "what somebody else's holds is told nowhere");
    assert_eq!(standing(&fixture).await, before);
    assert!(fixture.wait_for(&format!("/api/v1/namespaces/{}-none", fixture.namespace), |_| true).await.is_null());
}

#[tokio::test]
async fn what_stands_otherwise_than_it_was_applied_is_told_as_it_stands() {
    let mut fixture = fixture!();
    fixture.options = SyncOptions { drift: DriftMode::Warn, ..SyncOptions::default() };
    let object = fixture.config_map("a", "1");
    fixture.assign(1, &[fixture.namespace_object(), object.clone()]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;
    fixture.edit("a", &json!({"data": {"key": "by hand"}})).await;

    let tried = tried(&fixture, &[object]).await;

    assert_eq!(tried["a"].fate, Fate::Changed);
    let told = &tried["a"].values.values[0];
    assert_eq!((told.found.as_deref(), told.wanted.as_deref()), (Some("\"by hand\""), Some("\"1\"")));
    fixture.wait_for_value("a", "by hand").await;
}

#[tokio::test]
async fn what_a_secret_holds_is_told_nowhere_neither_the_one_of_git_nor_the_one_that_stands() {
    let mut fixture = fixture!();
    // hunter2-before, hunter2-after
    fixture.assign(
        1,
        &[
            fixture.namespace_object(),
            secret(&fixture, "aHVudGVyMi1iZWZvcmU="),
            fixture.config_map("uses", "db://hunter2-before@x"),
        ],
    );
    fixture.start_agent();
    fixture.report(|report| report.applied).await;

    let tried = tried(
        &fixture,
        &[secret(&fixture, "aHVudGVyMi1hZnRlcg=="), fixture.config_map("uses", "db://hunter2-after@x")],
    )
    .await;

    assert_eq!(fates(&tried), [("db", Fate::Changed), ("uses", Fate::Changed)]);
    let told = format!("{tried:?}");
    assert!(!told.contains("hunter2") && !told.contains("aHVudGVy"), "{told}");
    assert!(tried["db"].values.values.is_empty() && tried["db"].values.are_more, "that it changes is told");
    assert_eq!(tried["uses"].values.values[0].found.as_deref(), Some("\"(hidden)\""));
}

#[tokio::test]
async fn a_label_that_somebody_copied_shows_nobody_what_an_object_holds() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object()]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;
    fixture.create_as("somebody", fixture.config_map("theirs", "swordfish77")).await;

    let tried = tried(&fixture, &[fixture.object("v1", "ConfigMap", "theirs", &json!({"data": {"other": "1"}}))]).await;

    assert!(!format!("{tried:?}").contains("swordfish"), "{tried:?}");
    assert!(tried["theirs"].values.values.is_empty());
}

#[tokio::test]
async fn what_would_be_taken_or_made_anew_is_told_as_such_and_stays() {
    let mut fixture = fixture!();
    fixture.options = SyncOptions { adopt: Adopt::Always, replace: Replace::Immutable, ..SyncOptions::default() };
    fixture.assign(1, &[fixture.namespace_object(), web(&fixture, "web")]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;
    fixture.create_as("somebody", fixture.unlabelled_config_map("theirs", "swordfish77")).await;
    let before = standing(&fixture).await;

    let tried = tried(&fixture, &[web(&fixture, "another"), fixture.config_map("theirs", "1")]).await;

    assert_eq!(fates(&tried), [("theirs", Fate::Adopted), ("web", Fate::Replaced)], "{tried:#?}");
    assert!(!format!("{tried:?}").contains("swordfish"), "it is not the target's yet");
    assert_eq!(standing(&fixture).await, before);
}

#[tokio::test]
async fn of_what_comes_with_the_change_nobody_guesses_what_needs_it() {
    let mut fixture = fixture!();
    let group = format!("{}.example.org", fixture.namespace);
    fixture.start_agent();
    fixture.profile(|_| true).await;
    let widget = fixture.object(&format!("{group}/v1"), "Widget", "blue", &json!({"spec": {"size": 1}}));

    let objects = [fixture.definition(&group), widget, fixture.namespace_object(), fixture.config_map("a", "1")];
    let tried = tried(&fixture, &objects).await;

    assert_eq!(tried["blue"], Tried::unknown("its definition comes with this change"));
    let message = format!("namespace {} comes with this change", fixture.namespace);
    assert_eq!(tried["a"], Tried::new(Fate::NamespaceMissing, message));
    assert_eq!(tried[&format!("widgets.{group}")].fate, Fate::Created, "{tried:#?}");
}

#[tokio::test]
async fn an_agent_in_which_it_is_switched_off_is_not_asked() {
    let mut fixture = fixture!();
    fixture.dry_run = false;
    fixture.start_agent();
    fixture.profile(|_| true).await;

    assert_eq!(fixture.dry_run(&[fixture.config_map("a", "1")]).await, DryRunAnswer::Unanswered(Unanswered::Off));
}

#[tokio::test]
async fn what_a_secret_holds_that_the_branch_has_no_more_is_told_nowhere_nor_is_half_of_it() {
    let mut fixture = fixture!();
    let long = format!("{}hunter2-before", "x".repeat(240));
    let (short, long) = (fixture.config_map("short", "db://hunter2-before@x"), fixture.config_map("long", &long));
    // hunter2-before
    let before = secret(&fixture, "aHVudGVyMi1iZWZvcmU=");
    fixture.assign(1, &[fixture.namespace_object(), before, short, long]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;

    let tried = tried(&fixture, &[fixture.config_map("short", "b"), fixture.config_map("long", "b")]).await;

    assert_eq!(fates(&tried), [("long", Fate::Changed), ("short", Fate::Changed)]);
    assert!(!format!("{tried:?}").contains("hunt"), "{tried:?}");
    let found = |name: &str| tried[name].values.values[0].found.clone();
    assert_eq!((found("long"), found("short")), (Some("\"(hidden)\"".to_owned()), Some("\"(hidden)\"".to_owned())));
}

#[tokio::test]
async fn where_a_secret_is_somebody_elses_no_value_is_told() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("uses", "swordfish77")]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;
    let mut theirs = secret(&fixture, "c3dvcmRmaXNoNzc=");
    theirs["metadata"]["labels"] = json!({});
    fixture.create_as("somebody", theirs).await;

    let tried = tried(&fixture, &[secret(&fixture, "aHVudGVyMi1hZnRlcg=="), fixture.config_map("uses", "b")]).await;

    assert_eq!(fates(&tried), [("db", Fate::Exists), ("uses", Fate::Changed)]);
    let uses = &tried["uses"];
    assert!(uses.values.values.is_empty() && uses.values.are_more, "{uses:?}");
    assert_eq!(uses.message, "what a Secret of the target holds there is not known, so no values are told");
}

#[tokio::test]
async fn a_job_is_said_to_be_made_anew_only_where_it_would_be() {
    let mut fixture = fixture!();
    let job = |image: &str| {
        let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": image}]});
        fixture.object("batch/v1", "Job", "once", &json!({"spec": {"template": {"spec": spec}}}))
    };
    let (before, plain) = (job("one"), job("two"));
    fixture.assign(1, &[fixture.namespace_object(), before]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;

    let plain = tried(&fixture, &[plain]).await;

    assert_eq!(plain["once"].fate, Fate::Refused, "{plain:?}");
    assert!(plain["once"].message.contains("field is immutable"), "{plain:?}");
}
