//! What a failure means: try again or not, how bad it is, and what a person can do about it.

use std::time::Duration;

use super::error::{ClusterError, NO_KEY_REASON, SEALED_REASON, UNFIT_REASON};
use super::replacement::{has_pods, may_be_replaced, named};
use crate::ObjectKey;
use crate::account::ActsAs;
use crate::backoff::{Backoff, Jitter};
use crate::object::is_built_in_group;
use crate::policy::{self, Until};
use crate::replace::REPLACE_ANNOTATION;
use crate::report::{Outcome, Verdict};

/// Between two tries of one object. Half of each wait is jitter: the objects of a cluster that was away do not all come
/// back at once, and none asks again immediately.
pub(super) const RETRY: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_mins(1), jitter: Jitter::Half };

/// After that many failures (about five seconds) it is no longer a hiccup that nobody needs to see.
const HICCUPS_MAX: u32 = 3;

/// So many times, over about fifteen seconds, a missing right may still appear: an API server that has just started
/// forbids everything until it has read the cluster's roles.
const FORBIDDEN_HICCUPS_MAX: u32 = 5;

/// So often a refusal may be a passing one that nobody needs to see: the API server takes a changed definition into use
/// about a second after it was applied.
const REFUSALS_MAX: u32 = 2;

/// So many tries, over about a minute, what is replaced may take to go, with its pods: then a person should see what holds it.
const LEAVING_TRIES_MAX: u32 = 6;

/// Half of the longest wait: each try after these takes at least as long.
const LEAVING_TRY_SECONDS: u64 = 30;

/// In what an API server says of who may not act as somebody: `cannot impersonate resource`, and since Kubernetes 1.35
/// `cannot impersonate-on:serviceaccount:get resource`.
const CANNOT_ACT: &str = " cannot impersonate";
const NO_KEY_HINT: &str = "put an age identity of one of them into that Secret, in an entry whose name ends in `.agekey`; or seal the \
     document for this cluster too, with `sops rotate --in-place --add-age`";

const OTHERWISE_DELETED: &str = "delete it in the cluster, or give it another name";

const OTHERWISE_CORRECTED: &str = "correct the manifest, or what refuses it";

/// Between two tries of what a person fixes in the cluster: whoever did what the hint says sees it taken up while still
/// looking. Many of them share the pace of all retries.
const STALLED: Backoff =
    Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(15), jitter: Jitter::Half };

/// Between two tries of what seems to be the manifest's own fault. It may be the cluster's all the same: a definition's
/// scope changes, and no list of an API server's words is complete.
const OWN_FAULT: Backoff =
    Backoff { first: Duration::from_mins(1), longest: Duration::from_mins(10), jitter: Jitter::Half };

/// Why an object is not in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) outcome: Outcome,
    pub(super) verdict: Verdict,
    pub(super) message: String,
    pub(super) hint: String,
    pub(super) retry: Retry,
    /// It may be applied without another revision: whoever waits for it need not give up.
    pub(super) may_pass: bool,
    /// The cluster's owner does not allow it: a change of the policy has it tried again.
    pub(super) is_by_policy: bool,
}

/// When it is tried again, unless something is seen of the object before. Nothing is given up: what stands in its way may
/// be in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    backoff: Backoff,
    /// What the API server asks for, within reason: a proxy may ask for a year.
    at_least: Duration,
}

impl Retry {
    fn by(backoff: Backoff) -> Self {
        Self { backoff, at_least: Duration::ZERO }
    }

    /// The API server does not want to hear of it before.
    pub(super) fn is_asked_for(self) -> bool {
        self.at_least > Duration::ZERO
    }

    /// The wait after so many failures.
    pub(super) fn wait(self, failures: u32, chance: f64) -> Duration {
        self.backoff.wait(failures, chance).max(self.at_least)
    }
}

impl Judgement {
    fn new(outcome: Outcome, verdict: Verdict, message: String, hint: impl Into<String>) -> Self {
        let retry = Retry::by(if outcome.is_stalled() { STALLED } else { RETRY });
        Self { outcome, verdict, message, hint: hint.into(), retry, may_pass: true, is_by_policy: false }
    }

