//! What becomes of an object of ours that cannot be changed to what is wanted. Decides; asks nobody.
//!
//! It is deleted and made anew only where that is asked for, and only the very one that we applied last. Between the two the
//! object is in the journal as wanted, so that whoever starts then makes it.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use super::error::ClusterError;
use super::metadata::Metadata;
use super::owner::Owner;
use super::removal::is_protected;
use super::step::Step;
use crate::ObjectKey;
use crate::keep::{kept_by, kept_by_metadata};
use crate::replace::{NEVER, REPLACE_ANNOTATION, is_asked};
use crate::session::Replace;
use crate::yielded::is_scaled;

/// What is done about an object that cannot be changed, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replacement {
    /// Exactly this one is deleted, and made anew when it is gone.
    Due(Cascade),
    /// It is being deleted: it is made anew when it is gone.
    Leaving,
    /// It stays as it is, for this reason.
    Refused(Refusal),
}

/// Why an object that cannot be changed stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// With one of this kind goes what is in no manifest.
    Protected { kind: String },
    /// It is not the one that this target applied last.
    Another,
    /// It asks for that, by this name, in Git or in the cluster.
    Kept(&'static str),
    /// Its claims would go with it.
    Claims,
    /// Somebody else put these into it.
    Filled(Vec<String>),
    /// Somebody else has made it immutable.
    Sealed,
    /// A new one would begin with fewer replicas.
    Scaled { live: i64, new: i64 },
    /// Its external address would go with it.
    Addressed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protected { kind } => write!(f, "what goes with a {kind} is in no manifest"),
            Self::Another => f.write_str("it is not the very one that this target applied"),
            Self::Kept(name) => write!(f, "{name} asks for it to be left"),
            Self::Claims => f.write_str("its claims would go with it (persistentVolumeClaimRetentionPolicy)"),
            Self::Filled(keys) => write!(f, "it holds what somebody else put there: {}", named(keys)),
            Self::Sealed => f.write_str("somebody else set `immutable: true`"),
            Self::Scaled { live, new } => {
                write!(f, "something scaled it to {live} replicas, and a new one would begin with {new}")
            }
            Self::Addressed => f.write_str("its external address would go with it"),
        }
    }
}

impl Refusal {
    /// What a person can do about it: never what was just refused as unsafe.
    pub(super) fn way_out(&self) -> String {
        let first = match self {
            Self::Protected { .. } => {
                return "give it another name, and move to that what the one there holds".to_owned();
            }
            Self::Another => "see who made the one that is there".to_owned(),
            Self::Kept(name) => format!("take {name} off in a change before that"),
            Self::Claims => "set whenDeleted: Retain in a change before that".to_owned(),
            Self::Filled(_) => "say these in Git, too".to_owned(),
            Self::Sealed => "say `immutable: true` in Git, too".to_owned(),
            Self::Scaled { live, .. } => format!("say spec.replicas: {live} in Git with that change"),
            Self::Addressed => {
                return format!("give it another name, or let it ask for that itself: {REPLACE_ANNOTATION}: immutable");
            }
        };
        format!("{first}, or give it another name")
    }
}

/// When an object that is replaced goes, and what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cascade {
    /// At once, and its pods while the new one's begin.
    Background,
    /// When its pods are gone: two of one name, or two runs of one Job, would be in each other's way.
    Foreground,
}

impl Replacement {
    /// `there` is what has the name of the step's object, whose apply was refused because of fields that cannot change; `found` is
    /// all of it, and `wanted` what was refused.
    pub fn of(step: &Step, wanted: &[u8], there: &Metadata, found: &Value) -> Self {
        if is_protected(&step.key) {
            return Self::Refused(Refusal::Protected { kind: step.key.kind.clone() });
        }
        if Owner::of(there, step) != Owner::Us || step.last_uid() != Some(there.uid) {
            return Self::Refused(Refusal::Another);
        }
        if there.deletion_timestamp.is_some() {
            return Self::Leaving;
        }
        // What is refused has changed nothing: what Git asks for by now does not stand in the cluster yet.
        let object = serde_json::from_slice(wanted).unwrap_or_default();
        let refusal = asks_to_stay(there, &object)
            .or_else(|| loses_data(step, &object, found))
            .or_else(|| scaled(&step.key, &object, found))
            .or_else(|| addressed(&step.key, wanted, found));
        refusal.map_or_else(|| Self::Due(cascade(&step.key)), Self::Refused)
    }
}

