//! What agents' words may cost: renders that a hub makes because one of them says something new of its cluster.

use std::collections::BTreeSet;

use bellwether_core::parameters::Values;
use bellwether_core::{Digest, Name, TargetId};
use jiff::SignedDuration;
use quick_cache::sync::Cache;

use crate::process::rate::{Buckets, Rate};

/// Of one cluster over all targets: a new version of Kubernetes in each of some hundred targets at once, and then as many as are
/// no burden.
const RATE: Rate = Rate { at_once: 500, every: SignedDuration::from_secs(30) };

/// A thousand clusters that ten targets cannot be rendered for, in 1 MiB. What is forgotten is charged once more.
const CHARGED_MAX: usize = 10_000;

/// What each cluster's agent may still have rendered by saying something new.
pub(crate) struct ToldRenders {
    /// By the clusters' names.
    budgets: Buckets<Name>,
    /// Of a target, a cluster and what is read of it: what its agent said when that was charged last.
    charged: Cache<Digest, Digest>,
}

impl ToldRenders {
    pub(crate) fn new() -> Self {
        Self { budgets: Buckets::new(RATE), charged: Cache::new(CHARGED_MAX) }
    }

    /// Whether something may be made of what an agent says of its cluster. It is charged once for what is new: that a commit
    /// came, or that it failed before, is none of the agent's doing.
    pub(super) fn admit(&self, target: TargetId, (cluster, values): &(Name, Values), read: &BTreeSet<String>) -> bool {
        let names = read.iter().map(String::as_str).collect::<Vec<_>>().join("\0");
        let key = Digest::of(format!("{target}\0{cluster}\0{names}").as_bytes());
        let said = values.restricted_to(read).digest();
        if self.charged.get(&key) == Some(said) {
            return true;
        }
        if !self.budgets.may(cluster) {
            return false;
        }
        self.budgets.take(cluster.clone());
        self.charged.insert(key, said);
        true
    }

    #[cfg(test)]
    pub(crate) fn spend(&self, cluster: &str, count: i32) {
        self.budgets.take_many(cluster.parse().expect("a name"), count);
    }
}
