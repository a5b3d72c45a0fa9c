//! Objects that may no longer be as we applied them: when each is asked about, and how often each was put right.
//!
//! Decides; asks nobody. An edit is asked about at once, and what only might be one seldom. What somebody changes back
//! again and again is put right less often, so that nobody's tug of war fills the API server.

use std::collections::{BTreeMap, VecDeque};

use bellwether_core::drift::Suspicion;
use jiff::{SignedDuration, Timestamp};

use super::owned::Identity;

/// So many times within the window an object is put right at once; then it is a fight, and every next time waits for
/// twice as long.
const CORRECTIONS_AT_ONCE: usize = 5;
const FIGHT_WINDOW: SignedDuration = SignedDuration::from_mins(5);
const FIGHT_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// What is kept: with that many the pause is as long as the window.
const CORRECTIONS_MAX: usize = 14;

/// A slight doubt waits: more of what caused it may follow.
const SLIGHT_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// Between two slight doubts about one object.
const SLIGHT_AGAIN: SignedDuration = SignedDuration::from_secs(60);
/// Between two slight doubts of a target: a changed definition or webhook makes all of its objects doubtful at once.
const SLIGHT_SPACING: SignedDuration = SignedDuration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Doubts {
    open: BTreeMap<Identity, Doubt>,
    histories: BTreeMap<Identity, History>,
    /// When the last slight doubt that was raised is due.
    slight_at: Option<Timestamp>,
}

/// Something that was seen and that calls for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Doubt {
    seen_at: Timestamp,
    due_at: Timestamp,
}

#[derive(Debug, Default)]
struct History {
    /// Within the window, the newest last.
    corrections: VecDeque<Timestamp>,
    asked_at: Option<Timestamp>,
}

impl Doubts {
    /// The sooner of this and what is open already stands.
    pub(super) fn raise(&mut self, identity: &Identity, suspicion: Suspicion, now: Timestamp) {
        let due_at = match suspicion {
            Suspicion::None => return,
            Suspicion::Grave => self.calm_at(identity, now),
            Suspicion::Slight if self.open.contains_key(identity) => return,
            Suspicion::Slight => self.next_slight(identity, now),
        };
        let doubt = self.open.entry(identity.clone()).or_insert(Doubt { seen_at: now, due_at });
        doubt.due_at = doubt.due_at.min(due_at);
    }

    fn next_slight(&mut self, identity: &Identity, now: Timestamp) -> Timestamp {
        let asked_at = self.histories.get(identity).and_then(|history| history.asked_at);
        let free_at = [
            Some(now + SLIGHT_PAUSE),
            asked_at.map(|at| at + SLIGHT_AGAIN),
            self.slight_at.map(|at| at + SLIGHT_SPACING),
        ];
        let due_at = free_at.into_iter().flatten().max().unwrap_or(now);
        self.slight_at = Some(due_at);
        due_at
    }

    /// The one that is due and that may be asked about now; since when it is doubtful.
    pub(super) fn take_due(
        &mut self,
        now: Timestamp,
        may_ask: impl Fn(&Identity) -> bool,
    ) -> Option<(Identity, Timestamp)> {
        let due = self.open.iter().filter(|(identity, doubt)| doubt.due_at <= now && may_ask(identity));
        let (identity, doubt) =
            due.min_by_key(|(_, doubt)| doubt.due_at).map(|(identity, doubt)| (identity.clone(), *doubt))?;
        self.open.remove(&identity);
        self.histories.entry(identity.clone()).or_default().asked_at = Some(now);
        Some((identity, doubt.seen_at))
    }

    /// It could not be told, and is asked again then.
    pub(super) fn ask_again(&mut self, identity: &Identity, seen_at: Timestamp, due_at: Timestamp) {
        let doubt = self.open.entry(identity.clone()).or_insert(Doubt { seen_at, due_at });
        doubt.seen_at = doubt.seen_at.min(seen_at);
    }

    /// It is as it should be, or is not ours to doubt any more.
    pub(super) fn settle(&mut self, identity: &Identity) {
        self.open.remove(identity);
    }

    pub(super) fn note_correction(&mut self, identity: &Identity, now: Timestamp) {
        let corrections = &mut self.histories.entry(identity.clone()).or_default().corrections;
        corrections.retain(|&at| at + FIGHT_WINDOW > now);
        corrections.push_back(now);
        if corrections.len() > CORRECTIONS_MAX {
            corrections.pop_front();
        }
    }

