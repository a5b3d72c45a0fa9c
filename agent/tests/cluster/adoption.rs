//! What others made under a name of a target, and the target may have, in a real API server.

use bellwether_core::report::{Outcome, Report, Verdict};
use bellwether_core::session::{Adopt, SyncOptions};
use bellwether_core::{Generation, TargetId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{Fixture, labelled};

fn is_done(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
}

fn adopting(adopt: Adopt) -> SyncOptions {
    SyncOptions { adopt, ..SyncOptions::default() }
}

fn web(fixture: &Fixture, replicas: u32) -> Value {
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "one"}]}});
    let spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    fixture.object("apps/v1", "Deployment", "web", &json!({"spec": spec}))
}

/// The same as somebody has it in a file, without our label and with what Git does not say.
fn theirs(mut object: Value, labels: &Value, annotations: &Value) -> Value {
    object["metadata"]["labels"] = labels.clone();
    object["metadata"]["annotations"] = annotations.clone();
    object
}

fn deployments(fixture: &Fixture) -> String {
    format!("/apis/apps/v1/namespaces/{}/deployments", fixture.namespace)
}

/// As `kubectl apply` makes it.
async fn apply_by_kubectl(fixture: &Fixture, replicas: u32) {
    let last = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
    let object = theirs(web(fixture, replicas), &json!({"added": "by-hand"}), &last);
    fixture.post(&format!("{}?fieldManager=kubectl-client-side-apply", deployments(fixture)), &object).await;
}

/// Which of its contents runs; Kubernetes counts one more for each other template of its pods.
fn revision(web: &Value) -> &Value {
    &web["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
}

/// Once its controller has looked at it as it is.
async fn wait_for_web(fixture: &Fixture) -> Value {
    let is_seen = |web: &Value| {
        let seen = &web["status"]["observedGeneration"];
        seen.is_number() && *seen == web["metadata"]["generation"] && revision(web).is_string()
    };
    fixture.wait_for(&format!("{}/web", deployments(fixture)), is_seen).await
}

fn managers(object: &Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array().expect("a list");
    entries
        .iter()
        .filter(|entry| entry["subresource"].is_null())
        .filter_map(|entry| entry["manager"].as_str())
        .collect()
}

#[tokio::test]
async fn what_kubectl_applied_is_adopted_without_a_restart_and_deleted_when_git_takes_it_out() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    apply_by_kubectl(&fixture, 1).await;
    let path = format!("{}/web", deployments(&fixture));
    let before = wait_for_web(&fixture).await;
    fixture.options = adopting(Adopt::IfUnowned);
    fixture.assign(1, &[fixture.namespace_object(), web(&fixture, 1)]);
    fixture.start_agent();

    fixture.report(is_done(1)).await;

    let after = wait_for_web(&fixture).await;
    let of = |object: &Value| [&object["metadata"]["uid"], revision(object)].map(Clone::clone);
    assert_eq!(of(&after), of(&before), "it is the same one, and its pods were left alone");
    assert_eq!(after["metadata"]["labels"]["added"], Value::Null, "Git does not say that");
    assert!(!after.to_string().contains("last-applied"), "{after:#}");
    let entries = after["metadata"]["managedFields"].as_array().expect("a list");
    let theirs: Vec<_> = entries.iter().filter(|entry| entry["manager"] == "kubectl-client-side-apply").collect();
    assert_eq!(theirs.len(), 1, "what could fall back to a default stays with whoever set it");
    assert_eq!(theirs[0]["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));

    fixture.assign_pruning(2, &[fixture.namespace_object()], &[web(&fixture, 1)]);
    fixture.report(is_done(2)).await;
    fixture.wait_for(&path, Value::is_null).await;
}

#[tokio::test]
async fn what_is_adopted_keeps_its_replicas_where_git_says_none() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    apply_by_kubectl(&fixture, 3).await;
    wait_for_web(&fixture).await;
    let mut ours = web(&fixture, 1);
    ours["spec"].as_object_mut().expect("a spec").remove("replicas");
    fixture.options = adopting(Adopt::IfUnowned);
    fixture.assign(1, &[fixture.namespace_object(), ours]);
    fixture.start_agent();

    fixture.report(is_done(1)).await;

    assert_eq!(wait_for_web(&fixture).await["spec"]["replicas"], 3);
}

#[tokio::test]
async fn what_an_autoscaler_has_scaled_keeps_its_replicas_when_it_is_adopted() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    apply_by_kubectl(&fixture, 3).await;
    let of = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let autoscaler =
        json!({"metadata": {"name": "busy"}, "spec": {"scaleTargetRef": of, "minReplicas": 3, "maxReplicas": 5}});
    let autoscalers = format!("/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers", fixture.namespace);
    fixture.post(&autoscalers, &autoscaler).await;
    let before = wait_for_web(&fixture).await;
    fixture.options = adopting(Adopt::IfUnowned);
    fixture.assign(1, &[fixture.namespace_object(), web(&fixture, 1)]);
    fixture.start_agent();

    fixture.report(is_done(1)).await;

    let after = wait_for_web(&fixture).await;
    assert_eq!((&after["spec"]["replicas"], &after["metadata"]["uid"]), (&json!(3), &before["metadata"]["uid"]));
    let scaled = after["metadata"]["generation"].as_i64().expect("a number");
    assert_eq!(scaled, 2, "its annotations changed once; never to one replica and back");
}

