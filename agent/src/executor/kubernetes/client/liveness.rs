//! Whether what a watch knows may still be believed: how often it broke off, and for how long nothing was heard on it.
//!
//! A watch of a quiet kind sees no object for days, and a connection may be dead without an error. So it is listened to
//! below the objects: the head of each answer and each part of a body count, a bookmark's too. Decides; measures no time
//! itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;

use crate::clock::Clock;

/// A watch that was up for so long was well: what ended it is a new trouble, and not the old one still. Tries that took
/// as long to fail were never up.
const UP: SignedDuration = SignedDuration::from_mins(1);

/// After so many failures in a row (about a second, when they come fast) it is no hiccup.
const HICCUPS_MAX: u32 = 3;

/// Without a word. A quiet watch gets a bookmark every minute; one of an API server that sends none is given up after
/// 90 s, and has half a minute to be there again.
const SILENCE_MAX: SignedDuration = SignedDuration::from_mins(2);

#[derive(Debug)]
pub(super) struct Liveness {
    /// In a row.
    failures: u32,
    /// When something was heard for the first time since the last failure.
    up_since: Option<Timestamp>,
    /// When something was last heard.
    heard_at: Timestamp,
    /// Nothing is believed before the next list.
    is_blind: bool,
}

impl Liveness {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self { failures: 0, up_since: None, heard_at: now, is_blind: false }
    }

    pub(super) fn note_heard(&mut self, now: Timestamp) {
        self.up_since.get_or_insert(now);
        self.heard_at = self.heard_at.max(now);
    }

    /// All objects of the kind are known. That a list is answered says nothing of the watch behind it: a row of failures
    /// goes on until that was up, or the next list would come at once, again and again.
    pub(super) const fn note_listed(&mut self) {
        if !self.is_blind {
            self.failures = 0;
        }
        self.is_blind = false;
    }

    /// An object was seen.
    pub(super) const fn note_seen(&mut self) {
        self.failures = 0;
    }

    /// Answers with how many failures there were in a row.
    pub(super) fn note_failure(&mut self, now: Timestamp) -> u32 {
        let was_up = self.up_since.take().is_some_and(|since| now.duration_since(since) >= UP);
        self.failures = if was_up && !self.is_blind { 1 } else { self.failures + 1 };
        self.failures
    }

    /// Whether what is known of the kind is no longer believed, from now on.
    pub(super) fn turns_blind(&mut self, now: Timestamp) -> bool {
        let is_lost = self.failures >= HICCUPS_MAX || self.silent_at() <= now;
        is_lost && self.turn_blind()
    }

    /// Whatever was heard, the kind is not where it was. Answers whether that is news.
    pub(super) const fn turn_blind(&mut self) -> bool {
        !std::mem::replace(&mut self.is_blind, true)
    }

    pub(super) const fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// When it has been silent for too long, if nothing is heard before.
    pub(super) fn silent_at(&self) -> Timestamp {
        if self.is_blind { Timestamp::MAX } else { self.heard_at + SILENCE_MAX }
    }

    #[cfg(test)]
    pub(super) const fn hear_nothing_since(&mut self, then: Timestamp) {
        self.heard_at = then;
    }
}

/// The liveness of one watch, shared with its connection.
#[derive(Debug, Clone)]
pub(super) struct Ear {
    liveness: Arc<Mutex<Liveness>>,
    clock: Clock,
}

impl Ear {
    pub(super) fn new(clock: Clock) -> Self {
        Self { liveness: Arc::new(Mutex::new(Liveness::new(clock.now()))), clock }
    }

    pub(super) fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_heard(&self) {
        self.liveness().note_heard(self.clock.now());
    }