    /// Of a request that was made as somebody: what lacks a right is then not the agent, but for the right to do so.
    pub(super) fn of_whom(self, acts_as: &ActsAs, error: &ClusterError) -> Self {
        let (ClusterError::Forbidden { message }, Some(account)) = (error, acts_as.account()) else { return self };
        let hint = if message.contains(CANNOT_ACT) {
            format!("let the agent act as ServiceAccount {account}: `bellwether cluster rbac` prints that right")
        } else {
            format!(
                "give ServiceAccount {account} the right, and make it where it is missing: `bellwether cluster rbac` prints \
                 what it needs; quotas and admission policies may refuse it, too"
            )
        };
        Self { hint, ..self }
    }
}

pub(super) fn exists(hint: String) -> Judgement {
    let message = "it is there already, and was not applied by this target".to_owned();
    Judgement::new(Outcome::Exists, Verdict::Failed, message, hint)
}

/// Nothing was sent, as it cannot be told whether this agent may send anything: no fault of the object.
pub(super) fn unasked(error: &ClusterError, failures: u32) -> Judgement {
    let verdict = if failures > HICCUPS_MAX { Verdict::Degraded } else { Verdict::Progressing };
    let message = format!("nothing is sent, because it cannot be told whether this agent was replaced: {error}");
    let hint = "check what stands between the agent and the Secrets of its own namespace";
    Judgement::new(Outcome::Retrying, verdict, message, hint)
}

/// What to do about what the agent refuses by itself, before it asks anybody; `None`: it is no such reason.
fn own_refusal(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "NamespaceRequired" => "give it metadata.namespace, or the target a namespace",
        "ObjectOfTheAgent" => "use another namespace and name",
        "AccountOfTheAgent" => "give the target another namespace; what is in the agent's is nobody's but the agent's",
        "AccountUnknown" => "give the target a namespace: its ServiceAccount is one of that",
        "MetadataReserved" => "remove it; Bellwether sets its labels and annotations itself",
        SEALED_REASON => "seal the file anew with `sops`, and commit what that writes",
        "StandsTwice" => "take one of the two out of the target",
        _ => return None,
    })
}

/// `failures`: how often this object failed in a row under this assignment, this time included.
pub(super) fn failure(key: &ObjectKey, error: &ClusterError, failures: u32) -> Judgement {
    let message = error.to_string();
    let rejected = |hint: &str| Judgement::new(Outcome::Rejected, Verdict::Failed, message.clone(), hint);
    let own_fault = |hint: &str| Judgement { retry: Retry::by(OWN_FAULT), may_pass: false, ..rejected(hint) };
    let retrying = |verdict, hint: String| Judgement::new(Outcome::Retrying, verdict, message.clone(), hint);
    let hiccup = if failures > HICCUPS_MAX { Verdict::Degraded } else { Verdict::Progressing };
    match error {
        // Whoever puts the key into the cluster sees it taken up.
        ClusterError::Rejected { reason, .. } if reason == NO_KEY_REASON => rejected(NO_KEY_HINT),
        ClusterError::Rejected { reason, .. } if own_refusal(reason).is_some() => {
            own_fault(own_refusal(reason).unwrap_or_default())
        }
        ClusterError::Rejected { fields, is_of_a_change: true, .. } if may_be_replaced(key) => {
            rejected(&replacing_hint(key, fields))
        }
        ClusterError::Rejected { message, .. } if cannot_change(message) => rejected(OTHERWISE_DELETED),
        ClusterError::Rejected { reason, message, fields, .. } if is_refused_by_others(reason, message, fields) => {
            let hint = OTHERWISE_CORRECTED;
            if failures <= REFUSALS_MAX { retrying(Verdict::Progressing, hint.to_owned()) } else { rejected(hint) }
        }
        ClusterError::Rejected { .. } if is_built_in_group(key.group()) => own_fault("correct the manifest"),
        // What fits a custom resource stands in its definition, which may be on its way.
        ClusterError::Rejected { .. } => {
            let hint = "correct the manifest, or its kind's definition";
            if failures <= REFUSALS_MAX { retrying(Verdict::Progressing, hint.to_owned()) } else { rejected(hint) }
        }
        ClusterError::Forbidden { .. } => {
            let hint = "check the agent's rights, quotas and admission policies";
            if failures <= FORBIDDEN_HICCUPS_MAX {
                retrying(Verdict::Progressing, hint.to_owned())
            } else {
                rejected(hint)
            }
        }
        ClusterError::Conflict(fields) => {
            let manager = fields.first().map_or("the other manager", |contested| &contested.manager);
            let hint = format!("take the field out of the manifest, or let {manager} give it up");
            Judgement::new(Outcome::Conflict, Verdict::Failed, message, hint)
        }
        // It heals when the namespace appears, but hardly by itself: a person should see it at once.
        ClusterError::NamespaceMissing { namespace, not_made } => {
            retrying(Verdict::Degraded, namespace_hint(namespace, not_made.is_some()))
        }
        ClusterError::KindMissing { kind, .. } => {
            retrying(hiccup, format!("install the definition of {kind}, or add it to the target"))
        }
        ClusterError::Retry { after, message } => {
            let hint = unanswering_webhook(message)
                .map(|name| format!("fix or remove the admission webhook {name}: it does not answer"));
            let retry = Retry { backoff: RETRY, at_least: after.unwrap_or_default().min(RETRY.longest) };
            Judgement { retry, ..retrying(hiccup, hint.unwrap_or_default()) }
        }
        ClusterError::Leaving { .. }
        | ClusterError::NotReplaced { .. }
        | ClusterError::NewOneRefused { .. }
        | ClusterError::Absent { .. } => of_a_replacement(key, error, failures),
        ClusterError::Policy(refusal) => of_policy(refusal),
        ClusterError::NotFound | ClusterError::Stale { .. } => retrying(hiccup, String::new()),
    }
}

