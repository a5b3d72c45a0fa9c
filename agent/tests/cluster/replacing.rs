//! Objects that cannot be changed to what is wanted, and are deleted and made anew where that is asked for, in a real API server.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use bellwether_core::Generation;
use bellwether_core::report::{ObjectLine, Outcome, Report, Verdict};
use bellwether_core::session::{DriftMode, Replace, SyncOptions};
use serde_json::{Value, json};

use crate::fixture::Fixture;

const REPLACING: SyncOptions = SyncOptions {
    prune: bellwether_core::session::Prune::AfterHealthy,
    drift: DriftMode::Correct,
    adopt: bellwether_core::session::Adopt::Never,
    replace: Replace::Immutable,
    create_namespace: false,
    service_account: None,
};

fn is_well(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
}

/// The line of the one object that is not well, or of which there is more to say.
fn line(report: &Report, generation: i64) -> Option<&ObjectLine> {
    report.lines.first().filter(|_| report.generation == Generation::new(generation))
}

fn is_refused(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| line(report, generation).is_some_and(|line| line.verdict == Verdict::Failed)
}

/// Its pods carry this label, and it selects them by that.
fn web(fixture: &Fixture, label: &str) -> Value {
    let template =
        json!({"metadata": {"labels": {"app": label}}, "spec": {"containers": [{"name": "a", "image": "one"}]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": label}}, "template": template});
    fixture.object("apps/v1", "Deployment", "web", &json!({"spec": spec}))
}

fn path(fixture: &Fixture) -> String {
    format!("/apis/apps/v1/namespaces/{}/deployments/web", fixture.namespace)
}

async fn uid_of(fixture: &Fixture, path: &str) -> Value {
    fixture.wait_for(path, Value::is_object).await["metadata"]["uid"].clone()
}

/// An agent runs, and has made it.
async fn made(fixture: &mut Fixture) -> Value {
    fixture.create_namespace().await;
    fixture.options = REPLACING;
    fixture.assign(1, &[web(fixture, "one")]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;
    uid_of(fixture, &path(fixture)).await
}

#[tokio::test]
async fn what_cannot_change_stays_until_its_target_has_it_replaced_and_then_the_line_says_so() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.assign(1, &[web(&fixture, "one")]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;
    let before = uid_of(&fixture, &path(&fixture)).await;

    fixture.assign(2, &[web(&fixture, "two")]);
    let refused = fixture.report(is_refused(2)).await;
    assert_eq!(refused.lines[0].outcome, Outcome::Rejected);
    assert!(refused.lines[0].hint.contains("spec.selector changes, by sync.replace: immutable"), "{refused:?}");
    assert_eq!(uid_of(&fixture, &path(&fixture)).await, before);

    fixture.options = REPLACING;
    let mut labelled = web(&fixture, "two");
    labelled["metadata"]["labels"]["extra"] = json!("1");
    fixture.assign(3, &[labelled]);
    let replaced = fixture.report(is_well(3)).await;
    let line = line(&replaced, 3).expect("it says so");
    assert_eq!((line.outcome, line.verdict), (Outcome::Applied, Verdict::Healthy));
    assert!(line.message.starts_with("replaced, since spec.selector cannot change"), "{line:?}");
    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_ne!(after["metadata"]["uid"], before);
    assert_eq!(after["spec"]["selector"]["matchLabels"]["app"], "two");
    assert!(fixture.hub.drifts().is_empty(), "nobody else deleted it");

    // The next change is an ordinary one, and what leaves Git goes.
    let mut more = web(&fixture, "two");
    more["spec"]["replicas"] = json!(2);
    fixture.assign(4, &[more]);
    let scaled = fixture.report(is_well(4)).await;
    assert!(scaled.lines.is_empty(), "{scaled:?}");
    let last = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(last["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(
        (&after["metadata"]["labels"]["extra"], &last["metadata"]["labels"]["extra"]),
        (&json!("1"), &Value::Null)
    );
}

#[tokio::test]
async fn a_job_and_its_pods_are_gone_before_it_is_made_anew() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    let job = |image: &str| {
        let pod = json!({"containers": [{"name": "a", "image": image}], "restartPolicy": "Never", "nodeSelector": {"none": "x"}});
        let mut job = fixture.object("batch/v1", "Job", "migrate", &json!({"spec": {"template": {"spec": pod}}}));
        job["metadata"]["annotations"] = json!({"kustomize.toolkit.fluxcd.io/force": "Enabled"});
        job
    };
    let (one, two) = (job("one"), job("two"));
    fixture.assign(1, &[one]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;
    let path = format!("/apis/batch/v1/namespaces/{}/jobs/migrate", fixture.namespace);
    let pods = format!("/api/v1/namespaces/{}/pods", fixture.namespace);
    let before = uid_of(&fixture, &path).await;
    let is_there = |list: &Value| list["items"].as_array().is_some_and(|pods| !pods.is_empty());
    fixture.wait_for(&pods, is_there).await;

    fixture.assign(2, &[two]);
    let after = fixture.wait_for(&path, |job| job.is_object() && job["metadata"]["uid"] != before).await;

    let left = fixture.wait_for(&pods, Value::is_object).await;
    assert!(!left.to_string().contains(before.as_str().expect("a uid")), "{left:#}");
    assert_eq!(after["spec"]["template"]["spec"]["containers"][0]["image"], "two");
    fixture.report(|report| report.generation == Generation::new(2) && report.applied).await;
}

#[tokio::test]
async fn nothing_is_deleted_for_a_new_one_that_would_be_refused() {
    let mut fixture = fixture!();
    let before = made(&mut fixture).await;
    let quotas = format!("/api/v1/namespaces/{}/resourcequotas", fixture.namespace);
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "full"},
        "spec": {"hard": {"count/deployments.apps": "1"}}});
    fixture.post(&quotas, &quota).await;
    let is_counted = |quota: &Value| quota["status"]["used"]["count/deployments.apps"] == "1";
    fixture.wait_for(&format!("{quotas}/full"), is_counted).await;

    fixture.assign(2, &[web(&fixture, "two")]);
    let refused = fixture.report(|report| line(report, 2).is_some_and(|line| !line.message.is_empty())).await;

    let message = &refused.lines[0].message;
    assert!(message.contains("made anew for spec.selector, and a new one is refused"), "{message}");
    assert!(message.contains("exceeded quota"), "{message}");
    assert_eq!(uid_of(&fixture, &path(&fixture)).await, before);
    // What is wrong beside that is told as it is.
    let mut wrong = web(&fixture, "three");
    wrong["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Sometimes");
    fixture.assign(3, &[wrong]);
    let invalid = fixture.report(is_refused(3)).await;
    assert!(!invalid.lines[0].message.contains("made anew"), "{invalid:?}");
    assert_eq!(uid_of(&fixture, &path(&fixture)).await, before);
}

#[tokio::test]
async fn what_a_finalizer_holds_is_waited_for_and_made_when_it_is_gone() {
    let mut fixture = fixture!();
    let before = made(&mut fixture).await;
    let hold = json!({"metadata": {"finalizers": ["example.org/hold"]}});
    fixture.merge(&path(&fixture), "somebody", &hold).await;

    fixture.assign(2, &[web(&fixture, "two")]);
    let waits = fixture.report(|report| line(report, 2).is_some_and(|line| line.message.contains("held by"))).await;

    assert_eq!(waits.lines[0].outcome, Outcome::Retrying);
    assert!(waits.lines[0].message.contains("example.org/hold"), "{waits:?}");
    assert_eq!(uid_of(&fixture, &path(&fixture)).await, before);
    fixture.merge(&path(&fixture), "somebody", &json!({"metadata": {"finalizers": null}})).await;
    let replaced = fixture.report(is_well(2)).await;
    assert!(replaced.lines[0].message.starts_with("replaced, since spec.selector"), "{replaced:?}");
    assert_ne!(uid_of(&fixture, &path(&fixture)).await, before);
}

/// The apply that follows a deletion of the same object.
fn is_what_takes_its_place(method: &http::Method, uri: &http::Uri) -> bool {
    static DELETED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut deleted = DELETED.lock().unwrap_or_else(PoisonError::into_inner);
    if method == http::Method::DELETE && uri.path().contains("/deployments/") {
        deleted.insert(uri.path().to_owned());
    }
    method == http::Method::PATCH && deleted.contains(uri.path())
}

#[tokio::test]
async fn what_was_deleted_and_is_refused_then_is_degraded_at_once_and_made_when_it_may_be() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    let before = made(&mut fixture).await;
    gateway.refuse_with(http::StatusCode::FORBIDDEN, is_what_takes_its_place);

    fixture.assign(2, &[web(&fixture, "two")]);
    let absent = fixture.report(|report| line(report, 2).is_some_and(|line| line.verdict == Verdict::Degraded)).await;

    assert_eq!(absent.lines[0].outcome, Outcome::Retrying);
    let message = &absent.lines[0].message;
    assert!(message.starts_with("the one before was deleted, since spec.selector cannot change"), "{absent:?}");
    gateway.refuse_nothing();
    let replaced = fixture.report(is_well(2)).await;
    assert!(replaced.lines[0].message.starts_with("replaced, since spec.selector"), "{replaced:?}");
    assert_ne!(uid_of(&fixture, &path(&fixture)).await, before);
}

#[tokio::test]
async fn what_somebody_makes_between_a_deletion_and_what_takes_its_place_stays_theirs() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    made(&mut fixture).await;
    gateway.hold(is_what_takes_its_place);

    fixture.assign(2, &[web(&fixture, "two")]);
    gateway.wait_for_held().await;
    fixture.wait_for(&path(&fixture), |found| !found["spec"].is_object()).await;
    let mut theirs = web(&fixture, "theirs");
    theirs["metadata"]["labels"] = json!({});
    let deployments =
        format!("/apis/apps/v1/namespaces/{}/deployments?fieldManager=argocd-controller", fixture.namespace);
    let _ = fixture.send(http::Method::POST, &deployments, "application/json", &theirs).await;
    fixture.wait_for(&path(&fixture), |found| found["spec"].is_object()).await;
    gateway.release();

    let exists = fixture.report(|report| line(report, 2).is_some_and(|line| line.outcome == Outcome::Exists)).await;
    assert_eq!(exists.verdict, Verdict::Failed);
    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(after["metadata"]["labels"], Value::Null, "{after:#}");
    assert_eq!(after["spec"]["template"]["metadata"]["labels"]["app"], "theirs");
}

