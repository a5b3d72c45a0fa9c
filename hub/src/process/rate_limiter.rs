//! What a stranger can cause as often as they like, and what is written down only once in a while, with how often it
//! happened.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::process::rate::{Bucket, Rate};

/// Between two entries about the same subject and address.
const PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// Entries about all of them together. They are kept for ever, so what goes on for long is told by few that count it: a
/// kilobyte each, all strangers of a year are ten megabytes.
const SAID: Rate = Rate { at_once: 20, every: SignedDuration::from_hours(1) };
/// Subjects and addresses remembered.
const REMEMBERED_MAX: usize = 10_000;
/// What was not said is forgotten after this; it still counts among all others.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(1);

#[derive(Debug, Default)]
pub(crate) struct RateLimiter {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    heard: BTreeMap<(Uuid, Option<IpAddr>), Heard>,
    swept_at: Timestamp,
    said: Bucket,
    /// Of all since the last entry.
    unsaid: u64,
}

#[derive(Debug)]
struct Heard {
    said_at: Option<Timestamp>,
    last_at: Timestamp,
    unsaid: u64,
}

/// What one entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// Of its subject and address, since the last entry about them.
    pub(crate) times: u64,
    /// Of all subjects and addresses, since the last entry about any.
    pub(crate) of_all: u64,
}

impl Default for State {
    fn default() -> Self {
        Self { heard: BTreeMap::new(), swept_at: Timestamp::UNIX_EPOCH, said: Bucket::full(), unsaid: 0 }
    }
}

impl RateLimiter {
    /// One more about this subject, from this address. What there was since the last entry, if one is due: it counts as
    /// said now.
    pub(crate) fn count(&self, subject: Uuid, from: Option<IpAddr>, now: Timestamp) -> Option<Count> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { heard, swept_at, said, unsaid } = &mut *state;
        *unsaid += 1;
        let is_recent = |one: &Heard| one.said_at.is_some_and(|at| at + PAUSE > now);
        if *swept_at + PAUSE <= now {
            *swept_at = now;
            heard.retain(|_, one| is_recent(one) || (one.unsaid > 0 && one.last_at + FORGOTTEN_AFTER > now));
        }
        let key = (subject, from);
        if heard.len() >= REMEMBERED_MAX && !heard.contains_key(&key) {
            return None;
        }
        let one = heard.entry(key).or_insert(Heard { said_at: None, last_at: now, unsaid: 0 });
        one.last_at = now;
        one.unsaid += 1;
        if is_recent(one) || said.open_from(SAID) > now {
            return None;
        }
        said.take(SAID, 1, now);
        one.said_at = Some(now);
        Some(Count { times: std::mem::take(&mut one.unsaid), of_all: std::mem::take(unsaid) })
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
        let count = |subject, second| limiter.count(subject, None, at(second)).map(|count| count.times);

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

        assert_eq!(said, 20);
    }

    #[test]
    fn a_day_of_strangers_is_some_dozens_of_entries_that_count_them_all() {
        let limiter = RateLimiter::default();
        let from = |second: i64| Some(IpAddr::V4(u32::try_from(second % 20).expect("small").into()));

        let said: Vec<_> =
            (0..86_400).filter_map(|second| limiter.count(Uuid::nil(), from(second), at(second))).collect();

        assert!(said.len() <= 100, "{} entries", said.len());
        let counted: u64 = said.iter().map(|count| count.of_all).sum();
        assert!(counted > 80_000, "{counted} of 86,400");
    }
}
