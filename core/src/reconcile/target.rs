//! One target: what it is to run here, what it has, and what is done next. Decides; asks nobody.
//!
//! It is fed with assignments, answers, object events and the time, and asked for steps and reports. A newer assignment
//! drops the waits and retries of the old one at once. Only a request that is already on its way is waited for, because
//! nobody can call it back: no object ever has two requests on their way.
//!
//! Here is its state, and when it begins anew. Which step is next is decided in [`super::choose`], what an answer changes
//! in [`super::record`], what a watch changes in [`super::observe`], and how it stands in [`super::standing`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::bodies::Manner;
use super::drifted::Drifted;
use super::event::{Freshness, Kind, ObjectState};
use super::hooks::Departures;
use super::inventory::{Inventory, Learned};
use super::phases::{Before, Objects, State};
use super::recheck_queue::RecheckQueue;
use super::removal::Mode;
use super::removals::Removals;
use super::retries::Retries;
use super::standing::Said;
use crate::account::ActsAs;
use crate::assignment::Suspension;
use crate::bundle::Entry;
use crate::object::Identity;
use crate::session::{Action, Assignment, Prune};
use crate::{Generation, ObjectKey, TargetId};

#[derive(Debug)]
pub(super) struct Target {
    pub(super) assignment: Assignment,
    /// Under which its bundle came.
    pub(super) bundle_since: Generation,
    /// When the assignment was taken up; `None` until the first step or report after it.
    pub(super) accepted_at: Option<Timestamp>,
    pub(super) objects: Objects,
    pub(super) inventory: Inventory,
    pub(super) retries: Retries,
    pub(super) rechecks: RecheckQueue,
    pub(super) removals: Removals,
    pub(super) departures: Departures,
    /// Hooks that are not of this bundle's occasion.
    pub(super) passed_over: BTreeSet<Identity>,
    /// The last step was a question about an object in place.
    pub(super) asked_last: bool,
    pub(super) under_way: BTreeSet<Identity>,
    /// Seen while a request is on its way: it may be about what that request makes.
    pub(super) early: BTreeMap<Uuid, (u64, ObjectState)>,
    /// Of kinds that are not watched well.
    pub(super) freshness: BTreeMap<Kind, Freshness>,
    /// Of those of which something else was seen since it was last said as of when they are known.
    pub(super) changed_since_told: BTreeSet<Kind>,
    /// Found and not told yet.
    pub(super) drifts: Vec<Drifted>,
    pub(super) said: Said,
    /// Somebody of the cluster has stopped it: it gets no step, and what is seen of it is judged as ever.
    pub(super) held: Option<Suspension>,
}

impl Target {
    /// `manner` tells how an object of the assignment asks to be applied, `freshness` which kinds are not watched well.
    pub(super) fn new(
        (assignment, bundle_since): (Assignment, Generation),
        inventory: Inventory,
        freshness: BTreeMap<Kind, Freshness>,
        now: Timestamp,
        manner: impl Fn(&Entry) -> Manner,
    ) -> Self {
        let mut target = Self {
            assignment,
            bundle_since,
            accepted_at: None,
            objects: Objects::default(),
            inventory,
            retries: Retries::default(),
            rechecks: RecheckQueue::default(),
            removals: Removals::default(),
            departures: Departures::default(),
            passed_over: BTreeSet::new(),
            asked_last: false,
            under_way: BTreeSet::new(),
            early: BTreeMap::new(),
            freshness,
            changed_since_told: BTreeSet::new(),
            drifts: Vec::new(),
            said: Said::default(),
            held: None,
        };
        target.begin(now, manner);
        target
    }

    /// Takes a newer assignment; answers with the one it replaces.
    pub(super) fn accept(
        &mut self,
        (assignment, bundle_since): (Assignment, Generation),
        now: Timestamp,
        manner: impl Fn(&Entry) -> Manner,
    ) -> Assignment {
        self.bundle_since = bundle_since;
        let old = std::mem::replace(&mut self.assignment, assignment);
        if ActsAs::of(&old) != ActsAs::of(&self.assignment) {
            self.inventory.ask_anew();
        }
        self.begin(now, manner);
        self.raise_again(now);
        old
    }

    fn begin(&mut self, now: Timestamp, manner: impl Fn(&Entry) -> Manner) {
        self.retries.clear();
        self.accepted_at = None;
        self.said.note_change();
        let former = std::mem::take(&mut self.objects);
        (self.departures, self.passed_over) = Default::default();
        self.objects = match self.assignment.action {
            Action::Apply => {
                let entries = self.assignment.manifest.entries();
                self.inventory.note_retried(entries.iter(), self.asked_for(), |entry| manner(entry).hook);
                self.plan_hooks(&manner);
                let (passed_over, entries) = (&self.passed_over, self.assignment.manifest.entries().iter());
                let is_sent = |entry: &&Entry| !passed_over.contains(&Identity::of(&entry.key));
                self.inventory.note_wanted(entries.filter(is_sent));
                self.plan_objects(manner)
            }
            Action::Delete | Action::Orphan => Objects::default(),
        };
        self.objects.keep_drifts(former);
        let asks = self.asks();
        self.rechecks.retain(|identity| asks && self.objects.contains(identity));
        self.inventory.track(&self.assignment.prunable, self.objects.iter());
        self.removals = self.plan_removals();
        self.open_phases(now);
    }

