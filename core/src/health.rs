//! How well one Kubernetes object is, by its own status: the rules of kstatus (sigs.k8s.io/cli-utils), but for what runs
//! once: that is well when it has succeeded. Over them lies a table of kinds whose status kstatus does not understand.
//!
//! Pure: reads one object as JSON and nothing else. An object whose controller has not seen its newest generation is
//! never healthy, and a status that cannot be read is unknown, never healthy. A custom resource that has no status yet is
//! given time for one, which kstatus does not.
//! `builtin` holds kstatus' rules of the kinds that Kubernetes ships; everything else goes by its conditions. `rule` says what a
//! row of the table is, `table` holds the rows, and `pods` what containers say of why they do not run.

mod builtin;
mod fields;
mod pods;
mod rule;
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::object::is_built_in_group;
use crate::quoting::without_values;
use crate::report::{Verdict, bounded_message};
use fields::{Condition, Unreadable, conditions, field, integer, text};
use rule::Decision;

/// The verdict on one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub verdict: Verdict,
    /// Why, in the rule's or the controller's words.
    pub message: String,
    /// When the object counts as failed if nothing about it changes until then: a rule that gives time is asked again
    /// then, by [`Health::at`].
    pub fails_at: Option<Timestamp>,
    /// When the object counts as healthy if nothing about it changes until then: it has had time to say otherwise.
    pub heals_at: Option<Timestamp>,
}

/// So long the controller of a new custom resource may take to say something of it. One that runs does so within a second;
/// one that has just been replaced first waits out the lease of the one before, 15 s by default, and lists what there is.
const SPEAKS_WITHIN: SignedDuration = SignedDuration::from_secs(30);

impl Health {
    fn new(verdict: Verdict, message: impl Into<String>) -> Self {
        // It is kept for each object, and a controller may write as much as it likes; also what it was refused.
        Self { verdict, message: bounded_message(&without_values(&message.into())), fails_at: None, heals_at: None }
    }

    fn healthy(message: impl Into<String>) -> Self {
        Self::new(Verdict::Healthy, message)
    }

    fn progressing(message: impl Into<String>) -> Self {
        Self::new(Verdict::Progressing, message)
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::new(Verdict::Failed, message)
    }

    /// The verdict at this time.
    pub fn at(&self, now: Timestamp) -> Verdict {
        let is_over = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        match self.verdict {
            _ if is_over(self.fails_at) => Verdict::Failed,
            _ if is_over(self.heals_at) => Verdict::Healthy,
            verdict => verdict,
        }
    }

    /// When time alone changes the verdict next.
    pub(crate) fn turns_at(&self) -> [Option<Timestamp>; 2] {
        [self.fails_at, self.heals_at]
    }

    /// As it is when it is seen at this time. When an object was made, the API server's clock says: nobody is given more time
    /// for it than there is, nor another than the one that was `given` before.
    pub(crate) fn seen_at(self, given: Option<Timestamp>, now: Timestamp) -> Self {
        let heals_at = self.heals_at.map(|at| given.unwrap_or_else(|| at.min(Self::given_at(now))));
        Self { heals_at, ..self }
    }

    /// The time that one is given which is made now.
    pub(crate) fn given_at(now: Timestamp) -> Timestamp {
        now.saturating_add(SPEAKS_WITHIN).unwrap_or(Timestamp::MAX)
    }
}

