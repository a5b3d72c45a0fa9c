//! The rules of the kinds that Kubernetes ships, as kstatus has them; and of three that it takes for well as soon as they are there,
//! though they say themselves that they are not.
//!
//! They come after the generic rules: deletion and an unobserved generation are decided by then.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Health;
use super::fields::{Condition, Unreadable, conditions, field, integer, number, text};
use crate::object::MANAGER;
use crate::report::Verdict;

/// The scheduler gets this long to place a pod before it counts as unschedulable.
const SCHEDULE_WINDOW: SignedDuration = SignedDuration::from_secs(15);
/// The deployment controller gets at least this long to judge a change, however short the deadline.
const JUDGED_WITHIN: SignedDuration = SignedDuration::from_secs(30);
/// What Kubernetes takes for "no progress deadline".
const NO_DEADLINE: i64 = i32::MAX as i64;

type Rule = fn(&Value) -> Result<Health, Unreadable>;

/// The rule for a kind; `None`: it goes by its conditions.
pub(super) fn rule(group: &str, kind: &str) -> Option<Rule> {
    Some(match (group, kind) {
        ("", "ConfigMap" | "Secret") | ("batch", "CronJob") => always,
        ("", "Service") => service,
        ("", "Pod") => pod,
        ("", "PersistentVolumeClaim") => claim,
        ("apps", "StatefulSet") => stateful_set,
        ("apps" | "extensions", "DaemonSet") => daemon_set,
        ("apps" | "extensions", "Deployment") => deployment,
        ("apps" | "extensions", "ReplicaSet") | ("", "ReplicationController") => replica_set,
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler,
        ("apiregistration.k8s.io", "APIService") => api_service,
        ("batch", "Job") => job,
        ("policy", "PodDisruptionBudget") => disruption_budget,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition,
        _ => return None,
    })
}

fn status(object: &Value, name: &str) -> i64 {
    number(object, &["status", name], 0)
}

/// The first of these counts that lags behind, in words.
fn lagging(counts: &[(&str, i64, i64)]) -> Option<Health> {
    let (name, is, wanted) = counts.iter().find(|(_, is, wanted)| is < wanted)?;
    Some(Health::progressing(format!("{name}: {is}/{wanted}")))
}

#[expect(clippy::unnecessary_wraps, reason = "it is one of the rules, and others can fail")]
fn always(_: &Value) -> Result<Health, Unreadable> {
    Ok(Health::healthy("there"))
}

/// By its numbers alone: no controller sets conditions on it.
#[expect(clippy::unnecessary_wraps, reason = "it is one of the rules, and others can fail")]
fn stateful_set(object: &Value) -> Result<Health, Unreadable> {
    let wanted = number(object, &["spec", "replicas"], 1);
    let replicas = status(object, "replicas");
    if let Some(health) = lagging(&[("Replicas", replicas, wanted), ("Ready", status(object, "readyReplicas"), wanted)])
    {
        return Ok(health);
    }
    if replicas > wanted {
        return Ok(Health::progressing(format!("Pending termination: {}", replicas - wanted)));
    }
    // Nobody but a person makes more of them of the newest revision; kstatus does not wait for any pod at all.
    if text(object, &["spec", "updateStrategy", "type"]) == Some("OnDelete") {
        return Ok(Health::healthy("updated by hand (OnDelete)"));
    }
    let updated = status(object, "updatedReplicas");
    let partition = number(object, &["spec", "updateStrategy", "rollingUpdate", "partition"], -1);
    if partition != -1 {
        let health = lagging(&[("Updated", updated, wanted - partition)]);
        return Ok(health.unwrap_or_else(|| Health::healthy(format!("partition updated: {updated}"))));
    }
    if let Some(health) = lagging(&[("Current", status(object, "currentReplicas"), wanted)]) {
        return Ok(health);
    }
    let revision = |name: &str| text(object, &["status", name]).unwrap_or_default();
    if revision("currentRevision") != revision("updateRevision") {
        return Ok(Health::progressing("waiting for the updated revision to match the current one"));
    }
    Ok(Health::healthy(format!("Replicas: {replicas}")))
}

