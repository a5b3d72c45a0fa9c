//! What an object's failure says about the assignment: nothing, when it is older.
//!
//! An object that an assignment does not change may be fixed by what comes beside it, a missing ServiceAccount for
//! instance; its controller takes the failure back in its own time. Until then it is unwell, and nobody knows yet that
//! the assignment failed. Decides; looks at nothing.

use jiff::{SignedDuration, Timestamp};

use crate::health::{Ending, Health};
use crate::report::Verdict;

/// How long an old failure may go away by itself. The ReplicaSet controller's pause between two tries grows to about as
/// much, and so long a Deployment may take by default.
const GRACE: SignedDuration = SignedDuration::from_mins(10);

/// What is known of an object's health, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence<'a> {
    pub(super) health: &'a Health,
    /// When it was seen to fail; `None`: it had failed when it was found.
    pub(super) failed_at: Option<Timestamp>,
    pub(super) ending: Option<Ending>,
}

impl Evidence<'_> {
    /// The verdict for an assignment that was taken up at that time.
    pub(super) fn verdict(self, accepted_at: Timestamp, now: Timestamp) -> Verdict {
        let verdict = self.health.at(now);
        if self.grace_end(accepted_at, now).is_some_and(|end| now < end) { Verdict::Degraded } else { verdict }
    }

    /// Until when the failure counts as an earlier one; `None`: it does not.
    pub(super) fn grace_end(self, accepted_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        // What ran to its end is not taken back.
        if self.ending.is_some() || self.health.at(now) != Verdict::Failed {
            return None;
        }
        let failed_at = self.failed_at.max(self.health.fails_at.filter(|&at| at <= now));
        let is_of_before = failed_at.is_none_or(|at| at < accepted_at);
        is_of_before.then(|| accepted_at.saturating_add(GRACE).unwrap_or(Timestamp::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn health(verdict: Verdict, fails_at: Option<Timestamp>) -> Health {
        Health { verdict, message: String::new(), fails_at, heals_at: None }
    }

    fn verdict(health: &Health, failed_at: Option<Timestamp>, ending: Option<Ending>, now: Timestamp) -> Verdict {
        Evidence { health, failed_at, ending }.verdict(at(100), now)
    }

    #[test]
    fn a_failure_from_before_the_assignment_is_no_failure_of_it_for_ten_minutes() {
        let failed = health(Verdict::Failed, None);

        assert_eq!(verdict(&failed, Some(at(50)), None, at(101)), Verdict::Degraded);
        assert_eq!(verdict(&failed, None, None, at(699)), Verdict::Degraded, "it was found so");
        assert_eq!(verdict(&failed, Some(at(50)), None, at(700)), Verdict::Failed);
        assert_eq!(verdict(&failed, Some(at(150)), None, at(151)), Verdict::Failed, "it failed since");
    }

    #[test]
    fn a_time_that_runs_out_after_the_assignment_is_a_failure_of_it() {
        let late = health(Verdict::Progressing, Some(at(120)));

        assert_eq!(verdict(&late, None, None, at(119)), Verdict::Progressing);
        assert_eq!(verdict(&late, None, None, at(120)), Verdict::Failed);
    }

    #[test]
    fn what_ended_badly_is_never_taken_back() {
        let failed = health(Verdict::Failed, None);

        assert_eq!(verdict(&failed, Some(at(50)), Some(Ending::Failed), at(101)), Verdict::Failed);
    }
}
