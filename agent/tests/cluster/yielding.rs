//! Fields that others have by a contract of the API, in a real API server with Kubernetes' own controllers.

use bellwether_core::Generation;
use bellwether_core::report::{Report, Verdict};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fixture::Fixture;

const JSON: &str = "application/json";

fn is_healthy(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
}

/// What its line says, of an object that has one.
fn said<'a>(report: &'a Report, name: &str) -> &'a str {
    report.lines.iter().find(|line| line.key.name == name).map_or("", |line| line.message.as_str())
}

fn web(fixture: &Fixture, image: &str) -> Value {
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": image}]}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    fixture.object("apps/v1", "Deployment", "web", &json!({"spec": spec}))
}

fn replicas(count: u32) -> impl Fn(&Value) -> bool {
    move |object| object["spec"]["replicas"] == count
}

async fn wait_for_web(fixture: &Fixture, is_so: impl Fn(&Value) -> bool) -> Value {
    fixture.wait_for_object("apps/v1", "deployments", "web", is_so).await
}

#[tokio::test]
async fn what_an_autoscaler_scales_is_left_to_it_and_put_right_once_there_is_none() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), web(&fixture, "one")]);
    fixture.start_agent();
    fixture.report(is_healthy(1)).await;

    // Without metrics it still keeps to its least.
    let autoscalers = format!("/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers", fixture.namespace);
    let of = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let autoscaler =
        json!({"metadata": {"name": "busy"}, "spec": {"scaleTargetRef": of, "minReplicas": 3, "maxReplicas": 5}});
    fixture.post(&autoscalers, &autoscaler).await;
    wait_for_web(&fixture, replicas(3)).await;
    let is_left = |generation| {
        move |report: &Report| {
            is_healthy(generation)(report) && said(report, "web").contains("HorizontalPodAutoscaler busy")
        }
    };
    fixture.report(is_left(1)).await;

    fixture.assign(2, &[fixture.namespace_object(), web(&fixture, "two")]);
    fixture.report(is_left(2)).await;
    let changed =
        wait_for_web(&fixture, |web| web["spec"]["template"]["spec"]["containers"][0]["image"] == "two").await;
    assert_eq!(changed["spec"]["replicas"], 3, "a change of something else does not scale it");
    // As others do that scale to nothing while there is nothing to do: then nobody is the field's manager.
    fixture.scale("web", 0).await;
    fixture.report(|report| is_left(2)(report) && report.objects.healthy == 2).await;
    fixture.assign(3, &[fixture.namespace_object(), web(&fixture, "three")]);
    fixture.report(is_left(3)).await;
    assert_eq!(wait_for_web(&fixture, Value::is_object).await["spec"]["replicas"], 0);
    assert!(fixture.hub.drifts().is_empty(), "{:?}", fixture.hub.drifts());

    fixture.send(Method::DELETE, &format!("{autoscalers}/busy"), JSON, &json!({})).await.expect("deletes");
    // Nobody sees it go; what else somebody changes makes that known.
    let path = format!("/apis/apps/v1/namespaces/{}/deployments/web", fixture.namespace);
    let theirs =
        json!({"spec": {"replicas": 4, "template": {"spec": {"containers": [{"name": "a", "image": "theirs"}]}}}});
    fixture.merge(&path, "kubectl-edit", &theirs).await;
    wait_for_web(&fixture, replicas(1)).await;
    let drift = fixture.drifts(1).await.remove(0);
    assert!(drift.fields.contains(&".spec.replicas".to_owned()), "{:?}", drift.fields);
    fixture.report(|report| is_healthy(3)(report) && said(report, "web").is_empty()).await;
}

