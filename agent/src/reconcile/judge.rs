//! What a failure means: try again or not, how bad it is, and what a person can do about it.

use std::time::Duration;

use bellwether_core::object::{OWNER_ANNOTATION, TARGET_LABEL};
use bellwether_core::report::{Outcome, Verdict};

use crate::backoff::{Backoff, Jitter};
use crate::cluster::{ClusterError, FIELD_MANAGER, Metadata};

/// Between two tries of one object. Half of each wait is jitter: the objects of a cluster that was away do not all come
/// back at once, and none asks again immediately.
pub(super) const RETRY: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_mins(1), jitter: Jitter::Half };

/// After that many failures (about five seconds) it is no longer a hiccup that nobody needs to see.
const HICCUPS_MAX: u32 = 3;

/// So many times, over about fifteen seconds, a missing right may still appear: an API server that has just started
/// forbids everything until it has read the cluster's roles.
const FORBIDDEN_HICCUPS_MAX: u32 = 5;

/// How often it is asked whether a right that is missing has been given since.
const FORBIDDEN_PAUSE: Duration = Duration::from_mins(1);

/// Why an object is not in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) outcome: Outcome,
    pub(super) verdict: Verdict,
    pub(super) message: String,
    pub(super) hint: String,
    /// It is tried again, and not before that long; `None`: only when something changes.
    pub(super) retry: Option<Duration>,
}

impl Judgement {
    fn new(outcome: Outcome, verdict: Verdict, message: String, hint: impl Into<String>) -> Self {
        let retry = (outcome == Outcome::Retrying).then_some(Duration::ZERO);
        Self { outcome, verdict, message, hint: hint.into(), retry }
    }

    /// It is tried again without another revision.
    pub(super) fn may_pass(&self) -> bool {
        self.retry.is_some()
    }
}

pub(super) fn exists(hint: String) -> Judgement {
    let message = "it is there already, and was not applied by this target".to_owned();
    Judgement::new(Outcome::Exists, Verdict::Failed, message, hint)
}