/// Nobody but the cluster's owner can change that, or the target.
fn of_policy(refusal: &policy::Refusal) -> Judgement {
    let message = refusal.message.clone();
    let judged = |outcome, verdict, hint: &str| Judgement {
        is_by_policy: true,
        ..Judgement::new(outcome, verdict, message.clone(), hint)
    };
    match refusal.until {
        Until::Changed => {
            let hint = "change the target, or ask whoever owns the cluster to allow it in the agent's policy";
            let judgement = judged(Outcome::Rejected, Verdict::Failed, hint);
            Judgement { retry: Retry::by(OWN_FAULT), may_pass: false, ..judgement }
        }
        Until::Readable => judged(Outcome::Rejected, Verdict::Failed, "correct the agent's policy in the cluster"),
        Until::After(after) => {
            let judgement = judged(Outcome::Retrying, Verdict::Degraded, "");
            Judgement { retry: Retry { backoff: RETRY, at_least: after.min(RETRY.longest) }, ..judgement }
        }
    }
}

/// Of one that goes to be made anew, or does not.
fn of_a_replacement(key: &ObjectKey, error: &ClusterError, failures: u32) -> Judgement {
    let message = error.to_string();
    match error {
        // It is no fault of what is new, but of what is there.
        ClusterError::NotReplaced { why, .. } => {
            Judgement::new(Outcome::Rejected, Verdict::Failed, message, why.way_out())
        }
        ClusterError::NewOneRefused { why, .. } => {
            let refused = failure(key, why, failures);
            Judgement { message, hint: hint_for_a_new_one(&refused), ..refused }
        }
        // It is missing, and nobody but we make it: a person should see it at once.
        ClusterError::Absent { why, .. } => {
            let hint = hint_for_a_new_one(&failure(key, why, failures));
            Judgement::new(Outcome::Retrying, Verdict::Degraded, message, hint)
        }
        ClusterError::Leaving { finalizers, pods_end_within, .. } => {
            let for_pods = pods_end_within.map_or(0, |within| within.as_secs().div_ceil(LEAVING_TRY_SECONDS));
            let is_late = u64::from(failures) > u64::from(LEAVING_TRIES_MAX).saturating_add(for_pods);
            let verdict = if is_late { Verdict::Degraded } else { Verdict::Progressing };
            let hint = match (finalizers.is_empty(), pods_end_within) {
                (false, _) => "let what set its finalizers end, or take them off",
                (true, Some(_)) if is_late => "see which of its pods does not end",
                (true, _) => "",
            };
            Judgement::new(Outcome::Retrying, verdict, message, hint)
        }
        error => Judgement::new(Outcome::Retrying, Verdict::Degraded, error.to_string(), ""),
    }
}

/// Whoever refuses a new one does not take it when the one before goes.
fn hint_for_a_new_one(refused: &Judgement) -> String {
    let hint = &refused.hint;
    if hint.starts_with(OTHERWISE_DELETED) { OTHERWISE_CORRECTED.to_owned() } else { hint.clone() }
}

