//! One target: what it is to run here, what we hold of it, and what to do next. Decides; asks nobody.
//!
//! It is fed with assignments, findings, sightings and the time, and asked for steps and for how its objects stand.
//! A newer assignment drops the waits and retries of the old one at once. Only a request that is already on its way is
//! waited for, because nobody can call it back: no object ever has two requests on their way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bellwether_core::apply::Phase;
use bellwether_core::bundle::Entry;
use bellwether_core::health::Health;
use bellwether_core::report::{Outcome, Report, Verdict};
use bellwether_core::session::{Action, Assignment, Prune};
use bellwether_core::{Digest, Generation, Name, ObjectKey, TargetId};
use jiff::Timestamp;
use uuid::Uuid;

use super::judge::{self, Judgement, RETRY};
use super::removal::{Candidate, Mode, Removals, Standby};
use crate::cluster::ClusterError;
use crate::cluster::watch::{Seen, Sighting};
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
    removals: Removals,
    /// What is no longer in the inventory, for the journal.
    forgotten: Vec<ObjectKey>,
    by_uid: BTreeMap<Uuid, Identity>,
    /// Seen while a request is on its way: it may be about what that request makes.
    early: BTreeMap<Uuid, (u64, Seen)>,
    under_way: BTreeSet<Identity>,
    /// Objects before this one are of phases that are open.
    opened: usize,
    /// Objects before this one were in place and healthy at some time since the assignment came.
    settled: usize,
    /// Of objects; those that are no longer ready are skipped when their turn comes.
    ready: VecDeque<usize>,
    retries: BTreeSet<(Timestamp, usize)>,
    /// What was last said, to say it only once.
    reported: Option<Report>,
    changed: bool,
    /// When an object that progresses now counts as failed, if nothing is seen of it until then.
    fails_at: Option<Timestamp>,
}

/// What makes two objects the same one to an API server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity {
    group: String,
    kind: String,
    namespace: Option<String>,
    name: String,
}

