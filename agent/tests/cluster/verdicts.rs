//! Verdicts about objects in a real API server, and what they come to when the cluster changes.

use std::time::{Duration, Instant};

use bellwether_core::report::{Outcome, Report, Verdict};
use bellwether_core::{Generation, TargetId};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{Fixture, labelled};

fn stands(generation: i64, verdict: Verdict) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == verdict
}

#[tokio::test]
async fn what_somebody_took_is_applied_soon_after_it_was_deleted() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.create_as("somebody", fixture.unlabelled_config_map("taken", "theirs")).await;
    fixture.assign(1, &[fixture.config_map("taken", "ours")]);
    fixture.start_agent();
    let taken = fixture.report(stands(1, Verdict::Failed)).await;
    assert_eq!(taken.lines[0].outcome, Outcome::Exists);
    assert!(taken.may_pass());

    fixture.delete("taken").await;
    let deleted_at = Instant::now();
    fixture.report(stands(1, Verdict::Healthy)).await;

    assert!(deleted_at.elapsed() < Duration::from_secs(20), "{:?}", deleted_at.elapsed());
    assert_eq!(fixture.fetch("ConfigMap", "taken").await["data"]["key"], "ours");
}

#[tokio::test]
async fn a_conflict_ends_when_the_other_manager_lets_go() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    fixture.create_as("somebody", fixture.config_map("shared", "theirs")).await;
    fixture.assign(1, &[fixture.config_map("shared", "ours")]);
    fixture.start_agent();
    let conflict = fixture.report(stands(1, Verdict::Failed)).await;
    assert!(conflict.lines[0].outcome == Outcome::Conflict && conflict.may_pass());

    fixture.delete("shared").await;

    fixture.report(stands(1, Verdict::Healthy)).await;
    assert_eq!(fixture.fetch("ConfigMap", "shared").await["data"]["key"], "ours");
}

const JSON: &str = "application/json";

#[tokio::test]
async fn a_field_that_a_definition_gains_later_is_applied_without_another_revision() {
    let mut fixture = fixture!();
    let group = format!("{}.example.org", fixture.namespace);
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut definition = fixture.definition(&group);
    definition["metadata"].as_object_mut().expect("an object").remove("labels");
    fixture.send(Method::POST, definitions, JSON, &definition).await.expect("creates");
    let one = json!({"spec": {"size": 3, "colour": "red"}});
    let one = fixture.object(&format!("{group}/v1"), "Widget", "one", &one);
    fixture.assign(1, &[fixture.namespace_object(), one]);
    fixture.start_agent();
    let refused = fixture.report(stands(1, Verdict::Failed)).await;
    assert!(refused.lines[0].message.contains("colour") && refused.may_pass(), "{:?}", refused.lines);

    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/colour";
    let change = json!([{"op": "add", "path": schema, "value": {"type": "string"}}]);
    let path = format!("{definitions}/widgets.{group}");
    fixture.send(Method::PATCH, &path, "application/json-patch+json", &change).await.expect("patches");

    fixture.report(stands(1, Verdict::Healthy)).await;
}

#[tokio::test]
async fn an_aggregated_role_is_at_rest_and_keeps_the_rights_that_it_is_given() {
    let mut fixture = fixture!();
    let label = format!("example.org/{}", fixture.namespace);
    let role = |name: &str, rest: &Value| {
        let name = format!("{name}-{}", fixture.namespace);
        let mut role = fixture.object("rbac.authorization.k8s.io/v1", "ClusterRole", &name, rest);
        role["metadata"].as_object_mut().expect("an object").remove("namespace");
        role
    };
    let selectors = json!([{"matchLabels": {(label.as_str()): "true"}}]);
    let whole = role("all", &json!({"aggregationRule": {"clusterRoleSelectors": selectors}, "rules": []}));
    let mut part = role("pods", &json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}));
    part["metadata"]["labels"][label.as_str()] = json!("true");
    let name = whole["metadata"]["name"].as_str().expect("a name").to_owned();
    fixture.assign(1, &[fixture.namespace_object(), whole, part]);
    fixture.start_agent();
    fixture.report(stands(1, Verdict::Healthy)).await;

    let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{name}");
    let filled = fixture.wait_for_path(&path, |role| role["rules"][0]["resources"][0] == "pods").await;
    let edit = json!({"aggregationRule": null});
    let edited = format!("{path}?fieldManager=kubectl-edit");
    fixture.send(Method::PATCH, &edited, "application/merge-patch+json", &edit).await.expect("edits");
    let after = fixture.wait_for_path(&path, |role| role["aggregationRule"].is_object()).await;

    assert_eq!(after["rules"], filled["rules"], "what is put right is not what the controller wrote");
    let drifts = fixture.drifts(1).await;
    let fields: Vec<_> = drifts.iter().flat_map(|drift| &drift.fields).collect();
    assert_eq!(fields, [".aggregationRule"]);
}

