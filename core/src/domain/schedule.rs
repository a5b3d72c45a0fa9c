//! When a repo is fetched next. Same facts, same answer.
//!
//! A poll comes in its turn. A webhook may be sent before the ref can be seen, so what found nothing is fetched again a
//! few times, and the poll stays where it was. Failures make the pause grow, and a server that says when to come back
//! is left alone until then; only a person may ask it earlier.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// After a signal that nothing was found for: hosts answer from copies that are seconds behind.
const AGAIN: [SignedDuration; 3] =
    [SignedDuration::from_secs(2), SignedDuration::from_secs(5), SignedDuration::from_secs(15)];
/// Between two fetches that fail; a longer poll stays what it is.
const PAUSE_MAX: SignedDuration = SignedDuration::from_mins(5);
/// After the first of them that somebody asked for: a webhook is not sent again.
const ASKED_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// A server that asks for more is wrong about itself, or wants to be forgotten.
const WAIT_MAX: SignedDuration = SignedDuration::from_hours(1);

/// What is kept of a repo between its fetches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Fetches that failed since the last one that did not.
    pub failures: i32,
    /// The server asked to be left alone until then.
    pub not_before: Option<Timestamp>,
    /// The next fetch that nobody asks for, after a failure.
    pub retry_at: Option<Timestamp>,
    /// The next poll.
    pub poll_at: Option<Timestamp>,
    /// A signal that nothing was found for yet; `None`: that is over.
    pub again: Option<Again>,
}

/// What a repo is fetched again for, though it is no poll's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// How often it was, since the signal.
    pub times: i32,
    /// Of the signal: what is found at last is followed by it.
    pub trace_id: String,
}

/// How a fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<'a> {
    /// With something new.
    Moved,
    /// With nothing new.
    Unmoved {
        /// The trace of the webhook or the person that asked for it, who had a reason.
        asked_by: Option<&'a str>,
    },
    /// Without an answer.
    Failed {
        /// The server asked to be left alone for so long.
        retry_after: Option<Duration>,
        /// As above.
        asked_by: Option<&'a str>,
    },
}

impl Schedule {
    /// Until when a fetch must wait, if it must.
    pub fn wait(&self, was_asked: bool, now: Timestamp) -> Option<Timestamp> {
        let until = if was_asked { self.not_before } else { self.not_before.max(self.retry_at) };
        until.filter(|until| *until > now)
    }

