//! What the decider asks for: one thing to do with one object.

use jiff::Timestamp;
use uuid::Uuid;

use super::claims::Claim;
use super::error::Contested;
use super::owned::LastApplied;
use crate::account::ActsAs;
use crate::session::{Adopt, Replace};
use crate::{Digest, Generation, Name, ObjectKey, TargetId};

/// A thing to do with one object.
#[expect(clippy::struct_excessive_bools, reason = "each is one thing of its own, and they come in any combination")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub target: TargetId,
    pub generation: Generation,
    pub key: ObjectKey,
    pub act: Act,
    /// What we applied under its name last.
    pub last_applied: Option<LastApplied>,
    /// It is only made where it is absent: what is there is left as it is, whoever has it.
    pub is_applied_once: bool,
    /// Exactly what is to be in place was applied last, and nothing that may have arrived was sent since.
    pub is_latest: bool,
    /// That goes by itself once it has run to its end, and nobody watched it.
    pub may_have_ended: bool,
    /// It failed, and a person asks for another run: the one that failed is deleted before that, as it asks.
    pub runs_again: bool,
    /// Another object of the bundle that is this one, if their kind has no namespaces.
    pub twin: Option<ObjectKey>,
    /// Other targets of this cluster that have an object of this name in their bundles.
    pub claims: Vec<Claim>,
    /// What of others the target may have.
    pub adopt: Adopt,
    /// Whether its target has objects replaced that cannot be changed.
    pub replace: Replace,
    /// The target's own namespace, if that is made where it is absent.
    pub makes_namespace: Option<Name>,
    /// For whom the API server takes the requests about the object.
    pub acts_as: ActsAs,
    /// Whose the target is, as far as the hub says.
    pub project: Option<Name>,
}

/// What to do with the object. What each means in requests is the executor's; what was found comes back as a `Finding`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Inspect whether it may be applied, and apply it; or else apply it to exactly the one that is held.
    Apply { digest: Digest, inspect_first: bool },
    /// Inspect whether it is as we applied it; and if `writes`, make it so.
    Correct { digest: Digest, seen_at: Timestamp, writes: bool },
    /// Inspect whether it is there and carries the target's label.
    Inspect,
    /// Delete exactly the one that was inspected.
    Delete { uid: Uuid },
    /// Take our label off it, if nobody wrote it since it was inspected. Whose it was stays written on it.
    Orphan { version: String },
    /// Give it to another target, if nobody wrote it since it was inspected.
    Give { version: String, to: TargetId },
}

impl Step {
    /// The value of the target label on what this target owns.
    pub fn label(&self) -> String {
        label_of(self.target)
    }

    /// Of what we applied last under its name.
    pub fn last_uid(&self) -> Option<Uuid> {
        self.last_applied.as_ref().map(|last_applied| last_applied.uid)
    }

    /// Whether all that it applies is ours on the object with this uid: our last apply has set each field of it there, so
    /// whoever else holds one by now has taken it.
    pub fn is_all_ours(&self, uid: Uuid) -> bool {
        let last_applied = self.last_applied.as_ref().filter(|last_applied| last_applied.uid == uid);
        self.is_latest && last_applied.is_some_and(|last_applied| last_applied.body.is_some())
    }

    /// Whether our last apply has set each of the fields that others hold by now.
    pub fn was_all_ours(&self, contested: &[Contested]) -> bool {
        let fields = contested.iter().map(|field| field.field.as_str());
        self.last_applied.as_ref().is_some_and(|last_applied| last_applied.says_all(fields))
    }

    /// Whether the one with this uid is as it is to be, as far as we have done that.
    pub fn has_made(&self, uid: Uuid) -> bool {
        let last_applied = self.last_applied.as_ref().filter(|last_applied| last_applied.uid == uid);
        last_applied.is_some_and(|last_applied| Some(last_applied.digest) == self.act.digest())
    }

    /// Whether the one with this uid is a run before the one that is wanted: of another content, or one that failed.
    pub fn is_run_before(&self, uid: Uuid) -> bool {
        let last_applied = self.last_applied.as_ref().filter(|last_applied| last_applied.uid == uid);
        last_applied.is_some_and(|last| Some(last.digest) != self.act.digest() || self.runs_again)
    }

    /// About an object that should be in place.
    pub(super) fn is_question(&self) -> bool {
        matches!(self.act, Act::Correct { .. })
    }
}

#[cfg(test)]
impl Step {
    /// The first of its target, which knows of nothing.
    pub(super) fn about(target: TargetId, key: ObjectKey, act: Act) -> Self {
        let (last_applied, twin, claims, adopt) = (None, None, Vec::new(), Adopt::Never);
        let generation = Generation::new(1);
        let (is_applied_once, is_latest, may_have_ended, runs_again) = (false, false, false, false);
        Self {
            target,
            generation,
            key,
            act,
            last_applied,
            is_applied_once,
            is_latest,
            may_have_ended,
            runs_again,
            twin,
            claims,
            adopt,
            replace: Replace::Never,
            makes_namespace: None,
            acts_as: ActsAs::Agent,
            project: None,
        }
    }
}

/// The value of the target label on what that target owns.
pub fn label_of(target: TargetId) -> String {
    target.as_uuid().simple().to_string()
}

impl Act {
    /// It may change something in the cluster.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Inspect | Self::Correct { writes: false, .. })
    }

    /// Of the object that is to be in place.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Apply { digest, .. } | Self::Correct { digest, .. } => Some(*digest),
            Self::Inspect | Self::Delete { .. } | Self::Orphan { .. } | Self::Give { .. } => None,
        }
    }
}
