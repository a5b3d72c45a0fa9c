//! One target: what it is to run here, what we hold of it, and what to do next. Decides; asks nobody.
//!
//! It is fed with assignments, findings, object events and the time, and asked for steps and for how its objects stand.
//! What somebody else changes goes into the recheck queue (see [`super::recheck_queue`]): it is checked, and what was
//! ours is put back. A newer assignment drops the waits and retries of the old one at once. Only a request that is
//! already on its way is waited for, because nobody can call it back: no object ever has two requests on their way.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bellwether_core::apply::{Phase, sort_for_applying};
use bellwether_core::bundle::Entry;
use bellwether_core::drift::{DriftSignal, Response};
use bellwether_core::journal::Applied;
use bellwether_core::report::{Outcome, Report, Verdict};
use bellwether_core::session::{Action, Assignment, DriftMode, Prune};
use bellwether_core::{Digest, Name, ObjectKey, TraceId};
use jiff::Timestamp;
use uuid::Uuid;

use super::judge::{self, Judgement};
use super::owned::{self, Identity, LastApplied, Owned};
use super::ownership::find_twins;
use super::recheck_queue::RecheckQueue;
use super::removal::{Candidate, Mode, Removals, Standby};
use super::retries::{Cause, Retries};
use super::step::{Act, Answer, Finding, Found, Step};
use crate::executor::kubernetes::client::ClusterError;
use crate::executor::kubernetes::client::watch::{Condition, Kind, ObjectEvent, ObjectState};
use crate::report::{Standing, roll_up};

#[derive(Debug)]
pub(crate) struct Target {
    assignment: Assignment,
    /// By phase, then by key.
    objects: Vec<Object>,
    by_identity: BTreeMap<Identity, usize>,
    /// What may carry our label: all that this and earlier assignments name and that is not known to be gone. It outlives
    /// assignments; what stands here and in no object of the assignment is left over.
    inventory: BTreeMap<Identity, Candidate>,
    /// What this process applied and has not deleted.
    owned: BTreeMap<Identity, Owned>,
    /// What this process or one before it applied last: the fields of that are ours.
    last_applied: BTreeMap<Identity, LastApplied>,
    rechecks: RecheckQueue,
    /// Found and not told yet.
    drifts: Vec<Drifted>,
    /// Kinds whose watch is broken.
    not_synced: BTreeSet<Kind>,
    removals: Removals,
    /// For the journal.
    learned: Learned,
    by_uid: BTreeMap<Uuid, Identity>,
    /// Seen while a request is on its way: it may be about what that request makes.
    early: BTreeMap<Uuid, (u64, ObjectState)>,
    under_way: BTreeSet<Identity>,
    /// Objects before this one are of phases that are open.
    opened: usize,
    /// Objects before this one were in place and healthy at some time since the assignment came.
    settled: usize,
    /// Of objects; those that are no longer ready are skipped when their turn comes.
    ready: VecDeque<usize>,
    retries: Retries,
    /// When the assignment was taken up; `None` until the first step or report after it.
    accepted_at: Option<Timestamp>,
    /// What was last said, to say it only once.
    reported: Option<Report>,
    changed: bool,
    /// When an object that progresses now counts as failed, if nothing is seen of it until then.
    fails_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Object {
    key: ObjectKey,
    digest: Digest,
    phase: Phase,
    state: State,
    /// Another one that is this one, if their kind has no namespaces.
    twin: Option<ObjectKey>,
    failures: u32,
    /// The last drift of it under this assignment.
    drift: Option<Found>,
    /// It is left as it was found.
    is_left_drifted: bool,
    /// Why it could not be asked about or put right when that was last tried.
    uncorrected: Option<Judgement>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// An earlier phase holds it up.
    Waiting,
    Ready,
    /// A request of this assignment is on its way.
    Sent,
    InPlace(Outcome),
    /// Not in place; tried again when it stands among the retries.
    Failed(Judgement),
}

/// What the journal is to know.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    pub(crate) applied: Vec<Applied>,
    /// No longer in the inventory.
    pub(crate) gone: Vec<ObjectKey>,
}

/// A drift, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drifted {
    pub(crate) key: ObjectKey,
    pub(crate) found_at: Timestamp,
    pub(crate) found: Found,
    pub(crate) response: Response,
}

