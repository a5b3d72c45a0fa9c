use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Condition, Document, RolloutDocument};
use crate::labels::{LabelSelector, Labels};
use crate::parameters::{ClusterFacts, ParameterSet, Parameters};
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
    /// Whether it matters to the target that a cluster has other labels now: to whether it selects the cluster, or to what
    /// it gives it. `None`: the cluster is not there. Of a target that has rendered it is known which values are `used`.
    pub fn minds(
        &self,
        cluster: &Name,
        (before, after): (Option<&Labels>, Option<&Labels>),
        used: Option<&BTreeSet<String>>,
    ) -> bool {
        let given = |labels: Option<&Labels>| {
            let labels = labels.filter(|labels| self.clusters.selects(labels))?;
            let values = Parameters::resolve(&self.parameters, ClusterFacts { name: cluster, labels });
            Some(used.map_or_else(|| values.clone(), |used| values.restricted_to(used)))
        };
        given(before) != given(after)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(clusters: &serde_json::Value, parameters: &serde_json::Value) -> TargetSpec {
        let spec = json!({"repo": "apps", "clusters": clusters, "parameters": parameters});
        serde_json::from_value(spec).expect("is a spec")
    }

    #[test]
    fn a_target_minds_labels_that_it_selects_by_or_gives_by_and_no_others() {
        let labels = |labels: serde_json::Value| serde_json::from_value::<Labels>(labels).expect("are labels");
        let name: Name = "berlin".parse().expect("is a name");
        let (eu, us) = (labels(json!({"region": "eu", "rack": "1"})), labels(json!({"region": "us", "rack": "1"})));
        let moved = labels(json!({"region": "eu", "rack": "2"}));
        let in_europe = json!({"matchLabels": {"region": "eu"}});
        let by_rack = json!([{"clusters": {"matchLabels": {"rack": "2"}}, "values": {"size": 4}}]);
        let plain = spec(&in_europe, &json!([]));
        let sized = spec(&in_europe, &by_rack);
        let uses = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let minds = |spec: &TargetSpec, before: &Labels, after: &Labels, used: &[&str]| {
            spec.minds(&name, (Some(before), Some(after)), Some(&uses(used)))
        };

        assert!(minds(&plain, &eu, &us, &[]), "it is selected no more");
        assert!(minds(&plain, &us, &eu, &[]), "it is selected now");
        assert!(!minds(&plain, &eu, &moved, &[]), "nothing is given by it");
        assert!(minds(&plain, &eu, &moved, &["cluster.labels.rack"]), "a manifest has it");
        assert!(minds(&sized, &eu, &moved, &["size"]), "a value is chosen by it");
        assert!(!minds(&sized, &eu, &moved, &["other"]), "no manifest has that value");
        assert!(plain.minds(&name, (Some(&eu), Some(&moved)), None), "what it uses is not known yet");
        assert!(plain.minds(&name, (None, Some(&eu)), Some(&uses(&[]))), "it joins");
        assert!(!plain.minds(&name, (None, Some(&us)), Some(&uses(&[]))), "it joins elsewhere");
    }
}
