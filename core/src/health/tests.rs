//! One table per kind of Kubernetes itself: status as controllers write it, and the verdict on it.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Ending, assess, ending, goes_by_itself, has_begun, may_be_stuck, needs_watch_in_full};
use crate::report::Verdict::{self, Degraded, Failed, Healthy, Progressing, Unknown};

fn object(api_version: &str, kind: &str, spec: &Value, status: &Value) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": "web", "namespace": "shop", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
        "status": status,
    })
}

/// (what is the case, spec, status, verdict, words of the message)
type Row = (&'static str, Value, Value, Verdict, &'static str);

fn check(api_version: &str, kind: &str, rows: Vec<Row>) {
    for (case, spec, status, verdict, words) in rows {
        let health = assess(&object(api_version, kind, &spec, &status), false);
        assert_eq!(health.verdict, verdict, "{kind}: {case}: {}", health.message);
        assert!(health.message.contains(words), "{kind}: {case}: {}", health.message);
    }
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": format!("message of {reason}"),
           "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn rolled_out() -> Value {
    json!({
        "observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3,
        "conditions": [
            condition("Available", "True", "MinimumReplicasAvailable"),
            condition("Progressing", "True", "NewReplicaSetAvailable"),
        ],
    })
}

/// With other values for some fields; null removes one.
fn but(mut status: Value, changes: &Value) -> Value {
    for (key, value) in changes.as_object().expect("an object") {
        status[key] = value.clone();
    }
    status
}

#[test]
fn a_deployment_is_healthy_when_its_new_pods_are_available() {
    let spec = || json!({"replicas": 3, "progressDeadlineSeconds": 600});
    let waiting = |condition: Value| but(rolled_out(), &json!({"conditions": [condition]}));
    let late = condition("Progressing", "False", "ProgressDeadlineExceeded");
    check(
        "apps/v1",
        "Deployment",
        vec![
            ("rolled out", spec(), rolled_out(), Healthy, "Replicas: 3"),
            ("just created", spec(), json!({}), Progressing, "Replicas: 0/3"),
            (
                "an older generation",
                spec(),
                but(rolled_out(), &json!({"observedGeneration": 1})),
                Progressing,
                "generation is 2",
            ),
            ("old pods only", spec(), but(rolled_out(), &json!({"updatedReplicas": 1})), Progressing, "Updated: 1/3"),
            (
                "old pods still there",
                spec(),
                but(rolled_out(), &json!({"replicas": 4})),
                Progressing,
                "Pending termination: 1",
            ),
            (
                "not yet available",
                spec(),
                but(rolled_out(), &json!({"availableReplicas": 2})),
                Progressing,
                "Available: 2/3",
            ),
            ("not yet ready", spec(), but(rolled_out(), &json!({"readyReplicas": 1})), Progressing, "Ready: 1/3"),
            (
                "too late",
                spec(),
                but(rolled_out(), &json!({"conditions": [late]})),
                Failed,
                "progress deadline exceeded",
            ),
            (
                "progressing",
                spec(),
                waiting(condition("Progressing", "True", "ReplicaSetUpdated")),
                Progressing,
                "ReplicaSet",
            ),
        ],
    );
}

#[test]
fn a_deployment_that_is_not_well_says_what_keeps_it() {
    let refused = json!({
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "pods \"web-x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0",
    });
    let invalid = json!({
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
        "message": "Pod \"web-x\" is invalid: spec.containers[0].env[0]: Invalid value: {\"name\":\"PW\",\"value\":\"swordfish\"}: no",
    });
    let without_pods = |conditions: Value| json!({"observedGeneration": 2, "conditions": conditions});
    let late = condition("Progressing", "False", "ProgressDeadlineExceeded");
    let passed = json!({"type": "ReplicaFailure", "status": "False", "message": "exceeded quota"});
    let spec = || json!({"replicas": 1, "progressDeadlineSeconds": 600});
    let held = || json!({"replicas": 1, "progressDeadlineSeconds": 600, "paused": true});
    let words = "replica failure: pods \"web-x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0; ";
    for (spec, status, verdict, message) in [
        (spec(), without_pods(json!([refused])), Progressing, format!("{words}Replicas: 0/1")),
        (
            spec(),
            without_pods(json!([late, refused])),
            Failed,
            format!("{words}progress deadline exceeded: message of ProgressDeadlineExceeded"),
        ),
        (
            spec(),
            without_pods(json!([invalid])),
            Progressing,
            "replica failure: Pod \"web-x\" is invalid: spec.containers[0].env[0]: Invalid value: …: no; Replicas: 0/1"
                .to_owned(),
        ),
        (spec(), without_pods(json!([passed])), Progressing, "Replicas: 0/1".to_owned()),
        (held(), without_pods(json!([])), Progressing, "it is paused (spec.paused); Replicas: 0/1".to_owned()),
        (json!({"replicas": 3, "paused": true}), rolled_out(), Healthy, "Replicas: 3".to_owned()),
    ] {
        let health = assess(&object("apps/v1", "Deployment", &spec, &status), false);
        assert_eq!((health.verdict, health.message), (verdict, message));
    }
}