/// What an earlier process knew of a target.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// What the target had before its assignment.
    pub(crate) before: Vec<Candidate>,
    pub(crate) last_applied: BTreeMap<Identity, LastApplied>,
}

impl Target {
    /// `phase` tells in which phase an object of the assignment is applied.
    pub(crate) fn new(assignment: Assignment, past: Past, phase: impl Fn(&Entry) -> Phase) -> Self {
        let mut target = Self {
            assignment,
            objects: Vec::new(),
            by_identity: BTreeMap::new(),
            inventory: past.before.into_iter().map(|candidate| (Identity::of(&candidate.key), candidate)).collect(),
            removals: Removals::default(),
            learned: Learned::default(),
            owned: BTreeMap::new(),
            last_applied: past.last_applied,
            rechecks: RecheckQueue::default(),
            drifts: Vec::new(),
            not_synced: BTreeSet::new(),
            by_uid: BTreeMap::new(),
            early: BTreeMap::new(),
            under_way: BTreeSet::new(),
            opened: 0,
            settled: 0,
            ready: VecDeque::new(),
            retries: Retries::default(),
            accepted_at: None,
            reported: None,
            changed: true,
            fails_at: None,
        };
        target.begin(phase);
        target
    }

    /// Takes a newer assignment; answers with the one it replaces.
    pub(crate) fn accept(&mut self, assignment: Assignment, phase: impl Fn(&Entry) -> Phase) -> Assignment {
        let old = std::mem::replace(&mut self.assignment, assignment);
        self.begin(phase);
        old
    }

    fn begin(&mut self, phase: impl Fn(&Entry) -> Phase) {
        self.ready.clear();
        self.retries.clear();
        self.accepted_at = None;
        (self.opened, self.settled) = (0, 0);
        self.changed = true;
        self.objects = match self.assignment.action {
            Action::Apply => self.plan_objects(phase),
            Action::Delete | Action::Orphan => Vec::new(),
        };
        let identities = self.objects.iter().enumerate();
        self.by_identity = identities.map(|(index, object)| (Identity::of(&object.key), index)).collect();
        let by_identity = &self.by_identity;
        self.rechecks.retain(|identity| by_identity.contains_key(identity));
        self.track();
        self.removals = self.plan_removals();
        self.open_phases();
    }

    /// Written down before the first apply: what may be there from now on, and what a plan allows to go.
    fn track(&mut self) {
        for key in &self.assignment.prunable {
            if let Some(candidate) = self.inventory.get_mut(&Identity::of(key)) {
                candidate.prunable = true;
            }
        }
        for object in &self.objects {
            let candidate = Candidate { key: object.key.clone(), phase: object.phase, prunable: false };
            self.inventory.insert(Identity::of(&object.key), candidate);
        }
    }

    fn plan_removals(&self) -> Removals {
        let mode = match (self.assignment.action, self.assignment.options.prune) {
            (Action::Delete, _) => Mode::Delete,
            (Action::Orphan, _) => Mode::Orphan,
            (Action::Apply, Prune::Never) => return Removals::default(),
            (Action::Apply, Prune::AfterHealthy | Prune::AfterApply) => Mode::Prune,
        };
        let left = self.inventory.iter().filter(|(identity, _)| !self.by_identity.contains_key(identity));
        Removals::plan(mode, left.map(|(_, candidate)| candidate.clone()).collect())
    }

    fn may_remove(&self) -> bool {
        match (self.assignment.action, self.assignment.options.prune) {
            (Action::Delete | Action::Orphan, _) => true,
            (Action::Apply, Prune::Never) => false,
            (Action::Apply, Prune::AfterApply) => {
                self.objects.iter().all(|object| matches!(object.state, State::InPlace(_)))
            }
            (Action::Apply, Prune::AfterHealthy) => (0..self.objects.len()).all(|index| !self.holds_up(index)),
        }
    }