#[tokio::test]
async fn a_custom_resource_without_a_status_is_waited_for_and_healthy_once_none_came() {
    let mut fixture = fixture!();
    let group = format!("{}.example.org", fixture.namespace);
    let mut definition = fixture.definition(&group);
    let version = &mut definition["spec"]["versions"][0];
    version["subresources"] = json!({"status": {}});
    version["schema"]["openAPIV3Schema"]["x-kubernetes-preserve-unknown-fields"] = json!(true);
    let widget = |name: &str| fixture.object(&format!("{group}/v1"), "Widget", name, &json!({"spec": {"size": 3}}));
    fixture.assign(1, &[fixture.namespace_object(), definition, widget("answered"), widget("mute")]);
    fixture.start_agent();
    let waited = fixture.report(|report| report.applied).await;
    let applied_at = Instant::now();
    assert_eq!(
        (waited.verdict, waited.objects.healthy, waited.lines.len()),
        (Verdict::Progressing, 2, 2),
        "{waited:?}"
    );
    assert!(waited.lines.iter().all(|line| line.message.contains("no status yet")), "{:?}", waited.lines);

    let path = format!("/apis/{group}/v1/namespaces/{}/widgets/answered/status", fixture.namespace);
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    fixture.merge(&path, "its-controller", &ready).await;
    let answered = fixture.report(|report| report.objects.healthy == 3).await;
    assert_eq!((answered.verdict, answered.lines[0].key.name.as_str()), (Verdict::Progressing, "mute"));

    fixture.report(stands(1, Verdict::Healthy)).await;
    assert!(applied_at.elapsed() > Duration::from_secs(20), "{:?}", applied_at.elapsed());
}

#[tokio::test]
async fn what_kstatus_takes_for_well_at_once_is_waited_for_until_it_says_so_in_its_own_words() {
    let mut fixture = fixture!();
    let group = format!("{}.crossplane.io", fixture.namespace);
    let mut definition = fixture.definition(&group);
    let version = &mut definition["spec"]["versions"][0];
    version["subresources"] = json!({"status": {}});
    version["schema"]["openAPIV3Schema"]["x-kubernetes-preserve-unknown-fields"] = json!(true);
    let managed = fixture.object(&format!("{group}/v1"), "Widget", "bucket", &json!({"spec": {"size": 3}}));
    let backend = json!({"spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}});
    let mut ingress = fixture.object("networking.k8s.io/v1", "Ingress", "web", &backend);
    ingress["metadata"]["annotations"] = json!({"bellwether.dev/health": "address"});
    fixture.assign(1, &[fixture.namespace_object(), definition, managed, ingress]);
    fixture.start_agent();
    let waited = fixture.report(|report| report.applied).await;
    assert_eq!((waited.verdict, waited.objects.healthy), (Verdict::Progressing, 2), "{waited:?}");

    let namespace = &fixture.namespace;
    let path = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/web/status");
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}});
    fixture.merge(&path, "its-controller", &address).await;
    let path = format!("/apis/{group}/v1/namespaces/{namespace}/widgets/bucket/status");
    let creating = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    fixture.merge(&path, "its-provider", &creating).await;
    let half = fixture.report(|report| report.objects.healthy == 3).await;
    assert_eq!(half.lines[0].key.name, "bucket", "its provider has not synced it: {half:?}");
    let synced = json!([{"type": "Ready", "status": "True"}, {"type": "Synced", "status": "True"}]);
    fixture.merge(&path, "its-provider", &json!({"status": {"conditions": synced}})).await;

    fixture.report(stands(1, Verdict::Healthy)).await;
}