#[test]
fn a_deployment_without_a_deadline_is_judged_by_its_availability_alone() {
    let waiting = |condition: Value| but(rolled_out(), &json!({"conditions": [condition]}));
    check(
        "apps/v1",
        "Deployment",
        vec![
            (
                "no conditions, no deadline",
                json!({"replicas": 3}),
                but(rolled_out(), &json!({"conditions": null})),
                Progressing,
                "Deployment",
            ),
            (
                "no deadline",
                json!({"replicas": 3}),
                waiting(condition("Available", "True", "MinimumReplicasAvailable")),
                Healthy,
                "",
            ),
            (
                "scaled to nothing",
                json!({"replicas": 0}),
                json!({
                    "observedGeneration": 2, "conditions": [condition("Available", "True", "MinimumReplicasAvailable")],
                }),
                Healthy,
                "Replicas: 0",
            ),
        ],
    );
}

#[test]
fn a_stateful_set_is_healthy_when_all_run_the_updated_revision() {
    let spec = || json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate"}});
    let status = || {
        json!({"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "currentReplicas": 3, "updatedReplicas": 3,
               "currentRevision": "web-5d", "updateRevision": "web-5d"})
    };
    let partitioned =
        || json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    check(
        "apps/v1",
        "StatefulSet",
        vec![
            ("rolled out", spec(), status(), Healthy, "Replicas: 3"),
            ("just created", spec(), json!({}), Progressing, "Replicas: 0/3"),
            ("not ready", spec(), but(status(), &json!({"readyReplicas": 2})), Progressing, "Ready: 2/3"),
            ("too many", spec(), but(status(), &json!({"replicas": 5})), Progressing, "Pending termination: 2"),
            ("being updated", spec(), but(status(), &json!({"currentReplicas": 1})), Progressing, "Current: 1/3"),
            ("two revisions", spec(), but(status(), &json!({"updateRevision": "web-7f"})), Progressing, "revision"),
            ("one of a partition", partitioned(), but(status(), &json!({"updatedReplicas": 1})), Healthy, "partition"),
            (
                "none of a partition",
                partitioned(),
                but(status(), &json!({"updatedReplicas": 0})),
                Progressing,
                "Updated: 0/1",
            ),
        ],
    );
}

