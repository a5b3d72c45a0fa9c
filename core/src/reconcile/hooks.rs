//! Hooks of a target: which do not run at the first installation, which are deleted once they have run, and what has to be
//! there again for one that runs.
//!
//! What runs once goes when it has ended as its policy says; what such hooks need (an account, a ConfigMap) has no end of its
//! own, and goes when all of the target is well. Either is known to have run before it is deleted, so that what is gone is
//! missed by nobody: not by a watch, nor by the next assignment, nor by the next process. What is new runs with all that
//! went. Decides; deletes nothing.
//!
//! A hook of upgrades is passed over in the bundle that a target is installed with: the first that was in place as a whole in a
//! cluster, which the journal has. With another one it runs; on the way back to that one it does not, whatever became of it. A
//! Job that is a hook of the installation alone runs with that bundle and with no other one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::bodies::{Hook, Manner, Occasion};
use super::finding::Finding;
use super::inventory::AskedFor;
use super::phases::{Object, State};
use super::removal::is_protected;
use super::step::Act;
use super::target::Target;
use crate::ObjectKey;
use crate::bundle::Entry;
use crate::health::{self, Ending};
use crate::hooks::DeletePolicy;
use crate::object::{Identity, is_built_in_group};

/// So long a hook stays that has run, for whoever looks at it, and until the journal has that it did.
const STAYS: SignedDuration = SignedDuration::from_secs(10);

/// Between two tries to delete one that stays, whatever the reason: nothing waits for it.
const TRIED_AGAIN: SignedDuration = SignedDuration::from_mins(1);

const OF_UPGRADES: &str = "a hook of upgrades: it runs when this target gets another bundle here";

const OF_THE_INSTALLATION: &str = "a hook of the installation: it does not run with a later bundle";

const NOT_RUN: &str = "a hook of upgrades that did not run: this bundle came before the one before it was in place as a whole, so \
    this is what the target is installed with; it runs with the next one";

/// The hooks of an assignment that ask to be deleted once they have run.
#[derive(Debug, Default)]
pub(super) struct Departures {
    of: BTreeMap<Identity, Departure>,
}

#[derive(Debug)]
struct Departure {
    policy: DeletePolicy,
    /// It has run, and is deleted then,
    at: Option<Timestamp>,
    /// if that is written down by then: who starts anew would run it again.
    number: u64,
}

impl Departures {
    fn next(&self, may_go: impl Fn(&Identity, u64) -> bool) -> Option<(Timestamp, &Identity)> {
        let due = self.of.iter().filter(|(identity, departure)| may_go(identity, departure.number));
        due.filter_map(|(identity, departure)| Some((departure.at?, identity))).min()
    }

    /// When the next one is deleted.
    pub(super) fn next_wake(&self, may_go: impl Fn(&Identity, u64) -> bool) -> Option<Timestamp> {
        self.next(may_go).map(|(at, _)| at)
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
        let bundle = self.assignment.manifest.digest();
        let inventory = &mut self.inventory;
        let installation = inventory.begin_bundle(bundle);
        let is_installed_with = installation.bundle == Some(bundle);
        let is_new_run = |entry: &Entry| {
            let identity = Identity::of(&entry.key);
            let is_in_place = inventory.has(&identity, entry.digest) || inventory.holds(&identity, entry.digest);
            runs_once(&entry.key) && !is_in_place
        };
        let is_passed_over = |(entry, hook): &&(&Entry, Hook)| match hook.occasion {
            Occasion::Any => false,
            Occasion::Installation => installation.is_done && !is_installed_with && is_new_run(entry),
            Occasion::Upgrades => is_installed_with,
        };
        self.passed_over = hooks.iter().filter(is_passed_over).map(|(entry, _)| Identity::of(&entry.key)).collect();
        let is_to_run =
            |(entry, _): &(&Entry, Hook)| is_new_run(entry) && !self.passed_over.contains(&Identity::of(&entry.key));
        if hooks.iter().any(is_to_run) {
            // What is not Kubernetes' own may run as a Job does.
            let is_needed = |key: &ObjectKey| !runs_once(key) && is_built_in_group(key.group());
            for (entry, _) in hooks.iter().filter(|(entry, _)| is_needed(&entry.key)) {
                inventory.have_departed_made_again(&Identity::of(&entry.key));
            }
        }
        let policies = hooks.into_iter().map(|(entry, hook)| (entry, hook.policy));
        let departing = policies
            .filter(|(entry, policy)| (policy.succeeded || policy.failed) && !is_protected(&entry.key))
            .map(|(entry, policy)| (Identity::of(&entry.key), Departure { policy, at: None, number: 0 }));
        self.departures = Departures { of: departing.collect() };
    }