/// Until the API server has taken it into use, an admission policy or webhook lets everything pass.
async fn wait_until_refused(fixture: &Fixture, patience: Duration, body: &Value) {
    let path = format!("/api/v1/namespaces/{}/configmaps?dryRun=All&fieldManager=fixture", fixture.namespace);
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let asked = tokio::time::timeout(patience, fixture.send(Method::POST, &path, JSON, body)).await;
        if !matches!(asked, Ok(Ok(_))) {
            return;
        }
        assert!(Instant::now() < deadline, "nothing is refused");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

#[tokio::test]
async fn an_edit_that_admission_keeps_is_shown_as_drift_until_it_is_put_right() {
    let mut fixture = fixture!();
    fixture.assign(1, &[fixture.namespace_object(), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(stands(1, Verdict::Healthy)).await;
    let name = fixture.namespace.clone();
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]});
    let spec = json!({"matchConstraints": {"namespaceSelector": here, "resourceRules": [rule]},
        "validations": [{"expression": "object.data.key != '1'"}]});
    let policy = json!({"metadata": {"name": name}, "spec": spec});
    let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
    let (policies, bindings) =
        (format!("{ADMISSION}/validatingadmissionpolicies"), format!("{ADMISSION}/validatingadmissionpolicybindings"));
    fixture.send(Method::POST, &policies, JSON, &policy).await.expect("creates");
    fixture.send(Method::POST, &bindings, JSON, &binding).await.expect("creates");
    wait_until_refused(&fixture, Duration::from_secs(10), &fixture.unlabelled_config_map("b", "1")).await;

    fixture.edit("a", &json!({"data": {"key": "theirs"}})).await;

    let drifted = fixture.report(|report| report.lines.iter().any(|line| line.outcome == Outcome::Drifted)).await;
    let line = &drifted.lines[0];
    assert!(line.message.starts_with("modified by kubectl-edit: .data.key; it cannot be put right: "), "{line}");
    assert_eq!((drifted.verdict, drifted.applied), (Verdict::Degraded, false));
    fixture.send(Method::DELETE, &format!("{bindings}/{name}"), JSON, &json!({})).await.expect("deletes");
    fixture.wait_for_value("a", "1").await;
    fixture.report(stands(1, Verdict::Healthy)).await;
}

#[tokio::test]
async fn a_deaf_webhook_that_may_be_ignored_makes_an_apply_slow_and_does_not_stop_it() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let url = format!("https://{}/", deaf.local_addr().expect("has an address"));
    let kept = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = deaf.accept().await {
            kept.push(connection);
        }
    });
    let name = fixture.namespace.clone();
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]});
    let webhook = |of: &str| {
        json!({"name": format!("{of}.example.org"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Ignore", "timeoutSeconds": 8, "clientConfig": {"url": url}, "rules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}})
    };
    let webhooks = format!("{ADMISSION}/mutatingwebhookconfigurations");
    // One is asked after the other.
    let configuration = json!({"metadata": {"name": name}, "webhooks": [webhook("deaf"), webhook("mute")]});
    fixture.send(Method::POST, &webhooks, JSON, &configuration).await.expect("creates");
    wait_until_refused(&fixture, Duration::from_secs(2), &fixture.unlabelled_config_map("b", "1")).await;
    fixture.assign(1, &[fixture.config_map("a", "1")]);
    let began_at = Instant::now();
    fixture.start_agent();

    fixture.report(stands(1, Verdict::Healthy)).await;

    assert!(began_at.elapsed() > Duration::from_secs(15), "both were asked: {:?}", began_at.elapsed());
    let waited = fixture.hub.reports(fixture.target);
    assert!(waited.iter().all(|report| report.verdict < Verdict::Degraded), "the first try is the one that passes");
    fixture.send(Method::DELETE, &format!("{webhooks}/{name}"), JSON, &json!({})).await.expect("deletes");
    kept.abort();
}

