//! What came of a step, and what an executor that carries one out concludes from the answers of an API server.

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::bodies::Body;
use super::error::ClusterError;
use super::event::Condition;
use super::metadata::Metadata;
use super::owner::{Owner, is_ours, may_delete, owner_hint};
use super::step::Step;
use crate::drift::{Change, ChangedValues, Wanted, changed_values, culprit, differing_paths, lost_paths};
use crate::keep::kept_by;
use crate::object::MANAGER;
use crate::report::Verdict;
use crate::yielded::Yielded;

/// What came of a step: what the object is like now, or why it could not be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    Applied {
        uid: Uuid,
        version: u64,
        condition: Condition,
        body: Body,
    },
    /// Left as it is, whether it is as we applied it or not; `None`: it is not there.
    Kept {
        seen: Option<(Uuid, u64, Condition)>,
    },
    /// There, and left as it is, as is asked for; `note` says so where it is not what we made of it.
    AsFound {
        uid: Uuid,
        version: u64,
        condition: Condition,
        /// Whether it carries our label: a watch tells of it.
        is_watched: bool,
        note: Option<String>,
    },
    /// A Job or a Pod that ran to its end, and is gone since.
    Finished,
    /// One that goes by itself when it has ended, and that went while nobody looked: it may have run.
    EndedUnseen,
    /// There already, and not ours; the hint says whose it is.
    Exists {
        hint: String,
    },
    /// The one that we applied, whose label is no longer ours.
    Unlabelled,
    /// There and ours.
    There {
        uid: Uuid,
        /// The one that it has, whatever its manifest says.
        namespace: Option<String>,
        version: String,
        finalizers: Vec<String>,
        is_leaving: bool,
        /// It asks to be left in the cluster, by this name.
        kept_by: Option<&'static str>,
    },
    /// Not there, or not ours (any more).
    Gone,
    /// There, and no longer ours: it stays.
    Released,
    Failed(ClusterError),
    /// Nothing was written, because it cannot be told whether this agent may: as before.
    Unasked(ClusterError),
}

/// What somebody else did to an object of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub change: Change,
    /// Who, as `managedFields` say.
    pub manager: Option<String>,
    pub operation: Option<String>,
    /// Paths, at most [`FIELDS_MAX`](crate::drift::FIELDS_MAX).
    pub fields: Vec<String>,
    /// What of them the hub is told; of a Secret nothing.
    pub values: ChangedValues,
}

/// What came of a step, with what was found to be changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub finding: Finding,
    pub drift: Option<Found>,
    /// What of the manifest somebody else has set and keeps: no drift.
    pub yielded: Option<Yielded>,
    /// The one before was deleted, and this one made anew, because these fields cannot change; none: it was not.
    pub replaced: Vec<String>,
}

impl From<Finding> for Answer {
    fn from(finding: Finding) -> Self {
        Self { finding, drift: None, yielded: None, replaced: Vec::new() }
    }
}

const LEFT_AS_FOUND: &str = "it is there, and is not changed, since it is applied once (of a chart: `crds: install`)";

fn left_as_found(fields: &[String]) -> String {
    if fields.is_empty() {
        return LEFT_AS_FOUND.to_owned();
    }
    format!("{LEFT_AS_FOUND}; something else is wanted at {}", fields.join(", "))
}

impl Finding {
    /// Of an object that should be in place and is not there; `None`: somebody deleted it.
    pub fn ended(step: &Step) -> Option<Self> {
        let last_applied = step.last_applied.as_ref();
        match last_applied.and_then(|last_applied| last_applied.finished) {
            Some(_) => Some(Self::Finished),
            None => step.may_have_ended.then_some(Self::EndedUnseen),
        }
    }

    /// Of an object that is only made where it is absent, as it was read.
    ///
    /// What does not carry our label is not watched: it is looked at again until it is well.
    pub fn as_found(
        step: &Step,
        there: &Metadata,
        condition: Condition,
        (wanted, found): (&Value, &Value),
        now: Timestamp,
    ) -> Self {
        let is_watched = is_ours(there, &step.label());
        let verdict = condition.health.at(now);
        if !is_watched && verdict != Verdict::Healthy {
            let message = &condition.health.message;
            let message = format!("{LEFT_AS_FOUND}; it is {verdict}: {message}");
            return Self::Failed(ClusterError::retry(message));
        }
        let mut fields = differing_paths(wanted, found);
        fields.retain(|field| !field.starts_with(".metadata."));
        let is_as_wanted = is_watched && (step.has_made(there.uid) || fields.is_empty());
        let note = (!is_as_wanted).then(|| left_as_found(&fields));
        Self::AsFound { uid: there.uid, version: there.version(), condition, is_watched, note }
    }

    /// Of an object that was deleted, or that is to be and carries our label.
    pub fn there(there: Metadata, is_leaving: bool) -> Self {
        let kept_by = kept_by(&there.annotations, &there.labels);
        let Metadata { uid, namespace, resource_version, finalizers, .. } = there;
        Self::There { uid, namespace, version: resource_version, finalizers, is_leaving, kept_by }
    }

    /// Of an object that is to go, as it was read.
    pub fn inspected(step: &Step, there: Option<Metadata>) -> Self {
        let label = step.label();
        match there {
            Some(there) if Owner::of(&there, step) == Owner::UsUnlabelled => Self::Unlabelled,
            None => Self::Gone,
            Some(there) if !is_ours(&there, &label) => Self::Gone,
            Some(there) if !may_delete(&there, &label, step.last_uid()) => {
                Self::Exists { hint: owner_hint(&there, step) }
            }
            Some(there) => {
                let is_leaving = there.deletion_timestamp.is_some();
                Self::there(there, is_leaving)
            }
        }
    }
}

impl Found {
    /// Nobody can say by whom: what is gone has no managers.
    pub fn deleted() -> Self {
        Self {
            change: Change::Deleted,
            manager: None,
            operation: None,
            fields: Vec::new(),
            values: ChangedValues::default(),
        }
    }

    /// Of an object as it was found, and the paths that were not as we applied them; with what it is to be, as far as that is
    /// known.
    pub fn of(owner: Owner, found: &Value, fields: Vec<String>, wanted: Option<Wanted<'_>>) -> Self {
        let (manager, operation) = culprit(&found["metadata"], MANAGER, &fields).unzip();
        let values = wanted.map(|wanted| changed_values(wanted, found)).unwrap_or_default();
        Self { change: owner.change(), manager, operation, fields, values }
    }

    /// Of an object whose apply was refused: what is not as we applied it, as far as that can be told without the API
    /// server's help. What left our entry was taken. After a refusal that says so itself, any other value is a change.
    pub fn uncorrected(owner: Owner, wanted: &Value, found: &Value, error: &ClusterError) -> Option<Self> {
        let mut fields = lost_paths(wanted, &found["metadata"], MANAGER);
        if fields.is_empty() && matches!(error, ClusterError::Conflict(_) | ClusterError::Rejected { .. }) {
            fields = differing_paths(wanted, found);
        }
        let is_drift = owner.change() != Change::Modified || !fields.is_empty();
        let told = changed_values(Wanted::Sent(wanted, &fields), found);
        is_drift.then(|| Self { values: told, ..Self::of(owner, found, fields, None) })
    }
}

/// `modified by kubectl-edit: .data.a`
impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.change.as_str())?;
        if let Some(manager) = &self.manager {
            write!(f, " by {manager}")?;
        }
        if !self.fields.is_empty() {
            write!(f, ": {}", self.fields.join(", "))?;
        }
        Ok(())
    }
}
