//! How a target's objects stand, and when that is said.

use std::borrow::Cow;

use jiff::Timestamp;

use super::event::{Freshness, Kind};
use super::finding::Found;
use super::owned::Owned;
use super::phases::{Object, State};
use super::status::{Standing, roll_up};
use super::target::Target;
use crate::assignment::Suspension;
use crate::report::{Outcome, Report, Verdict};
use crate::session::Action;

/// What was said of a target, and whether there may be something new.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// What was last said, to say it only once.
    last: Option<Report>,
    has_changed: bool,
    /// When an object counts as failed or as healthy that does not now, if nothing is seen of it until then.
    turns_at: Option<Timestamp>,
}

impl Said {
    pub(super) fn note_change(&mut self) {
        self.has_changed = true;
    }

    pub(super) fn has_changed(&self) -> bool {
        self.has_changed
    }

    pub(super) fn turns_at(&self) -> Option<Timestamp> {
        self.turns_at
    }

    /// Whether time alone changed something.
    fn tick(&mut self, now: Timestamp) -> bool {
        let has_turned = self.turns_at.is_some_and(|at| at <= now);
        if has_turned {
            (self.turns_at, self.has_changed) = (None, true);
        }
        has_turned
    }

    /// The report, if it is another one than the last.
    fn say(&mut self, report: Report) -> Option<Report> {
        if self.last.as_ref() == Some(&report) {
            return None;
        }
        self.last = Some(report.clone());
        Some(report)
    }
}