    /// What follows from a fetch, and when the next one is due. `poll` is the pause between polls.
    pub fn after(&self, ended: Ended<'_>, poll: SignedDuration, now: Timestamp) -> (Self, Timestamp) {
        let next_poll = || now + poll;
        match ended {
            Ended::Moved => (Self { poll_at: Some(next_poll()), ..Self::default() }, next_poll()),
            Ended::Unmoved { asked_by } => {
                let poll_at = self.poll_at.filter(|at| *at > now).unwrap_or_else(next_poll);
                let begun = || asked_by.map(|trace_id| Again { times: 0, trace_id: trace_id.to_owned() });
                let again = begun().or_else(|| self.again.clone());
                let pause = again.as_ref().and_then(|again| AGAIN.get(usize::try_from(again.times).ok()?));
                let due_at = pause.map_or(poll_at, |pause| poll_at.min(now + *pause));
                let again = again.filter(|_| pause.is_some()).map(|again| Again { times: again.times + 1, ..again });
                (Self { poll_at: Some(poll_at), again, ..Self::default() }, due_at)
            }
            Ended::Failed { retry_after, asked_by } => {
                // Somebody waits, whatever failed before.
                let failures = if asked_by.is_some() { 1 } else { self.failures.saturating_add(1) };
                let begun = || asked_by.map(|trace_id| Again { times: 0, trace_id: trace_id.to_owned() });
                let again = begun().or_else(|| self.again.clone());
                let first = if again.is_some() { poll.min(ASKED_PAUSE) } else { poll };
                let doubled = 1i32.checked_shl(u32::try_from(failures - 1).unwrap_or(0)).filter(|times| *times > 0);
                let grown = doubled.and_then(|times| first.checked_mul(times)).unwrap_or(SignedDuration::MAX);
                let again = again.filter(|_| grown <= PAUSE_MAX);
                let pause = if again.is_some() { grown } else { grown.max(poll).min(PAUSE_MAX.max(poll)) };
                let retry_at = now + pause;
                let wait = retry_after.map(|wait| SignedDuration::try_from(wait).unwrap_or(WAIT_MAX).min(WAIT_MAX));
                let not_before = wait.map(|wait| now + wait);
                let due_at = not_before.map_or(retry_at, |not_before| not_before.max(retry_at));
                (Self { failures, not_before, retry_at: Some(due_at), again, ..Self::default() }, due_at)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: SignedDuration = SignedDuration::from_secs(60);
    const FAILED: Ended<'_> = Ended::Failed { retry_after: None, asked_by: None };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// When each fetch is due, if each ends like this and the next one is when it is due.
    fn follow(mut schedule: Schedule, ended: Ended<'_>, poll: SignedDuration, fetches: usize) -> Vec<i64> {
        let (mut now, mut pauses) = (at(0), Vec::new());
        for _ in 0..fetches {
            let (next, due_at) = schedule.after(ended, poll, now);
            pauses.push(due_at.duration_since(now).as_secs());
            (schedule, now) = (next, due_at);
        }
        pauses
    }

    #[test]
    fn failures_make_the_pause_grow_to_five_minutes() {
        let none = Schedule::default;

        assert_eq!(follow(none(), FAILED, POLL, 5), [60, 120, 240, 300, 300]);
        assert_eq!(follow(none(), FAILED, SignedDuration::from_secs(5), 8), [5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(follow(none(), FAILED, SignedDuration::from_hours(1), 3), [3600, 3600, 3600]);
        assert_eq!(follow(none(), FAILED, POLL, 100)[99], 300);
    }

    #[test]
    fn the_first_success_ends_what_failures_began() {
        let (failed, _) = Schedule::default().after(FAILED, POLL, at(0));

        let (next, due_at) = failed.after(Ended::Unmoved { asked_by: None }, POLL, at(60));

        assert_eq!((next.failures, next.retry_at, due_at), (0, None, at(120)));
    }

    #[test]
    fn a_server_that_says_when_to_come_back_is_left_alone_for_an_hour_at_most() {
        let limited = |seconds| Ended::Failed { retry_after: Some(Duration::from_secs(seconds)), asked_by: None };

        let (next, due_at) = Schedule::default().after(limited(600), SignedDuration::from_secs(5), at(0));

        assert_eq!(due_at, at(600));
        assert_eq!((next.wait(true, at(1)), next.wait(false, at(1))), (Some(at(600)), Some(at(600))));
        assert_eq!(next.wait(true, at(600)), None);
        for seconds in [86_400, u64::MAX] {
            assert_eq!(Schedule::default().after(limited(seconds), POLL, at(0)).1, at(3600));
        }
        assert_eq!(Schedule::default().after(limited(1), POLL, at(0)).1, at(60));
    }

    #[test]
    fn after_a_failure_only_what_nobody_asked_for_waits() {
        let (next, _) = Schedule::default().after(FAILED, POLL, at(0));

        assert_eq!((next.wait(true, at(1)), next.wait(false, at(1))), (None, Some(at(60))));
    }

    #[test]
    fn a_signal_that_nothing_is_found_for_fetches_again_three_times_and_leaves_the_poll() {
        let polled = Schedule { poll_at: Some(at(60)), ..Schedule::default() };

        let (next, due_at) = polled.after(Ended::Unmoved { asked_by: Some("a trace") }, POLL, at(10));

        assert_eq!(due_at, at(12));
        assert_eq!(next.again, Some(Again { times: 1, trace_id: "a trace".to_owned() }));
        let (next, due_at) = next.after(Ended::Unmoved { asked_by: None }, POLL, at(12));
        assert_eq!(due_at, at(17));
        let (next, due_at) = next.after(Ended::Unmoved { asked_by: None }, POLL, at(17));
        assert_eq!(due_at, at(32));
        let (next, due_at) = next.after(Ended::Unmoved { asked_by: None }, POLL, at(32));
        assert_eq!((&next.again, due_at), (&None, at(60)));
        let (_, due_at) = next.after(Ended::Unmoved { asked_by: None }, POLL, at(60));
        assert_eq!(due_at, at(120));
    }

    #[test]
    fn a_fetch_that_fails_though_somebody_asked_is_tried_again_soon_and_only_then_left_to_the_poll() {
        let hour = SignedDuration::from_hours(1);
        let asked = Ended::Failed { retry_after: None, asked_by: Some("a trace") };

        let (next, due_at) = Schedule { failures: 9, ..Schedule::default() }.after(asked, hour, at(0));

        assert_eq!((due_at, next.again.as_ref().map(|again| &*again.trace_id)), (at(5), Some("a trace")));
        assert_eq!(follow(next.clone(), FAILED, hour, 8), [10, 20, 40, 80, 160, 3600, 3600, 3600]);
        let (found, due_at) = next.after(Ended::Unmoved { asked_by: None }, hour, at(5));
        assert_eq!((due_at, found.failures), (at(7), 0), "it is looked for as after the signal itself");
    }

    #[test]
    fn what_is_found_ends_the_fetching_again() {
        let (asked, _) = Schedule::default().after(Ended::Unmoved { asked_by: Some("a trace") }, POLL, at(0));

        let (next, due_at) = asked.after(Ended::Moved, POLL, at(2));

        assert_eq!((next.again, due_at), (None, at(62)));
    }
}