#[tokio::test]
async fn what_git_keeps_and_what_others_filled_or_scaled_is_not_replaced() {
    let mut fixture = fixture!();
    let without_replicas = |fixture: &Fixture, label: &str| {
        let mut web = web(fixture, label);
        web["spec"].as_object_mut().expect("a map").remove("replicas");
        web
    };
    let secret = |fixture: &Fixture, of: &str| fixture.object("v1", "Secret", "key", &json!({"type": of}));
    fixture.create_namespace().await;
    fixture.options = REPLACING;
    fixture.assign(1, &[without_replicas(&fixture, "one"), secret(&fixture, "Opaque")]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;
    let secrets = format!("/api/v1/namespaces/{}/secrets/key", fixture.namespace);
    let before = (uid_of(&fixture, &path(&fixture)).await, uid_of(&fixture, &secrets).await);
    fixture.scale("web", 3).await;
    fixture.merge(&secrets, "operator", &json!({"data": {"password": "eA=="}})).await;
    let has = |report: &Report, generation: i64, name: &str, words: &str| {
        let is_it = |line: &ObjectLine| line.key.name == name && line.message.contains(words);
        report.generation == Generation::new(generation) && report.lines.iter().any(is_it)
    };

    fixture.assign(2, &[without_replicas(&fixture, "two"), secret(&fixture, "example.org/other")]);
    let refused = fixture
        .report(|report| {
            has(report, 2, "web", "scaled it to 3 replicas")
                && has(report, 2, "key", "somebody else put there: password")
        })
        .await;
    assert!(refused.lines.iter().all(|line| line.verdict == Verdict::Failed && !line.hint.contains("delete")));
    let mut kept = web(&fixture, "two");
    kept["spec"]["replicas"] = json!(3);
    kept["metadata"]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
    fixture.assign(3, &[kept]);
    fixture.report(|report| has(report, 3, "web", "helm.sh/resource-policy asks for it to be left")).await;

    assert_eq!((uid_of(&fixture, &path(&fixture)).await, uid_of(&fixture, &secrets).await), before);
}

#[tokio::test]
async fn a_role_binding_of_another_role_is_replaced() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.options = REPLACING;
    let binding = |fixture: &Fixture, role: &str| {
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
        fixture.object("rbac.authorization.k8s.io/v1", "RoleBinding", "readers", &json!({"roleRef": role}))
    };
    fixture.assign(1, &[binding(&fixture, "view")]);
    fixture.start_agent();
    fixture.report(is_well(1)).await;

    fixture.assign(2, &[binding(&fixture, "edit")]);
    let replaced = fixture.report(is_well(2)).await;

    assert!(replaced.lines[0].message.starts_with("replaced, since roleRef cannot change"), "{replaced:?}");
    let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings/readers", fixture.namespace);
    assert_eq!(fixture.wait_for(&path, Value::is_object).await["roleRef"]["name"], "edit");
}