    /// The same client, listened to. A refusal is no word of how objects stand.
    pub(super) fn listen(&self, client: kube::Client) -> kube::Client {
        let ear = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (client, ear) = (client.clone(), ear.clone());
            async move {
                let response = client.send(request).await?;
                if response.status().is_success() {
                    ear.note_heard();
                }
                let heard = move |frame| {
                    ear.note_heard();
                    frame
                };
                Ok::<_, kube::Error>(response.map(|body| body.map_frame(heard)))
            }
        });
        kube::Client::new(service, "default")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn tries_that_fail_slowly_are_in_a_row() {
        let mut liveness = Liveness::new(at(0));
        liveness.note_heard(at(0));
        liveness.note_listed();
        liveness.note_heard(at(3_600));

        let in_a_row = [3_610, 3_671, 3_702].map(|second| liveness.note_failure(at(second)));

        assert_eq!(in_a_row, [1, 2, 3]);
        assert!(liveness.turns_blind(at(3_702)));
        assert!(!liveness.turns_blind(at(3_800)), "it is told once");
    }

    #[test]
    fn a_quiet_watch_that_is_broken_off_now_and_then_is_believed() {
        let mut liveness = Liveness::new(at(0));

        for second in (0..10_000).step_by(70) {
            liveness.note_heard(at(second));
            assert_eq!(liveness.note_failure(at(second + 61)), 1);
            assert!(!liveness.turns_blind(at(second + 61)));
        }
    }

    #[test]
    fn a_watch_that_hears_nothing_is_not_believed() {
        let mut liveness = Liveness::new(at(0));
        liveness.note_listed();
        liveness.note_heard(at(60));
        liveness.note_failure(at(150));

        assert!(!liveness.turns_blind(at(179)));
        assert_eq!(liveness.silent_at(), at(180));
        assert!(liveness.turns_blind(at(180)));
    }

    #[test]
    fn what_turned_blind_is_believed_after_the_next_list_and_not_before() {
        let mut liveness = Liveness::new(at(0));
        for second in 0..3 {
            liveness.note_failure(at(second));
        }
        assert!(liveness.turns_blind(at(3)));

        liveness.note_heard(at(4));
        liveness.note_failure(at(100));
        assert!(liveness.is_blind());
        liveness.note_listed();

        assert!(!liveness.is_blind());
    }

    #[test]
    fn where_lists_are_answered_and_watches_are_not_the_tries_come_less_and_less_often() {
        let mut liveness = Liveness::new(at(0));
        let mut in_a_row = Vec::new();

        for round in 0..3 {
            for second in 0..3 {
                in_a_row.push(liveness.note_failure(at(10 * round + second)));
                if liveness.turns_blind(at(10 * round + second)) {
                    break;
                }
            }
            liveness.note_heard(at(10 * round + 5));
            liveness.note_listed();
        }
        liveness.note_heard(at(100));

        assert_eq!(in_a_row, [1, 2, 3, 4, 5]);
        assert_eq!(liveness.note_failure(at(200)), 1, "it was up for a minute");
    }

    #[tokio::test]
    async fn each_part_of_an_answer_is_heard_and_a_refusal_is_not() {
        let ear = Ear::new(Clock::start());
        let heard = |ear: &Ear| ear.liveness().up_since.is_some();
        let answer = |status: u16| {
            let service = tower::service_fn(move |_: http::Request<Body>| async move {
                let response = http::Response::builder().status(status).body(Body::from(b"one".to_vec()));
                Ok::<_, tower::BoxError>(response.expect("is an answer"))
            });
            ear.listen(kube::Client::new(service, "default"))
        };
        let ask = || http::Request::get("/").body(Body::empty()).expect("is a request");

        let refused = answer(504).send(ask()).await.expect("answers");
        assert!(!heard(&ear), "a refusal");
        drop(refused);

        let taken = answer(200).send(ask()).await.expect("answers");
        assert!(heard(&ear), "its head");

        ear.liveness().up_since = None;
        taken.into_body().collect_bytes().await.expect("is read");
        assert!(heard(&ear), "its body");
    }
}