    fn plan_objects(&self, phase: impl Fn(&Entry) -> Phase) -> Vec<Object> {
        let mut twins = find_twins(self.assignment.manifest.entries());
        let mut objects: Vec<_> = self
            .assignment
            .manifest
            .entries()
            .iter()
            .map(|entry| {
                let identity = Identity::of(&entry.key);
                let owned = self.owned.get(&identity);
                // What is on its way may be something else, and arrive after we inspected it.
                let unchanged = owned.is_some_and(|owned| owned.digest == Some(entry.digest))
                    && !self.under_way.contains(&identity);
                let state = if unchanged { State::InPlace(Outcome::Unchanged) } else { State::Waiting };
                Object {
                    key: entry.key.clone(),
                    digest: entry.digest,
                    phase: phase(entry),
                    state,
                    twin: twins.remove(&identity),
                    failures: 0,
                    drift: None,
                    is_left_drifted: false,
                    uncorrected: None,
                }
            })
            .collect();
        sort_for_applying(&mut objects, |object| (&object.key, object.phase));
        objects
    }

    /// Makes ready what no earlier phase holds up any more. A phase that is open stays open.
    fn open_phases(&mut self) {
        loop {
            while self.settled < self.opened && !self.holds_up(self.settled) {
                self.settled += 1;
            }
            if self.settled < self.opened || self.opened == self.objects.len() {
                return;
            }
            let phase = self.objects[self.opened].phase;
            while let Some(object) = self.objects.get_mut(self.opened).filter(|object| object.phase == phase) {
                if object.state == State::Waiting {
                    object.state = State::Ready;
                    self.ready.push_back(self.opened);
                }
                self.opened += 1;
            }
        }
    }

    /// Later phases wait for it: it is not in place, or not healthy.
    fn holds_up(&self, index: usize) -> bool {
        let object = &self.objects[index];
        let is_usable = |owned: &Owned| owned.health.verdict == Verdict::Healthy;
        !matches!(object.state, State::InPlace(_)) || !self.owned.get(&Identity::of(&object.key)).is_some_and(is_usable)
    }

    /// The next step, if there is one whose time has come. What it names counts as under way until
    /// [`Target::record`] is told of it. `is_claimed` tells whether another target has an object in its bundle.
    pub(crate) fn take_step(&mut self, now: Timestamp, is_claimed: impl Fn(&ObjectKey) -> bool) -> Option<Step> {
        self.accepted_at.get_or_insert(now);
        while let Some(index) = self.retries.take_due(now) {
            self.make_ready(index);
        }
        let question = self.take_question(now);
        let taken = question.or_else(|| self.take_apply(now)).or_else(|| self.take_removal(now, is_claimed));
        let (key, act) = taken?;
        let identity = Identity::of(&key);
        let last_applied = self.last_applied.get(&identity).cloned();
        let twin = self.by_identity.get(&identity).and_then(|&index| self.objects[index].twin.clone());
        self.under_way.insert(identity);
        Some(Step {
            target: self.assignment.target,
            generation: self.assignment.generation,
            key,
            act,
            last_applied,
            twin,
        })
    }

    fn make_ready(&mut self, index: usize) {
        if matches!(self.objects[index].state, State::Failed(_)) {
            self.objects[index].state = State::Ready;
            self.ready.push_back(index);
        }
    }

    fn take_apply(&mut self, now: Timestamp) -> Option<(ObjectKey, Act)> {
        let index = self.take_ready()?;
        let object = &mut self.objects[index];
        object.state = State::Sent;
        let (identity, digest) = (Identity::of(&object.key), object.digest);
        let (owned, last_applied) = (self.owned.get(&identity), self.last_applied.get(&identity));
        // Another process applied it: what was done to it since is drift as well.
        let was_applied = owned.is_none() && last_applied.is_some_and(|last_applied| last_applied.digest == digest);
        // Then it is applied to exactly that one; under the name of what is gone, there may be somebody else's.
        let is_known = owned
            .zip(last_applied)
            .is_some_and(|(owned, last_applied)| owned.is_there && owned.uid == last_applied.uid);
        let act = if was_applied {
            Act::Correct { digest, seen_at: now, writes: self.assignment.options.drift == DriftMode::Correct }
        } else {
            Act::Apply { digest, inspect_first: !is_known }
        };
        Some((object.key.clone(), act))
    }

