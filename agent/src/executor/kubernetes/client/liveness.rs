//! Whether what a watch knows may still be believed: how often it broke off, and for how long nothing was heard on it.
//!
//! A watch of a quiet kind sees no object for days, and a connection may be dead without an error. So it is listened to
//! below the objects: the head of each answer and each part of a body count, a bookmark's too. That a list is answered says
//! nothing of the watch behind it: what is not believed any more is believed again when a watch stands. Nor is an answer
//! to a watch one: where watches end at once, or do not tell what a list then finds, the kind cannot be watched, for a while.
//! Silence alone proves nothing: an API server need not send bookmarks. Decides; measures no time itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use kube::client::Body;
use tokio::sync::Notify;

use crate::clock::Clock;

/// A watch that was answered, and did not break off for so long, is well: an API server that refuses one, or cannot go on
/// where it was, says so within a moment. What ends it later is a new trouble, and not the old one still.
const STANDS: SignedDuration = SignedDuration::from_secs(3);

/// After so many failures in a row (about a second, when they come fast) it is no hiccup.
const HICCUPS_MAX: u32 = 3;

/// Without a word. A quiet watch gets a bookmark every minute; one of an API server that sends none is given up after
/// 90 s, and has half a minute to be there again.
const SILENCE_MAX: SignedDuration = SignedDuration::from_mins(2);

/// Between two watches that are answered: one that ends at once, without an error, would else be begun without a pause.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// Without a word for so long, on one watch or on several that ended, they may be none, as a bookmark comes each minute from
/// most API servers: it is listed, to see what they did not tell.
pub(super) const MUTE_AFTER: SignedDuration = SignedDuration::from_secs(75);

/// So many watches in a row that ended at once, or did not tell what was changed, are no accident: something between answers
/// for them.
const MUTE_MAX: u32 = 2;

/// While nothing is believed, what may change that is looked for so often.
const LOOK: SignedDuration = SignedDuration::from_secs(1);

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is one thing that was seen, and they come in any combination")]
pub(super) struct Liveness {
    /// In a row.
    failures: u32,
    /// When a watch was answered for the first time since the last failure, and since one ended at once.
    stands_since: Option<Timestamp>,
    /// When the one that is open was answered.
    open_since: Option<Timestamp>,
    /// Since when watches are answered, and nothing came on any.
    silent_since: Option<Timestamp>,
    /// For how long they may.
    mute_after: SignedDuration,
    /// Watches in a row that proved to be none.
    mute: u32,
    /// When they were too many.
    mute_since: Option<Timestamp>,
    /// They said nothing for long: the next list shows whether there was something to say.
    is_doubted: bool,
    /// What was last believed is what a list said.
    is_known_by_lists: bool,
    /// When one was last answered.
    watched_at: Option<Timestamp>,
    /// When something was last heard.
    heard_at: Timestamp,
    /// Nothing is believed.
    is_stale: bool,
    /// All objects were listed since it was.
    is_listed: bool,
}

/// What a standing watch is good for, when nothing was believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Regained {
    /// All that is known.
    Freshness,
    /// What there is has to be listed: the API server may be another one by now, or have gone back to a backup.
    Watch,
}