    /// Keeps what is known of these objects only.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&Identity) -> bool) {
        self.open.retain(|identity, _| is_wanted(identity));
        self.histories.retain(|identity, _| is_wanted(identity));
    }

    /// It is changed, and was put right so often that the next time has to wait.
    pub(super) fn is_fought_over(&self, identity: &Identity, now: Timestamp) -> bool {
        self.open.contains_key(identity) && self.calm_at(identity, now) > now
    }

    /// From when on the object may be put right again.
    fn calm_at(&self, identity: &Identity, now: Timestamp) -> Timestamp {
        let corrections = self.histories.get(identity).map(|history| &history.corrections);
        let recent = corrections.into_iter().flatten().filter(|&&at| at + FIGHT_WINDOW > now);
        let (count, last) = recent.fold((0_usize, now), |(count, _), &at| (count + 1, at));
        let Some(more) = count.checked_sub(CORRECTIONS_AT_ONCE) else { return now };
        let pause = FIGHT_PAUSE * (1_i32 << more.min(CORRECTIONS_MAX));
        now.max(last + pause.min(FIGHT_WINDOW))
    }

    pub(super) fn has_due(&self, now: Timestamp) -> bool {
        self.open.values().any(|doubt| doubt.due_at <= now)
    }

    /// When one of those that may be asked about is due.
    pub(super) fn next_wake(&self, may_ask: impl Fn(&Identity) -> bool) -> Option<Timestamp> {
        self.open.iter().filter(|(identity, _)| may_ask(identity)).map(|(_, doubt)| doubt.due_at).min()
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::ObjectKey;

    use super::*;

    fn identity(name: &str) -> Identity {
        let (api_version, kind) = ("v1".to_owned(), "ConfigMap".to_owned());
        Identity::of(&ObjectKey { api_version, kind, namespace: None, name: name.to_owned() })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn due(doubts: &mut Doubts, now: Timestamp) -> bool {
        doubts.take_due(now, |_| true).is_some()
    }

    #[test]
    fn an_edit_is_asked_about_at_once_and_a_slight_doubt_once_a_minute() {
        let (mut doubts, a) = (Doubts::default(), identity("a"));
        doubts.raise(&a, Suspicion::Slight, at(0));
        assert!(!due(&mut doubts, at(0)));
        assert!(due(&mut doubts, at(1)));

        doubts.raise(&a, Suspicion::Slight, at(2));
        assert_eq!(doubts.next_wake(|_| true), Some(at(61)));
        doubts.raise(&a, Suspicion::Grave, at(3));
        assert!(due(&mut doubts, at(3)));
    }

    #[test]
    fn slight_doubts_about_many_objects_are_spread() {
        let mut doubts = Doubts::default();
        for number in 0..100 {
            doubts.raise(&identity(&number.to_string()), Suspicion::Slight, at(0));
        }

        let asked = |doubts: &mut Doubts, now| std::iter::from_fn(|| doubts.take_due(now, |_| true)).count();

        assert_eq!((asked(&mut doubts, at(1)), asked(&mut doubts, at(2))), (1, 10));
    }

    #[test]
    fn a_fight_is_put_right_less_and_less_often_and_ends() {
        let (mut doubts, a) = (Doubts::default(), identity("a"));
        for _ in 0..CORRECTIONS_AT_ONCE {
            doubts.raise(&a, Suspicion::Grave, at(0));
            assert!(due(&mut doubts, at(0)));
            doubts.note_correction(&a, at(0));
        }
        assert!(!doubts.is_fought_over(&a, at(0)), "nothing is wrong with it now");

        let mut waits = Vec::new();
        let mut now = at(0);
        for _ in 0..4 {
            doubts.raise(&a, Suspicion::Grave, now);
            assert!(doubts.is_fought_over(&a, now));
            let next = doubts.next_wake(|_| true).expect("it is open");
            waits.push(next.duration_since(now).as_secs());
            now = next;
            assert!(due(&mut doubts, now));
            doubts.note_correction(&a, now);
        }
        assert_eq!(waits, [1, 2, 4, 8]);

        let calm = now + FIGHT_WINDOW;
        doubts.raise(&a, Suspicion::Grave, calm);
        assert!(due(&mut doubts, calm));
    }
}
