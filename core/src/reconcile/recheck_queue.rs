//! Objects that may no longer be as we applied them: when each is asked about, and how often each was put right.
//!
//! Decides; asks nobody. An edit is checked at once, and what only might be one rarely. What somebody changes back
//! again and again is put right less often, so that two controllers in conflict do not fill the API server.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::drift::DriftSignal;
use crate::object::Identity;

/// So many times within the window an object is put right at once; then another controller conflicts, and every next
/// time waits for twice as long.
const CORRECTIONS_AT_ONCE: usize = 5;
const CONFLICT_WINDOW: SignedDuration = SignedDuration::from_mins(5);
const CONFLICT_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// What is kept: with that many the pause is as long as the window.
const CORRECTIONS_MAX: usize = 14;

/// A possible drift waits: more of what caused it may follow.
const POSSIBLE_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// Between two rechecks of one object without certainty.
const POSSIBLE_AGAIN: SignedDuration = SignedDuration::from_secs(60);
/// Between two such rechecks of a target: a changed definition or webhook puts all of its objects into question at
/// once.
const POSSIBLE_SPACING: SignedDuration = SignedDuration::from_millis(100);

/// Until it is asked whether what a field was left to is still there: nobody watches that. Each time is a read, a list and
/// an apply that changes nothing.
const YIELDED_AGAIN: SignedDuration = SignedDuration::from_mins(5);

#[derive(Debug, Default)]
pub(super) struct RecheckQueue {
    open: BTreeMap<Identity, Recheck>,
    /// The same, the soonest first.
    due: BTreeSet<(Timestamp, Identity)>,
    histories: BTreeMap<Identity, History>,
    /// When the last possible drift that was raised is due.
    possible_at: Option<Timestamp>,
}

/// Something that was seen and that calls for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Recheck {
    seen_at: Timestamp,
    due_at: Timestamp,
}

#[derive(Debug, Default)]
struct History {
    /// Within the window, the newest last.
    corrections: VecDeque<Timestamp>,
    asked_at: Option<Timestamp>,
    /// Nothing is asked of it before.
    held_until: Option<Timestamp>,
}

impl RecheckQueue {
    /// The sooner of this and what is open already stands.
    pub(super) fn raise(&mut self, identity: &Identity, signal: DriftSignal, now: Timestamp) {
        let due_at = match signal {
            DriftSignal::None => return,
            DriftSignal::Certain => self.calm_at(identity, now),
            DriftSignal::Possible if self.open.contains_key(identity) => return,
            DriftSignal::Possible => self.next_possible(identity, now),
        };
        self.put(identity, Recheck { seen_at: now, due_at });
    }

    fn put(&mut self, identity: &Identity, new: Recheck) {
        let Recheck { mut seen_at, mut due_at } = new;
        if let Some(before) = self.open.get(identity) {
            (seen_at, due_at) = (seen_at.min(before.seen_at), due_at.min(before.due_at));
            self.due.remove(&(before.due_at, identity.clone()));
        }
        let held_until = self.histories.get(identity).and_then(|history| history.held_until);
        due_at = held_until.map_or(due_at, |at| due_at.max(at));
        self.open.insert(identity.clone(), Recheck { seen_at, due_at });
        self.due.insert((due_at, identity.clone()));
    }

    fn next_possible(&mut self, identity: &Identity, now: Timestamp) -> Timestamp {
        let asked_at = self.histories.get(identity).and_then(|history| history.asked_at);
        let free_at = [
            Some(now + POSSIBLE_PAUSE),
            asked_at.map(|at| at + POSSIBLE_AGAIN),
            self.possible_at.map(|at| at + POSSIBLE_SPACING),
        ];
        let due_at = free_at.into_iter().flatten().max().unwrap_or(now);
        self.possible_at = Some(due_at);
        due_at
    }

    /// The one that is due and that may be asked about now; since when it is waiting.
    pub(super) fn take_due(
        &mut self,
        now: Timestamp,
        may_ask: impl Fn(&Identity) -> bool,
    ) -> Option<(Identity, Timestamp)> {
        let mut due = self.due.iter().take_while(|(at, _)| *at <= now);
        let (_, identity) = due.find(|(_, identity)| may_ask(identity))?.clone();
        let recheck = self.close(&identity)?;
        self.histories.entry(identity.clone()).or_default().asked_at = Some(now);
        Some((identity, recheck.seen_at))
    }

    /// It could not be told, and is asked again then.
    pub(super) fn ask_again(&mut self, identity: &Identity, seen_at: Timestamp, due_at: Timestamp) {
        self.put(identity, Recheck { seen_at, due_at });
    }

    /// A field of it was left to somebody who may go unseen. Until then only what is certain is asked about: whatever that one
    /// does to the object might be drift.
    pub(super) fn ask_later(&mut self, identity: &Identity, now: Timestamp) {
        let due_at = now.saturating_add(YIELDED_AGAIN).unwrap_or(Timestamp::MAX);
        self.put(identity, Recheck { seen_at: due_at, due_at });
    }

    /// The API server asked for that long a pause, whatever is seen meanwhile.
    pub(super) fn hold(&mut self, identity: &Identity, until: Timestamp) {
        self.histories.entry(identity.clone()).or_default().held_until = Some(until);
        if let Some(open) = self.close(identity) {
            self.put(identity, open);
        }
    }

