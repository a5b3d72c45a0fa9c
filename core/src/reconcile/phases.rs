//! The objects that an assignment wants, and which of them may be applied by now.
//!
//! Phases open one after the other: a later one waits until all objects of those before are well at once. A phase
//! that is open stays open, whatever becomes of an object in it. Inside a phase nothing waits for anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;

use super::bodies::{Hook, Manner};
use super::finding::Found;
use super::judge::Judgement;
use super::twins::find_twins;
use crate::apply::{Phase, sort_for_applying};
use crate::bundle::Entry;
use crate::object::Identity;
use crate::report::Outcome;
use crate::{Digest, ObjectKey};

#[derive(Debug, Default)]
pub(super) struct Objects {
    /// By phase, then by key.
    all: Vec<Object>,
    by_identity: BTreeMap<Identity, usize>,
    /// Objects before this one are of phases that are open.
    opened: usize,
    /// Held up the next phase when that was last tried: looked at first.
    held_up_by: usize,
    /// Those that are no longer ready are skipped when their turn comes.
    ready: VecDeque<usize>,
}

#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: ObjectKey,
    pub(super) digest: Digest,
    pub(super) phase: Phase,
    /// It is only made where it is absent, and then left.
    pub(super) is_once: bool,
    pub(super) hook: Option<Hook>,
    pub(super) state: State,
    /// Another one that is this one, if their kind has no namespaces.
    pub(super) twin: Option<ObjectKey>,
    pub(super) failures: u32,
    /// The last drift of it.
    pub(super) drift: Option<Found>,
    /// It is left as it was found.
    pub(super) is_left_drifted: bool,
    pub(super) uncorrected: Option<Uncorrected>,
}

/// That an object in place could not be asked about or put right when that was last tried.
#[derive(Debug)]
pub(super) struct Uncorrected {
    pub(super) why: Judgement,
    /// Since when it is asked about.
    pub(super) seen_at: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// An earlier phase holds it up.
    Waiting,
    Ready,
    /// A request of this assignment is on its way.
    Sent,
    InPlace(Outcome),
    /// A hook whose time has not come: it is as good as in place.
    PassedOver,
    /// Not in place; tried again when it stands among the retries.
    Failed(Judgement),
}

/// How an object stands when an assignment comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing has to be sent.
    InPlace,
    PassedOver,
    /// It was applied, and nothing over it since: it is only to be kept, whatever its phase waits for.
    Applied,
    New,
}

impl Objects {
    pub(super) fn plan(
        entries: &[Entry],
        manner: impl Fn(&Entry) -> Manner,
        before: impl Fn(&Identity, Digest) -> Before,
    ) -> Self {
        let mut twins = find_twins(entries);
        let object = |entry: &Entry| {
            let identity = Identity::of(&entry.key);
            let Manner { phase, is_once, hook } = manner(entry);
            let state = match before(&identity, entry.digest) {
                Before::InPlace => State::InPlace(Outcome::Unchanged),
                Before::PassedOver => State::PassedOver,
                Before::Applied => State::Ready,
                Before::New => State::Waiting,
            };
            Object {
                key: entry.key.clone(),
                digest: entry.digest,
                phase,
                is_once,
                hook,
                state,
                twin: twins.remove(&identity),
                failures: 0,
                drift: None,
                is_left_drifted: false,
                uncorrected: None,
            }
        };
        let mut all: Vec<_> = entries.iter().map(object).collect();
        sort_for_applying(&mut all, |object| (&object.key, object.phase));
        let by_identity = all.iter().enumerate().map(|(index, object)| (object.identity(), index)).collect();
        let ready = (0..all.len()).filter(|&index| all[index].state == State::Ready).collect();
        Self { all, by_identity, ready, ..Self::default() }
    }