fn asks_to_stay(there: &Metadata, wanted: &Value) -> Option<Refusal> {
    let declines = there.annotations.get(REPLACE_ANNOTATION).is_some_and(|word| word.trim() == NEVER);
    let by = declines
        .then_some(REPLACE_ANNOTATION)
        .or_else(|| kept_by(&there.annotations, &there.labels))
        .or_else(|| kept_by_metadata(&wanted["metadata"]))?;
    Some(Refusal::Kept(by))
}

/// Claims of a StatefulSet; and of a Secret or a ConfigMap what neither Git says nor our last apply put there.
fn loses_data(step: &Step, wanted: &Value, found: &Value) -> Option<Refusal> {
    match (step.key.group(), step.key.kind.as_str()) {
        ("apps", "StatefulSet") => {
            let when_deleted = &found["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"];
            return (when_deleted == "Delete").then_some(Refusal::Claims);
        }
        ("", "Secret" | "ConfigMap") => {}
        _ => return None,
    }
    let body = step.last_applied.as_ref().and_then(|last| last.body.as_ref());
    let last: Value = body.and_then(|body| serde_json::from_slice(body.bytes()).ok()).unwrap_or_default();
    let says = |object: &Value, key: &str| {
        ["data", "binaryData", "stringData"].iter().any(|field| object[*field].get(key).is_some())
    };
    let keys = ["data", "binaryData"].iter().filter_map(|field| found[*field].as_object()).flat_map(Map::keys);
    let of_others: Vec<_> = keys.filter(|key| !says(wanted, key) && !says(&last, key)).cloned().collect();
    if !of_others.is_empty() {
        return Some(Refusal::Filled(of_others));
    }
    (found["immutable"] == true && last["immutable"] != true).then_some(Refusal::Sealed)
}

/// What an autoscaler or a person scaled would fall to what Git says, or to one.
fn scaled(key: &ObjectKey, wanted: &Value, found: &Value) -> Option<Refusal> {
    let (("apps", "Deployment" | "StatefulSet" | "ReplicaSet") | ("", "ReplicationController")) =
        (key.group(), key.kind.as_str())
    else {
        return None;
    };
    let live = found["spec"]["replicas"].as_i64()?;
    let new = match wanted["spec"]["replicas"].as_i64() {
        None => 1,
        Some(new) if is_scaled(wanted, found) => new,
        Some(_) => return None,
    };
    (live > new).then_some(Refusal::Scaled { live, new })
}

/// Whoever has names and rules at that address is in no manifest: a Service has to ask for it by itself.
fn addressed(key: &ObjectKey, wanted: &[u8], found: &Value) -> Option<Refusal> {
    let is_service = (key.group(), key.kind.as_str()) == ("", "Service");
    let has_address = found["status"]["loadBalancer"]["ingress"].as_array().is_some_and(|it| !it.is_empty());
    (is_service && has_address && !is_asked(Replace::Never, key, wanted)).then_some(Refusal::Addressed)
}

fn cascade(key: &ObjectKey) -> Cascade {
    match (key.group(), key.kind.as_str()) {
        ("apps", "StatefulSet") | ("batch", "Job") => Cascade::Foreground,
        _ => Cascade::Background,
    }
}

/// Whether pods begin anew with it.
pub(super) fn has_pods(key: &ObjectKey) -> bool {
    match (key.group(), key.kind.as_str()) {
        ("apps", kind) => kind != "ControllerRevision",
        ("batch", "Job") | ("", "Pod" | "ReplicationController") => true,
        _ => false,
    }
}

/// Nothing of its kind says that it may not.
pub(super) fn may_be_replaced(key: &ObjectKey) -> bool {
    !is_protected(key)
}

impl ClusterError {
    /// Of a refusal: what of the object cannot change. `None`: something else is wrong with it, too, or alone.
    pub fn immutable(&self) -> Option<&[String]> {
        match self {
            Self::Rejected { fields, is_of_a_change: true, .. } => Some(fields),
            _ => None,
        }
    }

    /// It was to be replaced, and is not.
    #[must_use]
    pub fn not_replaced(&self, why: Refusal) -> Self {
        Self::NotReplaced { message: self.to_string(), why }
    }

