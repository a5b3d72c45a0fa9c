//! Hooks of a target: which do not run at the first installation, which are deleted once they have run, and what has to be
//! there again for one that runs.
//!
//! What runs once goes when it has ended as its policy says; what such hooks need (an account, a ConfigMap) has no end of its
//! own, and goes when all of the target is well. Either is known to have run before it is deleted, so that what is gone is
//! missed by nobody: not by a watch, nor by the next assignment, nor by the next process. What is new runs with all that
//! went. Decides; deletes nothing.
//!
//! A hook of upgrades is passed over in the bundle that a target is installed with: the first that it was well with in a cluster,
//! which the journal has. With another one it runs; on the way back to that one it does not, whatever became of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::bodies::{Hook, Manner};
use super::finding::Finding;
use super::phases::State;
use super::removal::is_protected;
use super::step::Act;
use super::target::Target;
use crate::ObjectKey;
use crate::bundle::Entry;
use crate::health::{self, Ending};
use crate::hooks::DeletePolicy;
use crate::object::Identity;

/// So long a hook stays that has run. By then the journal has that it did: it is written within five seconds.
const STAYS: SignedDuration = SignedDuration::from_secs(10);

/// Between two tries to delete one that stays, whatever the reason: nothing waits for it.
const TRIED_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// The hooks of an assignment that ask to be deleted once they have run.
#[derive(Debug, Default)]
pub(super) struct Departures {
    of: BTreeMap<Identity, Departure>,
}

#[derive(Debug)]
struct Departure {
    policy: DeletePolicy,
    /// It has run, and is deleted then.
    at: Option<Timestamp>,
}

impl Departures {
    fn next(&self, is_busy: impl Fn(&Identity) -> bool) -> Option<(Timestamp, &Identity)> {
        let due = self.of.iter().filter(|(identity, _)| !is_busy(identity));
        due.filter_map(|(identity, departure)| Some((departure.at?, identity))).min()
    }

    /// When the next one is deleted.
    pub(super) fn next_wake(&self, under_way: &BTreeSet<Identity>) -> Option<Timestamp> {
        self.next(|identity| under_way.contains(identity)).map(|(at, _)| at)
    }

    fn set(&mut self, identity: &Identity, at: Option<Timestamp>) {
        if let Some(departure) = self.of.get_mut(identity) {
            departure.at = at;
        }
    }
}

impl Target {
    /// To be called before its objects are planned.
    pub(super) fn plan_hooks(&mut self, manner: impl Fn(&Entry) -> Manner) {
        let entries = self.assignment.manifest.entries().iter();
        let hooks: Vec<_> = entries.filter_map(|entry| Some((entry, manner(entry).hook?))).collect();
        let (inventory, assignment) = (&mut self.inventory, &self.assignment);
        let of_upgrades = hooks.iter().filter(|(_, hook)| hook.is_of_upgrades).map(|(entry, _)| &entry.key);
        self.passed_over = inventory.pass_over(of_upgrades, assignment.manifest.digest());
        let is_to_run = |(entry, _): &(&Entry, Hook)| {
            let identity = Identity::of(&entry.key);
            let is_in_place = inventory.has(&identity, entry.digest) || inventory.holds(&identity, entry.digest);
            runs_once(&entry.key) && !is_in_place && !self.passed_over.contains(&identity)
        };
        if hooks.iter().any(is_to_run) {
            for (entry, _) in hooks.iter().filter(|(entry, _)| !runs_once(&entry.key)) {
                inventory.have_departed_made_again(&Identity::of(&entry.key));
            }
        }
        let policies = hooks.into_iter().map(|(entry, hook)| (entry, hook.policy));
        let departing = policies
            .filter(|(entry, policy)| (policy.succeeded || policy.failed) && !is_protected(&entry.key))
            .map(|(entry, policy)| (Identity::of(&entry.key), Departure { policy, at: None }));
        self.departures = Departures { of: departing.collect() };
    }

