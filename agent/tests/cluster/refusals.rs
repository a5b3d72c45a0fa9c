//! What a real API server says of what it refuses, and what of that is told.

use bellwether_core::Generation;
use bellwether_core::report::{ObjectLine, Outcome, Report, Verdict};
use serde_json::{Value, json};

use crate::fixture::Fixture;

fn has_failed(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Failed
}

fn line<'a>(report: &'a Report, name: &str) -> &'a ObjectLine {
    report.lines.iter().find(|line| line.key.name == name).unwrap_or_else(|| panic!("no line of {name}: {report:#?}"))
}

/// One that never runs, and that has secrets where nobody should have them.
fn job(fixture: &Fixture, image: &str) -> Value {
    let container = json!({"name": "a", "image": image, "args": ["--password=swordfish77"],
        "env": [{"name": "PW", "value": "a\"}], : swordfish77"}]});
    let pod = json!({"containers": [container], "restartPolicy": "Never", "nodeSelector": {"none": "x"}});
    fixture.object("batch/v1", "Job", "migrate", &json!({"spec": {"template": {"spec": pod}}}))
}

#[tokio::test]
async fn a_job_that_cannot_change_is_told_by_its_field_and_the_reason_and_by_no_value() {
    let mut fixture = fixture!();
    let (log, mut agent) = fixture.start_agent_process_with_log();
    fixture.assign(1, &[fixture.namespace_object(), job(&fixture, "one")]);
    fixture.report(|report| report.applied).await;

    fixture.assign(2, &[fixture.namespace_object(), job(&fixture, "two")]);
    let report = fixture.report(has_failed(2)).await;

    agent.kill().await.expect("ends");
    let log = std::fs::read_to_string(log).expect("has a log");
    let line = line(&report, "migrate");
    assert_eq!(line.outcome, Outcome::Rejected);
    assert_eq!(line.message, "Job.batch \"migrate\" is invalid: spec.template: Invalid value: …: field is immutable");
    assert!(line.hint.starts_with("delete it in the cluster"), "{}", line.hint);
    assert!(log.contains("field is immutable") && !log.contains("swordfish"), "{log}");
    let told = format!("{:?}", fixture.hub.reports(fixture.target));
    assert!(!told.contains("swordfish"), "{told}");
}

#[tokio::test]
async fn what_is_invalid_in_many_ways_is_told_field_by_field_and_by_no_value() {
    let mut fixture = fixture!();
    let service = |ports: Value| fixture.object("v1", "Service", "web", &json!({"spec": {"ports": ports}}));
    let invalid = service(json!([
        {"name": "swordfish.a", "port": 80},
        {"name": "b", "port": 700_077},
        {"name": "c", "port": 81, "protocol": "SWORDFISH"},
    ]));
    let unfit = fixture.object("v1", "ConfigMap", "unfit", &json!({"data": {"a": {"pw": "swordfish"}, "b": 700_077}}));
    let kind = fixture.object(
        "v1",
        "Secret",
        "kind",
        &json!({"type": "kubernetes.io/tls", "stringData": {"pw": "swordfish"}}),
    );
    fixture.assign(1, &[fixture.namespace_object(), invalid, unfit, kind]);
    fixture.start_agent();

    let report = fixture
        .report(|report| report.lines.iter().filter(|line| line.outcome == Outcome::Rejected).count() == 3)
        .await;

    let invalid = &line(&report, "web").message;
    for words in [
        "spec.ports[0].name: Invalid value: …: ",
        "spec.ports[1].port: Invalid value: …: must be",
        "spec.ports[2].protocol: Unsupported value: …: supported values",
    ] {
        assert!(invalid.contains(words), "{words}: {invalid}");
    }
    let unfit = &line(&report, "unfit").message;
    for words in [".data.a: expected string, got a map", ".data.b: expected string, got a number"] {
        assert!(unfit.contains(words), "{words}: {unfit}");
    }
    assert!(line(&report, "kind").message.contains("Required value"), "{}", line(&report, "kind").message);
    let told = format!("{report:?}").to_lowercase();
    assert!(!told.contains("swordfish") && !told.contains("700077"), "{told}");
}

#[tokio::test]
async fn an_address_that_the_cluster_does_not_give_is_refused_until_it_does_and_a_port_that_is_none_for_ever() {
    let mut fixture = fixture!();
    let service =
        |fixture: &Fixture, name: &str, spec: &Value| fixture.object("v1", "Service", name, &json!({"spec": spec}));
    // Of the addresses for documentation; no other test has any.
    let outside = service(&fixture, "outside", &json!({"clusterIP": "203.0.113.7", "ports": [{"port": 80}]}));
    fixture.assign(1, &[fixture.namespace_object(), outside]);
    fixture.start_agent();
    let refused = fixture.report(has_failed(1)).await;
    assert!(refused.may_pass(), "{:?}", refused.lines);
    assert!(line(&refused, "outside").message.contains("spec.clusterIPs"), "{:?}", refused.lines);

    // Since Kubernetes 1.33; before, the addresses of a cluster are those that it was started with.
    if fixture.serves("/apis/networking.k8s.io/v1", "servicecidrs").await {
        let ranges = json!({"metadata": {"name": fixture.namespace}, "spec": {"cidrs": ["203.0.113.0/24"]}});
        fixture.post("/apis/networking.k8s.io/v1/servicecidrs", &ranges).await;
        fixture.report(|report| report.verdict == Verdict::Healthy).await;
    }

    fixture.assign(2, &[fixture.namespace_object(), service(&fixture, "wrong", &json!({"ports": [{"port": 0}]}))]);
    let wrong = fixture.report(has_failed(2)).await;
    assert!(!wrong.may_pass(), "{:?}", wrong.lines);
}
