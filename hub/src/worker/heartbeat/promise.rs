//! What a hub has promised with its heartbeats, and what it may judge by.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use uuid::Uuid;

/// After so many heartbeats that did not come a hub holds no sessions: one may be lost, and one may be late.
const MISSED_MAX: u32 = 3;
/// What this hub knows of its own heartbeats. All of it is counted by a clock that nobody sets.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(super) every: Duration,
    grace: Duration,
    heartbeats: Mutex<HeartbeatTimes>,
    /// Hubs whose clusters' rollouts are to be told.
    unannounced: Mutex<BTreeSet<Uuid>>,
    pub(super) came: Notify,
}

#[derive(Debug)]
struct HeartbeatTimes {
    /// When the last heartbeat that was written had begun.
    last: Instant,
    /// No cluster is called offline before.
    grace_until: Instant,
}

impl Heartbeat {
    /// A hub that starts has just written its first one.
    pub(crate) fn new(every: Duration, grace: Duration) -> Self {
        let now = Instant::now();
        Self {
            every,
            grace,
            heartbeats: Mutex::new(HeartbeatTimes { last: now, grace_until: now + grace }),
            unannounced: Mutex::default(),
            came: Notify::new(),
        }
    }

    /// How long a heartbeat is good for.
    pub(crate) fn promise(&self) -> Duration {
        self.every * MISSED_MAX
    }

    /// Whether the last promise holds. While it does not, this hub would take its own clusters for away.
    pub(crate) fn is_current(&self) -> bool {
        self.lock().last.elapsed() < self.promise()
    }

    /// Before then no cluster is called offline: after a start, and after a time without Postgres, agents need a while to
    /// come back. A hub that cannot say that it lives judges nobody.
    pub(crate) fn grace_until(&self, now: Timestamp) -> Timestamp {
        let (is_current, grace_until) = (self.is_current(), self.lock().grace_until);
        let left = match grace_until.saturating_duration_since(Instant::now()) {
            _ if !is_current => self.grace,
            Duration::ZERO => return Timestamp::UNIX_EPOCH,
            left => left,
        };
        now.checked_add(SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
    }

    /// A heartbeat was written, and whether Postgres found the promise before it kept; true: those before it had stopped for longer
    /// than they promised.
    pub(super) fn note(&self, began_at: Instant, is_kept: bool) -> bool {
        let mut heartbeats = self.lock();
        let was_silent = !is_kept || began_at.saturating_duration_since(heartbeats.last) >= self.promise();
        heartbeats.last = began_at;
        if was_silent {
            heartbeats.grace_until = Instant::now() + self.grace;
        }
        was_silent
    }

    pub(super) fn tell_of(&self, hubs: impl IntoIterator<Item = Uuid>) {
        self.unannounced().extend(hubs);
        self.came.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, HeartbeatTimes> {
        self.heartbeats.lock().expect("no holder of this lock panics")
    }

    pub(super) fn unannounced(&self) -> MutexGuard<'_, BTreeSet<Uuid>> {
        self.unannounced.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_hub_that_cannot_say_that_it_lives_calls_no_cluster_offline() {
        let now = clock::now();
        let in_time = Heartbeat::new(HOUR, Duration::ZERO);
        let silent = Heartbeat::new(Duration::ZERO, HOUR);

        assert!(in_time.is_current() && !silent.is_current());
        assert!(in_time.grace_until(now) < now, "its grace is over");
        assert_eq!(silent.grace_until(now), now + SignedDuration::from_hours(1));
    }

    #[test]
    fn heartbeats_that_had_stopped_bring_a_new_grace_and_those_in_time_do_not() {
        let heartbeat = Heartbeat::new(HOUR, HOUR);
        heartbeat.lock().grace_until = Instant::now();
        let now = clock::now();

        assert!(!heartbeat.note(Instant::now() + HOUR * 2, true));
        assert!(heartbeat.grace_until(now) < now);
        assert!(heartbeat.note(Instant::now() + HOUR * 6, true));
        assert!(heartbeat.grace_until(now) > now + SignedDuration::from_mins(59));
    }
}