/// By its numbers and its deadline; of one that is not well, with what its controller knows of the reason.
fn deployment(object: &Value) -> Result<Health, Unreadable> {
    let health = rolled_out(object)?;
    if health.verdict == Verdict::Healthy {
        return Ok(health);
    }
    let is_paused = field(object, &["spec", "paused"]).and_then(Value::as_bool) == Some(true);
    let paused = is_paused.then(|| "it is paused (spec.paused)".to_owned());
    let refused = replica_failure(&conditions(object)?).map(|failure| explained("replica failure", &failure));
    let reasons: Vec<_> = paused.into_iter().chain(refused).collect();
    if reasons.is_empty() {
        return Ok(health);
    }
    let message = format!("{}; {}", reasons.join("; "), health.message);
    Ok(Health { fails_at: health.fails_at, ..Health::new(health.verdict, message) })
}

/// That its pods are refused: by a quota, by admission.
fn replica_failure<'a>(conditions: &[Condition<'a>]) -> Option<Condition<'a>> {
    conditions.iter().find(|condition| condition.kind == "ReplicaFailure" && condition.status == "True").copied()
}

fn rolled_out(object: &Value) -> Result<Health, Unreadable> {
    let deadline = number(object, &["spec", "progressDeadlineSeconds"], NO_DEADLINE);
    let has_no_deadline = deadline == NO_DEADLINE;
    let conditions = conditions(object)?;
    let progress = || conditions.iter().filter(|condition| condition.kind == "Progressing");
    if let Some(late) = progress().find(|condition| condition.reason == "ProgressDeadlineExceeded") {
        if let Some(changed_at) = changed_since(late, object) {
            // A change that the controller has nothing to judge by, of metadata alone, leaves the failure standing.
            let patience = SignedDuration::from_secs(deadline).max(JUDGED_WITHIN);
            let message = explained("progress deadline exceeded before the last change", late);
            let fails_at = Some(changed_at.saturating_add(patience).unwrap_or(Timestamp::MAX));
            return Ok(Health { fails_at, ..Health::progressing(message) });
        }
        return Ok(Health::failed(explained("progress deadline exceeded", late)));
    }
    let wanted = number(object, &["spec", "replicas"], 1);
    let (replicas, updated) = (status(object, "replicas"), status(object, "updatedReplicas"));
    if let Some(health) = lagging(&[("Replicas", replicas, wanted), ("Updated", updated, wanted)]) {
        return Ok(health);
    }
    if replicas > wanted {
        return Ok(Health::progressing(format!("Pending termination: {}", replicas - wanted)));
    }
    let available = status(object, "availableReplicas");
    let ready = status(object, "readyReplicas");
    if let Some(health) = lagging(&[("Available", available, updated), ("Ready", ready, wanted)]) {
        return Ok(health);
    }
    let is_placed = |condition: &Condition| condition.status == "True" && condition.reason == "NewReplicaSetAvailable";
    if !has_no_deadline && !progress().any(is_placed) {
        return Ok(Health::progressing("the new ReplicaSet is not available"));
    }
    if !conditions.iter().any(|condition| condition.kind == "Available" && condition.status == "True") {
        return Ok(Health::progressing("the Deployment is not available"));
    }
    Ok(Health::healthy(format!("Replicas: {replicas}")))
}

/// When we last changed the object, if the condition is no newer. The deployment controller moves `observedGeneration`
/// before it takes back a failure of the generation before: what it said no later than our last change is not about that
/// change. Times have seconds, and no deadline is under one.
fn changed_since(condition: &Condition, object: &Value) -> Option<Timestamp> {
    let entries = field(object, &["metadata", "managedFields"]).and_then(Value::as_array);
    let ours = entries.into_iter().flatten().find(|entry| entry["manager"] == MANAGER && entry["operation"] == "Apply");
    let changed_at = ours?["time"].as_str()?;
    let is_older = !condition.updated_at.is_empty() && condition.updated_at <= changed_at;
    changed_at.parse().ok().filter(|_| is_older)
}

