//! What a target has to take away from the cluster: objects that left its bundle, or all of them for a tombstone.
//!
//! Decides; asks nobody. Every object is inspected first, and only what carries the target's label, was applied by it
//! and is wanted by nobody is touched. When all were inspected, they go stage by stage, in the reverse of applying;
//! custom resources before who answers their finalizers. If one is there that the plan does not name, nothing is pruned
//! at all; of those one is looked at until it is gone, and then the next. Definitions, namespaces and volumes always stay:
//! with them goes what nobody listed; and so does what asks for it. Where the target itself goes it takes its label off what
//! stays, or nobody could have that again.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::error::ClusterError;
use super::finding::Finding;
use super::judge::{self, Judgement};
use super::removal::{Candidate, Left, Mode, Removal, State};
use super::retries::SPACING;
use super::status::Standing;
use super::step::{Act, Step};
use crate::account::ActsAs;
use crate::apply::sort_for_deleting;
use crate::backoff::{Backoff, Jitter};
use crate::object::Identity;
use crate::{ObjectKey, TargetId};

/// Between two inspections of an object that is being deleted. Most are gone at the first.
const POLL: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(10), jitter: Jitter::Half };

/// Between two inspections of what no plan names: whoever deletes it, as they are told, sees the prune go on.
const UNPLANNED: Backoff =
    Backoff { first: Duration::from_secs(5), longest: Duration::from_mins(1), jitter: Jitter::Half };

#[derive(Debug, Default)]
pub(super) struct Removals {
    mode: Mode,
    /// In the order of deletion.
    objects: Vec<Removal>,
    ready: VecDeque<usize>,
    wakes: BTreeSet<(Timestamp, usize)>,
    /// No other wake is taken before.
    free_at: Option<Timestamp>,
    /// What no plan names and is looked at for all such.
    looked_at: Option<usize>,
    /// Not inspected yet.
    uninspected: usize,
    /// Objects before this one are of phases that are open.
    opened: usize,
    /// Objects before this one hold up nothing.
    passed: usize,
}

/// At most between tries of what the API server refuses to delete.
const REFUSED_PAUSE: Duration = Duration::from_mins(1);

impl Removals {
    pub(super) fn plan(mode: Mode, candidates: Vec<Candidate>) -> Self {
        let mut candidates = candidates;
        sort_for_deleting(&mut candidates, |candidate| (&candidate.key, candidate.phase));
        let objects: Vec<_> = candidates.into_iter().map(|candidate| Removal::plan(candidate, mode)).collect();
        let ready: VecDeque<_> = (0..objects.len()).filter(|&index| !objects[index].inspected).collect();
        Self { mode, uninspected: ready.len(), ready, objects, ..Self::default() }
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Nothing can come of asking for a step now.
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        let is_opening = self.opened < self.objects.len() && self.uninspected == 0;
        self.ready.is_empty() && !is_opening && self.next_wake().is_none_or(|at| at > now)
    }

    pub(super) fn is_done(&self) -> bool {
        self.objects.iter().all(|object| matches!(object.state, State::Gone | State::Left(_)))
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        let &(at, _) = self.wakes.first()?;
        Some(self.free_at.map_or(at, |free_at| at.max(free_at)))
    }

    fn take_woken(&mut self, now: Timestamp) -> Option<usize> {
        if self.next_wake()? > now {
            return None;
        }
        self.free_at = Some(now.saturating_add(SPACING).unwrap_or(Timestamp::MAX));
        self.wakes.pop_first().map(|(_, index)| index)
    }

