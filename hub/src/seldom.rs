//! What a stranger can cause as often as they like, and what is written down only once in a while.

use std::collections::BTreeMap;
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::clock;

/// Between two entries about the same subject.
const PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// Subjects remembered: more than anybody has repos.
const SUBJECTS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Seldom {
    said: Mutex<BTreeMap<Uuid, Timestamp>>,
}

impl Seldom {
    /// Whether nothing was said about the subject for a while; it counts as said now. By a clock that nobody sets: after
    /// one that is set back nothing would be said for as long.
    pub(crate) fn is_first(&self, subject: Uuid) -> bool {
        self.is_first_at(subject, clock::steady())
    }

    fn is_first_at(&self, subject: Uuid, now: Timestamp) -> bool {
        let mut said = self.said.lock().expect("no holder of this lock panics");
        said.retain(|_, at| *at + PAUSE > now);
        if said.contains_key(&subject) || said.len() >= SUBJECTS_MAX {
            return false;
        }
        said.insert(subject, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_within_a_minute_is_not_said() {
        let seldom = Seldom::default();
        let at = |second| Timestamp::from_second(second).expect("is a time");

        assert!(seldom.is_first_at(Uuid::nil(), at(0)));
        assert!(!seldom.is_first_at(Uuid::nil(), at(59)));
        assert!(seldom.is_first_at(Uuid::max(), at(59)));
        assert!(seldom.is_first_at(Uuid::nil(), at(60)));
    }
}