#[tokio::test]
async fn a_job_that_failed_and_is_gone_stays_failed_and_does_not_run_again() {
    let mut fixture = fixture!();
    let pod = json!({"containers": [{"name": "a", "image": "a"}], "restartPolicy": "Never",
        "nodeSelector": {"node": "none"}});
    let job = json!({"spec": {"activeDeadlineSeconds": 1, "ttlSecondsAfterFinished": 0, "template": {"spec": pod}}});
    fixture.assign(1, &[fixture.namespace_object(), fixture.object("batch/v1", "Job", "migrate", &job)]);
    fixture.start_agent();

    let gone =
        |report: &Report| report.lines.iter().any(|line| line.message.starts_with("it failed, and is gone since"));
    let report = fixture.report(gone).await;
    assert_eq!((report.verdict, report.may_pass()), (Verdict::Failed, false));
    fixture.wait_for_inventory(1).await;
    let requests = fixture.requests("jobs").await;

    fixture.kill_agent().await;
    let told = fixture.hub.reports(fixture.target).len();
    fixture.start_agent_without_token();
    let reports = fixture.reports(|all| all[told..].iter().any(gone)).await;

    assert_eq!(reports.last().map(|report| report.verdict), Some(Verdict::Failed));
    let path = format!("/apis/batch/v1/namespaces/{}/jobs/migrate", fixture.namespace);
    let again = fixture.send(Method::GET, &path, JSON, &json!({})).await;
    assert!(again.is_err(), "it ran again");
    assert!(fixture.requests("jobs").await > requests, "it was looked for");
}

#[tokio::test]
async fn a_job_that_goes_by_itself_and_went_while_no_agent_looked_is_not_run_again() {
    let mut fixture = fixture!();
    let pod = json!({"containers": [{"name": "a", "image": "a"}], "restartPolicy": "Never",
        "nodeSelector": {"node": "none"}});
    let job = json!({"spec": {"ttlSecondsAfterFinished": 60, "template": {"spec": pod}}});
    fixture.assign(1, &[fixture.namespace_object(), fixture.object("batch/v1", "Job", "migrate", &job)]);
    fixture.start_agent();
    fixture.report(|report| report.applied).await;
    fixture.wait_for_inventory(1).await;
    fixture.kill_agent().await;
    let path = format!("/apis/batch/v1/namespaces/{}/jobs/migrate", fixture.namespace);
    fixture.send(Method::DELETE, &path, JSON, &json!({"propagationPolicy": "Background"})).await.expect("deletes");
    fixture.wait_for(&path, Value::is_null).await;

    fixture.start_agent_without_token();

    let is_untold = |report: &Report| report.lines.iter().any(|line| line.message.contains("nobody saw how it ended"));
    // Before that it may say so while the namespace is being asked about.
    let report = fixture.report(|report| report.applied && is_untold(report)).await;
    assert_eq!(report.verdict, Verdict::Unknown);
    assert!(fixture.send(Method::GET, &path, JSON, &json!({})).await.is_err(), "it ran again");
    assert!(fixture.hub.drifts().is_empty());
}

#[tokio::test]
async fn what_hangs_in_one_target_does_not_keep_another_waiting() {
    let mut fixture = fixture!();
    fixture.create_namespace().await;
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let url = format!("https://{}/", deaf.local_addr().expect("has an address"));
    let kept = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = deaf.accept().await {
            kept.push(connection);
        }
    });
    let name = fixture.namespace.clone();
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]});
    let webhook = json!({"name": "deaf.example.org", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "failurePolicy": "Fail", "timeoutSeconds": 30, "clientConfig": {"url": url}, "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        "objectSelector": {"matchLabels": {"hangs": "yes"}}});
    let webhooks = format!("{ADMISSION}/validatingwebhookconfigurations");
    let configuration = json!({"metadata": {"name": name}, "webhooks": [webhook]});
    let hanging = |name: String| {
        let mut object = fixture.config_map(&name, "1");
        object["metadata"]["labels"]["hangs"] = json!("yes");
        object
    };
    fixture.send(Method::POST, &webhooks, JSON, &configuration).await.expect("creates");
    wait_until_refused(&fixture, Duration::from_secs(2), &hanging("probe".to_owned())).await;
    fixture.assign(1, &(0..100).map(|number| hanging(format!("a{number}"))).collect::<Vec<_>>());
    fixture.start_agent();
    fixture.report(|report| report.objects.total == 100).await;

    let other = TargetId::new(Uuid::now_v7());
    let well = |number: usize| labelled(fixture.config_map(&format!("b{number}"), "1"), other);
    fixture.assign_to(other, &(0..100).map(well).collect::<Vec<_>>());

    // With a turn for each request that ends it would take six minutes.
    let deadline = Instant::now() + Duration::from_mins(1);
    while fixture.hub.reports(other).last().is_none_or(|last| last.verdict != Verdict::Healthy) {
        assert!(Instant::now() < deadline, "it waits: {:?}", fixture.hub.reports(other).last());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fixture.send(Method::DELETE, &format!("{webhooks}/{name}"), JSON, &json!({})).await.expect("deletes");
    kept.abort();
}