    /// About an object in place that may have been changed. What is about to be applied anyway is not asked about, and
    /// what is not in place for some other reason is tried again: that reason may be gone.
    fn take_question(&mut self, now: Timestamp) -> Option<(ObjectKey, Act)> {
        loop {
            let under_way = &self.under_way;
            let (identity, seen_at) = self.rechecks.take_due(now, |identity| !under_way.contains(identity))?;
            let Some(&index) = self.by_identity.get(&identity) else { continue };
            let object = &mut self.objects[index];
            match object.state {
                State::InPlace(_) => {
                    let writes = self.assignment.options.drift == DriftMode::Correct;
                    return Some((object.key.clone(), Act::Correct { digest: object.digest, seen_at, writes }));
                }
                State::Failed(_) => {
                    object.state = State::Ready;
                    self.ready.push_back(index);
                }
                State::Waiting | State::Ready | State::Sent => {}
            }
        }
    }

    fn take_removal(&mut self, now: Timestamp, is_claimed: impl Fn(&ObjectKey) -> bool) -> Option<(ObjectKey, Act)> {
        if self.removals.is_idle(now) {
            return None;
        }
        let is_open = self.may_remove();
        let under_way = &self.under_way;
        // What is to be deleted is no longer known to be as we applied it, whatever comes of that.
        let step = self.removals.take_step(now, is_open, |key, live| {
            if under_way.contains(&Identity::of(key)) {
                Standby::Busy
            } else if is_claimed(live) {
                Standby::Claimed
            } else {
                Standby::Free
            }
        });
        if let Some((key, Act::Delete { .. } | Act::Orphan { .. })) = &step {
            self.disown(&Identity::of(key));
        }
        step
    }

    fn disown(&mut self, identity: &Identity) {
        self.last_applied.remove(identity);
        if let Some(owned) = self.owned.remove(identity) {
            self.unfollow(owned.uid, identity);
        }
    }

    /// One object may be followed under another spelling of its name by now.
    fn unfollow(&mut self, uid: Uuid, identity: &Identity) {
        if self.by_uid.get(&uid) == Some(identity) {
            self.by_uid.remove(&uid);
        }
    }

    /// Whether the object is one that this target applied, whatever its label says.
    pub(crate) fn follows(&self, uid: Uuid) -> bool {
        self.by_uid.contains_key(&uid)
    }

    /// Whether an object that is to go is one that is to stay, in another spelling.
    fn is_wanted(&self, key: &ObjectKey, finding: &Finding) -> bool {
        let Finding::There { uid, namespace, .. } = finding else { return false };
        let live = ObjectKey { namespace: namespace.clone(), ..key.clone() };
        let is_followed = self.by_uid.get(uid).is_some_and(|identity| self.by_identity.contains_key(identity));
        is_followed || self.wanted_at(&live).is_some()
    }

    /// Our name of what an API server keeps under this one.
    fn wanted_at(&self, live: &ObjectKey) -> Option<Identity> {
        let identity = Identity::of(live);
        if self.by_identity.contains_key(&identity) {
            return Some(identity);
        }
        // In a namespace, there is no other spelling.
        let mut wanted = self.objects.iter().filter(|_| live.namespace.is_none());
        wanted.find(|object| object.key.is_at(live)).map(|object| Identity::of(&object.key))
    }

    fn take_ready(&mut self) -> Option<usize> {
        let mut held_back = Vec::new();
        let found = loop {
            let Some(index) = self.ready.pop_front() else { break None };
            let object = &self.objects[index];
            if object.state != State::Ready {
                continue;
            }
            if !self.under_way.contains(&Identity::of(&object.key)) {
                break Some(index);
            }
            held_back.push(index);
        };
        for index in held_back.into_iter().rev() {
            self.ready.push_front(index);
        }
        found
    }

    /// When there is something new to do or to say, if nothing happens before.
    pub(crate) fn next_wake(&self) -> Option<Timestamp> {
        let recheck = self.rechecks.next_wake(|identity| !self.under_way.contains(identity));
        let retry = self.retries.next_at();
        retry.into_iter().chain(self.fails_at).chain(recheck).chain(self.removals.next_wake()).min()
    }

    /// What came of a step, of this assignment or of one before it.
    pub(crate) fn record(&mut self, step: &Step, answer: Answer, now: Timestamp, chance: f64) {
        let Answer { finding, drift } = answer;
        let identity = Identity::of(&step.key);
        self.under_way.remove(&identity);
        if let Some(digest) = step.act.digest() {
            let is_drifted = drift.is_some();
            self.note(&identity, step, digest, &finding, is_drifted, now);
            self.note_drift(step, &identity, drift, &finding, now);
            self.record_apply(step, digest, &identity, finding, now, chance);
        } else {
            self.record_removal(step, &identity, &finding, now, chance);
        }
        if self.under_way.is_empty() {
            self.early.clear();
        }
    }