    /// What others want may be another by now: what is to be given has its turn, and what is not any more waits for its
    /// own. Answers whether that changes anything.
    pub(super) fn note_claims(&mut self, claimed_by: impl Fn(&ObjectKey) -> Option<TargetId>) -> bool {
        let mut has_changed = false;
        for index in 0..self.objects.len() {
            let object = &mut self.objects[index];
            let was_claimed = object.is_claimed();
            object.note_claim(claimed_by(&object.live), self.mode);
            match (&object.state, object.is_claimed()) {
                (State::Left(Left::Protected | Left::Kept(_) | Left::Asked), true) if !self.mode.lets_go() => {
                    self.look_at(index);
                }
                (State::There { .. }, true) if !was_claimed && !self.ready.contains(&index) => {
                    self.ready.push_back(index);
                }
                (State::There { .. }, false) if was_claimed => {
                    // It was not asked whether it may go by now.
                    self.close_phases();
                    self.look_at(index);
                }
                _ => continue,
            }
            has_changed = true;
        }
        has_changed
    }

    fn look_at(&mut self, index: usize) {
        self.objects[index].state = State::Waiting;
        self.ready.push_back(index);
    }

    /// What has begun is followed, and all else waits for its stage once more.
    fn close_phases(&mut self) {
        (self.opened, self.passed) = (0, 0);
        let waits = |object: &Removal| matches!(object.state, State::There { .. }) && !object.is_claimed();
        self.ready.retain(|&index| self.objects[index].is_unplanned() || !waits(&self.objects[index]));
    }

    /// The next thing to do. Nothing is begun unless `is_open`, but what is given away; what was begun is followed to its
    /// end.
    pub(super) fn take_step(
        &mut self,
        now: Timestamp,
        is_open: bool,
        is_busy: impl Fn(&ObjectKey) -> bool,
    ) -> Option<(ObjectKey, Act)> {
        let woken = self.take_woken(now);
        self.ready.extend(woken);
        self.look_on();
        self.open_phases(now);
        let mut held_back = Vec::new();
        let found = loop {
            let Some(index) = self.ready.pop_front() else { break None };
            let object = &mut self.objects[index];
            let goes_on = is_open || object.is_claimed() || matches!(object.state, State::Leaving { .. });
            match object.state {
                State::Gone | State::Left(_) | State::Sent => {}
                _ if goes_on && !is_busy(&object.candidate.key) => {
                    break Some((object.candidate.key.clone(), object.begin(self.mode)));
                }
                _ => held_back.push(index),
            }
        };
        for index in held_back.into_iter().rev() {
            self.ready.push_front(index);
        }
        found
    }

    fn leave(&mut self, index: usize, why: Left) {
        self.objects[index].state = State::Left(why);
        self.note_inspected(index);
    }

    fn note_inspected(&mut self, index: usize) {
        if !std::mem::replace(&mut self.objects[index].inspected, true) {
            self.uninspected -= 1;
        }
    }

    /// Makes ready what nothing holds up any more, once it is known what is there.
    fn open_phases(&mut self, now: Timestamp) {
        if self.uninspected > 0 || self.is_refused() {
            return;
        }
        loop {
            while self.passed < self.opened && !self.objects[self.passed].holds_up(now) {
                self.passed += 1;
            }
            if self.passed < self.opened || self.opened == self.objects.len() {
                return;
            }
            let stage = self.objects[self.opened].stage();
            while let Some(object) = self.objects.get(self.opened).filter(|object| object.stage() == stage) {
                // What is given away is ready since it was inspected.
                if matches!(object.state, State::There { .. }) && !object.is_claimed() {
                    self.ready.push_back(self.opened);
                }
                self.opened += 1;
            }
        }
    }

    /// Something is there that no plan named: somebody's picture of this cluster is wrong, so nothing goes.
    fn is_refused(&self) -> bool {
        self.mode == Mode::Prune && self.objects.iter().any(Removal::is_unplanned)
    }

    /// What is there and in no plan refuses the prune, so one of these is looked at until it refuses nothing any more, and
    /// then the next at once. Those that failed are tried again in their own time.
    fn look_on(&mut self) {
        let refuses = |object: &Removal| object.is_unplanned() && matches!(object.state, State::There { .. });
        if self.looked_at.is_none_or(|index| self.objects[index].is_unplanned()) {
            return;
        }
        self.looked_at = self.objects.iter().position(refuses);
        self.ready.extend(self.looked_at);
    }