    fn close(&mut self, identity: &Identity) -> Option<Recheck> {
        let recheck = self.open.remove(identity)?;
        self.due.remove(&(recheck.due_at, identity.clone()));
        Some(recheck)
    }

    /// It is as it should be, or is no longer ours to check.
    pub(super) fn settle(&mut self, identity: &Identity) {
        self.close(identity);
    }

    pub(super) fn note_correction(&mut self, identity: &Identity, now: Timestamp) {
        let corrections = &mut self.histories.entry(identity.clone()).or_default().corrections;
        corrections.retain(|&at| at + CONFLICT_WINDOW > now);
        corrections.push_back(now);
        if corrections.len() > CORRECTIONS_MAX {
            corrections.pop_front();
        }
    }

    /// Keeps what is known of these objects only.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&Identity) -> bool) {
        self.open.retain(|identity, _| is_wanted(identity));
        self.due.retain(|(_, identity)| is_wanted(identity));
        self.histories.retain(|identity, _| is_wanted(identity));
    }

    /// It is changed, and was put right so often that the next time has to wait.
    pub(super) fn is_flapping(&self, identity: &Identity, now: Timestamp) -> bool {
        self.open.get(identity).is_some_and(|open| open.seen_at <= now) && self.calm_at(identity, now) > now
    }

    /// From when on the object may be put right again.
    fn calm_at(&self, identity: &Identity, now: Timestamp) -> Timestamp {
        let corrections = self.histories.get(identity).map(|history| &history.corrections);
        let recent = corrections.into_iter().flatten().filter(|&&at| at + CONFLICT_WINDOW > now);
        let (count, last) = recent.fold((0_usize, now), |(count, _), &at| (count + 1, at));
        let Some(more) = count.checked_sub(CORRECTIONS_AT_ONCE) else { return now };
        let pause = CONFLICT_PAUSE * (1_i32 << more.min(CORRECTIONS_MAX));
        now.max(last + pause.min(CONFLICT_WINDOW))
    }

    pub(super) fn has_due(&self, now: Timestamp) -> bool {
        self.due.first().is_some_and(|(at, _)| *at <= now)
    }

    /// When one of those that may be asked about is due.
    pub(super) fn next_wake(&self, may_ask: impl Fn(&Identity) -> bool) -> Option<Timestamp> {
        self.due.iter().find(|(_, identity)| may_ask(identity)).map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectKey;

    fn identity(name: &str) -> Identity {
        let (api_version, kind) = ("v1".to_owned(), "ConfigMap".to_owned());
        Identity::of(&ObjectKey { api_version, kind, namespace: None, name: name.to_owned() })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn due(rechecks: &mut RecheckQueue, now: Timestamp) -> bool {
        rechecks.take_due(now, |_| true).is_some()
    }

    #[test]
    fn an_edit_is_checked_at_once_and_a_possible_drift_once_a_minute() {
        let (mut rechecks, a) = (RecheckQueue::default(), identity("a"));
        rechecks.raise(&a, DriftSignal::Possible, at(0));
        assert!(!due(&mut rechecks, at(0)));
        assert!(due(&mut rechecks, at(1)));

        rechecks.raise(&a, DriftSignal::Possible, at(2));
        assert_eq!(rechecks.next_wake(|_| true), Some(at(61)));
        rechecks.raise(&a, DriftSignal::Certain, at(3));
        assert!(due(&mut rechecks, at(3)));
    }

    #[test]
    fn possible_drifts_of_many_objects_are_spread() {
        let mut rechecks = RecheckQueue::default();
        for number in 0..100 {
            rechecks.raise(&identity(&number.to_string()), DriftSignal::Possible, at(0));
        }

        let asked = |rechecks: &mut RecheckQueue, now| std::iter::from_fn(|| rechecks.take_due(now, |_| true)).count();

        assert_eq!((asked(&mut rechecks, at(1)), asked(&mut rechecks, at(2))), (1, 10));
    }

    #[test]
    fn a_conflicting_controller_is_corrected_less_and_less_often_and_ends() {
        let (mut rechecks, a) = (RecheckQueue::default(), identity("a"));
        for _ in 0..CORRECTIONS_AT_ONCE {
            rechecks.raise(&a, DriftSignal::Certain, at(0));
            assert!(due(&mut rechecks, at(0)));
            rechecks.note_correction(&a, at(0));
        }
        assert!(!rechecks.is_flapping(&a, at(0)), "nothing is wrong with it now");

        let mut waits = Vec::new();
        let mut now = at(0);
        for _ in 0..4 {
            rechecks.raise(&a, DriftSignal::Certain, now);
            assert!(rechecks.is_flapping(&a, now));
            let next = rechecks.next_wake(|_| true).expect("it is open");
            waits.push(next.duration_since(now).as_secs());
            now = next;
            assert!(due(&mut rechecks, now));
            rechecks.note_correction(&a, now);
        }
        assert_eq!(waits, [1, 2, 4, 8]);

        let calm = now + CONFLICT_WINDOW;
        rechecks.raise(&a, DriftSignal::Certain, calm);
        assert!(due(&mut rechecks, calm));
    }
}
