//! What a watch changes: how objects stand, and which of them are asked about.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::event::{Freshness, Kind, ObjectEvent, ObjectState};
use super::owned::Owned;
use super::phases::Object;
use super::target::Target;
use crate::drift::DriftSignal;
use crate::object::Identity;
use crate::session::DriftMode;

/// What is known by lists, each half a minute, is said to be known as of a time that is no longer ago.
const SAID_AGAIN: SignedDuration = SignedDuration::from_mins(5);

impl Target {
    /// What a watch saw of an object that this target follows, or that carries its label.
    pub(super) fn see(&mut self, object_event: ObjectEvent, now: Timestamp) {
        let ObjectEvent { key, uid, version, listed_at, seen, .. } = object_event;
        let followed = self.inventory.followed(uid).cloned();
        let identity = followed.clone().or_else(|| self.objects.wanted_at(&key)).unwrap_or_else(|| Identity::of(&key));
        let is_unkept = matches!(&seen, ObjectState::Present(condition) if !condition.is_kept);
        if is_unkept && self.removals.note_unkept(&identity) {
            self.said.note_change();
        }
        if followed.is_none() {
            self.see_unknown(&identity, uid, version, seen, now);
            return;
        }
        if self.under_way.contains(&identity) {
            // Which of the two is newer is known when the answer comes.
            self.early.insert(uid, (version, seen.clone()));
        }
        self.see_followed(&identity, (version, listed_at), seen, now);
    }

    /// One that carries our label, and that we did not make or do not know of yet.
    fn see_unknown(&mut self, identity: &Identity, uid: Uuid, version: u64, seen: ObjectState, now: Timestamp) {
        let is_ours = self.inventory.owned(identity).is_some() && !self.under_way.contains(identity);
        if matches!(seen, ObjectState::Present(_)) && is_ours {
            let signal = self.inventory.suspect(identity);
            self.raise(identity, signal, now);
        } else if !self.under_way.is_empty() {
            self.early.insert(uid, (version, seen));
        }
    }

    pub(super) fn see_followed(
        &mut self,
        identity: &Identity,
        version: (u64, Option<Timestamp>),
        seen: ObjectState,
        now: Timestamp,
    ) {
        let is_gone = !matches!(seen, ObjectState::Present(_));
        let Some((has_changed, signal)) = self.inventory.see(identity, version, seen, now) else { return };
        self.raise(identity, signal, now);
        if is_gone {
            if self.removals.note_gone(identity) {
                self.inventory.forget(identity);
                self.said.note_change();
            }
            self.run_what_is_owed(identity);
        }
        if has_changed {
            self.changed_since_told.extend(self.objects.find(identity).map(|object| Kind::of(&object.key)));
            self.said.note_change();
            self.open_phases(now);
        }
    }

    /// What failed is gone, and it was asked since for it to run again.
    pub(super) fn run_what_is_owed(&mut self, identity: &Identity) {
        let asked_for = self.asked_for();
        if self.objects.find(identity).is_some_and(|object| self.inventory.owes_a_run(object, asked_for))
            && self.inventory.owned(identity).is_some_and(|owned| !owned.is_there)
        {
            self.inventory.have_made_again(identity);
            self.objects.send_again(identity);
            self.said.note_change();
        }
    }

    fn raise(&mut self, identity: &Identity, signal: DriftSignal, now: Timestamp) {
        if !self.asks() || !self.objects.contains(identity) {
            return;
        }
        self.rechecks.raise(identity, signal, now);
        if self.rechecks.is_flapping(identity, now) {
            // Nothing is asked or answered for a while, and nothing else of it may change.
            self.said.note_change();
        }
    }

    /// Whether anybody wants to know of drift.
    pub(super) fn asks(&self) -> bool {
        self.assignment.options.drift != DriftMode::Ignore
    }

    /// About one of which nobody tells all, if anybody wants to know.
    pub(super) fn ask_later(&mut self, identity: &Identity, now: Timestamp) {
        if self.asks() && self.inventory.owned(identity).is_some_and(|owned| owned.goes_unseen) {
            self.rechecks.ask_later(identity, now);
        }
    }

    /// What was seen under the assignment before, and has no answer yet; and what is to be asked about anyway.
    pub(super) fn raise_again(&mut self, now: Timestamp) {
        let doubtful = |identity: &Identity| {
            let signal = self.inventory.owned(identity)?.signal;
            (signal != DriftSignal::None).then_some(signal)
        };
        let all: Vec<_> = self.objects.iter().map(Object::identity).collect();
        let all: Vec<_> = all.into_iter().map(|identity| (doubtful(&identity), identity)).collect();
        for (signal, identity) in all {
            if let Some(signal) = signal {
                self.raise(&identity, signal, now);
            }
            self.ask_later(&identity, now);
        }
    }

    /// All objects of a kind that there were when the list began: what is not among them went away unseen.
    pub(super) fn see_all(&mut self, kind: &Kind, began_at: Timestamp, uids: &BTreeSet<Uuid>, now: Timestamp) {
        let missing = |owned: &Owned| owned.is_there && owned.asked_at < began_at && !uids.contains(&owned.uid);
        for (identity, version) in self.inventory.followed_of(kind, missing) {
            self.see_followed(&identity, (version, None), ObjectState::Missing, now);
        }
    }

    pub(super) fn set_freshness(&mut self, kind: &Kind, freshness: Freshness, now: Timestamp) {
        // As of an earlier time is said until it is too long ago: else each list would be news of what is not well.
        if let (Some(&Freshness::AsOf(before)), Freshness::AsOf(listed_at)) = (self.freshness.get(kind), freshness)
            && listed_at.duration_since(before) < SAID_AGAIN
            && !self.changed_since_told.contains(kind)
        {
            return;
        }
        self.changed_since_told.remove(kind);
        if freshness.put(&mut self.freshness, kind) {
            self.said.note_change();
            self.open_phases(now);
        }
    }
}