#[test]
fn a_stateful_set_that_people_update_waits_for_no_update_but_for_every_pod() {
    let spec = || json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}});
    let status = || json!({"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "updateRevision": "web-7f"});
    check(
        "apps/v1",
        "StatefulSet",
        vec![
            ("none updated", spec(), status(), Healthy, "by hand (OnDelete)"),
            ("just created", spec(), json!({}), Progressing, "Replicas: 0/3"),
            ("one is not ready", spec(), but(status(), &json!({"readyReplicas": 2})), Progressing, "Ready: 2/3"),
            ("one too many", spec(), but(status(), &json!({"replicas": 4})), Progressing, "Pending termination: 1"),
        ],
    );
}

#[test]
fn a_daemon_set_is_healthy_when_it_is_on_every_node() {
    let status = || {
        json!({"observedGeneration": 2, "desiredNumberScheduled": 4, "currentNumberScheduled": 4,
               "updatedNumberScheduled": 4, "numberAvailable": 4, "numberReady": 4, "numberMisscheduled": 0})
    };
    check(
        "apps/v1",
        "DaemonSet",
        vec![
            ("on every node", json!({}), status(), Healthy, "Replicas: 4"),
            (
                "no node wants it",
                json!({}),
                json!({"observedGeneration": 2, "desiredNumberScheduled": 0}),
                Healthy,
                "Replicas: 0",
            ),
            ("not seen", json!({}), json!({}), Progressing, "observedGeneration not found"),
            ("not counted", json!({}), json!({"observedGeneration": 2}), Progressing, "desiredNumberScheduled"),
            (
                "being placed",
                json!({}),
                but(status(), &json!({"currentNumberScheduled": 3})),
                Progressing,
                "Current: 3/4",
            ),
            (
                "being updated",
                json!({}),
                but(status(), &json!({"updatedNumberScheduled": 1})),
                Progressing,
                "Updated: 1/4",
            ),
            ("not available", json!({}), but(status(), &json!({"numberAvailable": 2})), Progressing, "Available: 2/4"),
            ("not ready", json!({}), but(status(), &json!({"numberReady": 2})), Progressing, "Ready: 2/4"),
        ],
    );
}

#[test]
fn a_daemon_set_that_people_update_waits_for_no_update_but_for_every_pod() {
    let spec = || json!({"updateStrategy": {"type": "OnDelete"}});
    let status = || {
        json!({"observedGeneration": 2, "desiredNumberScheduled": 4, "currentNumberScheduled": 4, "numberAvailable": 4,
               "numberReady": 4})
    };
    check(
        "apps/v1",
        "DaemonSet",
        vec![
            ("none updated", spec(), status(), Healthy, "0 of 4 updated by hand"),
            ("all updated", spec(), but(status(), &json!({"updatedNumberScheduled": 4})), Healthy, "Replicas: 4"),
            ("one is missing", spec(), but(status(), &json!({"numberReady": 3})), Progressing, "Ready: 3/4"),
            ("not observed", spec(), but(status(), &json!({"observedGeneration": 1})), Progressing, "generation is 2"),
        ],
    );
}

#[test]
fn a_condition_counts_for_the_generation_that_it_is_about() {
    let about = |kind: &str, status: &str, generation: Value| {
        let mut condition = condition(kind, status, "Some");
        condition["observedGeneration"] = generation;
        json!({"conditions": [condition]})
    };
    check(
        "example.org/v1",
        "Widget",
        vec![
            ("ready then", json!({}), about("Ready", "True", json!(1)), Progressing, "Ready is about generation 1"),
            ("ready now", json!({}), about("Ready", "True", json!(2)), Healthy, "ready"),
            ("ready now, in words", json!({}), about("Ready", "True", json!("2")), Healthy, "ready"),
            ("stalled then", json!({}), about("Stalled", "True", json!(1)), Progressing, "Stalled is about"),
            ("stalled now", json!({}), about("Stalled", "True", json!(2)), Failed, "message of Some"),
        ],
    );
}

#[test]
fn a_generation_spelled_in_digits_is_a_number() {
    let ready = |observed: &str| json!({"observedGeneration": observed, "phase": "Healthy"});
    check(
        "argoproj.io/v1alpha1",
        "Rollout",
        vec![
            ("observed", json!({}), ready("2"), Healthy, "Healthy"),
            ("not observed", json!({}), ready("1"), Progressing, "generation is 2"),
            ("no number", json!({}), ready("-"), Unknown, "observedGeneration"),
        ],
    );
}

#[test]
fn a_time_that_is_no_text_hides_nothing() {
    let mut ready = condition("Ready", "True", "Some");
    ready["lastUpdateTime"] = json!(1_795_000_000);
    check("example.org/v1", "Widget", vec![("ready", json!({}), json!({"conditions": [ready]}), Healthy, "ready")]);
}

#[test]
fn how_it_ended_is_known_of_what_runs_once() {
    let with = |api_version: &str, kind: &str, status: &Value| ending(&object(api_version, kind, &json!({}), status));
    let ended = |kind: &str| json!({"conditions": [condition("Suspended", "False", ""), condition(kind, "True", "")]});

    assert_eq!(with("batch/v1", "Job", &ended("Complete")), Some(Ending::Succeeded));
    assert_eq!(with("batch/v1", "Job", &ended("Failed")), Some(Ending::Failed));
    assert_eq!(with("batch/v1", "Job", &json!({"active": 1})), None);
    assert_eq!(with("v1", "Pod", &json!({"phase": "Succeeded"})), Some(Ending::Succeeded));
    assert_eq!(with("v1", "Pod", &json!({"phase": "Failed"})), Some(Ending::Failed));
    assert_eq!(with("apps/v1", "Deployment", &ended("Failed")), None);
}

#[test]
fn a_replica_set_is_healthy_when_its_pods_are_available() {
    let spec = || json!({"replicas": 2});
    let status = || json!({"observedGeneration": 2, "replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
    let failure = json!({"conditions": [condition("ReplicaFailure", "True", "FailedCreate")]});
    check(
        "apps/v1",
        "ReplicaSet",
        vec![
            ("all there", spec(), status(), Healthy, "Replicas: 2"),
            ("just created", spec(), json!({}), Progressing, "Labelled: 0/2"),
            ("not available", spec(), but(status(), &json!({"availableReplicas": 1})), Progressing, "Available: 1/2"),
            ("not ready", spec(), but(status(), &json!({"readyReplicas": 1})), Progressing, "Ready: 1/2"),
            ("too many", spec(), but(status(), &json!({"replicas": 3})), Progressing, "Pending termination: 1"),
            ("quota is used up", spec(), but(status(), &failure), Progressing, "message of FailedCreate"),
        ],
    );
}

#[test]
fn a_job_is_healthy_when_it_is_complete_and_failed_when_it_failed() {
    let started = || json!({"startTime": "2026-01-01T00:00:00Z", "active": 1});
    let ended = |kind: &str| but(started(), &json!({"conditions": [condition(kind, "True", "Some")]}));
    check(
        "batch/v1",
        "Job",
        vec![
            ("just created", json!({}), json!({}), Progressing, "not started"),
            ("running", json!({"completions": 4}), started(), Progressing, "active: 1"),
            ("complete", json!({"completions": 1}), but(ended("Complete"), &json!({"succeeded": 1})), Healthy, "1/1"),
            ("failed", json!({"parallelism": 3}), but(ended("Failed"), &json!({"failed": 2})), Failed, "2/3"),
            (
                "suspended",
                json!({"suspend": true}),
                json!({"conditions": [condition("Suspended", "True", "JobSuspended")]}),
                Healthy,
                "suspended",
            ),
            (
                "resumed",
                json!({}),
                but(started(), &json!({"conditions": [condition("Suspended", "False", "JobResumed")]})),
                Progressing,
                "",
            ),
        ],
    );
}

#[test]
fn a_pod_is_healthy_when_it_is_ready_or_has_completed() {
    let with = |phase: &str, condition: Value| json!({"phase": phase, "conditions": [condition]});
    let crashing = json!({
        "phase": "Running",
        "conditions": [condition("Ready", "False", "ContainersNotReady")],
        "containerStatuses": [
            {"name": "web", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
            {"name": "side", "state": {"running": {}}},
        ],
    });
    check(
        "v1",
        "Pod",
        vec![
            ("not observed", json!({}), json!({}), Progressing, "not observed"),
            ("ready", json!({}), with("Running", condition("Ready", "True", "")), Healthy, "ready"),
            (
                "not ready",
                json!({}),
                with("Running", condition("Ready", "False", "ContainersNotReady")),
                Progressing,
                "not ready",
            ),
            ("crashing", json!({}), crashing, Failed, "crash loop: web"),
            ("pulling", json!({}), with("Pending", condition("PodScheduled", "True", "")), Progressing, "pending"),
            ("completed", json!({}), json!({"phase": "Succeeded"}), Healthy, "completed"),
            ("ended badly", json!({}), json!({"phase": "Failed"}), Failed, "not successfully"),
            ("lost", json!({}), json!({"phase": "Unknown"}), Unknown, "pod phase `Unknown`"),
        ],
    );
}

#[test]
fn an_unschedulable_pod_fails_after_fifteen_seconds_and_not_before() {
    let status = json!({"phase": "Pending", "conditions": [condition("PodScheduled", "False", "Unschedulable")]});
    let mut pod = object("v1", "Pod", &json!({}), &status);
    let health = assess(&pod, false);
    let at = |text: &str| health.at(text.parse().expect("a time"));

    assert_eq!(
        (health.verdict, at("2026-01-01T00:00:14Z"), at("2026-01-01T00:00:15Z")),
        (Progressing, Progressing, Failed)
    );

    pod["metadata"]["creationTimestamp"] = Value::Null;
    assert_eq!(assess(&pod, false).verdict, Failed);
}

#[test]
fn claims_services_and_budgets_go_by_their_own_fields() {
    let address = || json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}});
    check(
        "v1",
        "PersistentVolumeClaim",
        vec![
            ("bound", json!({}), json!({"phase": "Bound"}), Healthy, "bound"),
            ("pending", json!({}), json!({"phase": "Pending"}), Progressing, "first consumer"),
            ("just created", json!({}), json!({}), Progressing, "phase: unknown"),
        ],
    );
    check(
        "v1",
        "Service",
        vec![
            ("inside", json!({}), json!({"loadBalancer": {}}), Healthy, "ready"),
            ("no address", json!({"type": "LoadBalancer"}), address(), Progressing, "no cluster IP"),
            ("a load balancer", json!({"type": "LoadBalancer", "clusterIP": "10.0.0.7"}), address(), Healthy, "ready"),
        ],
    );
    check(
        "policy/v1",
        "PodDisruptionBudget",
        vec![
            ("computed", json!({}), json!({"observedGeneration": 2, "disruptionsAllowed": 0}), Healthy, ""),
            ("of an older generation", json!({}), json!({"observedGeneration": 1}), Progressing, "generation is 2"),
        ],
    );
    check("batch/v1", "CronJob", vec![("there", json!({}), json!({}), Healthy, "")]);
}

#[test]
fn a_custom_resource_definition_is_healthy_when_it_is_established() {
    let with = |conditions: Vec<Value>| json!({"conditions": conditions});
    let accepted = || condition("NamesAccepted", "True", "NoConflicts");
    check(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        vec![
            ("just created", json!({}), json!({}), Progressing, "being installed"),
            (
                "established",
                json!({}),
                with(vec![accepted(), condition("Established", "True", "InitialNamesAccepted")]),
                Healthy,
                "",
            ),
            (
                "installing",
                json!({}),
                with(vec![accepted(), condition("Established", "False", "Installing")]),
                Progressing,
                "",
            ),
            (
                "refused",
                json!({}),
                with(vec![condition("NamesAccepted", "False", "PluralConflict")]),
                Failed,
                "PluralConflict",
            ),
            (
                "not accepted",
                json!({}),
                with(vec![accepted(), condition("Established", "False", "NotAccepted")]),
                Failed,
                "NotAccepted",
            ),
        ],
    );
}

#[test]
fn other_kinds_go_by_generation_and_conditions() {
    let with =
        |kind: &str, status: &str| json!({"observedGeneration": 2, "conditions": [condition(kind, status, "Some")]});
    let both = json!({"conditions": [condition("Ready", "True", "A"), condition("Stalled", "True", "B")]});
    check(
        "example.org/v1",
        "Widget",
        vec![
            ("no status", json!({}), Value::Null, Healthy, "current"),
            ("ready", json!({}), with("Ready", "True"), Healthy, "ready"),
            ("not ready", json!({}), with("Ready", "False"), Progressing, "message of Some"),
            ("who knows", json!({}), with("Ready", "Unknown"), Progressing, "message of Some"),
            ("reconciling", json!({}), with("Reconciling", "True"), Progressing, "message of Some"),
            ("stalled", json!({}), with("Stalled", "True"), Failed, "message of Some"),
            ("stalled although ready", json!({}), both, Failed, "message of B"),
            ("no longer stalled", json!({}), with("Stalled", "False"), Healthy, "current"),
            (
                "not observed",
                json!({}),
                but(with("Ready", "True"), &json!({"observedGeneration": 1})),
                Progressing,
                "generation is 2",
            ),
            ("conditions by name", json!({}), json!({"conditions": {"ready": true}}), Unknown, "list of conditions"),
            ("a generation in words", json!({}), json!({"observedGeneration": "two"}), Unknown, "observedGeneration"),
        ],
    );
    // Knative's Service is not Kubernetes' Service.
    check("serving.knative.dev/v1", "Service", vec![("not ready", json!({}), with("Ready", "False"), Degraded, "")]);
}

#[test]
fn what_is_being_deleted_is_not_healthy() {
    for (api_version, kind) in [("v1", "ConfigMap"), ("apps/v1", "Deployment"), ("example.org/v1", "Widget")] {
        let mut deleted = object(api_version, kind, &json!({"replicas": 3}), &rolled_out());
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let health = assess(&deleted, false);

        assert_eq!((health.verdict, health.message.as_str()), (Progressing, "being deleted"));
    }
}

#[test]
fn plain_kinds_are_healthy_by_their_metadata_alone() {
    for (group, kind) in [("", "ConfigMap"), ("", "Secret"), ("rbac.authorization.k8s.io", "Role"), ("", "Namespace")] {
        let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
        let metadata = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "generation": 3}});

        assert!(!needs_watch_in_full(group, kind), "{kind}");
        assert_eq!(assess(&metadata, false).verdict, Healthy, "{kind}");
    }
    for (group, kind) in [("apps", "Deployment"), ("", "Pod"), ("example.org", "ConfigMap"), ("example.org", "Widget")]
    {
        assert!(needs_watch_in_full(group, kind), "{kind}");
    }
}