    /// One is seen to have gone: what it refused may go on, and nothing is said of what is not there. Whether it is no more
    /// ours to follow.
    pub(super) fn note_gone(&mut self, identity: &Identity) -> bool {
        let is_it = |object: &Removal| Identity::of(&object.candidate.key) == *identity;
        let Some(index) = self.objects.iter().position(is_it).filter(|_| !self.mode.lets_go()) else {
            return false;
        };
        let object = &mut self.objects[index];
        match object.state {
            State::There { .. } if object.is_unplanned() && !self.ready.contains(&index) => self.ready.push_back(index),
            State::Left(Left::Protected | Left::Kept(_) | Left::Asked) => object.state = State::Gone,
            _ => return false,
        }
        matches!(self.objects[index].state, State::Gone)
    }

    /// One is seen that asks for nothing: what stays because it did has its turn, unless its bundle did.
    pub(super) fn note_unkept(&mut self, identity: &Identity) -> bool {
        let is_kept = |object: &Removal| matches!(object.state, State::Left(Left::Kept(_)));
        let is_it = |object: &Removal| {
            is_kept(object) && object.candidate.kept_by().is_none() && Identity::of(&object.candidate.key) == *identity
        };
        let Some(index) = self.objects.iter().position(is_it).filter(|_| !self.mode.lets_go()) else { return false };
        self.look_at(index);
        true
    }

    /// What came of a step; whether the object is no more ours to follow. `claimed_by` tells which other target has it in its
    /// bundle.
    pub(super) fn record(
        &mut self,
        step: &Step,
        finding: &Finding,
        claimed_by: impl Fn(&ObjectKey) -> Option<TargetId>,
        (now, chance): (Timestamp, f64),
    ) -> bool {
        let same = |object: &Removal| object.candidate.key.identity() == step.key.identity();
        let Some(index) = self.objects.iter().position(same) else { return false };
        match finding {
            Finding::Unlabelled if self.mode != Mode::Orphan => self.leave(index, Left::Unlabelled),
            Finding::Released => {
                let object = &mut self.objects[index];
                let stays = object.stays.filter(|why| self.mode != Mode::Orphan && !matches!(why, Left::Claimed(_)));
                let given = if let Act::Give { to, .. } = step.act { Some(Left::Claimed(to)) } else { None };
                object.state = given.or(stays).map_or(State::Gone, State::Left);
                self.note_inspected(index);
                self.look_on();
                return true;
            }
            // Without our label is what an orphan is to be.
            Finding::Gone | Finding::Unlabelled => {
                self.objects[index].state = State::Gone;
                self.note_inspected(index);
                return true;
            }
            Finding::There { uid, namespace, version, finalizers, is_leaving, kept_by } => {
                self.note_inspected(index);
                let object = &mut self.objects[index];
                let kept_by = kept_by.or(object.candidate.kept_by());
                let asked = kept_by.filter(|_| self.mode != Mode::Orphan).map(Left::Kept);
                object.live.namespace.clone_from(namespace);
                object.note_claim(claimed_by(&object.live), self.mode);
                object.stays = object.stays.filter(|why| !matches!(why, Left::Kept(_))).or(asked);
                let stays = object.stays.filter(|why| matches!(why, Left::Protected | Left::Asked));
                if let Some(why) = stays.filter(|_| *is_leaving) {
                    self.leave(index, why);
                } else if *is_leaving && self.mode != Mode::Orphan {
                    // Only now: that it is still there is what each new try begins with.
                    self.objects[index].failures = 0;
                    self.follow(index, finalizers.clone(), now, chance);
                } else {
                    self.objects[index].state = State::There { uid: *uid, version: version.clone() };
                    self.place(index, now, chance);
                }
            }
            Finding::Failed(error) => self.fail(index, (error, &step.acts_as), now, chance),
            Finding::Unasked(error) => {
                let object = &mut self.objects[index];
                object.failures += 1;
                let judgement = judge::unasked(error, object.failures);
                self.try_again(index, judgement, now, chance);
            }
            Finding::Exists { .. } => self.leave(index, Left::Copy),
            Finding::Applied { .. }
            | Finding::AsFound { .. }
            | Finding::Kept { .. }
            | Finding::Finished
            | Finding::EndedUnseen => {}
        }
        false
    }