impl Target {
    /// To be called before a step or a report: what time alone made well opens phases.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if self.said.tick(now) {
            self.open_phases(now);
        }
    }

    /// Says how the target stands, if that is something new and is not about to change with the next answer.
    ///
    /// The first report of an assignment is its acknowledgement, so it comes at once.
    pub(super) fn take_report(&mut self, may_be_partial: bool, now: Timestamp) -> Option<Report> {
        let accepted_at = *self.accepted_at.get_or_insert(now);
        self.tick(now);
        let is_first = self.said.last.as_ref().is_none_or(|report| report.generation != self.assignment.generation);
        if !self.said.has_changed || !(is_first || may_be_partial || self.is_quiet(now)) {
            return None;
        }
        self.said.has_changed = false;
        let times = |owned: &Owned| {
            let grace_end = owned.evidence().grace_end(accepted_at, now);
            owned.health.turns_at().into_iter().chain([grace_end]).flatten().filter(|&at| at > now).min()
        };
        self.said.turns_at = self.inventory.all_owned().filter_map(times).min();
        let leaving = self.removals.standings(now, self.may_remove(now));
        let standings = self.objects.iter().map(|object| self.standing(object, now));
        let mut report = roll_up(&self.assignment, standings, leaving);
        report.suspended = self.held.as_ref().map(Suspension::told);
        if self.assignment.action != Action::Apply {
            report.applied = self.removals.is_done();
        }
        self.said.say(report)
    }

    /// Nothing of this assignment is on its way or about to be.
    fn is_quiet(&self, now: Timestamp) -> bool {
        let has_more = !self.is_held()
            && (self.rechecks.has_due(now)
                || self.objects.has_ready()
                || (self.removals.has_ready() && self.may_remove(now)));
        self.under_way.is_empty() && !has_more
    }

    /// What gates ask: the report says that it is healthy.
    pub(super) fn is_well(&self, object: &Object, now: Timestamp) -> bool {
        self.standing(object, now).verdict == Verdict::Healthy
    }

    fn standing<'a>(&'a self, object: &'a Object, now: Timestamp) -> Standing<'a> {
        match &object.state {
            State::Waiting => self.doubtful(object, Outcome::Waiting, now).unwrap_or_else(|| waiting(object)),
            State::Ready | State::Sent => waiting(object),
            State::Failed(judgement) => Standing {
                may_pass: judgement.may_pass,
                ..standing(
                    object,
                    judgement.outcome,
                    judgement.verdict,
                    judgement.message.as_str().into(),
                    &judgement.hint,
                )
            },
            State::PassedOver => {
                let (why, leaves_undone) = self.why_passed_over(object);
                let verdict = if leaves_undone { Verdict::Degraded } else { Verdict::Healthy };
                Standing { is_told: true, ..standing(object, Outcome::Unchanged, verdict, why.into(), "") }
            }
            State::InPlace(outcome) => self.standing_in_place(object, *outcome, now),
        }
    }

    fn standing_in_place<'a>(&'a self, object: &'a Object, outcome: Outcome, now: Timestamp) -> Standing<'a> {
        let Some(owned) = self.inventory.owned(&object.identity()) else {
            return standing(object, outcome, Verdict::Unknown, "".into(), "");
        };
        if let Some(doubtful) = self.doubtful(object, outcome, now) {
            return doubtful;
        }
        let freshness = self.freshness.get(&Kind::of(&object.key));
        if freshness == Some(&Freshness::Lost) {
            return standing(object, outcome, Verdict::Unknown, "its watch is broken".into(), "");
        }
        let verdict = owned.evidence().verdict(self.accepted_at.unwrap_or(now), now);
        // What ended has ended; everything else can get well while nobody changes it.
        let may_pass = verdict == Verdict::Failed && owned.finished.is_none();
        let message: Cow<'_, str> = match freshness {
            Some(&Freshness::AsOf(listed_at)) => as_of(&owned.health.message, listed_at.max(owned.asked_at)).into(),
            _ => owned.health.message.as_str().into(),
        };
        if let (Verdict::Healthy, Some(note)) = (verdict, &owned.note) {
            return Standing { is_told: true, ..standing(object, outcome, verdict, note.as_str().into(), "") };
        }
        let message = match &owned.yielded {
            Some(yielded) if verdict == Verdict::Healthy => yielded.to_string().into(),
            Some(yielded) => format!("{message}; {yielded}").into(),
            None => message,
        };
        let message = match &owned.note {
            Some(note) if message.is_empty() => note.as_str().into(),
            Some(note) => format!("{message}; {note}").into(),
            None => message,
        };
        let owes_a_run = self.inventory.owes_a_run(object, self.asked_for());
        let hint = if owes_a_run { OWED_RUN_HINT } else { "" };
        let is_told = owned.yielded.is_some();
        Standing { may_pass, is_told, ..standing(object, outcome, verdict, message, hint) }
    }

    /// Of one that is drifted, or that cannot be asked about.
    fn doubtful<'a>(&'a self, object: &'a Object, outcome: Outcome, now: Timestamp) -> Option<Standing<'a>> {
        match object.uncorrected.as_ref().map(|uncorrected| &uncorrected.why) {
            Some(why) if object.is_left_drifted => return Some(drifted(object, &why.hint, &why.message)),
            _ if object.is_left_drifted => return Some(drifted(object, "the target only warns of drift", "")),
            // It is doubtful, and for too long to be believed as it was last seen.
            Some(why) if why.verdict > Verdict::Progressing => {
                let message = format!("it cannot be inspected: {}", why.message);
                return Some(standing(object, outcome, Verdict::Unknown, message.into(), &why.hint));
            }
            _ => {}
        }
        let is_flapping = self.rechecks.is_flapping(&object.identity(), now);
        is_flapping.then(|| drifted(object, CONFLICTING_CONTROLLER_HINT, ""))
    }
}

const OWED_RUN_HINT: &str =
    "delete it in the cluster: it then runs again, as its rollout was retried or another bundle came";

const CONFLICTING_CONTROLLER_HINT: &str =
    "it is put right again and again: stop who changes it, or take the field out of the manifest";

fn as_of(message: &str, at: Timestamp) -> String {
    let said = if message.is_empty() { String::new() } else { format!("{message}; ") };
    format!("{said}as of {}, because its kind cannot be watched", at.strftime("%H:%M:%S UTC"))
}

fn waiting(object: &Object) -> Standing<'_> {
    standing(object, Outcome::Waiting, Verdict::Progressing, "".into(), "")
}

fn drifted<'a>(object: &'a Object, hint: &'a str, why: &str) -> Standing<'a> {
    let found = object.drift.as_ref().map(Found::to_string).unwrap_or_default();
    let words = if why.is_empty() { found } else { format!("{found}; it cannot be put right: {why}") };
    standing(object, Outcome::Drifted, Verdict::Degraded, words.into(), hint)
}

fn standing<'a>(
    object: &'a Object,
    outcome: Outcome,
    verdict: Verdict,
    message: Cow<'a, str>,
    hint: &'a str,
) -> Standing<'a> {
    Standing { key: &object.key, outcome, verdict, message, hint, may_pass: false, is_told: false }
}
