//! What a failure means: try again or not, how bad it is, and what a person can do about it.

use std::time::Duration;

use super::error::ClusterError;
use crate::ObjectKey;
use crate::backoff::{Backoff, Jitter};
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

/// Between two tries of what a person fixes in the cluster: whoever did what the hint says sees it taken up while still
/// looking. Many of them share the pace of all retries.
const STALLED: Backoff =
    Backoff { first: Duration::from_secs(2), longest: Duration::from_secs(15), jitter: Jitter::Half };

/// Why an object is not in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) outcome: Outcome,
    pub(super) verdict: Verdict,
    pub(super) message: String,
    pub(super) hint: String,
    pub(super) retry: Retry,
}

/// When it is tried again without another assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// It is the manifest's own fault: only when something is seen of the object.
    Never,
    /// By that measure, and not before the API server asks to come back.
    After(Backoff, Duration),
}

impl Retry {
    /// The wait after so many failures.
    pub(super) fn wait(self, failures: u32, chance: f64) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::After(backoff, at_least) => Some(backoff.wait(failures, chance).max(at_least)),
        }
    }
}

impl Judgement {
    fn new(outcome: Outcome, verdict: Verdict, message: String, hint: impl Into<String>) -> Self {
        let backoff = if outcome.is_stalled() { STALLED } else { RETRY };
        let retry = Retry::After(backoff, Duration::ZERO);
        Self { outcome, verdict, message, hint: hint.into(), retry }
    }

    /// It is tried again without another revision.
    pub(super) fn may_pass(&self) -> bool {
        self.retry != Retry::Never
    }
}

pub(super) fn exists(hint: String) -> Judgement {
    let message = "it is there already, and was not applied by this target".to_owned();
    Judgement::new(Outcome::Exists, Verdict::Failed, message, hint)
}

/// `failures`: how often this object failed in a row under this assignment, this time included.
pub(super) fn failure(key: &ObjectKey, error: &ClusterError, failures: u32) -> Judgement {
    let message = error.to_string();
    let rejected = |hint: &str| Judgement::new(Outcome::Rejected, Verdict::Failed, message.clone(), hint);
    let retrying = |verdict, hint: String| Judgement::new(Outcome::Retrying, verdict, message.clone(), hint);
    let hiccup = if failures > HICCUPS_MAX { Verdict::Degraded } else { Verdict::Progressing };
    match error {
        ClusterError::Rejected { reason, .. } if reason == "NamespaceRequired" => {
            Judgement { retry: Retry::Never, ..rejected("give it metadata.namespace, or the target a namespace") }
        }
        ClusterError::Rejected { reason, .. } if reason == "ObjectOfTheAgent" => {
            Judgement { retry: Retry::Never, ..rejected("use another namespace and name") }
        }
        ClusterError::Rejected { reason, .. } if reason == "MetadataReserved" => {
            let hint = "remove it; Bellwether sets its labels and annotations itself";
            Judgement { retry: Retry::Never, ..rejected(hint) }
        }
        ClusterError::Rejected { reason, .. } if reason == "StandsTwice" => {
            Judgement { retry: Retry::Never, ..rejected("take one of the two out of the target") }
        }
        ClusterError::Rejected { message, .. } if is_refused_by_the_cluster(message) => {
            let hint = "correct the manifest, or what refuses it";
            if failures <= REFUSALS_MAX { retrying(Verdict::Progressing, hint.to_owned()) } else { rejected(hint) }
        }
        ClusterError::Rejected { .. } if is_built_in(key.group()) => {
            Judgement { retry: Retry::Never, ..rejected("correct the manifest") }
        }
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
        ClusterError::NamespaceMissing { namespace } => {
            retrying(Verdict::Degraded, format!("create namespace {namespace}, or add it to the target"))
        }
        ClusterError::KindMissing { kind, .. } => {
            retrying(hiccup, format!("install the definition of {kind}, or add it to the target"))
        }
        ClusterError::Retry { after, message } => {
            let hint = unanswering_webhook(message)
                .map(|name| format!("fix or remove the admission webhook {name}: it does not answer"));
            let retry = Retry::After(RETRY, after.unwrap_or_default());
            Judgement { retry, ..retrying(hiccup, hint.unwrap_or_default()) }
        }
        ClusterError::NotFound | ClusterError::Stale { .. } => retrying(hiccup, String::new()),
    }
}

