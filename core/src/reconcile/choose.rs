//! Which step of a target is next: a question about what may be drifted and an apply in turns, then the deletion of a hook
//! that has run, then a removal.

use jiff::Timestamp;

use super::phases::State;
use super::step::{Act, Step};
use super::target::Target;
use crate::ObjectKey;
use crate::account::ActsAs;
use crate::object::Identity;
use crate::session::DriftMode;

impl Target {
    /// The next step, if there is one whose time has come. What it names counts as under way until [`Target::record`] is
    /// told of it.
    pub(super) fn take_step(&mut self, now: Timestamp) -> Option<Step> {
        self.accepted_at.get_or_insert(now);
        self.tick(now);
        while let Some(index) = self.retries.take_due(now) {
            self.try_again(index, now);
        }
        // They take turns, so that many of one kind do not keep the other waiting.
        let taken = if self.asked_last {
            self.take_apply(now).or_else(|| self.take_question(now))
        } else {
            self.take_question(now).or_else(|| self.take_apply(now))
        };
        let (key, act) = taken.or_else(|| self.take_departure(now)).or_else(|| self.take_removal(now))?;
        let identity = Identity::of(&key);
        let last_applied = self.inventory.last_applied(&identity).cloned();
        let twin = self.objects.find(&identity).and_then(|object| object.twin.clone());
        let may_have_ended = self.inventory.may_have_ended(&identity);
        let runs_again = matches!(act, Act::Apply { .. }) && self.is_to_run_again(&identity);
        let is_latest = act.digest().is_some_and(|digest| self.inventory.holds(&identity, digest));
        if let Some(digest) = act.digest() {
            self.inventory.note_sent(&identity, digest);
        }
        self.under_way.insert(identity);
        let (target, generation) = (self.assignment.target, self.assignment.generation);
        // Of its body, which is shared, and other targets no target knows.
        let (is_applied_once, claims) = (false, Vec::new());
        Some(Step {
            target,
            generation,
            key,
            act,
            last_applied,
            is_applied_once,
            is_latest,
            may_have_ended,
            runs_again,
            twin,
            claims,
            adopt: self.assignment.options.adopt,
            replace: self.assignment.options.replace,
            makes_namespace: self.namespace_to_make(),
            acts_as: ActsAs::of(&self.assignment),
            project: self.assignment.project.clone(),
        })
    }

    fn writes(&self) -> bool {
        self.assignment.options.drift == DriftMode::Correct
    }

    fn take_apply(&mut self, now: Timestamp) -> Option<(ObjectKey, Act)> {
        let writes = self.writes();
        let object = self.objects.take_ready(&self.under_way)?;
        object.state = State::Sent;
        self.asked_last = false;
        let (identity, digest) = (object.identity(), object.digest);
        // What was done to it while nobody looked is drift as well.
        let act = if self.inventory.had(&identity, digest) {
            Act::Correct { digest, seen_at: now, writes }
        } else {
            let inspect_first = !self.inventory.is_known(&identity) || self.inventory.yields(&identity);
            Act::Apply { digest, inspect_first }
        };
        Some((object.key.clone(), act))
    }

    /// About an object in place that may have been changed, or about what one has that waits for its phase. What is about
    /// to be applied anyway is not asked about, and what is not in place for some other reason is tried again: that
    /// reason may be gone.
    fn take_question(&mut self, now: Timestamp) -> Option<(ObjectKey, Act)> {
        let writes = self.writes();
        loop {
            let under_way = &self.under_way;
            let (identity, seen_at) = self.rechecks.take_due(now, |identity| !under_way.contains(identity))?;
            let Some(index) = self.objects.index(&identity) else { continue };
            let asked = self.objects.find(&identity).and_then(|object| match &object.state {
                State::InPlace(_) => Some((object.key.clone(), object.digest)),
                // What is to be left from its turn on is not put right with what it was.
                State::Waiting if object.is_once => None,
                State::Waiting => Some((object.key.clone(), self.inventory.held(&identity)?)),
                _ => None,
            });
            if let Some((key, digest)) = asked {
                self.asked_last = true;
                return Some((key, Act::Correct { digest, seen_at, writes }));
            }
            self.objects.make_ready(index);
        }
    }

    fn take_removal(&mut self, now: Timestamp) -> Option<(ObjectKey, Act)> {
        if self.removals.is_idle(now) {
            return None;
        }
        let is_open = self.may_remove(now);
        let under_way = &self.under_way;
        let step = self.removals.take_step(now, is_open, |key| under_way.contains(&Identity::of(key)));
        // What is to be deleted is no longer known to be as we applied it, whatever comes of that; unless nothing was sent.
        if let Some((key, Act::Delete { .. } | Act::Orphan { .. } | Act::Give { .. })) = &step {
            self.inventory.begin_doubt(&Identity::of(key));
        }
        step
    }
}