    /// What is there and not on its way out has its turn, waits for it, or stays.
    fn place(&mut self, index: usize, now: Timestamp, chance: f64) {
        let object = &self.objects[index];
        match object.stays {
            Some(Left::Claimed(_)) => self.ready.push_back(index),
            // The target still is, and may have it again.
            Some(why) if !self.mode.lets_go() => self.leave(index, why),
            _ if self.mode == Mode::Prune && object.is_unplanned() => self.look_again(index, now, chance),
            _ if index < self.opened => self.ready.push_back(index),
            _ => {}
        }
    }

    fn look_again(&mut self, index: usize, now: Timestamp, chance: f64) {
        if *self.looked_at.get_or_insert(index) != index {
            return;
        }
        let object = &mut self.objects[index];
        object.polls += 1;
        let wait = UNPLANNED.wait(object.polls, chance);
        self.wake_after(index, wait, now);
    }

    fn follow(&mut self, index: usize, finalizers: Vec<String>, now: Timestamp, chance: f64) {
        let object = &mut self.objects[index];
        let since = object.leaving_since.get_or_insert(now);
        object.state = State::Leaving { since: *since, finalizers };
        object.polls += 1;
        let wait = POLL.wait(object.polls, chance);
        self.wake_after(index, wait, now);
    }

    fn fail(&mut self, index: usize, (error, acts_as): (&ClusterError, &ActsAs), now: Timestamp, chance: f64) {
        let object = &mut self.objects[index];
        object.failures += 1;
        // What is only to be let go of is left as it is where that is not allowed: or else its target would never be gone.
        let otherwise = (self.mode == Mode::Orphan).then_some(Left::Asked);
        let stays = object.stays.or(otherwise).filter(|_| self.mode.lets_go() && !object.is_claimed());
        if let Some(why) = stays.filter(|_| judge::is_lasting(error, object.failures)) {
            object.refused = Some(error.to_string());
            self.leave(index, why);
            return;
        }
        let judgement = judge::failure(&object.candidate.key, error, object.failures).of_whom(acts_as, error);
        self.try_again(index, judgement, now, chance);
    }

    /// What somebody changed in between is inspected again at once; the rest waits.
    fn try_again(&mut self, index: usize, judgement: Judgement, now: Timestamp, chance: f64) {
        let object = &mut self.objects[index];
        let wait = judgement.retry.wait(object.failures, chance).min(REFUSED_PAUSE);
        object.state = State::Failed(judgement);
        self.wake_after(index, wait, now);
    }

    fn wake_after(&mut self, index: usize, wait: Duration, now: Timestamp) {
        let at = now.saturating_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX));
        self.wakes.insert((at.unwrap_or(Timestamp::MAX), index));
    }

    /// What the cluster's policy refused is tried again now.
    pub(super) fn retry_refused(&mut self, now: Timestamp) {
        let is_refused = |object: &Removal| matches!(&object.state, State::Failed(why) if why.is_by_policy);
        let refused: Vec<_> = (0..self.objects.len()).filter(|&index| is_refused(&self.objects[index])).collect();
        self.wakes.retain(|(_, index)| !refused.contains(index));
        self.wakes.extend(refused.into_iter().map(|index| (now, index)));
    }

    pub(super) fn standings(&self, now: Timestamp, is_open: bool) -> impl Iterator<Item = Standing<'_>> {
        let is_refused = self.uninspected == 0 && self.is_refused();
        self.objects.iter().filter_map(move |object| object.standing(now, is_open, is_refused))
    }
}