#[test]
fn what_says_itself_that_it_is_not_well_is_not_taken_for_well() {
    let with = |condition: Value| json!({"conditions": [condition]});
    check(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        vec![
            ("new", json!({}), json!({}), Healthy, "current"),
            ("able", json!({}), with(condition("AbleToScale", "True", "ReadyForNewScale")), Healthy, "current"),
            (
                "what it scales is not there",
                json!({}),
                with(condition("AbleToScale", "False", "FailedGetScale")),
                Progressing,
                "message of FailedGetScale",
            ),
        ],
    );
    check(
        "apiregistration.k8s.io/v1",
        "APIService",
        vec![
            ("new", json!({}), json!({}), Progressing, "not looked at"),
            ("available", json!({}), with(condition("Available", "True", "Passed")), Healthy, "available"),
            (
                "no service",
                json!({}),
                with(condition("Available", "False", "ServiceNotFound")),
                Progressing,
                "message of ServiceNotFound",
            ),
        ],
    );
    let pods = |ready: u32| json!({"replicas": 1, "fullyLabeledReplicas": 1, "readyReplicas": ready, "availableReplicas": ready});
    check(
        "v1",
        "ReplicationController",
        vec![
            ("a pod waits", json!({"replicas": 1}), pods(0), Progressing, "Available: 0/1"),
            ("all run", json!({"replicas": 1}), pods(1), Healthy, "Replicas: 1"),
        ],
    );
}

