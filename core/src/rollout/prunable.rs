//! What a cluster's agent may delete when its assignment changes: this and nothing else, once the new objects are healthy.
//!
//! An object that a cluster may hold, since some assignment named it, stays in the list until the cluster has said that it
//! is gone. It must never name what the new bundle holds.

use std::collections::BTreeSet;

use crate::ObjectKey;
use crate::bundle::Manifest;

/// The assignment that is replaced.
#[derive(Debug, Clone, Copy)]
pub struct Replaced<'a> {
    /// Nothing, when the cluster was assigned nothing of the target.
    pub manifest: &'a Manifest,
    /// What it allowed to be deleted.
    pub prunable: &'a [ObjectKey],
    /// The cluster has said that all of it is in place, healthy and deleted.
    pub is_done: bool,
}

/// What is left behind by the step from one bundle to the next, for every cluster that takes it.
pub fn left_behind(old: &Manifest, new: &Manifest) -> Vec<ObjectKey> {
    let kept: BTreeSet<_> = new.entries().iter().map(|entry| entry.key.identity()).collect();
    let left = old.entries().iter().filter(|entry| !kept.contains(&entry.key.identity()));
    left.map(|entry| entry.key.clone()).collect()
}

/// What one cluster's assignment allows: what the step leaves behind, and what was to go already, is not known to be gone
/// and is not wanted again.
pub fn prunable(replaced: &Replaced<'_>, left_behind: &[ObjectKey], new: &Manifest) -> Vec<ObjectKey> {
    let mut prunable = left_behind.to_vec();
    if replaced.is_done || replaced.prunable.is_empty() {
        return prunable;
    }
    let mut known: BTreeSet<_> = new.entries().iter().map(|entry| entry.key.identity()).collect();
    known.extend(left_behind.iter().map(ObjectKey::identity));
    prunable.extend(replaced.prunable.iter().filter(|key| known.insert(key.identity())).cloned());
    prunable
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Digest;
    use crate::bundle::Entry;

    fn key(number: usize) -> ObjectKey {
        ObjectKey {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            namespace: Some("default".to_owned()),
            name: format!("c{number}"),
        }
    }

    fn manifest(numbers: &BTreeSet<usize>) -> Manifest {
        let entry = |&number: &usize| Entry { key: key(number), digest: Digest::of(b"") };
        Manifest::new(numbers.iter().map(entry).collect()).expect("is a manifest")
    }

    fn keys(numbers: std::ops::Range<usize>) -> Vec<ObjectKey> {
        numbers.map(key).collect()
    }

    #[test]
    fn what_is_to_go_is_said_once_and_not_of_what_is_wanted_again() {
        let (old, new) = (manifest(&(0..5).collect()), manifest(&(0..3).collect()));
        let undone = [keys(1..4), keys(5..6)].concat();
        let replaced = Replaced { manifest: &old, prunable: &undone, is_done: false };

        let allows = |replaced: &Replaced<'_>| prunable(replaced, &left_behind(replaced.manifest, &new), &new);

        assert_eq!(allows(&replaced), [keys(3..5), keys(5..6)].concat());
        assert_eq!(allows(&Replaced { is_done: true, ..replaced }), keys(3..5));
    }

    /// One assignment of a chain: what it names, whether the cluster carried it out, in part or wholly, and whether the
    /// hub knows of that.
    fn steps() -> impl Strategy<Value = Vec<(BTreeSet<usize>, bool, bool)>> {
        let objects = proptest::collection::btree_set(0..6_usize, 0..5);
        proptest::collection::vec((objects, any::<bool>(), any::<bool>()), 1..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_a_cluster_may_hold_is_wanted_or_may_go(steps in steps()) {
            let mut held: BTreeSet<usize> = BTreeSet::new();
            let (mut manifest_before, mut allowed, mut is_done) = (manifest(&BTreeSet::new()), Vec::new(), true);
            for (names, is_applied, is_told) in steps {
                let new = manifest(&names);
                let replaced = Replaced { manifest: &manifest_before, prunable: &allowed, is_done };
                let next = prunable(&replaced, &left_behind(replaced.manifest, &new), &new);

                for number in &names {
                    prop_assert!(!next.contains(&key(*number)), "what is wanted never goes");
                }
                for number in &held {
                    prop_assert!(names.contains(number) || next.contains(&key(*number)), "{number} would stay for ever");
                }
                let mut once = next.clone();
                once.sort();
                once.dedup();
                prop_assert_eq!(once.len(), next.len());

                held.extend(&names);
                if is_applied {
                    held.retain(|number| !next.contains(&key(*number)));
                }
                is_done = is_applied && is_told;
                (manifest_before, allowed) = (new, next);
            }
        }
    }
}