fn explained(what: &str, condition: &Condition) -> String {
    if condition.message.is_empty() { what.to_owned() } else { format!("{what}: {}", condition.message) }
}

fn replica_set(object: &Value) -> Result<Health, Unreadable> {
    if let Some(failure) = replica_failure(&conditions(object)?) {
        return Ok(Health::progressing(explained("replica failure", &failure)));
    }
    let wanted = number(object, &["spec", "replicas"], 1);
    let counts = [
        ("Labelled", status(object, "fullyLabeledReplicas"), wanted),
        ("Available", status(object, "availableReplicas"), wanted),
        ("Ready", status(object, "readyReplicas"), wanted),
    ];
    if let Some(health) = lagging(&counts) {
        return Ok(health);
    }
    let replicas = status(object, "replicas");
    if replicas > wanted {
        return Ok(Health::progressing(format!("Pending termination: {}", replicas - wanted)));
    }
    Ok(Health::healthy(format!("Replicas: {replicas}")))
}

fn daemon_set(object: &Value) -> Result<Health, Unreadable> {
    // Its controller always sets both: without them it has not seen this object at all.
    for path in [["metadata", "generation"], ["status", "observedGeneration"]] {
        if integer(object, &path)?.is_none() {
            return Ok(Health::progressing(format!("{} not found", path.join("."))));
        }
    }
    let wanted = number(object, &["status", "desiredNumberScheduled"], -1);
    if wanted == -1 {
        return Ok(Health::progressing("status.desiredNumberScheduled not found"));
    }
    let updated = status(object, "updatedNumberScheduled");
    let is_by_hand = text(object, &["spec", "updateStrategy", "type"]) == Some("OnDelete");
    let counts = [
        ("Current", status(object, "currentNumberScheduled"), wanted),
        // Nobody but a person makes more of them.
        ("Updated", if is_by_hand { wanted } else { updated }, wanted),
        ("Available", status(object, "numberAvailable"), wanted),
        ("Ready", status(object, "numberReady"), wanted),
    ];
    Ok(lagging(&counts).unwrap_or_else(|| {
        let message = if is_by_hand && updated < wanted {
            format!("{updated} of {wanted} updated by hand (OnDelete)")
        } else {
            format!("Replicas: {wanted}")
        };
        Health::healthy(message)
    }))
}

#[expect(clippy::unnecessary_wraps, reason = "it is one of the rules, and others can fail")]
fn claim(object: &Value) -> Result<Health, Unreadable> {
    Ok(match text(object, &["status", "phase"]).unwrap_or("unknown") {
        "Bound" => Health::healthy("bound"),
        phase => Health::progressing(format!("not bound, phase: {phase}")),
    })
}

fn pod(object: &Value) -> Result<Health, Unreadable> {
    let conditions = conditions(object)?;
    match text(object, &["status", "phase"]).unwrap_or_default() {
        "Succeeded" => Ok(Health::healthy("completed")),
        // Unlike in kstatus: nothing runs in it again.
        "Failed" => Ok(Health::failed("completed, but not successfully")),
        "Running" => Ok(running_pod(object, &conditions)),
        "Pending" => Ok(pending_pod(object, &conditions)),
        "" => Ok(Health::progressing("not observed yet")),
        phase => Err(Unreadable::Phase(phase.to_owned())),
    }
}

fn running_pod(object: &Value, conditions: &[Condition]) -> Health {
    if conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True") {
        return Health::healthy("ready");
    }
    let statuses = field(object, &["status", "containerStatuses"]).and_then(Value::as_array);
    let is_crashing = |status: &&Value| text(status, &["state", "waiting", "reason"]) == Some("CrashLoopBackOff");
    let crashing = statuses.into_iter().flatten().filter(is_crashing);
    let names: Vec<_> = crashing.filter_map(|status| text(status, &["name"])).collect();
    if names.is_empty() {
        return Health::progressing("running but not ready");
    }
    Health::failed(format!("containers in a crash loop: {}", names.join(", ")))
}

