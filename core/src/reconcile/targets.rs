//! All targets of a cluster: what an executor feeds with events and asks for steps and reports.
//!
//! What targets share is decided here: whose turn is next, and whose an object is that two of them name. Bodies that
//! several name are kept once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

use jiff::Timestamp;
use uuid::Uuid;

use super::bodies::{Bodies, Body};
use super::claims::{Claim, Claims};
use super::drifted::Drifted;
use super::event::{Event, Freshness, Kind, ObjectEvent, WatchEvent};
use super::finding::{Answer, Finding};
use super::inventory::{Inventory, Learned};
use super::step::{Act, Step};
use super::target::Target;
use crate::apply::is_applied_once;
use crate::assignment::Holds;
use crate::bundle::Entry;
use crate::journal::{InventoryUpdate, Journalled};
use crate::report::Report;
use crate::session::{Action, Assignment};
use crate::{ObjectKey, TargetId};

/// All targets of a cluster. It does nothing: it is told what happened ([`Targets::handle`]), and asked for what is to
/// be done ([`Targets::take_step`]) and said ([`Targets::take_reports`]), again after each event and when
/// [`Targets::next_wake`] has come.
///
/// Of one object at most one step is under way; of different ones as many as are taken: whoever takes them bounds that.
/// All times are by one clock that never goes back.
#[derive(Debug, Default)]
pub struct Targets {
    by_id: BTreeMap<TargetId, Target>,
    bodies: Bodies,
    claims: Claims,
    /// They are not what targets last heard of.
    claims_have_changed: bool,
    /// The target that had the last turn: the next one is first in line.
    turn: Option<TargetId>,
    /// Of kinds that are not watched well.
    freshness: BTreeMap<Kind, Freshness>,
    /// Of one target: what hangs in it leaves room for others.
    under_way_max: Option<usize>,
    holds: Holds,
}

/// What an event taught, beside what is to be done.
#[derive(Debug, Default)]
pub struct EventOutcome {
    /// For the journal.
    pub updates: Vec<InventoryUpdate>,
    /// For the hub.
    pub drifts: Vec<Drifted>,
}

impl Targets {
    /// No target has more than so many steps under way.
    pub fn bounded(under_way_max: usize) -> Self {
        Self { under_way_max: Some(under_way_max), ..Self::default() }
    }

    /// `chance`, in `0.0..1.0`, spreads the waits that follow from a failure.
    pub fn handle(&mut self, event: Event, now: Timestamp, chance: f64) -> EventOutcome {
        let mut told = EventOutcome::default();
        match event {
            Event::Accepted(journalled) => self.accept(journalled, now, &mut told),
            Event::Ended(target) => self.end(target),
            Event::Written(target, number) => {
                if let Some(target) = self.by_id.get_mut(&target) {
                    target.inventory.note_written(number);
                }
            }
            Event::PolicyChanged => self.by_id.values_mut().for_each(|target| target.note_policy(now)),
            Event::Answered(step, answer) => self.record(&step, answer, now, chance, &mut told),
            Event::Watched(WatchEvent::Object(object_event)) => self.see(&object_event, now, &mut told),
            Event::Watched(WatchEvent::Listed { kind, began_at, uids }) => {
                self.see_all(&kind, began_at, &uids, now);
            }
            Event::Watched(WatchEvent::Freshness { kind, freshness }) => self.set_freshness(&kind, freshness, now),
            Event::Held(holds) => self.hold(holds),
        }
        told
    }

    fn hold(&mut self, holds: Holds) {
        self.holds = holds;
        for (&id, target) in &mut self.by_id {
            target.hold(self.holds.of(id));
        }
    }

    fn accept(&mut self, journalled: Journalled, now: Timestamp, told: &mut EventOutcome) {
        let id = journalled.assignment.target;
        self.claims_have_changed = true;
        // The new ones are held before the old ones are let go: what both have stays.
        if journalled.assignment.action == Action::Apply {
            let entries = journalled.assignment.manifest.entries();
            self.bodies.hold(entries, &journalled.objects);
            self.claims.add(id, entries);
        }
        let manner = |entry: &Entry| self.bodies.manner(entry);
        let Some(target) = self.by_id.get_mut(&id) else {
            let inventory = Inventory::of(&journalled);
            let assigned = (journalled.assignment, journalled.bundle_since);
            let mut target = Target::new(assigned, inventory, self.freshness.clone(), now, manner);
            told.learn(id, target.take_learned());
            target.hold(self.holds.of(id));
            self.by_id.insert(id, target);
            return;
        };
        let old = target.accept((journalled.assignment, journalled.bundle_since), now, manner);
        told.learn(id, target.take_learned());
        if old.action == Action::Apply {
            self.bodies.release(old.manifest.entries());
            self.claims.remove(id, old.manifest.entries());
        }
    }

    /// A tombstone holds no bodies and claims nothing. What is to run goes only by one.
    fn end(&mut self, id: TargetId) {
        if self.by_id.get(&id).is_some_and(|target| target.assignment.action != Action::Apply) {
            self.by_id.remove(&id);
        }
    }

