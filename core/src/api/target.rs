use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Condition, Document, RolloutDocument};
use crate::labels::LabelSelector;
use crate::object::digest_of;
use crate::parameters::ParameterSet;
use crate::rollout::Strategy;
use crate::session::{DriftMode, Prune};
use crate::{Digest, Name};

/// What to deploy where.
pub type TargetDocument = Document<TargetSpec, TargetStatus>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetSpec {
    pub repo: Name,
    #[serde(rename = "ref", default)]
    pub reference: GitRef,
    /// A folder of the repo; its root when left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// For objects that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// All clusters when left out.
    #[serde(default)]
    pub clusters: LabelSelector,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ParameterSet>,
    #[serde(default)]
    pub sync: SyncSpec,
    /// One cluster first, then the rest in quarters, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Strategy>,
}

impl TargetSpec {
    /// For the audit log, which is kept for ever: of parameters, names and digests instead of values.
    pub fn for_audit(&self) -> serde_json::Value {
        let hidden = |value: &serde_json::Value| serde_json::Value::String(digest_of(value).to_string());
        let hide = |set: &ParameterSet| ParameterSet {
            clusters: set.clusters.clone(),
            values: set.values.iter().map(|(name, value)| (name.clone(), hidden(value))).collect(),
        };
        let spec = Self { parameters: self.parameters.iter().map(hide).collect(), ..self.clone() };
        serde_json::to_value(spec).expect("a spec is plain data")
    }
}

/// Which commit of a repo. Exactly one field is given; `branch: main` when none is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum GitRef {
    Branch(String),
    Tag(String),
    Commit(String),
}

impl Default for GitRef {
    fn default() -> Self {
        Self::Branch("main".to_owned())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SyncSpec {
    pub prune: Prune,
    pub drift: DriftMode,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Clusters that have something of it.
    pub clusters: u32,
    pub healthy: u32,
    pub in_place: u32,
    /// The newest commit of the ref, rendered or not.
    pub commit: Option<String>,
    /// Clusters that are assigned something else than what the newest render gives them: a rollout has not come to them, was
    /// stopped, or there is none.
    #[serde(default)]
    pub behind: u32,
    /// Clusters that go on with what they have although the selector does not select them any more.
    #[serde(default)]
    pub unselected: u32,
    /// What the newest commit renders to, if it is one bundle for all clusters.
    pub digest: Option<Digest>,
    /// Kept back after a rollback, while Git says something newer.
    pub held: bool,
    /// A change is on its way to it through the hub, and is not planned yet: what stands here is from before that.
    #[serde(default)]
    pub pending: bool,
    /// A person deleted it, and its clusters have not all answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<DeletionStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// How far a target's end is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionStatus {
    /// `prune`: its objects are deleted in the clusters; `orphan`: they stay.
    pub mode: String,
    pub by: String,
    pub since: Timestamp,
    /// Clusters that have not said that they are done, at most 50; those that are away are not waited for.
    pub waits_for: Vec<String>,
}