    fn record_removal(&mut self, step: &Step, identity: &Identity, finding: &Finding, now: Timestamp, chance: f64) {
        if self.by_identity.contains_key(identity) {
            // It is wanted again: whether it is still there is inspected before it is applied.
            return;
        }
        if step.generation != self.assignment.generation && *finding != Finding::Gone {
            // The new plan begins with an inspection of its own.
            return;
        }
        let finding = if self.is_wanted(&step.key, finding) { &Finding::Gone } else { finding };
        if self.removals.record(&step.key, finding, now, chance) {
            self.disown(identity);
            self.learned.gone.extend(self.inventory.remove(identity).map(|candidate| candidate.key));
        }
        self.changed = true;
        if self.assignment.action != Action::Apply && self.removals.is_done() {
            let left = std::mem::take(&mut self.inventory);
            self.last_applied.clear();
            self.learned.gone.extend(left.into_values().map(|candidate| candidate.key));
        }
    }

    fn record_apply(
        &mut self,
        step: &Step,
        digest: Digest,
        identity: &Identity,
        finding: Finding,
        now: Timestamp,
        chance: f64,
    ) {
        let Some(&index) = self.by_identity.get(identity) else { return };
        let is_current = step.generation == self.assignment.generation;
        if is_current {
            let cause = if let Finding::Failed(error) = &finding { Cause::of(&step.key, error) } else { None };
            for waiting in self.retries.note_answer(index, cause.as_ref()) {
                self.make_ready(waiting);
            }
        }
        let object = &mut self.objects[index];
        match finding {
            Finding::Applied { .. } if object.digest == digest => {
                object.failures = 0;
                let outcome = if step.is_question() { Outcome::Unchanged } else { Outcome::Applied };
                object.state = State::InPlace(outcome);
                self.open_phases();
            }
            // What an older assignment sent came after all; ours is still to be sent.
            _ if !is_current => return,
            Finding::Kept { .. } | Finding::Finished => {
                object.failures = 0;
                object.state = State::InPlace(Outcome::Unchanged);
                self.open_phases();
            }
            Finding::Applied { .. } | Finding::There { .. } | Finding::Gone => {}
            Finding::Exists { hint } => {
                object.failures += 1;
                self.fail(step, index, judge::exists(hint), None, now, chance);
            }
            Finding::Failed(error) => {
                object.failures += 1;
                let judgement = judge::failure(&step.key, &error, object.failures);
                self.fail(step, index, judgement, Cause::of(&step.key, &error), now, chance);
            }
        }
        self.changed = true;
    }

    fn fail(
        &mut self,
        step: &Step,
        index: usize,
        judgement: Judgement,
        cause: Option<Cause>,
        now: Timestamp,
        chance: f64,
    ) {
        let object = &mut self.objects[index];
        let wait = judgement.retry.wait(object.failures, chance);
        let retry_at = wait.map(|wait| {
            let wait = jiff::SignedDuration::try_from(wait).unwrap_or(jiff::SignedDuration::MAX);
            now.saturating_add(wait).unwrap_or(Timestamp::MAX)
        });
        let is_there = judgement.outcome != Outcome::Exists;
        match (&step.act, &object.state, retry_at) {
            // It stays in place, with whatever was found of it.
            (&Act::Correct { seen_at, .. }, State::InPlace(_), Some(at)) if is_there => {
                object.uncorrected = Some(judgement);
                return self.rechecks.ask_again(&Identity::of(&step.key), seen_at, at);
            }
            (_, _, Some(at)) => self.retries.add(index, cause, at),
            (_, _, None) => {}
        }
        object.state = State::Failed(judgement);
    }

