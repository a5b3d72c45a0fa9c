//! What would change where, as the API answers it.

use serde::{Deserialize, Serialize};

use super::{WrittenRef, WrittenTarget};
pub use crate::dry_run::Fate;
pub use crate::plan::{HookTime, ObjectChange, PlanCounts, PlanDryRun, PlanField, PlanGroup, PlanObject, PlanTried};
use crate::render::LeftOutHook;
use crate::{Condition, Name};

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
    /// Whether clusters are asked, too; they are when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<AskDryRun>,
    /// Of how many clusters at most; 20 when left out, and 100 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run_clusters: Option<usize>,
}

/// Who is asked what would become of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AskDryRun {
    /// The API servers of the clusters, by their agents.
    Server,
    #[serde(rename = "none")]
    Nobody,
}

/// What would change where, if the head were rolled out now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDocument {
    pub target: Name,
    /// Always `assigned`: what the clusters are assigned. What they hold may be something else: see `dryRun`.
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
    /// Which clusters were asked what would become of it; `None`: nobody was to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<PlanDryRuns>,
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

/// Which clusters were asked, and which of them said nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDryRuns {
    /// Clusters whose API servers said something.
    pub answered: usize,
    /// Why none is asked about such a head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Some object would not come to be what is wanted, in some cluster.
    #[serde(default)]
    pub refused: bool,
    /// Clusters of which nothing is known, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<PlanUnanswered>,
}

/// Clusters whose API servers did not say what would become of the bundle, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanUnanswered {
    pub clusters: Vec<Name>,
    pub reason: String,
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