#[tokio::test]
async fn what_an_autoscaler_scales_is_left_where_it_cannot_be_told_whether_there_is_one() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("configmaps").await;
    fixture.assign(1, &[fixture.namespace_object(), web(&fixture, "one")]);
    fixture.start_agent();
    fixture.report(is_healthy(1)).await;
    let of = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let autoscaler =
        json!({"metadata": {"name": "busy"}, "spec": {"scaleTargetRef": of, "minReplicas": 3, "maxReplicas": 5}});
    let autoscalers = format!("/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers", fixture.namespace);
    fixture.post(&autoscalers, &autoscaler).await;
    let is_left = |generation| {
        move |report: &Report| is_healthy(generation)(report) && said(report, "web").contains("Autoscaler busy")
    };
    fixture.report(is_left(1)).await;

    let cases = [(StatusCode::FORBIDDEN, "two", "not here"), (StatusCode::NOT_FOUND, "three", "knows no Horizontal")];
    for (generation, (code, image, why)) in (2..).zip(cases) {
        gateway.refuse_with(code, |_, uri| uri.path().ends_with("/horizontalpodautoscalers"));
        fixture.assign(generation, &[fixture.namespace_object(), web(&fixture, image)]);
        let is_told = |report: &Report| {
            report.generation == Generation::new(generation) && (report.applied || said(report, "web").contains(why))
        };
        let told = fixture.report(is_told).await;
        assert!(!told.applied, "{code}: {told:?}");
        assert!(replicas(3)(&wait_for_web(&fixture, Value::is_object).await));

        gateway.refuse_nothing();
        fixture.report(is_left(generation)).await;
        let changed = wait_for_web(&fixture, Value::is_object).await;
        assert!(replicas(3)(&changed), "{changed:#}");
        assert_eq!(changed["spec"]["template"]["spec"]["containers"][0]["image"], image);
    }
    assert!(fixture.hub.drifts().is_empty(), "{:?}", fixture.hub.drifts());
}

fn claim(fixture: &Fixture, size: &str, label: &str) -> Value {
    let spec = json!({"storageClassName": fixture.namespace, "accessModes": ["ReadWriteOnce"],
        "volumeName": fixture.namespace, "resources": {"requests": {"storage": size}}});
    let mut claim = fixture.object("v1", "PersistentVolumeClaim", "data", &json!({"spec": spec}));
    claim["metadata"]["labels"]["of"] = json!(label);
    claim
}

#[tokio::test]
async fn a_volume_that_was_grown_beyond_git_stays_as_large_as_it_is() {
    let mut fixture = fixture!();
    let name = fixture.namespace.clone();
    let class = json!({"metadata": {"name": name}, "provisioner": "example.org/nobody", "allowVolumeExpansion": true});
    fixture.post("/apis/storage.k8s.io/v1/storageclasses", &class).await;
    let volume = json!({"metadata": {"name": name}, "spec": {"storageClassName": name, "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"}}});
    fixture.post("/api/v1/persistentvolumes", &volume).await;
    let size = |size: &'static str| move |claim: &Value| claim["spec"]["resources"]["requests"]["storage"] == size;
    fixture.assign(1, &[fixture.namespace_object(), claim(&fixture, "1Gi", "one")]);
    fixture.start_agent();
    fixture.report(is_healthy(1)).await;

    let path = format!("/api/v1/namespaces/{}/persistentvolumeclaims/data", fixture.namespace);
    let grown = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    fixture.merge(&path, "kubectl-edit", &grown).await;
    let is_left =
        |generation| move |report: &Report| is_healthy(generation)(report) && said(report, "data").contains("2Gi");
    fixture.report(is_left(1)).await;
    fixture.assign(2, &[fixture.namespace_object(), claim(&fixture, "1Gi", "two")]);
    fixture.report(is_left(2)).await;

    let kept = fixture.wait_for(&path, |claim| claim["metadata"]["labels"]["of"] == "two").await;
    assert!(size("2Gi")(&kept), "{kept:#}");
    assert!(fixture.hub.drifts().is_empty(), "{:?}", fixture.hub.drifts());
    fixture.assign(3, &[fixture.namespace_object(), claim(&fixture, "3Gi", "two")]);
    fixture.report(|report| is_healthy(3)(report) && said(report, "data").is_empty()).await;
    fixture.wait_for(&path, size("3Gi")).await;
}