    /// Keeps the inventory true, whatever the current assignment says.
    fn note(
        &mut self,
        identity: &Identity,
        step: &Step,
        digest: Digest,
        finding: &Finding,
        is_drifted: bool,
        now: Timestamp,
    ) {
        let (uid, version, condition, digest) = match finding {
            Finding::Applied { uid, version, condition, body } => {
                let last_applied =
                    LastApplied { uid: *uid, digest, body: Some(body.clone()), finished: condition.finished };
                self.note_applied(identity, &step.key, last_applied);
                (*uid, *version, condition.clone(), Some(digest))
            }
            // What is left drifted is overwritten by the next assignment.
            Finding::Kept { seen: Some((uid, version, condition)) } => {
                (*uid, *version, condition.clone(), (!is_drifted).then_some(digest))
            }
            Finding::Kept { seen: None } | Finding::Finished => {
                let last_applied = self.last_applied.get(identity);
                let is_as_wanted = *finding == Finding::Finished;
                let finished = last_applied.and_then(|last_applied| last_applied.finished).filter(|_| is_as_wanted);
                let health = finished.map_or_else(owned::deleted, owned::finished);
                let condition = Condition { health, finished, fingerprint: None };
                (
                    last_applied.map_or(Uuid::nil(), |last_applied| last_applied.uid),
                    0,
                    condition,
                    is_as_wanted.then_some(digest),
                )
            }
            // The request may have been carried out, though its answer never came; or another object has its name.
            Finding::Failed(error @ (ClusterError::Retry { .. } | ClusterError::Stale { .. })) => {
                if let Some(owned) = self.owned.get_mut(identity) {
                    owned.digest = None;
                    owned.is_there &= !matches!(error, ClusterError::Stale { .. });
                }
                return;
            }
            Finding::Exists { .. } | Finding::There { .. } | Finding::Gone | Finding::Failed(_) => return,
        };
        let Condition { health, finished, fingerprint } = condition;
        let is_there = !matches!(finding, Finding::Kept { seen: None } | Finding::Finished);
        let before = self.owned.remove(identity);
        // What it says right after an apply is from before that; only what we saw begin has a time.
        let same = before.as_ref().filter(|before| before.uid == uid && before.health == health);
        let failed_at = same.and_then(|before| before.failed_at);
        let owned = Owned { digest, uid, is_there, version, health, failed_at, finished, fingerprint, asked_at: now };
        if let Some(before) = before {
            self.unfollow(before.uid, identity);
        }
        self.owned.insert(identity.clone(), owned);
        self.by_uid.insert(uid, identity.clone());
        self.rechecks.settle(identity);
        if let Some((version, seen)) = self.early.remove(&uid) {
            self.see_owned(identity, version, None, seen, now);
        }
    }

    fn note_applied(&mut self, identity: &Identity, key: &ObjectKey, last_applied: LastApplied) {
        if self.last_applied.get(identity) != Some(&last_applied) {
            let LastApplied { uid, digest, finished, .. } = last_applied;
            self.learned.applied.push(Applied { key: key.clone(), uid, digest, finished });
            self.last_applied.insert(identity.clone(), last_applied);
        }
    }

    fn note_drift(
        &mut self,
        step: &Step,
        identity: &Identity,
        drift: Option<Found>,
        finding: &Finding,
        now: Timestamp,
    ) {
        let Act::Correct { seen_at, .. } = step.act else { return };
        let response = match (finding, self.assignment.options.drift) {
            (Finding::Applied { .. }, _) => Response::Corrected,
            (Finding::Kept { .. } | Finding::Failed(_), DriftMode::Warn) => Response::Warned,
            (Finding::Exists { .. } | Finding::Failed(_), DriftMode::Correct) => Response::Failed,
            _ => return,
        };
        let Some(&index) = self.by_identity.get(identity) else { return };
        let object = &mut self.objects[index];
        let was_left = object.is_left_drifted;
        if !matches!(finding, Finding::Failed(_)) {
            object.is_left_drifted = false;
            object.uncorrected = None;
        }
        let Some(found) = drift else { return };
        object.is_left_drifted = response != Response::Corrected;
        let is_said = was_left && object.is_left_drifted && object.drift.as_ref() == Some(&found);
        object.drift = Some(found.clone());
        if is_said {
            return;
        }
        if response == Response::Corrected {
            self.rechecks.note_correction(identity, now);
        }
        self.drifts.push(Drifted { key: step.key.clone(), found_at: seen_at, found, response });
    }

