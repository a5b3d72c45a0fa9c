//! What becomes of an object of ours that cannot be changed to what is wanted. Decides; asks nobody.
//!
//! It is deleted and made anew only where that is asked for, and only the very one that we applied last. Between the two the
//! object is in the journal as wanted, so that whoever starts then makes it.

use serde_json::Value;

use super::error::{ClusterError, NOT_REPLACED_REASON};
use super::metadata::Metadata;
use super::owner::Owner;
use super::removal::is_protected;
use super::step::Step;
use crate::ObjectKey;
use crate::keep::kept_by;

/// What is done about an object that cannot be changed, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replacement {
    /// Exactly this one is deleted, and made anew when it is gone.
    Due(Cascade),
    /// It is being deleted: it is made anew when it is gone.
    Leaving,
    /// It stays as it is, for this reason.
    Refused(String),
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
    /// all of it.
    pub fn of(step: &Step, there: &Metadata, found: &Value) -> Self {
        if is_protected(&step.key) {
            let what = format!("what goes with a {} is in no manifest", step.key.kind);
            return Self::Refused(what);
        }
        if Owner::of(there, step) != Owner::Us || step.last_uid() != Some(there.uid) {
            return Self::Refused("it is not the very one that this target applied".to_owned());
        }
        if there.deletion_timestamp.is_some() {
            return Self::Leaving;
        }
        if let Some(name) = kept_by(&there.annotations, &there.labels) {
            return Self::Refused(format!("{name} asks for it to be left"));
        }
        if found["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete" {
            return Self::Refused("its claims would go with it (persistentVolumeClaimRetentionPolicy)".to_owned());
        }
        Self::Due(cascade(&step.key))
    }
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
    pub fn not_replaced(&self, why: &str) -> Self {
        Self::rejected(NOT_REPLACED_REASON, format!("{self}; it is not replaced: {why}"))
    }
}

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
        let (digest, uid, name) = (Digest::of(b"x"), Uuid::from_u128(1), "a".to_owned());
        let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
        let key = ObjectKey { api_version, kind, namespace: Some("shop".to_owned()), name };
        let act = Act::Apply { digest, inspect_first: false };
        let last = LastApplied { uid, digest, body: None, finished: None, generation: Generation::new(1) };
        let step = Step { last_applied: Some(last), ..Step::about(TargetId::new(Uuid::from_u128(7)), key, act) };
        let labels = [(TARGET_LABEL.to_owned(), step.label())].into();
        Replacement::of(&step, &Metadata { uid, labels, ..Metadata::default() }, &json!({"spec": spec}))
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
        assert!(matches!(&lost, Replacement::Refused(why) if why.contains("claims would go with it")), "{lost:?}");
    }

    #[test]
    fn of_many_fields_the_first_are_named() {
        let fields: Vec<_> = ["a", "b", "c", "d", "e"].map(str::to_owned).into();

        assert_eq!((named(&fields[..2]), named(&fields)), ("a, b".to_owned(), "a, b, c and 2 more".to_owned()));
    }
}