/// `failures`: how often this object failed under this assignment, this time included.
pub(super) fn failure(error: &ClusterError, failures: u32) -> Judgement {
    let message = error.to_string();
    let rejected = |hint: &str| Judgement::new(Outcome::Rejected, Verdict::Failed, message.clone(), hint);
    let retrying = |verdict, hint: String| Judgement::new(Outcome::Retrying, verdict, message.clone(), hint);
    let hiccup = if failures > HICCUPS_MAX { Verdict::Degraded } else { Verdict::Progressing };
    match error {
        ClusterError::Rejected { reason, .. } if reason == "NamespaceRequired" => {
            rejected("give it metadata.namespace, or the target a namespace")
        }
        ClusterError::Rejected { .. } => rejected("correct the manifest"),
        ClusterError::Forbidden { .. } => {
            let hint = "check the agent's rights, quotas and admission policies";
            if failures <= FORBIDDEN_HICCUPS_MAX {
                retrying(Verdict::Progressing, hint.to_owned())
            } else {
                Judgement { retry: Some(FORBIDDEN_PAUSE), ..rejected(hint) }
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
        ClusterError::Retry { after, .. } => {
            Judgement { retry: Some(after.unwrap_or_default()), ..retrying(hiccup, String::new()) }
        }
        ClusterError::NotFound | ClusterError::Stale { .. } => retrying(hiccup, String::new()),
    }
}

/// Whether the object that is there is this target's.
pub(super) fn is_ours(metadata: &Metadata, label: &str) -> bool {
    metadata.labels.get(TARGET_LABEL).is_some_and(|value| value == label)
}

/// Whose it seems to be, and what to do about it.
pub(super) fn owner_hint(metadata: &Metadata) -> String {
    let owner = owner_of(metadata).map_or_else(|| "it".to_owned(), |owner| format!("{owner}; it"));
    format!("{owner} stays as it is: take it out of the target, or delete it in the cluster")
}

fn owner_of(metadata: &Metadata) -> Option<String> {
    let annotation = |name: &str| metadata.annotations.get(name).filter(|value| !value.is_empty());
    if let Some(owner) = annotation(OWNER_ANNOTATION) {
        return Some(format!("owned by {owner}"));
    }
    if let Some(release) = annotation("meta.helm.sh/release-name") {
        return Some(format!("owned by the Helm release {release}"));
    }
    if let Some(name) = metadata.labels.get("kustomize.toolkit.fluxcd.io/name") {
        return Some(format!("owned by the Flux Kustomization {name}"));
    }
    if let Some(tracking) = annotation("argocd.argoproj.io/tracking-id") {
        return Some(format!("owned by Argo CD as {tracking}"));
    }
    if let Some(owner) = metadata.owner_references.iter().find(|owner| owner.controller) {
        return Some(format!("controlled by {} {}", owner.kind, owner.name));
    }
    let writers = metadata.managed_fields.iter().filter(|entry| entry.subresource.is_empty());
    let mut managers: Vec<_> =
        writers.map(|entry| entry.manager.as_str()).filter(|&name| name != FIELD_MANAGER).collect();
    managers.sort_unstable();
    managers.dedup();
    (!managers.is_empty()).then(|| format!("written by {}", managers.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster::{Contested, ManagedFields};

    #[test]
    fn a_missing_namespace_is_retried_and_its_hint_names_it() {
        let judgement = failure(&ClusterError::NamespaceMissing { namespace: "shop".to_owned() }, 1);

        assert_eq!((judgement.outcome, judgement.verdict), (Outcome::Retrying, Verdict::Degraded));
        assert_eq!(judgement.hint, "create namespace shop, or add it to the target");
    }

    #[test]
    fn a_hiccup_is_progress_and_a_lasting_one_is_not() {
        let verdict = |failures| failure(&ClusterError::retry("m"), failures).verdict;

        assert_eq!([1, 3, 4].map(verdict), [Verdict::Progressing, Verdict::Progressing, Verdict::Degraded]);
    }

    #[test]
    fn what_is_invalid_or_in_conflict_stalls() {
        let message = || "m".to_owned();
        let contested = Contested { field: ".a".to_owned(), manager: "kubectl".to_owned() };
        let conflict = ClusterError::Conflict(vec![contested]);
        let errors = [ClusterError::Rejected { reason: "Invalid".to_owned(), message: message() }, conflict];
        for error in errors {
            let judgement = failure(&error, 1);
            assert!(judgement.outcome.is_stalled(), "{error:?}");
            assert_eq!((judgement.verdict, judgement.retry), (Verdict::Failed, None));
        }
    }

    #[test]
    fn a_missing_right_may_appear_and_later_is_a_failure_that_still_heals() {
        let judged = |failures| failure(&ClusterError::Forbidden { message: "m".to_owned() }, failures);

        assert_eq!([1, 5].map(|failures| judged(failures).verdict), [Verdict::Progressing; 2]);
        let lasting = judged(6);
        assert_eq!((lasting.outcome, lasting.verdict), (Outcome::Rejected, Verdict::Failed));
        assert_eq!(lasting.retry, Some(FORBIDDEN_PAUSE));
    }

    #[test]
    fn the_server_may_ask_for_a_longer_wait() {
        let error = ClusterError::Retry { after: Some(Duration::from_secs(9)), message: "m".to_owned() };

        assert_eq!(failure(&error, 1).retry, Some(Duration::from_secs(9)));
    }

    #[test]
    fn the_hint_tells_whose_it_is() {
        let annotated = |name: &str, value: &str| Metadata {
            annotations: BTreeMap::from([(name.to_owned(), value.to_owned())]),
            ..Metadata::default()
        };
        let entry = |manager: &str| ManagedFields { manager: manager.to_owned(), subresource: String::new() };
        let written = Metadata { managed_fields: vec![entry("kubectl"), entry("kubectl")], ..Metadata::default() };
        let cases = [
            (annotated(OWNER_ANNOTATION, "main/default/shop"), "owned by main/default/shop; it stays"),
            (annotated("meta.helm.sh/release-name", "web"), "owned by the Helm release web; it stays"),
            (written, "written by kubectl; it stays"),
            (Metadata::default(), "it stays"),
        ];
        for (metadata, start) in cases {
            assert!(owner_hint(&metadata).starts_with(start), "{}", owner_hint(&metadata));
        }
    }
}