    /// What a watch saw of an object that this target follows, or that carries its label.
    pub(crate) fn see(&mut self, object_event: ObjectEvent, now: Timestamp) {
        let ObjectEvent { key, uid, version, listed_at, seen, .. } = object_event;
        let Some(identity) = self.by_uid.get(&uid).cloned() else {
            let identity = self.wanted_at(&key).unwrap_or_else(|| Identity::of(&key));
            self.see_unknown(&identity, uid, version, seen, now);
            return;
        };
        if self.under_way.contains(&identity) {
            // Which of the two is newer is known when the answer comes.
            self.early.insert(uid, (version, seen.clone()));
        }
        self.see_owned(&identity, version, listed_at, seen, now);
    }

    /// One that carries our label, and that we did not make or do not know of yet.
    fn see_unknown(&mut self, identity: &Identity, uid: Uuid, version: u64, seen: ObjectState, now: Timestamp) {
        if seen != ObjectState::Deleted && self.owned.contains_key(identity) && !self.under_way.contains(identity) {
            self.rechecks.raise(identity, DriftSignal::Certain, now);
        } else if !self.under_way.is_empty() {
            self.early.insert(uid, (version, seen));
        }
    }

    fn see_owned(
        &mut self,
        identity: &Identity,
        version: u64,
        listed_at: Option<Timestamp>,
        seen: ObjectState,
        now: Timestamp,
    ) {
        let Some(owned) = self.owned.get_mut(identity) else { return };
        let (has_changed, signal) = owned.see(version, listed_at, seen, now);
        if let Some(ending) = owned.finished
            && let Some(last_applied) =
                self.last_applied.get_mut(identity).filter(|last_applied| last_applied.finished.is_none())
            && let Some(candidate) = self.inventory.get(identity)
        {
            last_applied.finished = Some(ending);
            let (key, uid, digest) = (candidate.key.clone(), last_applied.uid, last_applied.digest);
            self.learned.applied.push(Applied { key, uid, digest, finished: Some(ending) });
        }
        if self.assignment.options.drift != DriftMode::Ignore && self.by_identity.contains_key(identity) {
            self.rechecks.raise(identity, signal, now);
        }
        if has_changed {
            self.changed = true;
            self.open_phases();
        }
    }

    /// All objects of a kind that there were when the list began: what is not among them went away unseen.
    pub(crate) fn see_all(&mut self, kind: &Kind, began_at: Timestamp, uids: &BTreeSet<Uuid>, now: Timestamp) {
        let objects = self.objects.iter().filter(|object| Kind::of(&object.key) == *kind);
        let missing = |owned: &Owned| owned.asked_at < began_at && !uids.contains(&owned.uid);
        let gone: Vec<_> = objects
            .map(|object| Identity::of(&object.key))
            .filter_map(|identity| Some((self.owned.get(&identity).filter(|owned| missing(owned))?.version, identity)))
            .collect();
        for (version, identity) in gone {
            self.see_owned(&identity, version, None, ObjectState::Deleted, now);
        }
    }

    /// Whether it is known how objects of a kind stand.
    pub(crate) fn set_not_synced(&mut self, kind: &Kind, is_not_synced: bool) {
        let has_changed =
            if is_not_synced { self.not_synced.insert(kind.clone()) } else { self.not_synced.remove(kind) };
        self.changed |= has_changed;
    }

    /// Says how the target stands, if that is something new and is not about to change with the next answer.
    ///
    /// The first report of an assignment is its acknowledgement, so it comes at once.
    pub(crate) fn take_report(&mut self, may_be_partial: bool, now: Timestamp) -> Option<Report> {
        let accepted_at = *self.accepted_at.get_or_insert(now);
        if self.fails_at.is_some_and(|at| at <= now) {
            self.fails_at = None;
            self.changed = true;
        }
        let is_first = self.reported.as_ref().is_none_or(|report| report.generation != self.assignment.generation);
        if !self.changed || !(is_first || may_be_partial || self.is_quiet(now)) {
            return None;
        }
        self.changed = false;
        let times = |owned: &Owned| {
            let grace_end = owned.evidence().grace_end(accepted_at, now);
            [owned.health.fails_at, grace_end].into_iter().flatten().filter(|&at| at > now).min()
        };
        self.fails_at = self.owned.values().filter_map(times).min();
        let leaving = self.removals.standings(now, self.may_remove());
        let mut report = roll_up(&self.assignment, self.standings(now), leaving);
        if self.assignment.action != Action::Apply {
            report.applied = self.removals.is_done();
        }
        if self.reported.as_ref() == Some(&report) {
            return None;
        }
        self.reported = Some(report.clone());
        Some(report)
    }

