//! What was deleted here, and is neither held nor asked about any more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Generation, TargetId};

/// As many targets as leave a cluster between a backup of the hub and its restore, and more: some forty kilobytes.
const FORGOTTEN_MAX: usize = 1_000;

/// The last generation of each target that was let go. A hub that was restored from a backup may still list one: what it
/// was given before its tombstone is older, and is not taken. Of too many, those with the oldest tombstones are dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Forgotten(BTreeMap<TargetId, Generation>);

impl Forgotten {
    /// Its tombstone of this generation was carried out.
    pub fn add(&mut self, target: TargetId, generation: Generation) {
        self.0.insert(target, generation);
        if self.0.len() > FORGOTTEN_MAX
            && let Some((&oldest, _)) = self.0.iter().min_by_key(|(_, generation)| **generation)
        {
            self.0.remove(&oldest);
        }
    }

    /// It is held again, and what is held knows its generation.
    pub fn remove(&mut self, target: TargetId) {
        self.0.remove(&target);
    }

    /// Whether this was assigned no later than the tombstone that was carried out.
    pub fn outdates(&self, target: TargetId, generation: Generation) -> bool {
        self.0.get(&target).is_some_and(|&last| generation <= last)
    }

    /// How many targets it remembers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was let go here yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_kept_of_forgotten_targets_has_a_bound_and_the_oldest_go() {
        let target = |number| TargetId::new(Uuid::from_u128(number));
        let mut forgotten = Forgotten::default();
        for (number, generation) in (1..).zip((1..).take(FORGOTTEN_MAX + 1)) {
            forgotten.add(target(number), Generation::new(generation));
        }

        assert_eq!(forgotten.len(), FORGOTTEN_MAX);
        assert!(!forgotten.outdates(target(1), Generation::new(1)));
        assert!(forgotten.outdates(target(2), Generation::new(2)));
        assert!(!forgotten.outdates(target(2), Generation::new(3)));
    }
}