#[derive(Debug)]
struct Object {
    key: ObjectKey,
    digest: Digest,
    phase: Phase,
    state: State,
    failures: u32,
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

#[derive(Debug)]
struct Owned {
    /// What we last applied; `None` when a request's end is not known, or somebody deleted it since.
    digest: Option<Digest>,
    uid: Uuid,
    /// At which version it was last seen.
    version: u64,
    health: Health,
}

/// A thing to do with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) target: TargetId,
    pub(crate) generation: Generation,
    pub(crate) key: ObjectKey,
    pub(crate) act: Act,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Look whether it may be applied, if we do not own it yet, and apply it.
    Apply { digest: Digest, look_first: bool },
    /// Look whether it is there and carries the target's label.
    Look,
    /// Delete exactly the one that was looked at.
    Delete { uid: Uuid },
    /// Take our label off it, if nobody wrote it since it was looked at.
    Release { version: String },
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Finding {
    Applied {
        uid: Uuid,
        version: u64,
        health: Health,
    },
    /// There already, and not ours; the hint says whose it is.
    Exists {
        hint: String,
    },
    /// There and ours.
    There {
        uid: Uuid,
        version: String,
        finalizers: Vec<String>,
        is_leaving: bool,
    },
    /// Not there, or not ours (any more).
    Gone,
    Failed(ClusterError),
}

impl Target {
    /// `before`: what the target had before this assignment. `phase` tells in which phase an object of the assignment is
    /// applied.
    pub(crate) fn new(assignment: Assignment, before: Vec<Candidate>, phase: impl Fn(&Entry) -> Phase) -> Self {
        let mut target = Self {
            assignment,
            objects: Vec::new(),
            by_identity: BTreeMap::new(),
            inventory: before.into_iter().map(|candidate| (Identity::of(&candidate.key), candidate)).collect(),
            removals: Removals::default(),
            forgotten: Vec::new(),
            owned: BTreeMap::new(),
            by_uid: BTreeMap::new(),
            early: BTreeMap::new(),
            under_way: BTreeSet::new(),
            opened: 0,
            settled: 0,
            ready: VecDeque::new(),
            retries: BTreeSet::new(),
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
        (self.opened, self.settled) = (0, 0);
        self.changed = true;
        self.objects = match self.assignment.action {
            Action::Apply => self.plan_objects(phase),
            Action::Delete | Action::Orphan => Vec::new(),
        };
        let identities = self.objects.iter().enumerate();
        self.by_identity = identities.map(|(index, object)| (Identity::of(&object.key), index)).collect();
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
        let mut objects: Vec<_> = self
            .assignment
            .manifest
            .entries()
            .iter()
            .map(|entry| {
                let identity = Identity::of(&entry.key);
                let owned = self.owned.get(&identity);
                // What is on its way may be something else, and arrive after we looked.
                let unchanged = owned.is_some_and(|owned| owned.digest == Some(entry.digest))
                    && !self.under_way.contains(&identity);
                let state = if unchanged { State::InPlace(Outcome::Unchanged) } else { State::Waiting };
                Object { key: entry.key.clone(), digest: entry.digest, phase: phase(entry), state, failures: 0 }
            })
            .collect();
        // Stable: within a phase the manifest's order stays.
        objects.sort_by_key(|object| object.phase);
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
        while let Some(&(at, index)) = self.retries.first().filter(|(at, _)| *at <= now) {
            self.retries.remove(&(at, index));
            self.objects[index].state = State::Ready;
            self.ready.push_back(index);
        }
        let (key, act) = self.take_apply().or_else(|| self.take_removal(now, is_claimed))?;
        self.under_way.insert(Identity::of(&key));
        Some(Step { target: self.assignment.target, generation: self.assignment.generation, key, act })
    }

    fn take_apply(&mut self) -> Option<(ObjectKey, Act)> {
        let index = self.take_ready()?;
        let object = &mut self.objects[index];
        object.state = State::Sent;
        let look_first = !self.owned.contains_key(&Identity::of(&object.key));
        Some((object.key.clone(), Act::Apply { digest: object.digest, look_first }))
    }

    fn take_removal(&mut self, now: Timestamp, is_claimed: impl Fn(&ObjectKey) -> bool) -> Option<(ObjectKey, Act)> {
        if self.removals.is_idle(now) {
            return None;
        }
        let is_open = self.may_remove();
        let under_way = &self.under_way;
        // What is to be deleted is no longer known to be as we applied it, whatever comes of that.
        let step = self.removals.take_step(now, is_open, |key| {
            if under_way.contains(&Identity::of(key)) {
                Standby::Busy
            } else if is_claimed(key) {
                Standby::Claimed
            } else {
                Standby::Free
            }
        });
        if let Some((key, Act::Delete { .. } | Act::Release { .. })) = &step {
            self.disown(&Identity::of(key));
        }
        step
    }

    fn disown(&mut self, identity: &Identity) {
        if let Some(owned) = self.owned.remove(identity) {
            self.by_uid.remove(&owned.uid);
        }
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
        self.retries.first().map(|&(at, _)| at).into_iter().chain(self.fails_at).chain(self.removals.next_wake()).min()
    }

    /// What came of a step, of this assignment or of one before it.
    pub(crate) fn record(&mut self, step: &Step, finding: Finding, now: Timestamp, chance: f64) {
        let identity = Identity::of(&step.key);
        self.under_way.remove(&identity);
        if let Act::Apply { digest, .. } = step.act {
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
            // It is wanted again: whether it is still there is looked at before it is applied.
            return;
        }
        if step.generation != self.assignment.generation && *finding != Finding::Gone {
            // The new plan begins with a look of its own.
            return;
        }
        if self.removals.record(&step.key, finding, now, chance) {
            self.disown(identity);
            self.forgotten.extend(self.inventory.remove(identity).map(|candidate| candidate.key));
        }
        self.changed = true;
        if self.assignment.action != Action::Apply && self.removals.is_done() {
            let left = std::mem::take(&mut self.inventory);
            self.forgotten.extend(left.into_values().map(|candidate| candidate.key));
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
        self.note(identity, digest, &finding);
        let Some(&index) = self.by_identity.get(identity) else { return };
        let object = &self.objects[index];
        let is_current = step.generation == self.assignment.generation;
        match finding {
            Finding::Applied { .. } if object.digest == digest => {
                self.objects[index].state = State::InPlace(Outcome::Applied);
                self.open_phases();
            }
            // What an older assignment sent came after all; ours is still to be sent.
            _ if !is_current => return,
            Finding::Applied { .. } | Finding::There { .. } | Finding::Gone => {}
            Finding::Exists { hint } => self.objects[index].state = State::Failed(judge::exists(hint)),
            Finding::Failed(error) => self.fail(index, &error, now, chance),
        }
        self.changed = true;
    }

    fn fail(&mut self, index: usize, error: &ClusterError, now: Timestamp, chance: f64) {
        let object = &mut self.objects[index];
        object.failures += 1;
        let judgement = judge::failure(error, object.failures);
        if let Some(pause) = judgement.retry {
            let wait = RETRY.wait(object.failures, chance).max(pause);
            let at = now.saturating_add(jiff::SignedDuration::try_from(wait).unwrap_or_default());
            self.retries.insert((at.unwrap_or(Timestamp::MAX), index));
        }
        object.state = State::Failed(judgement);
    }

    /// Keeps the inventory true, whatever the current assignment says.
    fn note(&mut self, identity: &Identity, digest: Digest, finding: &Finding) {
        match finding {
            Finding::Applied { uid, version, health } => {
                let mut owned = Owned { digest: Some(digest), uid: *uid, version: *version, health: health.clone() };
                if let Some((version, seen)) = self.early.remove(uid) {
                    owned.see(version, seen);
                }
                if let Some(before) = self.owned.insert(identity.clone(), owned) {
                    self.by_uid.remove(&before.uid);
                }
                self.by_uid.insert(*uid, identity.clone());
            }
            // The request may have been carried out, though its answer never came.
            Finding::Failed(ClusterError::Retry { .. }) => {
                if let Some(owned) = self.owned.get_mut(identity) {
                    owned.digest = None;
                }
            }
            Finding::Exists { .. } | Finding::There { .. } | Finding::Gone | Finding::Failed(_) => {}
        }
    }

    /// What a watch saw of an object that carries this target's label.
    pub(crate) fn see(&mut self, sighting: Sighting) {
        let Some(identity) = self.by_uid.get(&sighting.uid) else {
            if !self.under_way.is_empty() {
                self.early.insert(sighting.uid, (sighting.version, sighting.seen));
            }
            return;
        };
        let Some(owned) = self.owned.get_mut(identity) else { return };
        if self.under_way.contains(identity) {
            // Which of the two is newer is known when the answer comes.
            self.early.insert(sighting.uid, (sighting.version, sighting.seen.clone()));
        }
        if owned.see(sighting.version, sighting.seen) {
            self.changed = true;
            self.open_phases();
        }
    }

    /// Says how the target stands, if that is something new and is not about to change with the next answer.
    ///
    /// The first report of an assignment is its acknowledgement, so it comes at once.
    pub(crate) fn take_report(&mut self, may_be_partial: bool, now: Timestamp) -> Option<Report> {
        if self.fails_at.is_some_and(|at| at <= now) {
            self.fails_at = None;
            self.changed = true;
        }
        let is_first = self.reported.as_ref().is_none_or(|report| report.generation != self.assignment.generation);
        if !self.changed || !(is_first || may_be_partial || self.is_quiet()) {
            return None;
        }
        self.changed = false;
        self.fails_at = self.owned.values().filter_map(|owned| owned.health.fails_at).filter(|&at| at > now).min();
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

    /// What left the inventory since it was last asked.
    pub(crate) fn take_forgotten(&mut self) -> Vec<ObjectKey> {
        std::mem::take(&mut self.forgotten)
    }

    pub(crate) fn name(&self) -> &Name {
        &self.assignment.name
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Nothing of this assignment is on its way or about to be.
    fn is_quiet(&self) -> bool {
        self.under_way.is_empty()
            && !self.ready.iter().any(|&index| self.objects[index].state == State::Ready)
            && !(self.removals.has_ready() && self.may_remove())
    }

    fn standings(&self, now: Timestamp) -> impl Iterator<Item = Standing<'_>> {
        self.objects.iter().map(move |object| {
            let plain =
                |outcome, verdict| Standing { key: &object.key, outcome, verdict, message: "".into(), hint: "" };
            match &object.state {
                State::Waiting | State::Ready | State::Sent => plain(Outcome::Waiting, Verdict::Progressing),
                State::Failed(judgement) => Standing {
                    key: &object.key,
                    outcome: judgement.outcome,
                    verdict: judgement.verdict,
                    message: judgement.message.as_str().into(),
                    hint: &judgement.hint,
                },
                State::InPlace(outcome) => match self.owned.get(&Identity::of(&object.key)) {
                    Some(owned) => Standing {
                        message: owned.health.message.as_str().into(),
                        ..plain(*outcome, owned.health.at(now))
                    },
                    None => plain(*outcome, Verdict::Unknown),
                },
            }
        })
    }
}

impl Step {
    /// The value of the target label on what this target owns.
    pub(crate) fn label(&self) -> String {
        self.target.as_uuid().simple().to_string()
    }
}

impl Owned {
    /// Whether that was news.
    fn see(&mut self, version: u64, seen: Seen) -> bool {
        // What was on its way when we wrote is about an object that is no more.
        if version < self.version {
            return false;
        }
        self.version = version;
        let health = match seen {
            Seen::There(health) => health,
            Seen::Gone => {
                self.digest = None;
                let message = "deleted by somebody else".to_owned();
                Health { verdict: Verdict::Degraded, message, fails_at: None }
            }
        };
        let is_news = self.health != health;
        self.health = health;
        is_news
    }
}

impl Identity {
    pub(super) fn of(key: &ObjectKey) -> Self {
        let (group, kind, namespace, name) = key.identity();
        Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }
}
