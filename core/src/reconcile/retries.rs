//! When the objects of a target that failed are tried again.
//!
//! Decides; asks nobody. Objects that lack the same thing, a namespace or a kind, are not all tried: one is, and the
//! others follow when it is no longer missing. The rest share a pace, so that no target fills the API server with tries.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::error::ClusterError;
use crate::ObjectKey;

/// Between two tries of a target: many objects that fail at once, each for a reason of its own, make no more than twenty
/// requests a second.
pub(super) const SPACING: SignedDuration = SignedDuration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct Retries {
    due: BTreeSet<(Timestamp, usize)>,
    /// When each is due.
    at: BTreeMap<usize, Timestamp>,
    groups: BTreeMap<Cause, Group>,
    /// The next one is not taken before.
    free_at: Option<Timestamp>,
}

/// What many objects can lack together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    Namespace(String),
    Kind { api_version: String, kind: String },
}

#[derive(Debug)]
struct Group {
    /// The one that is tried.
    probe: usize,
    waiting: BTreeSet<usize>,
}

impl Cause {
    pub(super) fn of(key: &ObjectKey, error: &ClusterError) -> Option<Self> {
        match error {
            ClusterError::NamespaceMissing { namespace, .. } => Some(Self::Namespace(namespace.clone())),
            ClusterError::KindMissing { .. } => {
                Some(Self::Kind { api_version: key.api_version.clone(), kind: key.kind.clone() })
            }
            _ => None,
        }
    }
}

impl Retries {
    pub(super) fn clear(&mut self) {
        self.due.clear();
        self.at.clear();
        self.groups.clear();
    }

    /// It failed and is tried again then, or after the one that lacks the same.
    pub(super) fn add(&mut self, index: usize, cause: Option<Cause>, at: Timestamp) {
        let Some(cause) = cause else { return self.put(index, at) };
        let group = self.groups.entry(cause).or_insert_with(|| Group { probe: index, waiting: BTreeSet::new() });
        if group.probe == index {
            self.put(index, at);
        } else {
            group.waiting.insert(index);
        }
    }

    fn put(&mut self, index: usize, at: Timestamp) {
        if let Some(before) = self.at.insert(index, at) {
            self.due.remove(&(before, index));
        }
        self.due.insert((at, index));
    }

    /// It was answered: those that waited for it, if it no longer lacks what they lack.
    pub(super) fn note_answer(&mut self, index: usize, cause: Option<&Cause>) -> BTreeSet<usize> {
        let is_over = |of: &Cause, group: &Group| group.probe == index && Some(of) != cause;
        let over: Vec<_> = self.groups.extract_if(.., |of, group| is_over(of, group)).collect();
        over.into_iter().flat_map(|(_, group)| group.waiting).collect()
    }

    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<usize> {
        if self.next_at()? > now {
            return None;
        }
        self.free_at = Some(now.saturating_add(SPACING).unwrap_or(Timestamp::MAX));
        let (_, index) = self.due.pop_first()?;
        self.at.remove(&index);
        Some(index)
    }

    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let &(at, _) = self.due.first()?;
        Some(self.free_at.map_or(at, |free_at| at.max(free_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_millis(milliseconds)
    }

    fn namespace() -> Cause {
        Cause::Namespace("shop".to_owned())
    }

    #[test]
    fn of_ten_thousand_objects_in_a_missing_namespace_one_is_tried() {
        let mut retries = Retries::default();
        for index in 0..10_000 {
            retries.add(index, Some(namespace()), at(1_000));
        }

        assert_eq!((retries.take_due(at(1_000)), retries.take_due(at(60_000))), (Some(0), None));
        assert!(retries.note_answer(0, Some(&namespace())).is_empty());
        retries.add(0, Some(namespace()), at(3_000));
        assert_eq!(retries.take_due(at(3_000)), Some(0));

        assert_eq!(retries.note_answer(0, None).len(), 9_999, "all follow at once");
        assert_eq!(retries.next_at(), None);
    }

    #[test]
    fn many_that_fail_for_reasons_of_their_own_share_a_pace() {
        let mut retries = Retries::default();
        for index in 0..1_000 {
            retries.add(index, None, at(0));
        }

        let taken = (0..1_000).filter(|&now| retries.take_due(at(now)).is_some()).count();

        assert_eq!(taken, 20);
        assert_eq!(retries.next_at(), Some(at(1_000)));
    }
}