impl Liveness {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self {
            failures: 0,
            stands_since: None,
            open_since: None,
            silent_since: None,
            mute_after: MUTE_AFTER,
            mute: 0,
            mute_since: None,
            is_doubted: false,
            is_known_by_lists: false,
            watched_at: None,
            heard_at: now,
            is_stale: false,
            is_listed: false,
        }
    }

    pub(super) fn note_heard(&mut self, now: Timestamp) {
        self.heard_at = self.heard_at.max(now);
    }

    /// A watch was answered.
    fn note_watched(&mut self, now: Timestamp) {
        self.stands_since.get_or_insert(now);
        self.silent_since.get_or_insert(now);
        self.open_since = Some(now);
        self.watched_at = Some(now);
        self.note_heard(now);
    }

    /// Something came on an open watch.
    fn note_frame(&mut self, now: Timestamp) {
        self.note_heard(now);
        self.silent_since = None;
    }

    /// The open watch is no more, if there was one. One that was broken off says nothing of those that end by themselves.
    fn note_end(&mut self, now: Timestamp, is_broken_off: bool) {
        let Some(since) = self.open_since.take() else { return };
        let open = now.duration_since(since);
        let ended_at_once = !is_broken_off && open < STANDS;
        if ended_at_once {
            self.stands_since = None;
        }
        match self.silent_since {
            None => self.mute = 0,
            Some(_) if ended_at_once => self.note_mute(now),
            Some(since) => self.is_doubted |= now.duration_since(since) >= self.mute_after,
        }
    }

    fn note_mute(&mut self, now: Timestamp) {
        self.mute += 1;
        if self.is_mute() {
            (self.mute_since, self.stands_since) = (Some(now), None);
        }
    }

    /// Its watches are answered, and are none: only lists tell.
    pub(super) const fn is_mute(&self) -> bool {
        self.mute >= MUTE_MAX
    }

    /// Whether what there is has to be listed, to see whether the last watches told all.
    pub(super) const fn is_doubted(&self) -> bool {
        self.is_doubted
    }

    /// Whether a watch may begin. Where they were none one is tried now and then, and the first that is none again ends that.
    pub(super) fn may_watch(&mut self, now: Timestamp, pause: SignedDuration) -> bool {
        if self.mute_since.is_some_and(|since| now.duration_since(since) >= pause) {
            (self.mute, self.mute_since) = (MUTE_MAX - 1, None);
        }
        !self.is_mute()
    }

    /// When another watch may begin.
    fn again_at(&self) -> Timestamp {
        self.watched_at.map_or(Timestamp::MIN, |at| at + AGAIN)
    }

    /// All was listed; `found_news`: something is there that no watch told.
    pub(super) fn note_listed(&mut self, found_news: bool, now: Timestamp) {
        (self.is_listed, self.silent_since) = (true, None);
        if std::mem::take(&mut self.is_doubted) && found_news {
            self.note_mute(now);
        }
    }

    /// An object was seen.
    pub(super) const fn note_seen(&mut self) {
        self.failures = 0;
    }

    /// Answers with how many failures there were in a row.
    pub(super) fn note_failure(&mut self, now: Timestamp) -> u32 {
        self.note_end(now, true);
        self.failures = if self.stands(now) { 1 } else { self.failures + 1 };
        self.stands_since = None;
        self.failures
    }

    fn stands(&self, now: Timestamp) -> bool {
        self.stands_since.is_some_and(|since| now.duration_since(since) >= STANDS)
    }

    /// Whether what is known of the kind is no longer believed, from now on.
    pub(super) fn turns_stale(&mut self, now: Timestamp) -> bool {
        let is_lost = self.failures >= HICCUPS_MAX || self.silent_at() <= now;
        is_lost && self.turn_stale()
    }

    /// Whatever was heard, the kind is not where it was. Answers whether that is news.
    pub(super) const fn turn_stale(&mut self) -> bool {
        if self.is_stale {
            return false;
        }
        (self.is_stale, self.is_listed, self.stands_since) = (true, false, None);
        self.is_known_by_lists = false;
        true
    }

    /// Of a kind that is only listed: the list is all that is to be known.
    pub(super) const fn turn_listed(&mut self) {
        (self.failures, self.is_stale, self.is_known_by_lists) = (0, false, true);
    }

    /// What is believed again, from now on.
    pub(super) fn regains(&mut self, now: Timestamp) -> Option<Regained> {
        if !(self.is_stale || self.is_known_by_lists) || !self.stands(now) {
            return None;
        }
        if !self.is_listed {
            return Some(Regained::Watch);
        }
        (self.failures, self.is_stale, self.is_known_by_lists) = (0, false, false);
        Some(Regained::Freshness)
    }

    /// When that may change, if nothing is heard before.
    pub(super) fn next_change(&self, now: Timestamp) -> Timestamp {
        if self.is_stale || self.is_known_by_lists { self.silent_at().min(now + LOOK) } else { self.silent_at() }
    }

    /// When it has been silent for too long, if nothing is heard before.
    pub(super) fn silent_at(&self) -> Timestamp {
        if self.is_stale { Timestamp::MAX } else { self.heard_at + SILENCE_MAX }
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
    is_doubted: Arc<Notify>,
    clock: Clock,
}

impl Ear {
    /// Watches are listened to for so long, before it is listed what they did not tell.
    pub(super) fn new(clock: Clock, mute_after: SignedDuration) -> Self {
        let liveness = Liveness { mute_after, ..Liveness::new(clock.now()) };
        Self { liveness: Arc::new(Mutex::new(liveness)), is_doubted: Arc::default(), clock }
    }

    pub(super) fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until what is listened to has been silent for too long.
    pub(super) async fn wait_for_silence(&self) {
        loop {
            let silent_at = self.liveness().silent_at();
            if silent_at <= self.clock.now() {
                return;
            }
            self.clock.sleep_until(silent_at).await;
        }
    }

    /// Until its watches proved to be none, or one has ended by itself and it is to be listed what they did not tell. Answers
    /// whether they are none.
    pub(super) async fn wait_for_doubt(&self) -> bool {
        loop {
            self.is_doubted.notified().await;
            let liveness = self.liveness();
            if liveness.is_mute() || liveness.is_doubted() {
                return liveness.is_mute();
            }
        }
    }