    /// To be called whenever something may be in place that was not: with all of it a target is installed. That something
    /// is unwell then is for the next bundle to mend; only what a hook did not do is still to be done.
    pub(super) fn note_installed(&mut self, now: Timestamp) {
        if !self.inventory.is_installing() || !self.objects.are_all_open() || self.objects.iter().next().is_none() {
            return;
        }
        let is_done = |object: &Object| match object.state {
            State::PassedOver => true,
            State::InPlace(_) => object.hook.is_none() || self.is_well(object, now),
            _ => false,
        };
        if self.objects.iter().all(is_done) {
            self.inventory.note_installed();
        }
    }

    /// What is said of a hook that is passed over; `true`: it leaves something undone.
    pub(super) fn why_passed_over(&self, object: &Object) -> (&'static str, bool) {
        match object.hook.map(|hook| hook.occasion) {
            Some(Occasion::Installation) => (OF_THE_INSTALLATION, false),
            _ if self.inventory.is_mixed() => (NOT_RUN, true),
            _ => (OF_UPGRADES, false),
        }
    }

    /// To be called whenever something may have run that had not.
    pub(super) fn note_departures(&mut self, now: Timestamp) {
        let waiting = self.departures.of.iter().filter(|(_, departure)| departure.at.is_none());
        let departing = waiting.filter(|(identity, departure)| self.has_run(identity, departure.policy, now));
        let departing: Vec<_> = departing.map(|(identity, _)| identity.clone()).collect();
        for identity in departing {
            self.inventory.note_run(&identity);
            let number = self.inventory.next_number();
            if let Some(departure) = self.departures.of.get_mut(&identity) {
                (departure.at, departure.number) = (Some(later(now, STAYS)), number);
            }
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
            return owned.finished.is_some_and(|ending| policy.covers(ending));
        }
        policy.succeeded && self.objects.are_all_open() && self.objects.iter().all(|object| self.is_well(object, now))
    }

    /// Nothing is on its way to it, and what is to be known of it is written down.
    pub(super) fn may_depart(&self, identity: &Identity, number: u64) -> bool {
        !self.under_way.contains(identity) && self.inventory.is_written(number)
    }

    pub(super) fn take_departure(&mut self, now: Timestamp) -> Option<(ObjectKey, Act)> {
        loop {
            let next = self.departures.next(|identity, number| self.may_depart(identity, number));
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

    /// It failed before a person asked for it to be tried again, or before this bundle came, and the one that failed makes
    /// room for that.
    pub(super) fn is_to_run_again(&self, identity: &Identity) -> bool {
        let Some(object) = self.objects.find(identity).filter(|object| runs_once(&object.key)) else { return false };
        let is_made_anew = object.hook.is_some_and(|hook| hook.policy.before_creation);
        let last = self.inventory.last_applied(identity).filter(|_| is_made_anew);
        last.is_some_and(|last| {
            last.finished == Some(Ending::Failed) && last.generation < self.asked_for().since(object.hook)
        })
    }

    /// Since when what failed is to run again.
    pub(super) fn asked_for(&self) -> AskedFor {
        AskedFor { retried: self.assignment.retried, bundle_since: self.bundle_since }
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
