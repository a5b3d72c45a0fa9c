//! Whether one cluster's identity is used by two agents at once, as when a cluster was copied with its Secrets.
//!
//! Each of them ends the other's stream, for ever, and both apply what is meant for one. One that comes after another is
//! no conflict: agents are restarted, and clusters are built anew. One that was there before the other and comes back is one.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One that comes back later than that was away, and the other may have ended meanwhile. Two that are in conflict come back within seconds.
const RETURN_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// Processes of one cluster may overlap when its agent is moved from a node that cannot be reached; the journal ends one
/// of them as soon as something is assigned.
const RETURNS_OF_ONE_CLUSTER: u32 = 3;

/// An agent at the beginning of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    pub boot: Uuid,
    /// Of its cluster, if it may read it.
    pub uid: Option<String>,
    pub address: String,
    /// When its stream began, by the hub's clock.
    pub at: Timestamp,
}

/// What is remembered of the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityConflict {
    pub other: Guest,
    /// How often in a row one came back after the other.
    pub returns: u32,
    /// Since then neither is told anything new.
    pub contested_at: Option<Timestamp>,
}

impl Guest {
    /// Another process in the same cluster counts as the same when the one between was in another.
    fn returns_as(&self, now: &Self, between: &Self) -> bool {
        self.boot == now.boot || (self.uid.is_some() && self.uid == now.uid && now.is_elsewhere(between))
    }

    fn is_elsewhere(&self, other: &Self) -> bool {
        self.uid.is_some() && other.uid.is_some() && self.uid != other.uid
    }
}

impl IdentityConflict {
    /// After `last`, of which `before` was remembered, came `now`. Once contested it stays so, until it is forgotten.
    pub fn assess(last: Guest, before: Option<Self>, now: &Guest) -> Option<Self> {
        if last.boot == now.boot {
            return before;
        }
        let contested_at = before.as_ref().and_then(|before| before.contested_at);
        let within = |guest: &Guest| now.at.duration_since(guest.at) <= RETURN_WITHIN;
        let returned = before.filter(|before| before.other.returns_as(now, &last) && within(&before.other));
        let returns = returned.map_or(0, |before| before.returns + 1);
        let is_contested = returns >= RETURNS_OF_ONE_CLUSTER || returns > 0 && now.is_elsewhere(&last);
        let contested_at = contested_at.or(is_contested.then_some(now.at));
        Some(Self { other: last, returns, contested_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `boot`, `uid`, seconds.
    fn contested(guests: &[(u128, &str, i64)]) -> bool {
        let guest = |&(boot, uid, second): &(u128, &str, i64)| Guest {
            boot: Uuid::from_u128(boot),
            uid: (!uid.is_empty()).then(|| uid.to_owned()),
            address: format!("10.0.0.{boot}"),
            at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second),
        };
        let mut conflict = None;
        for pair in guests.windows(2) {
            conflict = IdentityConflict::assess(guest(&pair[0]), conflict, &guest(&pair[1]));
        }
        conflict.is_some_and(|conflict| conflict.contested_at.is_some())
    }

    #[test]
    fn a_copy_that_takes_turns_with_its_original_is_in_conflict_with_it() {
        assert!(contested(&[(1, "a", 0), (2, "b", 1), (1, "a", 2)]));
        assert!(contested(&[(1, "a", 0), (2, "b", 1), (3, "a", 2)]), "though its process was started anew");
        assert!(contested(&[(1, "a", 0), (2, "b", 1), (1, "a", 2), (9, "c", 5000)]), "and it stays one");
    }

    #[test]
    fn what_comes_after_another_and_stays_is_none() {
        assert!(!contested(&[(1, "a", 0), (2, "a", 10), (3, "a", 20), (4, "a", 30)]), "restarts");
        assert!(!contested(&[(1, "a", 0), (2, "b", 10), (2, "b", 20), (3, "b", 30)]), "built anew");
        assert!(!contested(&[(1, "a", 0), (2, "b", 10), (1, "a", 5000)]), "and back again, much later");
        assert!(!contested(&[(1, "", 0), (2, "", 10), (3, "", 20)]), "agents that may not read it");
    }

    #[test]
    fn a_copy_of_a_whole_machine_has_the_same_uid_and_is_in_conflict_all_the_same() {
        let turns: Vec<_> = (0..5).map(|turn| (1 + u128::from(turn % 2 == 1), "a", turn)).collect();

        assert!(!contested(&turns[..4]), "a pod that is moved from a lost node");
        assert!(contested(&turns));
    }
}
