//! What a stranger can cause as often as they like, and what is written down only once in a while, with how often it
//! happened.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// Between two entries about the same subject and address.
const PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// Entries within a pause about all of them together: with a kilobyte each, all strangers of a year are some gigabytes.
const SAID_MAX: usize = 20;
/// Subjects and addresses remembered.
const REMEMBERED_MAX: usize = 10_000;
/// What was not said is forgotten after this.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(1);

#[derive(Debug, Default)]
pub(crate) struct RateLimiter {
    heard: Mutex<BTreeMap<(Uuid, Option<IpAddr>), Heard>>,
}

#[derive(Debug)]
struct Heard {
    said_at: Option<Timestamp>,
    last_at: Timestamp,
    unsaid: u64,
}

impl RateLimiter {
    /// One more about this subject, from this address. How many there were since the last entry, if one is due: it
    /// counts as said now.
    pub(crate) fn count(&self, subject: Uuid, from: Option<IpAddr>, now: Timestamp) -> Option<u64> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |one: &Heard| one.said_at.is_some_and(|at| at + PAUSE > now);
        heard.retain(|_, one| is_recent(one) || (one.unsaid > 0 && one.last_at + FORGOTTEN_AFTER > now));
        let is_silent = heard.values().filter(|one| is_recent(one)).count() >= SAID_MAX;
        let key = (subject, from);
        if heard.len() >= REMEMBERED_MAX && !heard.contains_key(&key) {
            return None;
        }
        let one = heard.entry(key).or_insert(Heard { said_at: None, last_at: now, unsaid: 0 });
        one.last_at = now;
        one.unsaid += 1;
        if is_silent || is_recent(one) {
            return None;
        }
        one.said_at = Some(now);
        Some(std::mem::take(&mut one.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("is a time")
    }

    #[test]
    fn what_happens_within_a_minute_is_counted_and_said_with_the_next() {
        let limiter = RateLimiter::default();
        let count = |subject, second| limiter.count(subject, None, at(second));

        assert_eq!(count(Uuid::nil(), 0), Some(1));
        assert_eq!(count(Uuid::nil(), 30), None);
        assert_eq!(count(Uuid::nil(), 59), None);
        assert_eq!(count(Uuid::max(), 59), Some(1));
        assert_eq!(count(Uuid::nil(), 60), Some(3));
    }

    #[test]
    fn many_addresses_together_are_said_a_bounded_number_of_times() {
        let limiter = RateLimiter::default();
        let from = |number: u32| Some(IpAddr::V4(number.into()));

        let said = (0..20_000).filter(|&number| limiter.count(Uuid::nil(), from(number), at(0)).is_some()).count();

        assert_eq!(said, SAID_MAX);
    }
}