fn namespace_hint(namespace: &str, is_to_be_made: bool) -> String {
    if is_to_be_made {
        return format!(
            "create namespace {namespace}, or let the agent make it: its rights need `create` on `namespaces`"
        );
    }
    format!(
        "create namespace {namespace}, or add it to the target; the one in `namespace:` of a target is made by \
         sync.createNamespace: true"
    )
}

/// What a person can do about fields that cannot change. What a custom resource stands for goes with it, so no target asks for
/// that of all.
fn replacing_hint(key: &ObjectKey, fields: &[String]) -> String {
    let option = if is_built_in_group(key.group()) { "sync.replace: immutable of the target or by " } else { "" };
    let waves =
        if option.is_empty() { "" } else { " (the first comes to all clusters at once, the second through waves)" };
    let pods = if has_pods(key) { "; its pods begin anew with it" } else { "" };
    format!(
        "{OTHERWISE_DELETED}; or let it be replaced when {} changes, by {option}the annotation {REPLACE_ANNOTATION}: immutable{waves}{pods}",
        named(fields)
    )
}

/// Whether a failure is no hiccup, and passes by nothing that this agent could wait for.
pub(super) fn is_lasting(error: &ClusterError, failures: u32) -> bool {
    match error {
        ClusterError::Rejected { .. } | ClusterError::Conflict(_) => true,
        ClusterError::Forbidden { .. } => failures > FORBIDDEN_HICCUPS_MAX,
        _ => false,
    }
}

/// The admission webhook that the API server says it could not ask: `failed calling webhook "name": …`.
fn unanswering_webhook(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("failed calling webhook \"")?;
    rest.split_once('"').map(|(name, _)| name)
}

/// Whether a refusal is of a change and not of the object: once what is there is gone, the new one is taken. What a webhook
/// says of a change promises nothing of a new one.
fn cannot_change(message: &str) -> bool {
    let says_so = ["immutable", "may not change", "may not be changed", "cannot change", "updates to "]
        .iter()
        .any(|words| message.contains(words));
    says_so && !message.starts_with(OF_A_WEBHOOK)
}

/// Before what an admission webhook says: the API server's own words. Whatever else a webhook's answer has is the webhook's.
const OF_A_WEBHOOK: &str = "admission webhook \"";

/// Reasons why an API server, or this agent, cannot read an object at all, or takes none like it.
const UNREADABLE: [&str; 9] = [
    UNFIT_REASON,
    "BadRequest",
    "MethodNotAllowed",
    "RequestEntityTooLarge",
    "UnsupportedMediaType",
    "InvalidName",
    "BodyMissing",
    "BodyUnreadable",
    "BodyDiffers",
];

/// Whether a refusal is not the API server's alone, which sees nothing but the object, the one before, and their schema.
/// Kubernetes' validation names the field of each fault, and is the same in every cluster, but for what a Service asks for of
/// what a cluster has. Whatever else refuses, such as policies, quotas and webhooks, goes by what is in the cluster.
fn is_refused_by_others(reason: &str, message: &str, fields: &[String]) -> bool {
    if message.starts_with(OF_A_WEBHOOK) {
        return true;
    }
    !UNREADABLE.contains(&reason) && fields.iter().all(|field| is_allocated(field))
}

