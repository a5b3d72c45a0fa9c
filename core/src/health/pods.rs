//! Why the containers of a Pod do not run, in the kubelet's words; and that they will not by themselves.
//!
//! kstatus waits for a Pod whose image does not exist until whoever waits gives up. Here it fails a while after it came to
//! stand still: what it lacks may be on its way.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Health;
use super::fields::{field, text};
use crate::report::Verdict;

/// A Secret that is applied beside the Pod is there by then, and a registry was asked twice.
const STANDS_STILL: SignedDuration = SignedDuration::from_secs(30);

/// Reasons to wait for, after which a container begins only if something outside the Pod changes.
const STUCK: [&str; 9] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RegistryUnavailable",
    "RunContainerError",
];

/// What kstatus says of a Pod, with what its containers say.
pub(super) fn explain(pod: &Value, health: Health) -> Health {
    match health.verdict {
        Verdict::Healthy | Verdict::Unknown | Verdict::Degraded => health,
        Verdict::Failed | Verdict::Progressing => {
            ended(pod).or_else(|| crashing(pod)).or_else(|| stuck(pod, health.fails_at)).unwrap_or(health)
        }
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let statuses = lists.into_iter().filter_map(|list| field(pod, &["status", list])?.as_array()).flatten();
    statuses.filter_map(|status| Some((text(status, &["name"])?, status)))
}

/// Of a Pod that failed as a whole.
fn ended(pod: &Value) -> Option<Health> {
    if text(pod, &["status", "phase"]) != Some("Failed") {
        return None;
    }
    let own = ["reason", "message"].into_iter().filter_map(|part| text(pod, &["status", part]));
    let own = own.filter(|part| !part.is_empty()).map(str::to_owned);
    let of_containers = containers(pod).filter_map(|(name, status)| {
        let how = how_it_ended(field(status, &["state", "terminated"])?)?;
        Some(format!("container {name}: {how}"))
    });
    let said: Vec<_> = own.chain(of_containers).collect();
    (!said.is_empty()).then(|| Health::failed(format!("completed, but not successfully: {}", said.join(": "))))
}

/// `OOMKilled, exit code 137`; nothing of one that ended well.
fn how_it_ended(terminated: &Value) -> Option<String> {
    let code = terminated["exitCode"].as_i64().filter(|code| *code != 0)?;
    let reason = text(terminated, &["reason"]).filter(|reason| !reason.is_empty()).unwrap_or("Error");
    Some(format!("{reason}, exit code {code}"))
}

fn crashing(pod: &Value) -> Option<Health> {
    let is_crashing = |status: &Value| text(status, &["state", "waiting", "reason"]) == Some("CrashLoopBackOff");
    let in_words =
        |(name, status): (&str, &Value)| match field(status, &["lastState", "terminated"]).and_then(how_it_ended) {
            Some(how) => format!("{name} ({how})"),
            None => name.to_owned(),
        };
    let crashing: Vec<_> = containers(pod).filter(|(_, status)| is_crashing(status)).map(in_words).collect();
    (!crashing.is_empty()).then(|| Health::failed(format!("containers in a crash loop: {}", crashing.join(", "))))
}

/// It is waited for, and not for ever.
fn stuck(pod: &Value, fails_at: Option<Timestamp>) -> Option<Health> {
    let (name, reason, message) = containers(pod).find_map(|(name, status)| {
        let reason = text(status, &["state", "waiting", "reason"]).filter(|reason| STUCK.contains(reason))?;
        Some((name, reason, text(status, &["state", "waiting", "message"]).unwrap_or_default()))
    })?;
    let words = if message.is_empty() { String::new() } else { format!(": {message}") };
    let by_then = stands_since(pod).and_then(|since| since.checked_add(STANDS_STILL).ok());
    let fails_at = [fails_at, by_then].into_iter().flatten().min();
    Some(Health { fails_at, ..Health::progressing(format!("container {name}: {reason}{words}")) })
}

/// Since when it is not ready: a Pod that ran for weeks may come to lack something when it is started again.
fn stands_since(pod: &Value) -> Option<Timestamp> {
    let conditions = field(pod, &["status", "conditions"]).and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|one| one["type"] == "Ready" && one["status"] != "True");
    let unready_since = ready.and_then(|one| text(one, &["lastTransitionTime"]));
    let created = || text(pod, &["metadata", "creationTimestamp"]);
    unready_since.or_else(|| text(pod, &["status", "startTime"])).or_else(created)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::assess;
    use super::*;

    fn pod(phase: &str, containers: &Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"phase": phase, "containerStatuses": containers, "conditions": [
                {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-02T00:00:00Z"},
            ]},
        })
    }

    #[test]
    fn a_pod_whose_image_cannot_be_pulled_fails_half_a_minute_after_it_came_to_stand_still_and_says_why() {
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"web:9\""}});
        let health = assess(&pod("Pending", &json!([{"name": "web", "state": waiting}])), false);
        let at = |text: &str| health.at(text.parse().expect("a time"));

        assert_eq!(health.message, "container web: ImagePullBackOff: Back-off pulling image \"web:9\"");
        assert_eq!(at("2026-01-02T00:00:29Z"), Verdict::Progressing, "it was made a day before, and ran");
        assert_eq!(at("2026-01-02T00:00:30Z"), Verdict::Failed);
    }

    #[test]
    fn a_container_that_is_being_made_is_waited_for() {
        let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
        let health = assess(&pod("Pending", &json!([{"name": "web", "state": waiting}])), false);

        assert_eq!((health.verdict, health.fails_at), (Verdict::Progressing, None));
    }

    #[test]
    fn a_crash_loop_says_how_it_ended_last() {
        let crashing = json!([{"name": "web", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"reason": "OOMKilled", "exitCode": 137, "message": "swordfish"}}}]);
        let health = assess(&pod("Running", &crashing), false);

        assert_eq!(health.verdict, Verdict::Failed);
        assert_eq!(health.message, "containers in a crash loop: web (OOMKilled, exit code 137)");
    }

    #[test]
    fn a_pod_that_failed_says_why() {
        let mut evicted = pod("Failed", &json!([{"name": "web", "state": {"terminated": {"exitCode": 2}}}]));
        evicted["status"]["reason"] = json!("Evicted");
        let health = assess(&evicted, false);

        assert_eq!(health.verdict, Verdict::Failed);
        assert_eq!(health.message, "completed, but not successfully: Evicted: container web: Error, exit code 2");
    }
}