#[tokio::test]
async fn an_agent_that_dies_between_a_deletion_and_what_takes_its_place_makes_it_when_it_is_back() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    made(&mut fixture).await;
    fixture.wait_for_inventory(1).await;
    gateway.hold(is_what_takes_its_place);

    fixture.assign(2, &[web(&fixture, "two")]);
    gateway.wait_for_held().await;
    fixture.kill_agent().await;
    fixture.wait_for(&path(&fixture), |found| !found["spec"].is_object()).await;
    gateway.release();
    fixture.start_agent_without_token();

    fixture.report(is_well(2)).await;
    let after = fixture.wait_for(&path(&fixture), Value::is_object).await;
    assert_eq!(after["spec"]["selector"]["matchLabels"]["app"], "two");
}

#[tokio::test]
async fn what_holds_data_or_asks_to_be_kept_or_is_another_one_is_never_replaced() {
    let mut fixture = fixture!();
    let claim = |class: &str| {
        let storage = json!({"requests": {"storage": "1Gi"}});
        let spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": storage});
        let mut claim = fixture.object("v1", "PersistentVolumeClaim", "data", &json!({"spec": spec}));
        claim["metadata"]["annotations"] = json!({"bellwether.dev/replace": "immutable"});
        claim
    };
    let (one, two) = (claim("one"), claim("two"));
    let claims = format!("/api/v1/namespaces/{}/persistentvolumeclaims/data", fixture.namespace);
    let first = made(&mut fixture).await;
    fixture.options.drift = DriftMode::Ignore;
    fixture.assign(2, &[web(&fixture, "one"), one]);
    fixture.report(|report| report.generation == Generation::new(2) && report.applied).await;
    let data = uid_of(&fixture, &claims).await;
    let has = |report: &Report, generation: i64, words: &str| {
        report.generation == Generation::new(generation)
            && report.lines.iter().any(|line| line.message.contains(words) && line.verdict == Verdict::Failed)
    };

    fixture.assign(3, &[web(&fixture, "one"), two]);
    fixture.report(|report| has(report, 3, "what goes with a PersistentVolumeClaim is in no manifest")).await;
    assert_eq!(uid_of(&fixture, &claims).await, data);

    let keep = json!({"metadata": {"annotations": {"helm.sh/resource-policy": "keep"}}});
    fixture.merge(&path(&fixture), "somebody", &keep).await;
    fixture.assign(4, &[web(&fixture, "two")]);
    fixture.report(|report| has(report, 4, "helm.sh/resource-policy asks for it to be left")).await;
    assert_eq!(uid_of(&fixture, &path(&fixture)).await, first);

    // As from a backup, under our label.
    fixture.remove(&path(&fixture)).await;
    fixture.wait_for(&path(&fixture), |found| !found["spec"].is_object()).await;
    let deployments = format!("/apis/apps/v1/namespaces/{}/deployments?fieldManager=velero", fixture.namespace);
    let _ = fixture.send(http::Method::POST, &deployments, "application/json", &web(&fixture, "other")).await;
    let other = uid_of(&fixture, &path(&fixture)).await;
    fixture.assign(5, &[web(&fixture, "three")]);
    fixture.report(|report| has(report, 5, "not the very one that this target applied")).await;
    assert_eq!(uid_of(&fixture, &path(&fixture)).await, other);
}