    fn note_frame(&self, is_watch: bool) {
        let (mut liveness, now) = (self.liveness(), self.clock.now());
        if is_watch { liveness.note_frame(now) } else { liveness.note_heard(now) }
    }

    /// Before another watch begins, the one before has ended.
    fn note_next(&self) -> Timestamp {
        let mut liveness = self.liveness();
        liveness.note_end(self.clock.now(), false);
        if liveness.is_mute() || liveness.is_doubted() {
            self.is_doubted.notify_one();
        }
        liveness.again_at()
    }

    /// The same client, listened to. A refusal is no word of how objects stand.
    pub(super) fn listen(&self, client: kube::Client) -> kube::Client {
        let ear = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (client, ear) = (client.clone(), ear.clone());
            async move {
                let is_watch = is_watch(request.uri());
                if is_watch {
                    let again_at = ear.note_next();
                    ear.clock.sleep_until(again_at).await;
                }
                let response = client.send(request).await?;
                if response.status().is_success() {
                    ear.note_answered(is_watch);
                }
                let heard = move |frame| {
                    ear.note_frame(is_watch);
                    frame
                };
                Ok::<_, kube::Error>(response.map(|body| body.map_frame(heard)))
            }
        });
        kube::Client::new(service, "default")
    }

    fn note_answered(&self, is_watch: bool) {
        if is_watch {
            self.liveness().note_watched(self.clock.now());
        } else {
            self.liveness().note_heard(self.clock.now());
        }
    }
}