/// Kinds whose health is in their metadata alone: there, and not being deleted. (group, kind)
const METADATA_IS_ENOUGH: [(&str, &str); 32] = [
    ("", "ConfigMap"),
    ("", "Endpoints"),
    ("", "Event"),
    ("", "LimitRange"),
    ("", "Namespace"),
    ("", "PersistentVolume"),
    ("", "PodTemplate"),
    ("", "ResourceQuota"),
    ("", "Secret"),
    ("", "ServiceAccount"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apps", "ControllerRevision"),
    ("batch", "CronJob"),
    ("coordination.k8s.io", "Lease"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("node.k8s.io", "RuntimeClass"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("resource.k8s.io", "DeviceClass"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttributesClass"),
];

/// Whether objects of this kind must be watched with their bodies. What is not known may carry conditions, so it must.
pub fn needs_watch_in_full(group: &str, kind: &str) -> bool {
    !METADATA_IS_ENOUGH.contains(&(group, kind))
}

/// By which rules an object is to be judged, where it asks for others than its kind has here: `kstatus`, or `address` of what
/// is well without one.
pub const HEALTH_ANNOTATION: &str = "bellwether.dev/health";
/// By those of kstatus alone.
const KSTATUS: &str = "kstatus";

/// The verdict on an object as the API server gives it. Of kinds that need no watch in full, the metadata is enough.
/// `has_status`: its kind is served with a subresource for the status, so a controller is to write one.
pub fn assess(object: &Value, has_status: bool) -> Health {
    let is_by_kstatus = object["metadata"]["annotations"][HEALTH_ANNOTATION].as_str() == Some(KSTATUS);
    let judged = if is_by_kstatus { by_kstatus(object) } else { by_all_rules(object) };
    match judged {
        Ok(health) if has_status && health.verdict == Verdict::Healthy => wait_for_status(object).unwrap_or(health),
        Ok(health) => health,
        Err(unreadable) => Health::new(Verdict::Unknown, unreadable.to_string()),
    }
}

/// The verdict without the table, and without time for a first status.
pub fn assess_by_kstatus(object: &Value) -> Health {
    by_kstatus(object).unwrap_or_else(|unreadable| Health::new(Verdict::Unknown, unreadable.to_string()))
}

/// Of a custom resource that nobody has said anything of since it was made.
fn wait_for_status(object: &Value) -> Option<Health> {
    let has_said = field(object, &["status"]).is_some_and(|status| status.as_object().is_none_or(|it| !it.is_empty()));
    if has_said || is_built_in_group(group(object)) {
        return None;
    }
    let created: Timestamp = text(object, &["metadata", "creationTimestamp"])?.parse().ok()?;
    let heals_at = created.saturating_add(SPEAKS_WITHIN).ok();
    Some(Health { heals_at, ..Health::progressing("its controller has written no status yet") })
}

fn group(object: &Value) -> &str {
    let api_version = text(object, &["apiVersion"]).unwrap_or_default();
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// How something ended that runs once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Succeeded,
    Failed,
}

/// How the object ended, if it ran to its end: a Job or a Pod that then goes away was not taken from anybody.
pub fn ending(object: &Value) -> Option<Ending> {
    match (text(object, &["apiVersion"]), text(object, &["kind"])) {
        (Some("batch/v1"), Some("Job")) => {
            conditions(object).ok()?.iter().find_map(|condition| match (condition.kind, condition.status) {
                ("Complete", "True") => Some(Ending::Succeeded),
                ("Failed", "True") => Some(Ending::Failed),
                _ => None,
            })
        }
        (Some("v1"), Some("Pod")) => match text(object, &["status", "phase"]) {
            Some("Succeeded") => Some(Ending::Succeeded),
            Some("Failed") => Some(Ending::Failed),
            _ => None,
        },
        _ => None,
    }
}

/// So long a Job or a Pod may take until something of it runs; an image that is pulled for longer is pulled for the next one.
const BEGINS_WITHIN: SignedDuration = SignedDuration::from_secs(30);

/// Of one that has not ended: whether it may be that nothing of it ever ran, or will. Its Pods tell more.
pub fn may_be_stuck(object: &Value, now: Timestamp) -> bool {
    let created = text(object, &["metadata", "creationTimestamp"]).and_then(|at| at.parse::<Timestamp>().ok());
    let is_late = created.is_some_and(|created| now.duration_since(created) >= BEGINS_WITHIN);
    let count = |field: &str| object["status"][field].as_u64().unwrap_or_default();
    is_late && ["ready", "succeeded", "failed"].into_iter().all(|field| count(field) == 0)
}

/// Pods that this Job has now, as its controller says.
pub fn active_pods(job: &Value) -> usize {
    job["status"]["active"].as_u64().map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX))
}

/// Whether a container of this Pod runs, or ever did.
pub fn has_begun(pod: &Value) -> bool {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let mut statuses = lists.into_iter().filter_map(|list| pod["status"][list].as_array()).flatten();
    let ran = |state: &Value| state["running"].is_object() || state["terminated"].is_object();
    statuses.any(|status| {
        ran(&status["state"]) || ran(&status["lastState"]) || status["restartCount"].as_u64().is_some_and(|n| n > 0)
    })
}

/// Whether objects of this kind run once: that one was applied must not be forgotten, or it would run twice.
pub fn runs_once(group: &str, kind: &str) -> bool {
    matches!((group, kind), ("batch", "Job") | ("", "Pod"))
}

/// Whether somebody deletes this object when it has run to its end: the controller that is told to, or whoever clears
/// away Pods that ended.
pub fn goes_by_itself(object: &Value) -> bool {
    match text(object, &["kind"]) {
        Some("Job") => object["spec"]["ttlSecondsAfterFinished"].is_u64(),
        Some("Pod") => matches!(text(object, &["spec", "restartPolicy"]), Some("Never" | "OnFailure")),
        _ => false,
    }
}

fn by_all_rules(object: &Value) -> Result<Health, Unreadable> {
    let (group, kind) = (group(object), text(object, &["kind"]).unwrap_or_default());
    let row = table::find(group, kind);
    if let Some(health) = being_deleted(object).or_else(|| row?.suspended(object)) {
        return Ok(health);
    }
    if let Some(health) = fails_again_and_again(object)?.filter(|_| row.is_some()) {
        return Ok(health);
    }
    if let Some(health) = by_generic_rules(object)? {
        return Ok(health);
    }
    match row.map(|row| row.decide(object)).transpose()? {
        Some(Decision::Health(health)) => Ok(health),
        Some(Decision::As(group, kind)) => by_kind(object, group, kind),
        None if (group, kind) == ("", "Pod") => Ok(pods::explain(object, by_kind(object, group, kind)?)),
        None => by_kind(object, group, kind),
    }
}

fn by_kstatus(object: &Value) -> Result<Health, Unreadable> {
    if let Some(health) = being_deleted(object) {
        return Ok(health);
    }
    if let Some(health) = by_generic_rules(object)? {
        return Ok(health);
    }
    by_kind(object, group(object), text(object, &["kind"]).unwrap_or_default())
}

/// kstatus' rule for a kind, asked of an object that may be of another.
fn by_kind(object: &Value, group: &str, kind: &str) -> Result<Health, Unreadable> {
    builtin::rule(group, kind).map_or_else(|| by_ready_condition(object), |rule| rule(object))
}

/// Flux's controllers say that they go on beside why it failed, and observe no generation that they failed at.
fn fails_again_and_again(object: &Value) -> Result<Option<Health>, Unreadable> {
    let (conditions, generation) = (conditions(object)?, integer(object, &["metadata", "generation"])?);
    let goes_on = conditions
        .iter()
        .any(|one| (one.kind, one.status, one.reason) == ("Reconciling", "True", "ProgressingWithRetry"));
    let failed = conditions.iter().find(|one| (one.kind, one.status) == ("Ready", "False")).filter(|_| goes_on);
    let is_of_now = |one: &&Condition<'_>| one.outdated(generation).is_none();
    Ok(failed.filter(is_of_now).map(|one| Health::new(Verdict::Degraded, one.in_words())))
}

fn being_deleted(object: &Value) -> Option<Health> {
    let is_deleted = text(object, &["metadata", "deletionTimestamp"]).is_some_and(|at| !at.is_empty());
    is_deleted.then(|| Health::progressing("being deleted"))
}

/// What holds for every kind that is not being deleted: the observed generation, and the conditions that say it all.
fn by_generic_rules(object: &Value) -> Result<Option<Health>, Unreadable> {
    let generation = integer(object, &["metadata", "generation"])?;
    if let Some(generation) = generation
        && let Some(observed) = integer(object, &["status", "observedGeneration"])?
        && generation != observed
    {
        let kind = text(object, &["kind"]).unwrap_or("object");
        let message = format!("{kind} generation is {generation}, but latest observed generation is {observed}");
        return Ok(Some(Health::progressing(message)));
    }
    let decisive = conditions(object)?.into_iter().find_map(|condition| match (condition.kind, condition.status) {
        ("Reconciling", "True") => Some(Health::progressing(condition.message)),
        ("Stalled", "True") => Some(current_or_progressing(&condition, generation, Health::failed(condition.message))),
        _ => None,
    });
    Ok(decisive)
}

/// What a condition says, if it is about the object as it is.
fn current_or_progressing(condition: &Condition<'_>, generation: Option<i64>, says: Health) -> Health {
    condition.outdated(generation).map_or(says, Health::progressing)
}

/// Of kinds without a rule of their own. Without the condition it is healthy once it is there.
fn by_ready_condition(object: &Value) -> Result<Health, Unreadable> {
    let generation = integer(object, &["metadata", "generation"])?;
    let by_status = |condition: Condition| match (condition.kind, condition.status) {
        ("Ready", "True") => Some(current_or_progressing(&condition, generation, Health::healthy("ready"))),
        ("Ready", "False" | "Unknown") => Some(Health::progressing(condition.message)),
        _ => None,
    };
    Ok(conditions(object)?.into_iter().find_map(by_status).unwrap_or_else(|| Health::healthy("current")))
}