#[test]
fn nonsense_is_never_a_panic() {
    for nonsense in [json!(null), json!([]), json!("x"), json!({"kind": 7, "metadata": [], "status": "y"})] {
        assess(&nonsense, false);
    }
}

#[test]
fn a_failure_from_before_our_last_change_is_no_failure_of_it() {
    let mut late = condition("Progressing", "False", "ProgressDeadlineExceeded");
    late["lastUpdateTime"] = json!("2026-01-01T00:00:10Z");
    let applied_at = |time: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "generation": 2, "managedFields": [
                {"manager": "bellwether", "operation": "Apply", "time": time},
            ]},
            "spec": {"replicas": 1, "progressDeadlineSeconds": 5},
            "status": {"observedGeneration": 2, "conditions": [late]},
        })
    };

    let before = assess(&applied_at("2026-01-01T00:00:10Z"), false);
    assert_eq!((before.verdict, assess(&applied_at("2026-01-01T00:00:05Z"), false).verdict), (Progressing, Failed));
    // A change of metadata alone is never judged: the failure stands, and counts again.
    let at = |text: &str| before.at(text.parse().expect("a time"));
    assert_eq!((at("2026-01-01T00:00:39Z"), at("2026-01-01T00:00:40Z")), (Progressing, Failed));
}