    /// It is being deleted to be made anew; `found` is what goes.
    pub fn leaving(fields: Vec<String>, finalizers: Vec<String>, found: &Value) -> Self {
        let (of_its_pods, finalizers): (Vec<_>, Vec<_>) = finalizers.into_iter().partition(|it| it == FOREGROUND);
        let grace = &found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
        let grace = Duration::from_secs(grace.as_u64().unwrap_or(DEFAULT_GRACE_SECONDS));
        Self::Leaving { fields, finalizers, pods_end_within: (!of_its_pods.is_empty()).then_some(grace) }
    }
}

/// By which the API server waits until what is owned is gone: nobody takes that off.
const FOREGROUND: &str = "foregroundDeletion";

/// Kubernetes' own.
const DEFAULT_GRACE_SECONDS: u64 = 30;

/// What the line of an object says that was replaced.
pub(super) fn note(fields: &[String]) -> String {
    format!("replaced, since {} cannot change: the one before was deleted, and it was made anew", named(fields))
}

/// `spec.selector, spec.template`; of many, the first.
pub(super) fn named(fields: &[String]) -> String {
    const SHOWN_MAX: usize = 3;
    let shown = fields.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let others = fields.len().saturating_sub(SHOWN_MAX);
    if others == 0 { shown } else { format!("{shown} and {others} more") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::super::owned::LastApplied;
    use super::super::step::Act;
    use super::*;
    use crate::object::TARGET_LABEL;
    use crate::{Digest, Generation, TargetId};

    /// Of an object of ours.
    fn replacement(api_version: &str, kind: &str, spec: &Value) -> Replacement {
        judged((api_version, kind), &json!({}), &json!({}), &json!({"spec": spec}))
    }

    /// The one that was applied, the one that is wanted, and the one that is there.
    fn judged((api_version, kind): (&str, &str), applied: &Value, wanted: &Value, found: &Value) -> Replacement {
        let (digest, uid, name) = (Digest::of(b"x"), Uuid::from_u128(1), "a".to_owned());
        let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
        let key = ObjectKey { api_version, kind, namespace: Some("shop".to_owned()), name };
        let act = Act::Apply { digest, inspect_first: false };
        let bytes = |object: &Value| object.to_string().into_bytes();
        let body = Some(std::sync::Arc::<[u8]>::from(bytes(applied)).into());
        let last = LastApplied { uid, digest, body, finished: None, generation: Generation::new(1) };
        let step = Step { last_applied: Some(last), ..Step::about(TargetId::new(Uuid::from_u128(7)), key, act) };
        let labels = [(TARGET_LABEL.to_owned(), step.label())].into();
        Replacement::of(&step, &bytes(wanted), &Metadata { uid, labels, ..Metadata::default() }, found)
    }

    #[test]
    fn what_others_put_into_a_secret_or_a_config_map_is_not_lost_by_a_replacement() {
        let (ours, theirs) = (json!({"data": {"user": "eA=="}}), json!({"data": {"user": "eA==", "password": "eA=="}}));
        let empty = json!({"type": "example.org/other"});
        let of = |applied: &Value, wanted: &Value, found: &Value| judged(("v1", "Secret"), applied, wanted, found);

        let filled = of(&ours, &ours, &theirs);
        assert_eq!(filled, Replacement::Refused(Refusal::Filled(vec!["password".to_owned()])));
        assert_eq!(of(&ours, &empty, &ours), Replacement::Due(Cascade::Background), "Git has dropped what was its own");
        assert_eq!(of(&ours, &theirs, &theirs), Replacement::Due(Cascade::Background), "Git says all of it");
        let sealed = |applied: &Value| {
            judged(
                ("v1", "ConfigMap"),
                applied,
                &json!({"data": {"a": "2"}}),
                &json!({"immutable": true, "data": {"a": "1"}}),
            )
        };
        assert_eq!(sealed(&json!({"data": {"a": "1"}})), Replacement::Refused(Refusal::Sealed));
        assert_eq!(sealed(&json!({"immutable": true})), Replacement::Due(Cascade::Background));
    }

    #[test]
    fn what_was_scaled_is_not_replaced_by_one_with_fewer_replicas() {
        let replicas = |count: i64| json!({"spec": {"replicas": count}});
        let by = |manager: &str, count: i64| {
            let entry = json!({"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}});
            json!({"spec": {"replicas": count}, "metadata": {"managedFields": [entry]}})
        };
        let of = |wanted: &Value, found: &Value| judged(("apps/v1", "Deployment"), &json!({}), wanted, found);
        let scaled = |live, new| Replacement::Refused(Refusal::Scaled { live, new });

        assert_eq!(of(&json!({}), &by("kube-controller-manager", 40)), scaled(40, 1));
        assert_eq!(of(&replicas(3), &by("kube-controller-manager", 40)), scaled(40, 3));
        let due = Replacement::Due(Cascade::Background);
        assert_eq!(of(&replicas(40), &by("kube-controller-manager", 40)), due, "Git says as many");
        assert_eq!(of(&replicas(3), &by("bellwether", 40)), due, "Git says fewer by now");
        assert_eq!(of(&json!({}), &by("somebody", 1)), due);
    }

    #[test]
    fn a_service_with_an_external_address_asks_for_it_by_itself() {
        let found = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}});
        let asking = json!({"metadata": {"annotations": {REPLACE_ANNOTATION: "immutable"}}});
        let of = |wanted: &Value, found: &Value| judged(("v1", "Service"), &json!({}), wanted, found);

        assert_eq!(of(&json!({}), &found), Replacement::Refused(Refusal::Addressed));
        assert_eq!(of(&asking, &found), Replacement::Due(Cascade::Background));
        assert_eq!(of(&json!({}), &json!({"status": {"loadBalancer": {}}})), Replacement::Due(Cascade::Background));
    }

    #[test]
    fn nobody_is_told_to_delete_what_was_just_refused_as_unsafe() {
        let refusals = [
            Refusal::Protected { kind: "PersistentVolumeClaim".to_owned() },
            Refusal::Another,
            Refusal::Kept("helm.sh/resource-policy"),
            Refusal::Claims,
            Refusal::Filled(vec!["password".to_owned()]),
            Refusal::Sealed,
            Refusal::Scaled { live: 40, new: 1 },
            Refusal::Addressed,
        ];

        for refusal in refusals {
            let hint = refusal.way_out();
            assert!(hint.contains("another name") && !hint.contains("delete"), "{hint}");
        }
    }

    #[test]
    fn what_waits_for_its_pods_says_that_and_names_only_the_finalizers_of_others() {
        let found = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 600}}}});
        let leaving = |finalizers: &[&str]| {
            ClusterError::leaving(Vec::new(), finalizers.iter().map(|it| (*it).to_owned()).collect(), &found)
        };

        let (pods, held) = (leaving(&["foregroundDeletion"]), leaving(&["example.org/hold"]));

        assert!(pods.to_string().ends_with("its pods are ending"), "{pods}");
        assert!(matches!(pods, ClusterError::Leaving { pods_end_within: Some(within), .. } if within.as_secs() == 600));
        assert!(held.to_string().ends_with("held by example.org/hold"), "{held}");
        assert!(matches!(held, ClusterError::Leaving { pods_end_within: None, .. }));
    }

    #[test]
    fn what_runs_under_a_name_of_its_own_goes_with_its_pods_first() {
        for (kind, cascade) in [("Deployment", Cascade::Background), ("StatefulSet", Cascade::Foreground)] {
            assert_eq!(replacement("apps/v1", kind, &json!({})), Replacement::Due(cascade), "{kind}");
        }
        assert_eq!(replacement("batch/v1", "Job", &json!({})), Replacement::Due(Cascade::Foreground));
    }

    #[test]
    fn a_set_whose_claims_go_with_it_is_not_replaced() {
        let policy =
            |when_deleted: &str| json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": when_deleted}});

        let kept = replacement("apps/v1", "StatefulSet", &policy("Retain"));
        let lost = replacement("apps/v1", "StatefulSet", &policy("Delete"));

        assert_eq!(kept, Replacement::Due(Cascade::Foreground));
        assert_eq!(lost, Replacement::Refused(Refusal::Claims));
    }

    #[test]
    fn of_many_fields_the_first_are_named() {
        let fields: Vec<_> = ["a", "b", "c", "d", "e"].map(str::to_owned).into();

        assert_eq!((named(&fields[..2]), named(&fields)), ("a, b".to_owned(), "a, b, c and 2 more".to_owned()));
    }
}