    /// Who changes an object again and again is known under the next assignment too.
    pub(super) fn keep_drifts(&mut self, former: Self) {
        for object in former.all.into_iter().filter(|object| object.drift.is_some()) {
            if let Some(same) = self.find_mut(&object.identity()) {
                same.drift = object.drift;
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Object> {
        self.all.iter()
    }

    pub(super) fn contains(&self, identity: &Identity) -> bool {
        self.by_identity.contains_key(identity)
    }

    pub(super) fn index(&self, identity: &Identity) -> Option<usize> {
        self.by_identity.get(identity).copied()
    }

    pub(super) fn find(&self, identity: &Identity) -> Option<&Object> {
        self.index(identity).map(|index| &self.all[index])
    }

    pub(super) fn find_mut(&mut self, identity: &Identity) -> Option<&mut Object> {
        self.index(identity).map(|index| &mut self.all[index])
    }

    /// Our name of what an API server keeps under this one.
    pub(super) fn wanted_at(&self, live: &ObjectKey) -> Option<Identity> {
        let identity = Identity::of(live);
        if self.contains(&identity) {
            return Some(identity);
        }
        // In a namespace, there is no other spelling.
        let mut wanted = self.all.iter().filter(|_| live.namespace.is_none());
        wanted.find(|object| object.key.is_at(live)).map(Object::identity)
    }

    /// Makes ready what no earlier phase holds up any more.
    pub(super) fn open_phases(&mut self, is_well: impl Fn(&Object) -> bool) {
        while self.opened < self.all.len() {
            let mut before = (self.held_up_by..self.opened).chain(0..self.held_up_by);
            if let Some(unwell) = before.find(|&index| !is_well(&self.all[index])) {
                self.held_up_by = unwell;
                return;
            }
            let phase = self.all[self.opened].phase;
            while let Some(object) = self.all.get_mut(self.opened).filter(|object| object.phase == phase) {
                if object.state == State::Waiting {
                    object.state = State::Ready;
                    self.ready.push_back(self.opened);
                }
                self.opened += 1;
            }
        }
    }

    /// What failed has its turn again.
    pub(super) fn make_ready(&mut self, index: usize) {
        let object = &mut self.all[index];
        if matches!(object.state, State::Failed(_)) {
            object.state = State::Ready;
            self.ready.push_back(index);
        }
    }

    /// What is in place is to be made anew.
    pub(super) fn send_again(&mut self, identity: &Identity) {
        let Some(index) = self.index(identity) else { return };
        if matches!(self.all[index].state, State::InPlace(_)) {
            self.all[index].state = State::Ready;
            self.ready.push_back(index);
        }
    }

    /// One in place, or waiting with what it has, of which a question is open, since when.
    pub(super) fn uncorrected(&self, index: usize) -> Option<(Identity, Timestamp)> {
        let object = &self.all[index];
        let uncorrected =
            object.uncorrected.as_ref().filter(|_| matches!(object.state, State::InPlace(_) | State::Waiting))?;
        Some((object.identity(), uncorrected.seen_at))
    }

    /// The next one that is ready. What has a request on its way keeps its place.
    pub(super) fn take_ready(&mut self, under_way: &BTreeSet<Identity>) -> Option<&mut Object> {
        let mut held_back = Vec::new();
        let found = loop {
            let Some(index) = self.ready.pop_front() else { break None };
            let object = &self.all[index];
            if object.state != State::Ready {
                continue;
            }
            if !under_way.contains(&object.identity()) {
                break Some(index);
            }
            held_back.push(index);
        };
        for index in held_back.into_iter().rev() {
            self.ready.push_front(index);
        }
        found.map(|index| &mut self.all[index])
    }

    /// Those that the cluster's policy refused, in place or not.
    pub(super) fn refused_by_policy(&self) -> Vec<usize> {
        let is_refused = |object: &Object| {
            let failed = if let State::Failed(why) = &object.state { Some(why) } else { None };
            failed.or(object.uncorrected.as_ref().map(|it| &it.why)).is_some_and(|why| why.is_by_policy)
        };
        (0..self.all.len()).filter(|&index| is_refused(&self.all[index])).collect()
    }

    pub(super) fn has_ready(&self) -> bool {
        self.ready.iter().any(|&index| self.all[index].state == State::Ready)
    }

    /// No phase waits for another one any more.
    pub(super) fn are_all_open(&self) -> bool {
        self.opened == self.all.len()
    }

    pub(super) fn are_in_place(&self) -> bool {
        self.all.iter().all(|object| matches!(object.state, State::InPlace(_) | State::PassedOver))
    }
}

impl Object {
    pub(super) fn identity(&self) -> Identity {
        Identity::of(&self.key)
    }

    /// It is in place, and what stood in its way does no more.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        (self.failures, self.state, self.uncorrected) = (0, State::InPlace(outcome), None);
    }
}
