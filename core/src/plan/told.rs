//! What is told of a change: as documents have it, too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::drift::ChangedValue;
use crate::dry_run::Fate;
use crate::{Name, ObjectKey};

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
    /// What the API servers of those of them said that were asked; all of these said the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<PlanDryRun>,
}

/// What API servers would make of a head now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDryRun {
    /// How many clusters of the group said so.
    pub answered: usize,
    /// How many objects have which fate.
    pub counts: BTreeMap<Fate, usize>,
    /// Those that do not simply stay or come to be; those first that would not come to be what is wanted.
    pub objects: Vec<PlanTried>,
    /// Further ones, which are left out.
    #[serde(default)]
    pub more_objects: usize,
}

/// What an API server would make of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanTried {
    #[serde(flatten)]
    pub key: ObjectKey,
    pub fate: Fate,
    /// Why, or whose it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The head changes nothing of it: what stands there is not what was applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drifted: bool,
    /// What it would change in the one that stands there, if that is the target's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<ChangedValue>,
    /// There are others, which are not told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_fields: bool,
    /// What is `wanted` and comes out as what is `found`: by admission, or because the API server writes it so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admitted: Vec<ChangedValue>,
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