#[test]
fn of_a_message_without_end_only_a_part_is_kept() {
    let mut ready = condition("Ready", "False", "Some");
    ready["message"] = json!("x".repeat(100_000));
    let status = json!({"conditions": [ready]});

    let health = assess(&object("example.org/v1", "Widget", &json!({}), &status), false);

    assert!(health.message.len() <= crate::report::MESSAGE_BYTES_MAX, "{} bytes", health.message.len());
    assert!(health.message.contains("xxx"), "{}", health.message);
}

#[test]
fn what_goes_by_itself_when_it_has_ended_is_known() {
    let job = |spec: &Value| goes_by_itself(&object("batch/v1", "Job", spec, &json!({})));
    let pod = |policy: &str| json!({"apiVersion": "v1", "kind": "Pod", "spec": {"restartPolicy": policy}});

    assert!(job(&json!({"ttlSecondsAfterFinished": 0})) && !job(&json!({})));
    assert!(goes_by_itself(&pod("Never")) && !goes_by_itself(&pod("Always")));
}

#[test]
fn a_job_may_be_stuck_that_has_nothing_to_show_for_a_while() {
    let at = |text: &str| text.parse().expect("is a time");
    let late = at("2026-01-01T00:00:30Z");
    let job = |status: &Value| object("batch/v1", "Job", &json!({}), status);

    assert!(may_be_stuck(&job(&json!({"active": 1, "ready": 0})), late));
    assert!(may_be_stuck(&job(&json!({})), late), "one that is suspended");
    assert!(!may_be_stuck(&job(&json!({"active": 1})), at("2026-01-01T00:00:29Z")));
    assert!(!may_be_stuck(&job(&json!({"active": 1, "ready": 1})), late));
    assert!(!may_be_stuck(&job(&json!({"active": 1, "succeeded": 1})), late), "between two of its Pods");
    assert!(!may_be_stuck(&job(&json!({"failed": 1})), late), "between two tries");
}

