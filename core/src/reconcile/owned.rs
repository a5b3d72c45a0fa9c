//! What is known of one object of a target: what we put there, and how it was last seen.

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::bodies::Body;
use super::event::{Condition, ObjectState};
use super::evidence::Evidence;
use crate::drift::{DriftSignal, Fingerprint, says};
use crate::health::{self, Ending, Health};
use crate::journal::Applied;
use crate::report::Verdict;
use crate::yielded::Yielded;
use crate::{Digest, Generation, ObjectKey, sealed};

/// An object that this process applied or inspected, and that a watch follows.
#[expect(clippy::struct_excessive_bools, reason = "each is one thing of its own, and they come in any combination")]
#[derive(Debug)]
pub(super) struct Owned {
    /// What we last applied; `None` when a request's end is not known, or somebody deleted it since.
    pub(super) digest: Option<Digest>,
    pub(super) uid: Uuid,
    /// As far as is known. The name of what is gone may belong to somebody else by now.
    pub(super) is_there: bool,
    /// It has run, and its deletion is asked for: nothing else that is seen of it counts.
    pub(super) is_departing: bool,
    /// No watch saw it go.
    pub(super) went_unseen: bool,
    /// That it is left as it was found, where that is not what is wanted; or that it was replaced.
    pub(super) note: Option<String>,
    /// At which version it was last seen.
    pub(super) version: u64,
    pub(super) health: Health,
    /// Since when it says that it failed, if we saw that begin; what it said when it was found may be as old as it likes.
    pub(super) failed_at: Option<Timestamp>,
    pub(super) finished: Option<Ending>,
    /// As after our last apply.
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) last_seen: Option<Fingerprint>,
    /// The worst that was seen of it since we last had an answer, whether anybody wants to know or not.
    pub(super) signal: DriftSignal,
    /// What of it is left to somebody else.
    pub(super) yielded: Option<Yielded>,
    /// Nobody tells when whom it is left to goes, or when what is another's is deleted: it is asked about now and then.
    pub(super) goes_unseen: bool,
    /// When we last had an answer about it.
    pub(super) asked_at: Timestamp,
}

/// What an apply of ours that succeeded put into the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastApplied {
    pub uid: Uuid,
    pub digest: Digest,
    /// `None` when it was not kept; then nothing is known to be ours.
    pub body: Option<Body>,
    pub finished: Option<Ending>,
    /// Under which it was applied.
    pub generation: Generation,
}

impl LastApplied {
    /// Whether it says something at each of these paths: the fields there are ours.
    pub fn says_all<'a>(&self, mut paths: impl Iterator<Item = &'a str>) -> bool {
        let object = self.body.as_ref().and_then(|body| serde_json::from_slice(body.bytes()).ok());
        object.is_some_and(|object: Value| {
            // What is sealed says the same at the same places.
            let object = sealed::shape(&object).unwrap_or(object);
            paths.all(|path| says(&object, path))
        })
    }

    /// As the journal holds it.
    pub(super) fn applied(&self, key: &ObjectKey) -> Applied {
        let Self { uid, digest, finished, generation, .. } = *self;
        Applied { key: key.clone(), uid, digest, finished, generation }
    }

    /// When it is gone it is not known to have come to a good end, and is not simply made again.
    pub(super) fn may_be_asked_for_again(&self) -> bool {
        match self.finished {
            Some(ending) => ending == Ending::Failed,
            None => self.goes_by_itself(),
        }
    }

    /// Somebody deletes it when it has run to its end.
    pub(super) fn goes_by_itself(&self) -> bool {
        let object = self.body.as_ref().and_then(|body| serde_json::from_slice(body.bytes()).ok());
        object.is_some_and(|object: Value| health::goes_by_itself(&object))
    }
}

impl Owned {
    pub(super) fn evidence(&self) -> Evidence<'_> {
        Evidence { health: &self.health, failed_at: self.failed_at, ending: self.finished }
    }

    /// Whether that changes its health, and what else it calls for. What was listed after we last had an answer is how
    /// it is; of events, those from before that answer are about an object that is no more.
    pub(super) fn see(
        &mut self,
        version: u64,
        listed_at: Option<Timestamp>,
        seen: ObjectState,
        now: Timestamp,
    ) -> (bool, DriftSignal) {
        let is_listed_since = listed_at.is_some_and(|at| self.asked_at < at);
        if version < self.version && !is_listed_since {
            return (false, DriftSignal::None);
        }
        self.version = version;
        if self.is_departing && matches!(seen, ObjectState::Present(_)) {
            return (false, DriftSignal::None);
        }
        let was_there = std::mem::replace(&mut self.is_there, matches!(seen, ObjectState::Present(_)));
        self.went_unseen = seen == ObjectState::Missing;
        let (health, signal, news) = match seen {
            ObjectState::Present(Condition { health, finished, fingerprint, .. }) => {
                self.finished = finished;
                let since = |before: Option<&Fingerprint>| {
                    before.zip(fingerprint.as_ref()).map_or(DriftSignal::None, |(before, now)| before.signal(now))
                };
                // What was seen before was asked about then, or is when its time comes.
                let (signal, since_last) = (since(self.fingerprint.as_ref()), since(self.last_seen.as_ref()));
                self.last_seen = fingerprint;
                (health.seen_at(self.health.heals_at, now), signal, signal.min(since_last))
            }
            ObjectState::Deleted | ObjectState::Missing => match self.finished {
                Some(_) if !was_there => (self.health.clone(), DriftSignal::None, DriftSignal::None),
                Some(ending) => (self.gone_after(ending), DriftSignal::None, DriftSignal::None),
                None => {
                    self.digest = None;
                    (deleted(), DriftSignal::Certain, DriftSignal::Certain)
                }
            },
        };
        let has_changed = self.health != health;
        self.signal = self.signal.max(signal);
        // One that fails in other words by now failed before.
        if self.health.verdict != health.verdict {
            self.failed_at = (health.verdict == Verdict::Failed).then_some(now);
        }
        self.health = health;
        (has_changed, news)
    }

    /// Why it failed stays known, for as long as this process lives.
    pub(super) fn gone_after(&self, ending: Ending) -> Health {
        let health = finished(ending);
        let has_said_why = health.verdict == Verdict::Failed && self.health.verdict == Verdict::Failed;
        match &self.health.message {
            why if has_said_why && !why.is_empty() => {
                Health { message: format!("{}: {why}", health.message), ..health }
            }
            _ => health,
        }
    }
}

pub(super) fn deleted() -> Health {
    Health {
        verdict: Verdict::Degraded,
        message: "deleted by somebody else".to_owned(),
        fails_at: None,
        heals_at: None,
    }
}

/// Of something that goes by itself when it ends.
pub(super) fn ended_unseen() -> Health {
    let message =
        "it is gone, and nobody saw how it ended: retry its rollout here, or give it another name, to run it again"
            .to_owned();
    Health { verdict: Verdict::Unknown, message, fails_at: None, heals_at: None }
}

/// Of something that is gone since it ended.
pub(super) fn finished(ending: Ending) -> Health {
    let (verdict, message) = match ending {
        Ending::Succeeded => (Verdict::Healthy, "finished"),
        Ending::Failed => (Verdict::Failed, "it failed, and is gone since"),
    };
    Health { verdict, message: message.to_owned(), fails_at: None, heals_at: None }
}