/// Addresses and ports of a Service, which others may have, or which the cluster may not give.
fn is_allocated(field: &str) -> bool {
    field.starts_with("spec.clusterIP") || field.ends_with(".nodePort") || field == "spec.healthCheckNodePort"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::reconcile::Contested;

    fn key(api_version: &str) -> ObjectKey {
        let (kind, name) = ("Kind".to_owned(), "a".to_owned());
        ObjectKey { api_version: api_version.to_owned(), kind, namespace: None, name }
    }

    fn failed(error: &ClusterError, failures: u32) -> Judgement {
        failure(&key("v1"), error, failures)
    }

    #[test]
    fn a_missing_namespace_is_retried_and_its_hint_names_it() {
        let judgement = failed(&ClusterError::NamespaceMissing { namespace: "shop".to_owned(), not_made: None }, 1);

        assert_eq!((judgement.outcome, judgement.verdict), (Outcome::Retrying, Verdict::Degraded));
        assert!(judgement.hint.starts_with("create namespace shop, or add it to the target"), "{}", judgement.hint);
        assert!(judgement.hint.ends_with("sync.createNamespace: true"), "{}", judgement.hint);
    }

    #[test]
    fn what_lacks_its_key_is_tried_soon_and_what_was_changed_rarely() {
        let failed = |reason: &str| failed(&ClusterError::rejected(reason, "words"), 1);
        let (lacks, changed) = (failed(NO_KEY_REASON), failed(SEALED_REASON));

        assert_eq!((lacks.outcome, lacks.may_pass, lacks.retry), (Outcome::Rejected, true, Retry::by(STALLED)));
        assert_eq!(
            (changed.outcome, changed.may_pass, changed.retry),
            (Outcome::Rejected, false, Retry::by(OWN_FAULT))
        );
        assert!(lacks.hint.contains(".agekey") && changed.hint.contains("sops"), "{} {}", lacks.hint, changed.hint);
    }

    #[test]
    fn who_may_have_an_object_replaced_is_told_how_and_for_which_field() {
        let error = ClusterError::Rejected {
            reason: "Invalid".to_owned(),
            message: "spec.selector: Invalid value: …: field is immutable".to_owned(),
            fields: vec!["spec.selector".to_owned()],
            is_of_a_change: true,
        };
        let of = |api_version: &str, kind: &str| {
            failure(&ObjectKey { kind: kind.to_owned(), ..key(api_version) }, &error, 1)
        };

        let deployment = of("apps/v1", "Deployment");
        let hint = &deployment.hint;
        assert!(hint.contains("spec.selector changes, by sync.replace: immutable"), "{hint}");
        assert!(
            hint.contains("bellwether.dev/replace: immutable") && hint.ends_with("its pods begin anew with it"),
            "{hint}"
        );
        assert!(deployment.may_pass && deployment.outcome == Outcome::Rejected);
        assert!(!of("rbac.authorization.k8s.io/v1", "RoleBinding").hint.contains("pods"));
        let custom = of("postgresql.cnpg.io/v1", "Cluster").hint;
        assert!(custom.contains("bellwether.dev/replace") && !custom.contains("sync.replace"), "{custom}");
        for kind in ["PersistentVolumeClaim", "PersistentVolume", "Namespace"] {
            assert_eq!(of("v1", kind).hint, OTHERWISE_DELETED, "{kind}");
        }
    }

    #[test]
    fn a_namespace_that_may_not_be_made_is_named_with_why() {
        let why = Some("namespaces is forbidden".to_owned());
        let judgement = failed(&ClusterError::NamespaceMissing { namespace: "shop".to_owned(), not_made: why }, 1);

        assert_eq!((judgement.outcome, judgement.verdict), (Outcome::Retrying, Verdict::Degraded));
        assert_eq!(judgement.message, "namespace shop is missing, and it cannot be made: namespaces is forbidden");
        assert!(judgement.hint.contains("`create` on `namespaces`"), "{}", judgement.hint);
    }

    #[test]
    fn what_would_be_refused_in_its_place_is_judged_by_who_refuses_it() {
        let of = |message: &str, failures| {
            let why = Box::new(rejected(message));
            failed(&ClusterError::NewOneRefused { fields: vec!["spec.selector".to_owned()], why }, failures)
        };

        let denied = of("admission webhook \"a\" denied the request: labels are immutable on Fridays", 3);
        assert_eq!((denied.outcome, denied.hint.as_str()), (Outcome::Rejected, OTHERWISE_CORRECTED));
        assert!(
            denied.message.starts_with("it has to be made anew for spec.selector, and a new one is refused: admission")
        );
        let by_policy = of("deployments is forbidden: policy: denied request: replicas are immutable", 3);
        assert!(!by_policy.hint.contains("delete"), "{}", by_policy.hint);
    }

    #[test]
    fn what_was_deleted_and_is_not_made_is_degraded_at_once_and_tried_again_soon() {
        for why in
            [rejected("spec.x: Required value"), ClusterError::retry("no answer"), rejected("field is immutable")]
        {
            let absent = ClusterError::Absent { fields: vec!["spec.selector".to_owned()], why: Box::new(why) };

            let judged = failed(&absent, 1);

            assert_eq!((judged.outcome, judged.verdict), (Outcome::Retrying, Verdict::Degraded), "{}", judged.message);
            assert!(judged.retry.wait(1_000, 1.0) <= Duration::from_mins(1) && judged.may_pass);
            assert!(!judged.hint.contains("delete"), "{}", judged.hint);
        }
    }

    #[test]
    fn whose_pods_take_long_to_end_is_late_only_after_that() {
        let leaving = |pods_end_within| {
            let error = ClusterError::Leaving { fields: Vec::new(), finalizers: Vec::new(), pods_end_within };
            move |failures| failed(&error, failures).verdict
        };

        let (slow, held) = (leaving(Some(Duration::from_mins(10))), leaving(None));

        assert_eq!([held(6), held(7)], [Verdict::Progressing, Verdict::Degraded]);
        assert_eq!([slow(7), slow(26), slow(27)], [Verdict::Progressing, Verdict::Progressing, Verdict::Degraded]);
    }

    #[test]
    fn a_hiccup_is_progress_and_a_lasting_one_is_not() {
        let verdict = |failures| failed(&ClusterError::retry("m"), failures).verdict;

        assert_eq!([1, 3, 4].map(verdict), [Verdict::Progressing, Verdict::Progressing, Verdict::Degraded]);
    }

    #[test]
    fn what_does_not_fit_a_built_in_kind_is_final_and_a_conflict_may_pass() {
        let invalid = failed(&rejected("spec.x: Required value"), 1);
        let contested = Contested { field: ".a".to_owned(), manager: "kubectl".to_owned() };
        let conflict = failed(&ClusterError::Conflict(vec![contested]), 1);

        assert!(invalid.outcome.is_stalled() && conflict.outcome.is_stalled());
        assert_eq!((invalid.verdict, invalid.may_pass), (Verdict::Failed, false));
        assert!(conflict.verdict == Verdict::Failed && conflict.may_pass);
    }

    #[test]
    fn two_spellings_of_one_object_are_the_manifests_own_fault_whatever_the_kind() {
        let error = ClusterError::rejected("StandsTwice", "m");

        let judged = failure(&key("example.org/v1"), &error, 1);

        assert_eq!((judged.outcome, judged.verdict, judged.may_pass), (Outcome::Rejected, Verdict::Failed, false));
    }

    /// As Kubernetes' validation says it, of the field at the beginning; or as somebody else does.
    fn rejected(message: &str) -> ClusterError {
        let field = message.split_once(": ").map(|(field, _)| field.to_owned()).filter(|field| !field.contains(' '));
        ClusterError::Rejected {
            reason: "Invalid".to_owned(),
            message: message.to_owned(),
            fields: field.into_iter().collect(),
            is_of_a_change: false,
        }
    }

    #[test]
    fn who_refuses_a_built_in_kind_is_told_by_what_the_api_server_says_beside_the_words() {
        let may_pass = |error: &ClusterError| failed(error, 3).may_pass;
        let of_fields = |message: &str, fields: &[&str]| {
            let (reason, message) = ("Invalid".to_owned(), message.to_owned());
            let fields = fields.iter().map(|&field| field.to_owned()).collect();
            ClusterError::Rejected { reason, message, fields, is_of_a_change: false }
        };

        for by_others in [
            ClusterError::rejected("", "admission webhook \"a\" denied the request: no"),
            of_fields("admission webhook \"a\" denied the request: Pod \"b\" is invalid", &["spec.x"]),
            ClusterError::rejected("Invalid", "deployments \"a\" is forbidden: ValidatingAdmissionPolicy 'p' …"),
            ClusterError::rejected("Conflict", "words of somebody"),
            of_fields("failed to allocate IP 203.0.113.7: not in the valid range", &["spec.clusterIPs[0]"]),
            of_fields("provided port is already allocated", &["spec.ports[2].nodePort"]),
        ] {
            assert!(may_pass(&by_others), "{by_others}");
        }
        for by_itself in [
            of_fields("must be between 1 and 65535", &["spec.ports[0].port"]),
            of_fields("a label may not say denied, webhook or quota", &["metadata.labels"]),
            of_fields("a port and an address", &["spec.ports[0].port", "spec.clusterIPs[0]"]),
            ClusterError::rejected(UNFIT_REASON, ".dataa: field not declared in schema"),
            ClusterError::rejected("BadRequest", "strict decoding error: unknown field \"spec.webhook\""),
            ClusterError::rejected("RequestEntityTooLarge", "limit is 3145728"),
            ClusterError::rejected("MethodNotAllowed", "the server does not allow this method"),
            ClusterError::rejected("UnsupportedMediaType", "the body of the request was in an unknown format"),
        ] {
            assert!(!may_pass(&by_itself), "{by_itself}");
        }
    }

    #[test]
    fn a_refusal_by_admission_or_by_a_definition_may_pass() {
        let denial = rejected("admission webhook \"a\" denied the request: no");
        for failures in 1..=2 {
            assert_eq!(failed(&denial, failures).verdict, Verdict::Progressing, "it may be a hiccup");
        }
        let custom = failure(&key("example.org/v1"), &rejected("spec.x: unknown field"), 3);
        let gateway = failure(&key("gateway.networking.k8s.io/v1"), &rejected("spec.x: unknown field"), 3);
        for lasting in [failed(&denial, 3), custom, gateway] {
            assert_eq!((lasting.outcome, lasting.verdict), (Outcome::Rejected, Verdict::Failed));
            assert!(lasting.may_pass);
            let wait = lasting.retry.wait(1_000, 1.0);
            assert!(wait < Duration::from_secs(20), "{wait:?}");
        }
    }

    #[test]
    fn a_refusal_of_a_change_passes_when_what_is_there_goes() {
        let refusals = [
            "spec.template: Invalid value: {}: field is immutable",
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden",
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`",
            "roleRef: Invalid value: {}: cannot change roleRef",
            "value: Forbidden: may not be changed in an update.",
        ];
        for message in refusals {
            let judged = failed(&rejected(message), 1);
            assert_eq!((judged.outcome, judged.may_pass), (Outcome::Rejected, true), "{message}");
            assert!(judged.hint.starts_with("delete it in the cluster"), "{message}");
        }
        let denial = "admission webhook \"a\" denied the request: updates to spec.x are not allowed on Fridays";
        let judged = failed(&rejected(denial), 3);
        assert!(judged.hint.starts_with("correct the manifest"), "it may refuse a new one, too: {}", judged.hint);
    }

    #[test]
    fn a_webhook_that_does_not_answer_is_named() {
        let message = "Internal error occurred: failed calling webhook \"deaf.example.org\": failed to call webhook: Post \"https://x/\": context deadline exceeded";

        assert_eq!(unanswering_webhook(message), Some("deaf.example.org"));
        assert_eq!(unanswering_webhook("etcd is away"), None);

        let judged = failed(&ClusterError::retry(message), 1);

        assert!(judged.hint.contains("webhook deaf.example.org"), "{}", judged.hint);
    }

    #[test]
    fn who_may_not_act_as_an_account_is_told_another_thing_than_whose_account_lacks_a_right() {
        let name = |text: &str| text.parse().expect("a name");
        let acts_as = ActsAs::Account(Account { namespace: name("shop"), name: name("deployer") });
        let hint = |message: &str, acts_as: &ActsAs| {
            let error = ClusterError::Forbidden { message: message.to_owned() };
            failed(&error, 6).of_whom(acts_as, &error).hint
        };

        for words in
            ["cannot impersonate resource \"serviceaccounts\"", "cannot impersonate-on:serviceaccount:get resource"]
        {
            let message = format!("configmaps \"a\" is forbidden: User \"agent\" {words}");
            assert!(
                hint(&message, &acts_as).starts_with("let the agent act as ServiceAccount shop/deployer"),
                "{message}"
            );
        }
        assert!(
            hint("User \"x\" cannot get resource", &acts_as).starts_with("give ServiceAccount shop/deployer the right")
        );
        assert!(hint("User \"x\" cannot get resource", &ActsAs::Agent).starts_with("check the agent's rights"));
    }

    #[test]
    fn a_missing_right_may_appear_and_later_is_a_failure_that_still_heals() {
        let judged = |failures| failed(&ClusterError::Forbidden { message: "m".to_owned() }, failures);

        assert_eq!([1, 5].map(|failures| judged(failures).verdict), [Verdict::Progressing; 2]);
        let lasting = judged(6);
        assert_eq!((lasting.outcome, lasting.verdict), (Outcome::Rejected, Verdict::Failed));
        assert!(lasting.may_pass);
    }

    #[test]
    fn the_server_may_ask_for_a_longer_wait() {
        let error = ClusterError::Retry { after: Some(Duration::from_secs(9)), message: "m".to_owned() };

        assert_eq!(failed(&error, 1).retry.wait(1, 1.0), Duration::from_secs(9));

        let error = ClusterError::Retry { after: Some(Duration::from_hours(24)), message: "m".to_owned() };

        assert!(failed(&error, 1).retry.wait(1, 1.0) <= Duration::from_mins(1), "it is not put away for a day");
    }
}
