//! One object that is to go: how far that is, what is done with it next, and how it stands.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::judge::Judgement;
use super::status::Standing;
use super::step::Act;
use crate::apply::{self, APPLY_ANNOTATION, DeletionStage, Phase};
use crate::journal::Before;
use crate::report::{Outcome, Verdict};
use crate::{ObjectKey, TargetId};

/// So long what is to go later waits for an object that is being deleted; and then a person should see it.
const LEAVING_MAX: SignedDuration = SignedDuration::from_secs(60);

const REFUSED: &str = "prune refused: not in the plan";
const REFUSED_HINT: &str = "nothing was deleted; delete it in the cluster, or put it back into the target";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Only what the plan names, and only all of it.
    #[default]
    Prune,
    Delete,
    /// Takes our label away and leaves the object.
    Orphan,
    /// Nothing goes; what another target wants is given to it.
    Keep,
}

impl Mode {
    /// The target itself goes: what stays is let go of.
    pub(super) fn lets_go(self) -> bool {
        matches!(self, Self::Delete | Self::Orphan)
    }
}

/// An object that is to go.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) key: ObjectKey,
    pub(super) phase: Phase,
    /// A plan has named it, and no bundle since.
    pub(super) prunable: bool,
    /// The last bundle that had it asked for it to be applied once: it stays, whatever the object in the cluster says, which
    /// may be older than that.
    pub(super) is_once: bool,
}

impl Candidate {
    /// What the journal knows of it: its phase is that of its kind.
    pub(super) fn of(before: Before) -> Self {
        let phase = apply::phase(&before.key, &BTreeMap::new());
        let Before { key, prunable, is_once } = before;
        Self { key, phase, prunable, is_once }
    }

    /// Who asks for it to be left, though the object does not.
    pub(super) fn kept_by(&self) -> Option<&'static str> {
        self.is_once.then_some(APPLY_ANNOTATION)
    }
}

#[derive(Debug)]
pub(super) struct Removal {
    pub(super) candidate: Candidate,
    /// Its key as the cluster has it, as far as that is known.
    pub(super) live: ObjectKey,
    pub(super) state: State,
    pub(super) inspected: bool,
    pub(super) failures: u32,
    pub(super) polls: u32,
    /// When it was first seen to be on its way out.
    pub(super) leaving_since: Option<Timestamp>,
    /// It stays, and why; it is let go of when its target goes.
    pub(super) stays: Option<Left>,
    /// Why its label could not be taken off.
    pub(super) refused: Option<String>,
}

/// Why an object stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// With it goes what nobody listed.
    Protected,
    /// It asks for it, by this name.
    Kept(&'static str),
    /// That target wants it, or has it by now.
    Claimed(TargetId),
    /// Its target prunes nothing, or its objects are to be left.
    Asked,
    /// Somebody copied it, or restored it, and we never came to apply it.
    Copy,
    /// Somebody edited it, or gave the object away.
    Unlabelled,
}

impl Left {
    fn message(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Protected => "never deleted: it may hold more than this target's",
            Self::Kept(name) => return format!("left: {name} asks for it").into(),
            Self::Claimed(_) => "another target of this cluster has it now",
            Self::Asked => "left, as was asked for",
            Self::Copy => "left: it carries this target's label, and was not applied by this target",
            Self::Unlabelled => "left: it no longer carries this target's label",
        })
    }
}

#[derive(Debug)]
pub(super) enum State {
    /// Waits for its turn.
    Waiting,
    Sent,
    There {
        uid: Uuid,
        version: String,
    },
    /// Deleted, and not gone.
    Leaving {
        since: Timestamp,
        finalizers: Vec<String>,
    },
    /// Stays, and why.
    Left(Left),
    /// Tried again when it stands among the wakes.
    Failed(Judgement),
    Gone,
}

impl Removal {
    pub(super) fn plan(candidate: Candidate, mode: Mode) -> Self {
        let (live, stays) = (candidate.key.clone(), stays_always(&candidate.key, mode));
        let left = stays.filter(|_| !mode.lets_go());
        let (inspected, state) = (left.is_some(), left.map_or(State::Waiting, State::Left));
        Self { candidate, live, state, inspected, failures: 0, polls: 0, leaving_since: None, stays, refused: None }
    }

    pub(super) fn stage(&self) -> DeletionStage {
        DeletionStage::of(&self.candidate.key, self.candidate.phase)
    }

    /// What another target wants is given to it, for as long as it does.
    pub(super) fn note_claim(&mut self, by: Option<TargetId>, mode: Mode) {
        let otherwise = match self.stays {
            Some(Left::Claimed(_)) => stays_always(&self.candidate.key, mode),
            otherwise => otherwise,
        };
        self.stays = by.map(Left::Claimed).or(otherwise);
    }

    pub(super) fn is_claimed(&self) -> bool {
        matches!(self.stays, Some(Left::Claimed(_)))
    }