/// What Helm, Flux and Argo CD leave on what they apply, and the managers that they apply by.
fn marks() -> [(&'static str, &'static str, Value, Value); 3] {
    let helm = json!({"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "shop"});
    let flux =
        json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
    let argo = json!({"argocd.argoproj.io/tracking-id": "apps:/ConfigMap:shop/of-argo"});
    [
        ("of-helm", "helm", json!({"app.kubernetes.io/managed-by": "Helm"}), helm),
        ("of-flux", "kustomize-controller", flux, json!({})),
        ("of-argo", "argocd-controller", json!({}), argo),
    ]
}

/// A slow API server has refused one while another still waits.
fn exist(report: &Report, count: usize) -> bool {
    let all_exist = report.lines.iter().all(|line| line.outcome == Outcome::Exists);
    report.verdict == Verdict::Failed && report.lines.len() == count && all_exist
}

#[tokio::test]
async fn what_helm_flux_and_argo_cd_have_is_adopted_when_that_is_asked_for_and_their_marks_go() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    let maps = format!("/api/v1/namespaces/{}/configmaps", fixture.namespace);
    for (name, manager, labels, annotations) in marks() {
        let object = theirs(fixture.config_map(name, "1"), &labels, &annotations);
        if manager == "helm" {
            fixture.post(&format!("{maps}?fieldManager={manager}"), &object).await;
        } else {
            fixture.apply_as(manager, &format!("{maps}/{name}"), &object).await;
        }
    }
    let ours: Vec<_> = marks().iter().map(|(name, ..)| fixture.config_map(name, "1")).collect();
    fixture.options = adopting(Adopt::IfUnowned);
    fixture.assign(1, &ours);
    fixture.start_agent();

    let refused = fixture.report(|report| exist(report, 3)).await;
    for line in &refused.lines {
        assert!(line.hint.contains("sync.adopt: always"), "{}", line.hint);
    }
    fixture.options = adopting(Adopt::Always);
    fixture.assign(2, &ours);
    fixture.report(is_done(2)).await;

    for (name, manager, ..) in marks() {
        let after = fixture.fetch("ConfigMap", name).await;
        let text = after.to_string();
        assert!(["helm.sh", "fluxcd", "argoproj"].iter().all(|mark| !text.contains(mark)), "{after:#}");
        assert!(!managers(&after).contains(&manager), "{after:#}");
    }
}

#[tokio::test]
async fn nothing_of_another_target_and_nothing_that_a_controller_makes_is_ever_adopted() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.create_as("kubectl", fixture.unlabelled_config_map("owner", "1")).await;
    let owner = fixture.fetch("ConfigMap", "owner").await["metadata"]["uid"].clone();
    let mut controlled = fixture.unlabelled_config_map("controlled", "theirs");
    controlled["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner, "controller": true}]);
    fixture.create_as("kubectl", controlled).await;
    let other = labelled(fixture.config_map("others", "theirs"), TargetId::new(Uuid::from_u128(3)));
    fixture.create_as("kubectl", other).await;
    fixture.options = adopting(Adopt::Always);
    fixture.assign(1, &[fixture.config_map("controlled", "ours"), fixture.config_map("others", "ours")]);
    fixture.start_agent();

    let report = fixture.report(|report| exist(report, 2)).await;

    for line in &report.lines {
        assert!(!line.hint.contains("adopt"), "{}", line.hint);
        assert_eq!(fixture.fetch("ConfigMap", &line.key.name).await["data"]["key"], "theirs");
    }
}