    /// What the journal is to know since it was last asked.
    pub(crate) fn take_learned(&mut self) -> Learned {
        std::mem::take(&mut self.learned)
    }

    pub(crate) fn take_drifts(&mut self) -> Vec<Drifted> {
        std::mem::take(&mut self.drifts)
    }

    pub(crate) fn name(&self) -> &Name {
        &self.assignment.name
    }

    pub(crate) fn trace(&self) -> Option<TraceId> {
        self.assignment.trace
    }

    /// Of what it has or may still have in the cluster.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> {
        let wanted = self.objects.iter().map(|object| &object.key);
        let left = self.inventory.values().map(|candidate| &candidate.key);
        wanted.chain(left).map(Kind::of)
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Nothing of this assignment is on its way or about to be.
    fn is_quiet(&self, now: Timestamp) -> bool {
        let is_busy = !self.under_way.is_empty()
            || self.rechecks.has_due(now)
            || self.ready.iter().any(|&index| self.objects[index].state == State::Ready)
            || (self.removals.has_ready() && self.may_remove());
        !is_busy
    }

    fn standings(&self, now: Timestamp) -> impl Iterator<Item = Standing<'_>> {
        self.objects.iter().map(move |object| {
            let plain = |outcome, verdict| Standing {
                key: &object.key,
                outcome,
                verdict,
                message: "".into(),
                hint: "",
                may_pass: false,
            };
            match &object.state {
                State::Waiting | State::Ready | State::Sent => plain(Outcome::Waiting, Verdict::Progressing),
                State::Failed(judgement) => Standing {
                    key: &object.key,
                    outcome: judgement.outcome,
                    verdict: judgement.verdict,
                    message: judgement.message.as_str().into(),
                    hint: &judgement.hint,
                    may_pass: judgement.may_pass(),
                },
                State::InPlace(outcome) => self.standing_in_place(object, *outcome, now),
            }
        })
    }

    fn standing_in_place<'a>(&'a self, object: &'a Object, outcome: Outcome, now: Timestamp) -> Standing<'a> {
        let identity = Identity::of(&object.key);
        let standing = |outcome, verdict, message: Cow<'a, str>, hint: &'a str| Standing {
            key: &object.key,
            outcome,
            verdict,
            message,
            hint,
            may_pass: false,
        };
        let drifted = |hint: &'a str, why: &str| {
            let found = object.drift.as_ref().map(Found::to_string).unwrap_or_default();
            let words = if why.is_empty() { found } else { format!("{found}; it cannot be put right: {why}") };
            standing(Outcome::Drifted, Verdict::Degraded, words.into(), hint)
        };
        let Some(owned) = self.owned.get(&identity) else { return standing(outcome, Verdict::Unknown, "".into(), "") };
        match &object.uncorrected {
            Some(why) if object.is_left_drifted => return drifted(&why.hint, &why.message),
            _ if object.is_left_drifted => return drifted("the target only warns of drift", ""),
            // It is doubtful, and for too long to be believed as it was last seen.
            Some(why) if why.verdict > Verdict::Progressing => {
                let message = format!("it cannot be inspected: {}", why.message);
                return standing(outcome, Verdict::Unknown, message.into(), why.hint.as_str());
            }
            _ => {}
        }
        if self.rechecks.is_flapping(&identity, now) {
            return drifted(CONFLICTING_CONTROLLER_HINT, "");
        }
        if self.not_synced.contains(&Kind::of(&object.key)) {
            return standing(outcome, Verdict::Unknown, "its watch is broken".into(), "");
        }
        let accepted_at = self.accepted_at.unwrap_or(now);
        let verdict = owned.evidence().verdict(accepted_at, now);
        // What ended has ended; everything else can get well while nobody changes it.
        let may_pass = verdict == Verdict::Failed && owned.finished.is_none();
        Standing { may_pass, ..standing(outcome, verdict, owned.health.message.as_str().into(), "") }
    }
}

const CONFLICTING_CONTROLLER_HINT: &str =
    "it is put right again and again: stop who changes it, or take the field out of the manifest";