    fn plan_objects(&self, manner: impl Fn(&Entry) -> Manner) -> Objects {
        Objects::plan(self.assignment.manifest.entries(), manner, |identity, digest| {
            if self.passed_over.contains(identity) {
                return Before::PassedOver;
            }
            // What is on its way may be something else, and arrive after we inspected it.
            if self.inventory.has(identity, digest) && !self.under_way.contains(identity) {
                Before::InPlace
            } else if self.inventory.holds(identity, digest) {
                Before::Applied
            } else {
                Before::New
            }
        })
    }

    fn plan_removals(&self) -> Removals {
        let mode = match (self.assignment.action, self.assignment.options.prune) {
            (Action::Delete, _) => Mode::Delete,
            (Action::Orphan, _) => Mode::Orphan,
            (Action::Apply, Prune::Never) => Mode::Keep,
            (Action::Apply, Prune::AfterHealthy | Prune::AfterApply) => Mode::Prune,
        };
        Removals::plan(mode, self.inventory.left_over(|identity| self.objects.contains(identity)))
    }

    /// Whether what is to go may: gates ask what the report says, and nothing that it does not call healthy is well.
    pub(super) fn may_remove(&self, now: Timestamp) -> bool {
        match (self.assignment.action, self.assignment.options.prune) {
            (Action::Delete | Action::Orphan, _) => true,
            (Action::Apply, Prune::Never) => false,
            (Action::Apply, Prune::AfterApply) => self.objects.are_in_place(),
            (Action::Apply, Prune::AfterHealthy) => self.objects.iter().all(|object| self.is_well(object, now)),
        }
    }

    /// To be called whenever something may be well that was not.
    pub(super) fn open_phases(&mut self, now: Timestamp) {
        let mut objects = std::mem::take(&mut self.objects);
        // What is passed over is as good as in place, whatever is to be said of that.
        objects.open_phases(|object| object.state == State::PassedOver || self.is_well(object, now));
        self.objects = objects;
        self.note_departures(now);
        self.note_installed(now);
    }

    /// A tombstone is held as well: it deletes. What is on its way comes to its end.
    pub(super) fn hold(&mut self, by: Option<&Suspension>) {
        if self.held.as_ref() != by {
            self.held = by.cloned();
            self.said.note_change();
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// It gets no further step before an answer comes.
    pub(super) fn is_full(&self, under_way_max: Option<usize>) -> bool {
        under_way_max.is_some_and(|max| self.under_way.len() >= max)
    }

    /// When there is something new to do or to say, if nothing happens before.
    pub(super) fn next_wake(&self, under_way_max: Option<usize>) -> Option<Timestamp> {
        if self.is_held() || self.is_full(under_way_max) {
            return self.said.turns_at();
        }
        let recheck = self.rechecks.next_wake(|identity| !self.under_way.contains(identity));
        let (retry, removal) = (self.retries.next_at(), self.removals.next_wake());
        let departure = self.departures.next_wake(|identity, number| self.may_depart(identity, number));
        [retry, recheck, removal, departure, self.said.turns_at()].into_iter().flatten().min()
    }

    /// What other targets want may be another by now.
    pub(super) fn note_claims(&mut self, claimed_by: impl Fn(&ObjectKey) -> Option<TargetId>) {
        if self.removals.note_claims(claimed_by) {
            self.said.note_change();
        }
    }

    /// What the cluster's policy refused before may be allowed by now.
    pub(super) fn note_policy(&mut self, now: Timestamp) {
        for index in self.objects.refused_by_policy() {
            self.try_again(index, now);
        }
        self.removals.retry_refused(now);
    }

    /// It was given to this target, which does not want it any more: it goes with what left, if its plan says so.
    pub(super) fn take_in(&mut self, key: &ObjectKey) {
        self.inventory.adopt(key);
        self.inventory.track(&self.assignment.prunable, self.objects.iter());
        self.removals = self.plan_removals();
        self.said.note_change();
    }

    /// Whether the object is one that this target applied, whatever its label says.
    pub(super) fn follows(&self, uid: Uuid) -> bool {
        self.inventory.followed(uid).is_some()
    }

    /// Of what it has or may still have in the cluster.
    pub(super) fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.objects.iter().map(|object| &object.key).chain(self.inventory.keys()).map(Kind::of)
    }

    pub(super) fn take_learned(&mut self) -> Learned {
        self.inventory.take_learned()
    }

    pub(super) fn take_drifts(&mut self) -> Vec<Drifted> {
        std::mem::take(&mut self.drifts)
    }
}
