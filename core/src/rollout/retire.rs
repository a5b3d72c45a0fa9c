//! When a target that is being deleted may go.
//!
//! Clusters that are there are waited for, and those that are away only as long as they would not be called offline: their
//! tombstones outlive the target.

use jiff::{SignedDuration, Timestamp};

use super::rows::Presence;
use super::settle::offline_from;

/// How long clusters that have not answered are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// A person said that nobody is.
    pub forced: bool,
    /// Disconnected for longer than this is offline.
    pub offline_after: SignedDuration,
    /// No cluster is offline before.
    pub grace_until: Timestamp,
}

/// Whether a target may go, with these clusters unanswered.
pub fn may_retire(unanswered: impl IntoIterator<Item = Presence>, patience: &Patience, now: Timestamp) -> bool {
    let is_waited_for = |presence| match presence {
        Presence::Connected { .. } => true,
        Presence::Disconnected { since } => now < offline_from(since, patience.offline_after, patience.grace_until),
    };
    patience.forced || !unanswered.into_iter().any(is_waited_for)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const MINUTE: SignedDuration = SignedDuration::from_secs(60);

    #[test]
    fn a_target_waits_for_who_is_there_and_for_who_has_just_left() {
        let patience = Patience { forced: false, offline_after: MINUTE, grace_until: NOW - MINUTE };
        let there = Presence::Connected { since: NOW - MINUTE * 9 };
        let just_left = Presence::Disconnected { since: NOW - MINUTE / 2 };
        let away = Presence::Disconnected { since: NOW - MINUTE };

        assert!(may_retire([], &patience, NOW) && may_retire([away], &patience, NOW));
        assert!(!may_retire([away, there], &patience, NOW) && !may_retire([just_left], &patience, NOW));
        let restarted = Patience { grace_until: NOW + MINUTE, ..patience };
        assert!(!may_retire([away], &restarted, NOW), "a hub that has just started has not given it time to come back");
        assert!(may_retire([there], &Patience { forced: true, ..patience }, NOW));
    }
}