    pub(super) fn begin(&mut self, mode: Mode) -> Act {
        let before = match &self.state {
            State::Leaving { .. } => return Act::Inspect,
            State::There { .. } if mode == Mode::Prune && self.is_unplanned() => return Act::Inspect,
            _ => std::mem::replace(&mut self.state, State::Sent),
        };
        match (before, self.stays) {
            (State::There { version, .. }, Some(Left::Claimed(to))) => Act::Give { version, to },
            (State::There { uid, .. }, None) if matches!(mode, Mode::Prune | Mode::Delete) => Act::Delete { uid },
            (State::There { version, .. }, _) if mode.lets_go() => Act::Orphan { version },
            _ => Act::Inspect,
        }
    }

    pub(super) fn holds_up(&self, now: Timestamp) -> bool {
        match &self.state {
            State::Gone | State::Left(_) => false,
            // However long it takes: without their controller, custom resources would stay for ever.
            State::Leaving { finalizers, .. } if self.stage().is_of_custom_resources() && !finalizers.is_empty() => {
                true
            }
            State::Leaving { since, .. } => !is_overdue(*since, now),
            _ => true,
        }
    }

    /// There, ours, and in no plan.
    pub(super) fn is_unplanned(&self) -> bool {
        let may_go = self.candidate.prunable || !self.inspected;
        !may_go && !self.is_claimed() && !matches!(self.state, State::Gone | State::Left(_) | State::Leaving { .. })
    }

    pub(super) fn standing(&self, now: Timestamp, is_open: bool, is_refused: bool) -> Option<Standing<'_>> {
        let plain = |verdict, message: &'static str| (verdict, Cow::Borrowed(message), "");
        let (verdict, message, hint) = match &self.state {
            State::Gone => return None,
            State::Left(Left::Asked) if self.refused.is_none() => return None,
            State::Left(why) => (Verdict::Healthy, self.left(*why), ""),
            State::Failed(judgement) => (judgement.verdict, judgement.message.as_str().into(), judgement.hint.as_str()),
            State::Leaving { since, finalizers } if is_overdue(*since, now) => blocked(finalizers),
            State::Leaving { .. } => plain(Verdict::Progressing, "being deleted"),
            _ if self.is_claimed() => plain(Verdict::Healthy, "another target of this cluster gets it"),
            _ if is_refused && self.is_unplanned() => (Verdict::Degraded, REFUSED.into(), REFUSED_HINT),
            _ if is_refused => plain(Verdict::Degraded, "prune refused: others are not in the plan"),
            _ if is_open => plain(Verdict::Progressing, ""),
            _ => plain(Verdict::Progressing, "waits for the new objects"),
        };
        let (key, outcome) = (&self.candidate.key, Outcome::Pruning);
        Some(Standing { key, outcome, verdict, message, hint, may_pass: true, is_told: true })
    }

    fn left(&self, why: Left) -> Cow<'static, str> {
        let message = why.message();
        match &self.refused {
            Some(refused) => format!("{message}; its label stays: {refused}").into(),
            None => message,
        }
    }
}

fn blocked(finalizers: &[String]) -> (Verdict, Cow<'static, str>, &'static str) {
    if finalizers.is_empty() {
        return (Verdict::Degraded, "still being deleted".into(), "");
    }
    let message = format!("blocked by finalizer {}", finalizers.join(", "));
    (Verdict::Degraded, message.into(), "see whether the controller that sets the finalizer still runs")
}

fn is_overdue(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since) >= LEAVING_MAX
}

fn stays_always(key: &ObjectKey, mode: Mode) -> Option<Left> {
    match mode {
        Mode::Keep => Some(Left::Asked),
        Mode::Prune | Mode::Delete => is_protected(key).then_some(Left::Protected),
        Mode::Orphan => None,
    }
}

/// With these goes what nobody listed: all objects of a kind or of a namespace, or data.
pub(crate) fn is_protected(key: &ObjectKey) -> bool {
    matches!(
        (key.group(), key.kind.as_str()),
        ("apiextensions.k8s.io", "CustomResourceDefinition")
            | ("", "Namespace" | "PersistentVolume" | "PersistentVolumeClaim")
            // OpenShift's, which is a namespace.
            | ("project.openshift.io", "Project")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_namespace_by_another_name_is_protected_as_one() {
        let key = |api_version: &str, kind: &str| {
            let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
            ObjectKey { api_version, kind, namespace: None, name: "shop".to_owned() }
        };

        assert!(is_protected(&key("v1", "Namespace")) && is_protected(&key("project.openshift.io/v1", "Project")));
        assert!(!is_protected(&key("config.openshift.io/v1", "Project")), "the settings of all projects");
        assert!(!is_protected(&key("argoproj.io/v1alpha1", "AppProject")));
    }
}
