//! What an answer changes: of this assignment's step, or of one before it.

use jiff::{SignedDuration, Timestamp};

use super::finding::{Answer, Finding};
use super::judge::{self, Judgement};
use super::phases::{State, Uncorrected};
use super::retries::Cause;
use super::step::{Act, Step};
use super::target::Target;
use crate::object::Identity;
use crate::report::Outcome;
use crate::session::Action;
use crate::{Digest, ObjectKey, TargetId};

impl Target {
    /// `claimed_by` tells which other target has an object in its bundle.
    pub(super) fn record(
        &mut self,
        step: &Step,
        answer: Answer,
        claimed_by: impl Fn(&ObjectKey) -> Option<TargetId>,
        (now, chance): (Timestamp, f64),
    ) {
        let identity = Identity::of(&step.key);
        self.under_way.remove(&identity);
        if let Some(digest) = step.act.digest() {
            let answer = self.inventory.with_deletion(&identity, answer);
            self.note(step, &identity, digest, &answer, now);
            let Answer { finding, drift, .. } = answer;
            self.note_drift(step, &identity, drift, &finding, now);
            self.record_apply(step, &identity, finding, now, chance);
        } else {
            if matches!(step.act, Act::Delete { .. }) && self.inventory.is_departing(&identity) {
                self.record_departure(&identity, &answer.finding, now);
            }
            self.record_removal((step, &identity), &answer.finding, claimed_by, (now, chance));
        }
        if self.under_way.is_empty() {
            self.early.clear();
        }
        self.open_phases(now);
    }

    /// Keeps the inventory true, whatever the current assignment says.
    fn note(&mut self, step: &Step, identity: &Identity, digest: Digest, answer: &Answer, now: Timestamp) {
        let noted = self.inventory.note((step, identity), digest, answer, now);
        let Some(uid) = noted else { return };
        self.rechecks.settle(identity);
        self.ask_later(identity, now);
        if let Some((version, seen)) = self.early.remove(&uid) {
            self.see_followed(identity, (version, None), seen, now);
        }
    }

    fn record_apply(&mut self, step: &Step, identity: &Identity, finding: Finding, now: Timestamp, chance: f64) {
        let Some(index) = self.objects.index(identity) else { return };
        let is_current = step.generation == self.assignment.generation;
        if is_current {
            let cause = if let Finding::Failed(error) = &finding { Cause::of(&step.key, error) } else { None };
            for waiting in self.retries.note_answer(index, cause.as_ref()) {
                self.try_again(waiting, now);
            }
        }
        let Some(object) = self.objects.find_mut(identity) else { return };
        if object.state == State::PassedOver {
            // An older assignment has run it.
            return;
        }
        // Or else of what it has while it waits for its phase.
        let is_of_wanted = step.act.digest() == Some(object.digest);
        match finding {
            Finding::Applied { .. } if is_of_wanted => {
                let outcome = if step.is_question() { Outcome::Unchanged } else { Outcome::Applied };
                object.settle(outcome);
                object.is_left_drifted = false;
            }
            Finding::AsFound { .. } if is_of_wanted => {
                object.settle(Outcome::Unchanged);
                object.is_left_drifted = false;
            }
            // What an older assignment sent came after all; ours is still to be sent.
            _ if !is_current => return,
            Finding::Kept { .. } if is_of_wanted => object.settle(Outcome::Unchanged),
            Finding::Finished | Finding::EndedUnseen if is_of_wanted => {
                object.settle(Outcome::Unchanged);
                object.is_left_drifted = false;
            }
            Finding::Applied { .. }
            | Finding::AsFound { .. }
            | Finding::Kept { .. }
            | Finding::Finished
            | Finding::EndedUnseen => {
                (object.failures, object.uncorrected) = (0, None);
            }
            Finding::Unlabelled | Finding::There { .. } | Finding::Gone | Finding::Released => {}
            Finding::Exists { hint } => {
                object.failures += 1;
                self.fail(step, identity, judge::exists(hint), None, (now, chance));
            }
            Finding::Failed(error) => {
                object.failures += 1;
                let judgement = judge::failure(&step.key, &error, object.failures).of_whom(&step.acts_as, &error);
                self.fail(step, identity, judgement, Cause::of(&step.key, &error), (now, chance));
            }
            Finding::Unasked(error) => {
                object.failures += 1;
                let judgement = judge::unasked(&error, object.failures);
                self.fail(step, identity, judgement, None, (now, chance));
            }
        }
        self.run_what_is_owed(identity);
        self.said.note_change();
    }

    fn fail(
        &mut self,
        step: &Step,
        identity: &Identity,
        judgement: Judgement,
        cause: Option<Cause>,
        (now, chance): (Timestamp, f64),
    ) {
        let Some(index) = self.objects.index(identity) else { return };
        let Some(object) = self.objects.find_mut(identity) else { return };
        let wait =
            SignedDuration::try_from(judgement.retry.wait(object.failures, chance)).unwrap_or(SignedDuration::MAX);
        let retry_at = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        if judgement.retry.is_asked_for() {
            self.rechecks.hold(identity, retry_at);
        }
        let is_there = judgement.outcome != Outcome::Exists;
        match (&step.act, &object.state) {
            // It stays in place, with whatever was found of it; or it waits, and so does what is new of it.
            (&Act::Correct { seen_at, .. }, State::InPlace(_)) if is_there => {
                object.uncorrected = Some(Uncorrected { why: judgement, seen_at });
            }
            (&Act::Correct { seen_at, .. }, State::Waiting) => {
                object.uncorrected = Some(Uncorrected { why: judgement, seen_at });
            }
            // The time of what is new came meanwhile.
            (_, State::Ready) => return,
            _ => object.state = State::Failed(judgement),
        }
        self.retries.add(index, cause, retry_at);
    }

    /// What failed has its turn again: what is in place or waits as a question, the rest as an apply.
    pub(super) fn try_again(&mut self, index: usize, now: Timestamp) {
        self.objects.make_ready(index);
        if let Some((identity, seen_at)) = self.objects.uncorrected(index) {
            self.rechecks.ask_again(&identity, seen_at, now);
        }
    }

    fn record_removal(
        &mut self,
        (step, identity): (&Step, &Identity),
        finding: &Finding,
        claimed_by: impl Fn(&ObjectKey) -> Option<TargetId>,
        at: (Timestamp, f64),
    ) {
        let was_left_alone = matches!(finding, Finding::Unasked(_));
        self.inventory.end_doubt(identity, was_left_alone);
        if self.objects.contains(identity) {
            // It is wanted again: whether it is still there is inspected before it is applied.
            return;
        }
        if step.generation != self.assignment.generation && *finding != Finding::Gone {
            // The new plan begins with an inspection of its own.
            return;
        }
        let finding = if self.is_wanted(&step.key, finding) { &Finding::Gone } else { finding };
        if self.removals.record(step, finding, claimed_by, at) {
            self.inventory.forget(identity);
        }
        self.said.note_change();
        if self.assignment.action != Action::Apply && self.removals.is_done() {
            self.inventory.forget_all();
        }
    }

    /// Whether an object that is to go is one that is to stay, in another spelling.
    fn is_wanted(&self, key: &ObjectKey, finding: &Finding) -> bool {
        let Finding::There { uid, namespace, .. } = finding else { return false };
        let live = ObjectKey { namespace: namespace.clone(), ..key.clone() };
        let is_followed = self.inventory.followed(*uid).is_some_and(|identity| self.objects.contains(identity));
        is_followed || self.objects.wanted_at(&live).is_some()
    }
}
