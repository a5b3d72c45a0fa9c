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
use bellwether_core::session::{Action, Assignment};
use bellwether_core::{Digest, Generation, Name, ObjectKey, TargetId};
use jiff::Timestamp;
use uuid::Uuid;

use super::judge::{self, Judgement, RETRY};
use crate::cluster::ClusterError;
use crate::cluster::watch::{Seen, Sighting};
use crate::report::{Standing, roll_up};

#[derive(Debug)]
pub(crate) struct Target {
    assignment: Assignment,
    /// By phase, then by key.
    objects: Vec<Object>,
    by_identity: BTreeMap<Identity, usize>,
    /// The inventory: what we applied and have not deleted. It outlives assignments; what stands here and in no object
    /// of the assignment is left over, and stays until it may be pruned.
    owned: BTreeMap<Identity, Owned>,
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
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

/// A thing to do: look whether the object may be applied, if we do not own it yet, and apply it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) target: TargetId,
    pub(crate) generation: Generation,
    pub(crate) key: ObjectKey,
    pub(crate) digest: Digest,
    pub(crate) look_first: bool,
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
    Failed(ClusterError),
}

impl Target {
    /// `phase` tells in which phase an object of the assignment is applied.
    pub(crate) fn new(assignment: Assignment, phase: impl Fn(&Entry) -> Phase) -> Self {
        let mut target = Self {
            assignment,
            objects: Vec::new(),
            by_identity: BTreeMap::new(),
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
            // What a deletion takes away, and in which order, is decided from the inventory.
            Action::Delete => Vec::new(),
            Action::Orphan => {
                self.owned.clear();
                self.by_uid.clear();
                Vec::new()
            }
        };
        let identities = self.objects.iter().enumerate();
        self.by_identity = identities.map(|(index, object)| (Identity::of(&object.key), index)).collect();
        self.open_phases();
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
    /// [`Target::record`] is told of it.
    pub(crate) fn take_step(&mut self, now: Timestamp) -> Option<Step> {
        while let Some(&(at, index)) = self.retries.first().filter(|(at, _)| *at <= now) {
            self.retries.remove(&(at, index));
            self.objects[index].state = State::Ready;
            self.ready.push_back(index);
        }
        let index = self.take_ready()?;
        let object = &mut self.objects[index];
        object.state = State::Sent;
        let identity = Identity::of(&object.key);
        let look_first = !self.owned.contains_key(&identity);
        self.under_way.insert(identity);
        Some(Step {
            target: self.assignment.target,
            generation: self.assignment.generation,
            key: object.key.clone(),
            digest: object.digest,
            look_first,
        })
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
        self.retries.first().map(|&(at, _)| at).into_iter().chain(self.fails_at).min()
    }

    /// What came of a step, of this assignment or of one before it.
    pub(crate) fn record(&mut self, step: &Step, finding: Finding, now: Timestamp, chance: f64) {
        let identity = Identity::of(&step.key);
        self.under_way.remove(&identity);
        self.note(&identity, step.digest, &finding);
        if self.under_way.is_empty() {
            self.early.clear();
        }
        let Some(&index) = self.by_identity.get(&identity) else { return };
        let object = &self.objects[index];
        let is_current = step.generation == self.assignment.generation;
        match finding {
            Finding::Applied { .. } if object.digest == step.digest => {
                self.objects[index].state = State::InPlace(Outcome::Applied);
                self.open_phases();
            }
            // What an older assignment sent came after all; ours is still to be sent.
            _ if !is_current => return,
            Finding::Applied { .. } => {}
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
            Finding::Exists { .. } | Finding::Failed(_) => {}
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
        let mut report = roll_up(&self.assignment, self.standings(now));
        if self.assignment.action == Action::Delete {
            // Nothing is deleted yet, and a target that is to go is not healthy by having nothing to show.
            report.applied = false;
            report.verdict = Verdict::Progressing;
        }
        if self.reported.as_ref() == Some(&report) {
            return None;
        }
        self.reported = Some(report.clone());
        Some(report)
    }

    pub(crate) fn name(&self) -> &Name {
        &self.assignment.name
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    /// Nothing of this assignment is on its way or about to be.
    fn is_quiet(&self) -> bool {
        self.under_way.is_empty() && !self.ready.iter().any(|&index| self.objects[index].state == State::Ready)
    }

    fn standings(&self, now: Timestamp) -> impl Iterator<Item = Standing<'_>> {
        self.objects.iter().map(move |object| {
            let plain = |outcome, verdict| Standing { key: &object.key, outcome, verdict, message: "", hint: "" };
            match &object.state {
                State::Waiting | State::Ready | State::Sent => plain(Outcome::Waiting, Verdict::Progressing),
                State::Failed(judgement) => Standing {
                    key: &object.key,
                    outcome: judgement.outcome,
                    verdict: judgement.verdict,
                    message: &judgement.message,
                    hint: &judgement.hint,
                },
                State::InPlace(outcome) => match self.owned.get(&Identity::of(&object.key)) {
                    Some(owned) => Standing { message: &owned.health.message, ..plain(*outcome, owned.health.at(now)) },
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
    fn of(key: &ObjectKey) -> Self {
        let (group, kind, namespace, name) = key.identity();
        Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }
}