    /// To be called whenever something may be well that was not: who is well with what it got first is installed.
    pub(super) fn note_installed(&mut self, now: Timestamp) {
        if self.passed_over.is_empty()
            || !self.objects.are_all_open()
            || !self.inventory.is_installing(&self.passed_over)
        {
            return;
        }
        if self.objects.iter().all(|object| self.is_well(object, now)) {
            self.inventory.note_installed(&self.passed_over);
        }
    }

    /// To be called whenever something may have run that had not.
    pub(super) fn note_departures(&mut self, now: Timestamp) {
        let waiting = self.departures.of.iter().filter(|(_, departure)| departure.at.is_none());
        let departing = waiting.filter(|(identity, departure)| self.has_run(identity, departure.policy, now));
        let departing: Vec<_> = departing.map(|(identity, _)| identity.clone()).collect();
        for identity in departing {
            self.inventory.note_run(&identity);
            self.departures.set(&identity, Some(later(now, STAYS)));
        }
    }

    /// It is there as it is wanted, and is to be deleted.
    fn has_run(&self, identity: &Identity, policy: DeletePolicy, now: Timestamp) -> bool {
        let Some(object) = self.objects.find(identity).filter(|object| matches!(object.state, State::InPlace(_)))
        else {
            return false;
        };
        let is_as_wanted = |digest: Option<_>| digest == Some(object.digest);
        let owned = self.inventory.owned(identity);
        let Some(owned) = owned.filter(|it| it.is_there && !it.is_departing && is_as_wanted(it.digest)) else {
            return false;
        };
        if runs_once(&object.key) {
            return match owned.finished {
                Some(Ending::Succeeded) => policy.succeeded,
                Some(Ending::Failed) => policy.failed,
                None => false,
            };
        }
        policy.succeeded && self.objects.are_all_open() && self.objects.iter().all(|object| self.is_well(object, now))
    }

    pub(super) fn take_departure(&mut self, now: Timestamp) -> Option<(ObjectKey, Act)> {
        loop {
            let next = self.departures.next(|identity| self.under_way.contains(identity));
            let identity = next.filter(|(at, _)| *at <= now)?.1.clone();
            self.departures.set(&identity, None);
            let policy = self.departures.of.get(&identity)?.policy;
            // Something else may be wanted of it by now.
            if !self.has_run(&identity, policy, now) {
                continue;
            }
            let key = self.objects.find(&identity)?.key.clone();
            let uid = self.inventory.begin_departure(&identity)?;
            return Some((key, Act::Delete { uid }));
        }
    }

    /// It failed before a person asked for it to be tried again, and the one that failed makes room for that.
    pub(super) fn is_to_run_again(&self, identity: &Identity) -> bool {
        let object = self.objects.find(identity).filter(|object| object.is_made_anew && runs_once(&object.key));
        let last = object.and_then(|_| self.inventory.last_applied(identity));
        last.is_some_and(|last| last.finished == Some(Ending::Failed) && last.generation < self.assignment.retried)
    }

    /// What came of deleting one.
    pub(super) fn record_departure(&mut self, identity: &Identity, finding: &Finding, now: Timestamp) {
        let why = match finding {
            Finding::Gone => {
                self.inventory.end_departure(identity, None);
                self.run_what_is_owed(identity);
                self.said.note_change();
                return;
            }
            // A watch sees it go.
            Finding::There { is_leaving: true, .. } => return,
            Finding::There { kept_by: Some(name), .. } => format!("{name} asks for it to be left"),
            Finding::Failed(error) | Finding::Unasked(error) => error.to_string(),
            _ => "it no longer carries this target's label".to_owned(),
        };
        self.inventory.end_departure(identity, Some(format!("it has run, and is not deleted: {why}")));
        self.departures.set(identity, Some(later(now, TRIED_AGAIN)));
        self.said.note_change();
    }
}

fn runs_once(key: &ObjectKey) -> bool {
    health::runs_once(key.group(), &key.kind)
}

fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}
