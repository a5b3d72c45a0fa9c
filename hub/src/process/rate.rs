//! How often something may happen: a bucket that fills at a steady rate is a decision without a clock; the buckets of many
//! parties ask one that nobody sets.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::clock;

/// So many at once, and one more each time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) at_once: i32,
    pub(crate) every: SignedDuration,
}

/// What was taken, as the time until which it is paid off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    paid_until: Timestamp,
}

impl Bucket {
    pub(crate) fn full() -> Self {
        Self { paid_until: Timestamp::UNIX_EPOCH }
    }

    /// From when on one may take again; what is in the past says: now.
    pub(crate) fn open_from(&self, rate: Rate) -> Timestamp {
        self.paid_until - rate.every * (rate.at_once - 1).max(0)
    }

    /// Takes without asking: whoever took too much waits for longer.
    pub(crate) fn take(&mut self, rate: Rate, count: i32, now: Timestamp) {
        self.paid_until = self.paid_until.max(now) + rate.every * count;
    }
}

/// Buckets of many parties, each remembered until it is full again.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    of: Mutex<BTreeMap<K, Bucket>>,
}

/// Parties remembered; beyond it nobody new is let through, since all of them may be one.
const PARTIES_MAX: usize = 10_000;

impl<K: Ord> Buckets<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, of: Mutex::default() }
    }

    /// By a clock that nobody sets: one that was a week ahead for a moment must not shut anybody out for a week.
    pub(crate) fn may(&self, party: &K) -> bool {
        self.may_at(party, clock::steady())
    }

    fn may_at(&self, party: &K, now: Timestamp) -> bool {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        match of.get(party) {
            Some(bucket) => bucket.open_from(self.rate) <= now,
            None => of.len() < PARTIES_MAX || of.values().any(|bucket| bucket.paid_until <= now),
        }
    }

    /// From when on this party may take again; what is in the past says: now.
    pub(crate) fn open_from(&self, party: &K) -> Timestamp {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.get(party).map_or(Timestamp::UNIX_EPOCH, |bucket| bucket.open_from(self.rate))
    }

    pub(crate) fn take(&self, party: K) {
        self.take_many(party, 1);
    }

    pub(crate) fn take_many(&self, party: K, count: i32) {
        self.take_at(party, count, clock::steady());
    }

    fn take_at(&self, party: K, count: i32, now: Timestamp) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= PARTIES_MAX {
            of.retain(|_, bucket| bucket.paid_until > now);
        }
        if of.len() < PARTIES_MAX || of.contains_key(&party) {
            of.entry(party).or_insert_with(Bucket::full).take(self.rate, count, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { at_once: 3, every: SignedDuration::from_secs(10) };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("is a time")
    }

    #[test]
    fn so_many_pass_at_once_and_then_one_each_time() {
        let buckets = Buckets::new(RATE);
        let passes = |second| {
            let may = buckets.may_at(&1, at(second));
            if may {
                buckets.take_at(1, 1, at(second));
            }
            may
        };

        assert_eq!(
            [100, 100, 100, 100, 109, 110, 111, 120].map(passes),
            [true, true, true, false, false, true, false, true]
        );
        assert!(buckets.may_at(&2, at(100)), "another has its own");
    }

    #[test]
    fn who_took_too_much_waits_for_longer() {
        let mut bucket = Bucket::full();
        assert!(bucket.open_from(RATE) <= at(0));

        bucket.take(RATE, 100, at(1_000));

        assert_eq!(bucket.open_from(RATE), at(1_000 + 1_000 - 20));
    }
}