fn pending_pod(object: &Value, conditions: &[Condition]) -> Health {
    let unscheduled =
        conditions.iter().find(|condition| condition.kind == "PodScheduled" && condition.status == "False");
    let Some(unscheduled) = unscheduled.filter(|condition| condition.reason == "Unschedulable") else {
        return Health::progressing("pending");
    };
    let message = explained("unschedulable", unscheduled);
    let created = text(object, &["metadata", "creationTimestamp"]).and_then(|at| at.parse::<Timestamp>().ok());
    match created.and_then(|created| created.checked_add(SCHEDULE_WINDOW).ok()) {
        Some(fails_at) => Health { fails_at: Some(fails_at), ..Health::progressing(message) },
        None => Health::failed(message),
    }
}

/// The observed generation is all that counts, and has been handled by now.
#[expect(clippy::unnecessary_wraps, reason = "it is one of the rules, and others can fail")]
fn disruption_budget(_: &Value) -> Result<Health, Unreadable> {
    Ok(Health::healthy("allowed disruptions are computed"))
}

/// Unlike in kstatus, a Job that runs is not current: whoever waits for a migration waits for its end.
fn job(object: &Value) -> Result<Health, Unreadable> {
    let wanted = number(object, &["spec", "completions"], number(object, &["spec", "parallelism"], 1));
    let [succeeded, active, failed] = ["succeeded", "active", "failed"].map(|name| status(object, name));
    let ended = conditions(object)?.into_iter().filter(|condition| condition.status == "True");
    let ended = ended.filter_map(|condition| match condition.kind {
        "Complete" => Some(Health::healthy(format!("completed, succeeded: {succeeded}/{wanted}"))),
        "Failed" => Some(Health::failed(explained(&format!("failed: {failed}/{wanted}"), &condition))),
        "Suspended" => Some(Health::healthy("suspended")),
        _ => None,
    });
    if let Some(health) = ended.into_iter().next() {
        return Ok(health);
    }
    if text(object, &["status", "startTime"]).is_none_or(str::is_empty) {
        return Ok(Health::progressing("not started"));
    }
    Ok(Health::progressing(format!("in progress, succeeded: {succeeded}, active: {active}, failed: {failed}")))
}

#[expect(clippy::unnecessary_wraps, reason = "it is one of the rules, and others can fail")]
fn service(object: &Value) -> Result<Health, Unreadable> {
    let has_address = text(object, &["spec", "clusterIP"]).is_some_and(|address| !address.is_empty());
    if text(object, &["spec", "type"]) == Some("LoadBalancer") && !has_address {
        return Ok(Health::progressing("no cluster IP yet"));
    }
    Ok(Health::healthy("ready"))
}

/// Whatever it is to scale may come after it, and metrics later still: not being able to is nothing final.
fn autoscaler(object: &Value) -> Result<Health, Unreadable> {
    let unable = conditions(object)?.into_iter().find(|one| one.kind == "AbleToScale" && one.status == "False");
    Ok(unable.map_or_else(
        || Health::healthy("current"),
        |one| Health::progressing(explained("it is not able to scale", &one)),
    ))
}

/// One that is not available makes discovery fail, and keeps namespaces from being deleted.
fn api_service(object: &Value) -> Result<Health, Unreadable> {
    let available = conditions(object)?.into_iter().find(|one| one.kind == "Available");
    Ok(match available {
        Some(one) if one.status == "True" => Health::healthy("available"),
        Some(one) => Health::progressing(explained("it is not available", &one)),
        None => Health::progressing("not looked at yet"),
    })
}

fn definition(object: &Value) -> Result<Health, Unreadable> {
    for condition in conditions(object)? {
        match (condition.kind, condition.status, condition.reason) {
            ("Established", "False", "Installing") => {}
            ("NamesAccepted" | "Established", "False", _) => return Ok(Health::failed(condition.message)),
            ("Established", "True", _) => return Ok(Health::healthy("established")),
            _ => {}
        }
    }
    Ok(Health::progressing("being installed"))
}