    fn record(&mut self, step: &Step, answer: Answer, now: Timestamp, chance: f64, told: &mut EventOutcome) {
        let Some(target) = self.by_id.get_mut(&step.target) else { return };
        let given_to = match (&step.act, &answer.finding) {
            (&Act::Give { to, .. }, Finding::Released) if !self.claims.has(to, &step.key) => Some(to),
            _ => None,
        };
        let claims = &self.claims;
        target.record(step, answer, |key| claims.other(step.target, key), (now, chance));
        told.drifts = target.take_drifts();
        told.learn(step.target, target.take_learned());
        // It dropped it while that was on its way, and nobody else would ever look at it.
        if let Some(receiver) = given_to.and_then(|to| self.by_id.get_mut(&to)) {
            receiver.take_in(&step.key);
            self.claims_have_changed = true;
        }
    }

    /// Goes to the target that the object is known by, and to the one that its label names: anybody may edit a label.
    fn see(&mut self, object_event: &ObjectEvent, now: Timestamp, told: &mut EventOutcome) {
        let labelled = object_event.target.parse().map(TargetId::new).ok();
        for (id, target) in &mut self.by_id {
            if Some(*id) == labelled || target.follows(object_event.uid) {
                target.see(object_event.clone(), now);
                told.learn(*id, target.take_learned());
            }
        }
    }

    fn see_all(&mut self, kind: &Kind, began_at: Timestamp, uids: &BTreeSet<Uuid>, now: Timestamp) {
        for target in self.by_id.values_mut() {
            target.see_all(kind, began_at, uids, now);
        }
    }

    fn set_freshness(&mut self, kind: &Kind, freshness: Freshness, now: Timestamp) {
        for target in self.by_id.values_mut() {
            target.set_freshness(kind, freshness, now);
        }
        freshness.put(&mut self.freshness, kind);
    }

    /// The next step, if there is one whose time has come; its object has no other until its answer comes. Targets take
    /// turns, so that a large one does not keep a small one waiting.
    pub fn take_step(&mut self, now: Timestamp) -> Option<Step> {
        if std::mem::take(&mut self.claims_have_changed) {
            let claims = &self.claims;
            for (&id, target) in &mut self.by_id {
                target.note_claims(|key| claims.other(id, key));
            }
        }
        let (after, until) = match self.turn {
            Some(last) => ((Excluded(last), Unbounded), (Unbounded, Included(last))),
            None => ((Unbounded, Unbounded), (Unbounded, Unbounded)),
        };
        for range in [after, until] {
            for (&id, target) in self.by_id.range_mut(range) {
                if target.is_held() || target.is_full(self.under_way_max) {
                    continue;
                }
                if let Some(step) = target.take_step(now) {
                    self.turn = Some(id);
                    let is_applied_once = self.body(&step).is_some_and(|body| is_applied_once(body.bytes()));
                    return Some(Step { claims: self.claims_of(&step), is_applied_once, ..step });
                }
            }
        }
        None
    }

    pub(super) fn claims_of(&self, step: &Step) -> Vec<Claim> {
        let claim = |(key, by): &(ObjectKey, TargetId)| Claim {
            by: *by,
            key: key.clone(),
            last_uid: self.by_id.get(by).and_then(|target| target.inventory.last_uid(key)),
        };
        self.claims.others(step.target, &step.key).map(claim).collect()
    }

    /// What a step applies; `None`: it applies nothing, or it never came.
    pub fn body(&self, step: &Step) -> Option<Body> {
        let digest = step.act.digest()?;
        // What waits for its phase is kept as it was.
        let last = step.last_applied.as_ref().filter(|last| last.digest == digest);
        self.bodies.find(digest).or_else(|| last?.body.clone())
    }

    /// What is new of how the targets stand. A target that is being applied says how far it is only if `may_be_partial`.
    pub fn take_reports(&mut self, may_be_partial: bool, now: Timestamp) -> Vec<Report> {
        self.by_id.values_mut().filter_map(|target| target.take_report(may_be_partial, now)).collect()
    }

    /// There may be something new to report.
    pub fn has_changed(&self) -> bool {
        self.by_id.values().any(|target| target.said.has_changed())
    }

    /// When there is something new to do or to say, if nothing happens before.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.by_id.values().filter_map(|target| target.next_wake(self.under_way_max)).min()
    }

    /// What the target is to run here by now; `None`: none was accepted.
    pub fn assignment(&self, id: TargetId) -> Option<&Assignment> {
        self.by_id.get(&id).map(|target| &target.assignment)
    }

    pub(super) fn inventory_of(&self, id: TargetId) -> Option<&Inventory> {
        self.by_id.get(&id).map(|target| &target.inventory)
    }

    /// What is to be watched, once an object of it is in the cluster.
    pub fn kinds(&self) -> BTreeSet<Kind> {
        self.by_id.values().flat_map(Target::kinds).collect()
    }

    /// It is watched no more.
    pub fn unwatch(&mut self, kind: &Kind, now: Timestamp) {
        self.set_freshness(kind, Freshness::Watched, now);
    }
}

impl EventOutcome {
    fn learn(&mut self, target: TargetId, learned: Learned) {
        if !learned.is_empty() {
            let Learned { applied, gone, installation, number } = learned;
            self.updates.push(InventoryUpdate { target, applied, gone, installation, number });
        }
    }
}