/// The admission webhook that the API server says it could not ask: `failed calling webhook "name": …`.
fn unanswering_webhook(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("failed calling webhook \"")?;
    rest.split_once('"').map(|(name, _)| name)
}

/// Whether a refusal is the cluster's of the moment and not the manifest's own: admission, or what others have taken.
fn is_refused_by_the_cluster(message: &str) -> bool {
    ["denied", "webhook", "already allocated", "exceeded quota", "is forbidden"]
        .iter()
        .any(|words| message.contains(words))
}

/// Kinds whose schema changes with the API server alone.
fn is_built_in(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let judgement = failed(&ClusterError::NamespaceMissing { namespace: "shop".to_owned() }, 1);

        assert_eq!((judgement.outcome, judgement.verdict), (Outcome::Retrying, Verdict::Degraded));
        assert_eq!(judgement.hint, "create namespace shop, or add it to the target");
    }

    #[test]
    fn a_hiccup_is_progress_and_a_lasting_one_is_not() {
        let verdict = |failures| failed(&ClusterError::retry("m"), failures).verdict;

        assert_eq!([1, 3, 4].map(verdict), [Verdict::Progressing, Verdict::Progressing, Verdict::Degraded]);
    }

    #[test]
    fn what_does_not_fit_a_built_in_kind_is_final_and_a_conflict_is_tried_again() {
        let invalid = failed(&rejected("spec.x: Required value"), 1);
        let contested = Contested { field: ".a".to_owned(), manager: "kubectl".to_owned() };
        let conflict = failed(&ClusterError::Conflict(vec![contested]), 1);

        assert!(invalid.outcome.is_stalled() && conflict.outcome.is_stalled());
        assert_eq!((invalid.verdict, invalid.retry, invalid.may_pass()), (Verdict::Failed, Retry::Never, false));
        assert!(conflict.verdict == Verdict::Failed && conflict.may_pass());
    }

    #[test]
    fn two_spellings_of_one_object_are_the_manifests_own_fault_whatever_the_kind() {
        let error = ClusterError::Rejected { reason: "StandsTwice".to_owned(), message: "m".to_owned() };

        let judged = failure(&key("example.org/v1"), &error, 1);

        assert_eq!((judged.outcome, judged.verdict, judged.may_pass()), (Outcome::Rejected, Verdict::Failed, false));
    }

    fn rejected(message: &str) -> ClusterError {
        ClusterError::Rejected { reason: "Invalid".to_owned(), message: message.to_owned() }
    }

    #[test]
    fn a_refusal_by_admission_or_by_a_definition_may_pass() {
        let denial = rejected("admission webhook \"a\" denied the request: no");
        for failures in 1..=2 {
            assert_eq!(failed(&denial, failures).verdict, Verdict::Progressing, "it may be a hiccup");
        }
        let custom = failure(&key("example.org/v1"), &rejected("spec.x: unknown field"), 3);
        for lasting in [failed(&denial, 3), custom] {
            assert_eq!((lasting.outcome, lasting.verdict), (Outcome::Rejected, Verdict::Failed));
            assert!(lasting.may_pass());
            let wait = lasting.retry.wait(1_000, 1.0);
            assert!(wait.is_some_and(|wait| wait < Duration::from_secs(20)), "{wait:?}");
        }
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
    fn a_missing_right_may_appear_and_later_is_a_failure_that_still_heals() {
        let judged = |failures| failed(&ClusterError::Forbidden { message: "m".to_owned() }, failures);

        assert_eq!([1, 5].map(|failures| judged(failures).verdict), [Verdict::Progressing; 2]);
        let lasting = judged(6);
        assert_eq!((lasting.outcome, lasting.verdict), (Outcome::Rejected, Verdict::Failed));
        assert!(lasting.may_pass());
    }

    #[test]
    fn the_server_may_ask_for_a_longer_wait() {
        let error = ClusterError::Retry { after: Some(Duration::from_secs(9)), message: "m".to_owned() };

        assert_eq!(failed(&error, 1).retry.wait(1, 1.0), Some(Duration::from_secs(9)));
    }
}
