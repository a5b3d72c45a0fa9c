//! What would change where, as the API answers it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{WrittenRef, WrittenTarget};
use crate::render::LeftOutHook;
use crate::{Condition, Name, ObjectKey};

/// The body of `POST /api/v1/targets/{name}/plan`: what is to be compared with what the target's clusters are assigned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AskPlan {
    /// Of the target's repo; the one that its spec names when left out.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<WrittenRef>,
    /// In the place of the target's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<WrittenTarget>,
}

/// What would change where, if the head were rolled out now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDocument {
    pub target: Name,
    /// Always `assigned`: what the clusters are assigned. What they hold may be something else, and none of them was asked.
    pub compared_with: String,
    /// The commits that what they are assigned comes from.
    pub base: Vec<PlanBase>,
    pub head: PlanHead,
    /// Fields of the target's spec that the given one has otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spec_changes: Vec<String>,
    /// Something would change: an object somewhere, who is selected, or the spec.
    pub differs: bool,
    /// Why it would not roll out, or not at once, as things are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Condition>,
    /// Clusters for which the same changes, those with most clusters first; last whose nothing changes.
    pub groups: Vec<PlanGroup>,
    /// Further ones, which are left out.
    #[serde(default)]
    pub more_groups: usize,
    /// In which a rollout would give it to them; none, when no cluster is to run something else.
    pub waves: Vec<PlanWave>,
    /// Clusters that the given spec selects, and the target's own does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selected: Vec<Name>,
    /// Clusters that have something of the target, and that the given spec does not select any more: they go on with what they
    /// have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unselected: Vec<Name>,
    /// Clusters of which it is not known what would change, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unplanned: Vec<Unplanned>,
    /// Hooks of Helm that no cluster gets; at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out_hooks: Vec<LeftOutHook>,
    /// What else has to be known to read it right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A commit that clusters are assigned something of; `None`: nothing of the target yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanBase {
    pub commit: Option<String>,
    pub clusters: usize,
}

/// What is compared with that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanHead {
    pub repo: Name,
    /// Full name.
    #[serde(rename = "ref")]
    pub reference: String,
    pub commit: String,
    pub subject: String,
    /// By one of the repo's keys; `None` where nobody has to have signed, or nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<String>,
}

/// Clusters for which the same changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanGroup {
    pub clusters: Vec<Name>,
    /// They are assigned nothing of the target yet.
    #[serde(default)]
    pub first_install: bool,
    pub counts: PlanCounts,
    /// In the order of their keys.
    pub objects: Vec<PlanObject>,
    /// Further ones that change, which are left out.
    #[serde(default)]
    pub more_objects: usize,
}

/// How many objects of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanCounts {
    pub created: usize,
    pub changed: usize,
    pub moved: usize,
    pub pruned: usize,
    /// No longer of the target, and not deleted.
    pub left: usize,
    /// `None`: not as many in each of the clusters.
    pub unchanged: Option<usize>,
}

impl PlanCounts {
    /// Whether there is anything but what stays.
    pub const fn is_any(&self) -> bool {
        self.created + self.changed + self.moved + self.pruned + self.left > 0
    }
}

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectChange {
    Created,
    Changed,
    /// Into another namespace: it is made there, and the one before is pruned.
    Moved,
    Pruned,
    /// It stays in the cluster, and is no longer of the target.
    Left,
}

/// When a hook runs that is new or has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookTime {
    /// Before the rest is applied.
    Before,
    /// Once the rest is healthy.
    After,
}

/// An object that changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanObject {
    #[serde(flatten)]
    pub key: ObjectKey,
    pub change: ObjectChange,
    /// Of one that moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_namespace: Option<String>,
    /// What is another in it; of a new one a single field, with the pointer of the whole.
    pub fields: Vec<PlanField>,
    /// Further ones, which are left out.
    #[serde(default)]
    pub more_fields: usize,
    /// Its pod template changes: its pods are made anew.
    #[serde(default)]
    pub restarts: bool,
    /// It is a hook, and runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A field that is another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanField {
    /// A JSON pointer; of an item of a list its place after the change, or before, of one that goes.
    pub pointer: String,
    /// `None`: it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Of texts with many lines only those that differ are told, with some around: the place of the first, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Something of it is a secret, or would tell one: `(hidden)` stands in its place.
    #[serde(default)]
    pub hidden: bool,
    /// It is longer than is told.
    #[serde(default)]
    pub cut: bool,
}

/// A part of the rollout that would begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanWave {
    pub name: String,
    /// In the order in which they are given it. None: its selector selects nobody, and it would hold there.
    pub clusters: Vec<Name>,
    pub concurrent_max: u32,
    pub healthy_min: u32,
    pub soak_seconds: i64,
}

/// Clusters of which it is not known what would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unplanned {
    pub clusters: Vec<Name>,
    pub condition: Condition,
}
