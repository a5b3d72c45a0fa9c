//! `rollout:` of a Target, as people write it: strict, and otherwise the noun of [`rollout`](crate::rollout).

use serde::{Deserialize, Serialize};

use crate::rollout::{Amount, HumanDuration, Offline, OnFailure, Strategy, WaveSpec};
use crate::{LabelSelector, Name};

/// `rollout:` of a Target. What is left out is as in [`Strategy::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WrittenStrategy {
    /// In order. A cluster belongs to the first that selects it; those left form a last one. None written: one
    /// connected cluster alone with a soak of 30 s, then the rest at 25 %.
    pub waves: Vec<WrittenWave>,
    /// Clusters of the whole rollout that may fail before it stops; a share is rounded down.
    pub failure_budget: Amount,
    /// Per cluster: not healthy by then counts as failed.
    pub deadline: HumanDuration,
    pub on_failure: OnFailure,
    pub offline: Offline,
}

/// One wave. It takes of the clusters that no wave before it took: those that `clusters` selects, or the first `count`,
/// or `percent` of them (rounded up, at least one). At most one of the three is given; without it, it takes all that
/// are left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrittenWave {
    pub name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<LabelSelector>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// Members in flight at once; a share is rounded up, to at least 1. All when left out.
    #[serde(default = "Amount::all")]
    pub max_concurrent: Amount,
    /// Healthy for this long before the next wave opens; no time when left out.
    #[serde(default)]
    pub soak: HumanDuration,
    /// Members that must be healthy for it to pass; a share is rounded up, to at least 1. One when left out.
    #[serde(default = "Amount::one")]
    pub min_healthy: Amount,
}

impl Default for WrittenStrategy {
    fn default() -> Self {
        Strategy::default().into()
    }
}

impl From<WrittenStrategy> for Strategy {
    fn from(written: WrittenStrategy) -> Self {
        let WrittenStrategy { waves, failure_budget, deadline, on_failure, offline } = written;
        Self { waves: waves.into_iter().map(Into::into).collect(), failure_budget, deadline, on_failure, offline }
    }
}

impl From<Strategy> for WrittenStrategy {
    fn from(strategy: Strategy) -> Self {
        let Strategy { waves, failure_budget, deadline, on_failure, offline } = strategy;
        Self { waves: waves.into_iter().map(Into::into).collect(), failure_budget, deadline, on_failure, offline }
    }
}

impl From<WrittenWave> for WaveSpec {
    fn from(written: WrittenWave) -> Self {
        let WrittenWave { name, clusters, count, percent, max_concurrent, soak, min_healthy } = written;
        Self { name, clusters, count, percent, max_concurrent, soak, min_healthy }
    }
}

impl From<WaveSpec> for WrittenWave {
    fn from(wave: WaveSpec) -> Self {
        let WaveSpec { name, clusters, count, percent, max_concurrent, soak, min_healthy } = wave;
        Self { name, clusters, count, percent, max_concurrent, soak, min_healthy }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nobody_could_mean_is_refused() {
        for bad in [
            json!({"wave": []}),
            json!({"waves": [{"name": "a", "cluster": {}}]}),
            json!({"waves": [{"name": "A"}]}),
            json!({"waves": [{"name": "a", "maxConcurrent": "25 %"}]}),
            json!({"waves": [{"name": "a", "maxConcurrent": -1}]}),
            json!({"failureBudget": "+1%"}),
            json!({"deadline": "10"}),
            json!({"onFailure": "stop"}),
        ] {
            assert!(serde_json::from_value::<WrittenStrategy>(bad.clone()).is_err(), "{bad}");
        }
    }
}