#[test]
fn a_pod_has_begun_when_a_container_of_it_has() {
    let pod = |list: &str, state: &Value| json!({"status": {list: [{"state": state}]}});
    let waits = json!({"waiting": {"reason": "ImagePullBackOff"}});

    assert!(has_begun(&pod("containerStatuses", &json!({"running": {}}))));
    assert!(has_begun(&pod("initContainerStatuses", &json!({"running": {}}))));
    assert!(has_begun(&pod("initContainerStatuses", &json!({"terminated": {"exitCode": 0}}))));
    assert!(has_begun(&json!({"status": {"containerStatuses": [{"state": waits, "restartCount": 1}]}})), "it crashed");
    assert!(!has_begun(&pod("containerStatuses", &waits)) && !has_begun(&json!({"status": {"phase": "Pending"}})));
}

#[test]
fn a_custom_resource_without_a_status_has_half_a_minute_for_one() {
    let made: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let after = |seconds| made + SignedDuration::from_secs(seconds);
    let without = object("demo.example.org/v1", "Database", &json!({}), &json!({}));

    let health = assess(&without, true);
    assert_eq!((health.at(after(29)), health.at(after(30))), (Progressing, Healthy));
    assert!(health.message.contains("no status yet"), "{}", health.message);
    let late = health.clone().seen_at(None, after(-3600));
    assert_eq!(late.at(after(-3570)), Healthy, "a clock that is wrong holds nobody up for an hour");
    assert_eq!(health.clone().seen_at(None, after(20)).at(after(29)), Progressing);
    let given = Some(after(-3570));
    assert_eq!(health.seen_at(given, after(-3580)).at(after(-3570)), Healthy, "whoever sees it again gives no more");

    assert_eq!(assess(&without, false).verdict, Healthy, "nobody is to write one");
    let said = object("demo.example.org/v1", "Database", &json!({}), &json!({"phase": "Pending"}));
    assert_eq!(assess(&said, true).verdict, Healthy, "what is not understood says nothing, as kstatus has it");
    let built_in = object("v1", "ConfigMap", &json!({}), &json!({}));
    assert_eq!(assess(&built_in, true).verdict, Healthy);
}