fn is_watch(uri: &http::Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
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
        liveness.note_listed(false, at(0));
        liveness.note_watched(at(3_600));

        let in_a_row = [3_610, 3_671, 3_702].map(|second| liveness.note_failure(at(second)));

        assert_eq!(in_a_row, [1, 2, 3]);
        assert!(liveness.turns_stale(at(3_702)));
        assert!(!liveness.turns_stale(at(3_800)), "it is told once");
    }

    #[test]
    fn a_quiet_watch_that_is_broken_off_now_and_then_is_believed() {
        let mut liveness = Liveness::new(at(0));

        for second in (0..10_000).step_by(70) {
            liveness.note_watched(at(second));
            assert_eq!(liveness.note_failure(at(second + 61)), 1);
            assert!(!liveness.turns_stale(at(second + 61)));
        }
    }

    #[test]
    fn a_watch_that_hears_nothing_is_not_believed() {
        let mut liveness = Liveness::new(at(0));
        liveness.note_listed(false, at(0));
        liveness.note_watched(at(60));
        liveness.note_failure(at(150));

        assert!(!liveness.turns_stale(at(179)));
        assert_eq!(liveness.next_change(at(179)), at(180));
        assert!(liveness.turns_stale(at(180)));
    }

    #[test]
    fn watches_that_end_at_once_or_say_nothing_prove_nothing() {
        let mut liveness = Liveness::new(at(0));
        for second in [10, 20] {
            assert!(!liveness.is_mute());
            liveness.note_watched(at(second));
            liveness.note_end(at(second + 1), false);
            assert!(!liveness.stands(at(second + 9)));
        }
        assert!(liveness.is_mute(), "they end at once");

        let mut liveness = Liveness::new(at(0));
        for second in [100, 200] {
            assert!(!liveness.is_mute());
            liveness.note_watched(at(second));
            liveness.note_failure(at(second + 90));
            assert!(liveness.is_doubted());
            liveness.note_listed(true, at(second + 91));
        }
        assert!(liveness.is_mute(), "nothing comes on them, and something happened");

        let mut liveness = Liveness::new(at(0));
        for second in (0..10_000).step_by(100) {
            liveness.note_watched(at(second));
            liveness.note_frame(at(second + 60));
            liveness.note_failure(at(second + 90));
            liveness.note_watched(at(second + 91));
            liveness.note_failure(at(second + 92));
            assert!(
                !liveness.is_mute(),
                "bookmarks come, and a connection that breaks off may have been about to tell"
            );
        }
    }

    #[test]
    fn a_watch_that_says_nothing_where_nothing_happens_is_one() {
        let mut liveness = Liveness::new(at(0));

        for second in (0..10_000).step_by(100) {
            liveness.note_watched(at(second));
            liveness.note_failure(at(second + 90));
            assert!(!liveness.is_mute(), "nobody has looked");
            liveness.note_listed(false, at(second + 91));
            assert!(!liveness.is_mute() && !liveness.is_doubted());
        }
    }

    #[test]
    fn what_is_not_told_by_watches_that_end_soon_is_looked_for() {
        for open in [10, 30, 90] {
            let mut liveness = Liveness::new(at(0));
            let mut looked_at = Vec::new();
            for second in (0..1_000).step_by(100) {
                liveness.note_watched(at(second));
                liveness.note_end(at(second + open), false);
                if liveness.is_doubted() {
                    looked_at.push(second);
                    liveness.note_listed(false, at(second + open + 1));
                }
            }
            assert!(looked_at.len() >= 5, "{open}: {looked_at:?}");
            assert!(!liveness.is_mute(), "there was nothing to tell");
        }

        let mut liveness = Liveness::new(at(0));
        for second in (0..1_000).step_by(40) {
            liveness.note_watched(at(second));
            liveness.note_frame(at(second + 20));
            liveness.note_end(at(second + 40), false);
            assert!(!liveness.is_doubted(), "something comes on them");
        }
    }

    #[test]
    fn where_watches_were_none_one_is_tried_now_and_then() {
        let pause = SignedDuration::from_mins(10);
        let mut liveness = Liveness::new(at(0));
        let ends_at_once = |liveness: &mut Liveness, second: i64| {
            liveness.note_watched(at(second));
            liveness.note_end(at(second), false);
        };
        ends_at_once(&mut liveness, 1);
        ends_at_once(&mut liveness, 2);
        assert!(!liveness.may_watch(at(3), pause) && !liveness.may_watch(at(601), pause));
        liveness.turn_listed();

        assert!(liveness.may_watch(at(602), pause));
        ends_at_once(&mut liveness, 602);
        assert!(!liveness.may_watch(at(603), pause), "one more is enough");
        assert_eq!(liveness.regains(at(700)), None);

        assert!(liveness.may_watch(at(1_300), pause));
        liveness.note_listed(true, at(1_300));
        liveness.note_watched(at(1_301));
        assert_eq!(liveness.regains(at(1_303)), None, "it may end at once");
        assert_eq!(liveness.regains(at(1_304)), Some(Regained::Freshness));
        assert_eq!(liveness.regains(at(1_305)), None, "it is told once");
    }

    fn stale(now: Timestamp) -> Liveness {
        let mut liveness = Liveness::new(now);
        liveness.note_listed(false, at(0));
        for _ in 0..HICCUPS_MAX {
            liveness.note_failure(now);
        }
        assert!(liveness.turns_stale(now));
        liveness
    }

    #[test]
    fn what_turned_stale_is_believed_when_a_watch_stands_and_all_was_listed_since() {
        let mut liveness = stale(at(0));

        liveness.note_watched(at(10));
        assert_eq!(liveness.regains(at(12)), None, "it may break off at once");
        assert_eq!(liveness.regains(at(13)), Some(Regained::Watch), "nobody has looked since");
        liveness.note_listed(false, at(0));

        assert_eq!(liveness.regains(at(14)), Some(Regained::Freshness));
        assert_eq!(liveness.note_failure(at(15)), 1);
        assert!(!liveness.turns_stale(at(15)));
    }

    #[test]
    fn lists_alone_are_not_believed_and_what_fails_after_each_fails_in_a_row() {
        let mut liveness = stale(at(0));

        let in_a_row = [10, 20, 30].map(|second| {
            liveness.note_heard(at(second));
            liveness.note_listed(false, at(0));
            assert_eq!(liveness.regains(at(second + 9)), None);
            liveness.note_failure(at(second + 9))
        });

        assert_eq!(in_a_row, [4, 5, 6]);
    }

    #[tokio::test]
    async fn each_part_of_an_answer_is_heard_and_a_refusal_is_not() {
        let ear = Ear::new(Clock::start(), MUTE_AFTER);
        let hears = |ear: &Ear| {
            let before = std::mem::replace(&mut ear.liveness().heard_at, Timestamp::UNIX_EPOCH);
            before > Timestamp::UNIX_EPOCH
        };
        hears(&ear);
        let answer = |status: u16| {
            let service = tower::service_fn(move |_: http::Request<Body>| async move {
                let response = http::Response::builder().status(status).body(Body::from(b"one".to_vec()));
                Ok::<_, tower::BoxError>(response.expect("is an answer"))
            });
            ear.listen(kube::Client::new(service, "default"))
        };
        let ask = |path: &str| http::Request::get(path).body(Body::empty()).expect("is a request");

        let refused = answer(504).send(ask("/?watch=true")).await.expect("answers");
        assert!(!hears(&ear) && ear.liveness().stands_since.is_none(), "a refusal");
        drop(refused);

        let taken = answer(200).send(ask("/?limit=1")).await.expect("answers");
        assert!(hears(&ear), "its head");
        taken.into_body().collect_bytes().await.expect("is read");
        assert!(hears(&ear), "its body");
        assert_eq!(ear.liveness().stands_since, None, "it is a list");

        drop(answer(200).send(ask("/?&watch=true&timeoutSeconds=290")).await.expect("answers"));
        assert!(ear.liveness().stands_since.is_some());
    }
}
