//! Rolls up what is known of a target's objects into what the hub is told.
//!
//! It decides what is worth a line: whatever is not well, worst first, and then what of the manifest is left to somebody
//! else, or is left as it was found. What is well is in the counts.

use std::borrow::Cow;

use crate::ObjectKey;
use crate::report::{Counts, LINES_MAX, ObjectLine, Outcome, Report, Verdict, bounded_message};
use crate::session::Assignment;

/// One object of a target as it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) outcome: Outcome,
    pub(super) verdict: Verdict,
    pub(super) message: Cow<'a, str>,
    pub(super) hint: &'a str,
    /// Of a failure: it may pass without another revision.
    pub(super) may_pass: bool,
    /// It has a line, however it is.
    pub(super) is_told: bool,
}

/// The report of a target whose objects stand like this. What leaves it has lines and a say in the verdict, and is not
/// counted; a line of it may be a healthy one, when it says why something stays.
pub(super) fn roll_up<'a>(
    assignment: &Assignment,
    standings: impl Iterator<Item = Standing<'a>>,
    leaving: impl Iterator<Item = Standing<'a>>,
) -> Report {
    let mut counts = Counts::default();
    let mut verdict = Verdict::Healthy;
    let mut told = Vec::new();
    for standing in standings {
        counts.total += 1;
        counts.in_place += u32::from(standing.outcome.is_in_place());
        counts.healthy += u32::from(standing.verdict == Verdict::Healthy);
        verdict = verdict.max(standing.verdict);
        if standing.verdict != Verdict::Healthy || standing.is_told {
            told.push(standing);
        }
    }
    for standing in leaving {
        verdict = verdict.max(standing.verdict);
        told.push(standing);
    }
    Report {
        target: assignment.target,
        generation: assignment.generation,
        digest: assignment.manifest.digest(),
        applied: counts.in_place == counts.total,
        verdict,
        objects: counts,
        lines: worst_first(told),
        suspended: None,
    }
}

fn worst_first(mut told: Vec<Standing<'_>>) -> Vec<ObjectLine> {
    // What is final comes before what may pass: the hub judges by the lines that are left.
    let rank = |standing: &Standing<'_>| {
        (standing.verdict, !standing.may_pass, standing.outcome.is_stalled(), !standing.message.is_empty())
    };
    told.sort_by(|one, other| rank(other).cmp(&rank(one)).then_with(|| one.key.cmp(other.key)));
    told.truncate(LINES_MAX);
    told.iter().map(line).collect()
}

fn line(standing: &Standing<'_>) -> ObjectLine {
    ObjectLine {
        key: standing.key.clone(),
        outcome: standing.outcome,
        verdict: standing.verdict,
        message: bounded_message(&standing.message),
        hint: bounded_message(standing.hint),
        may_pass: standing.may_pass,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::bundle::Manifest;
    use crate::session::{Action, SyncOptions};
    use crate::{Generation, TargetId};

    fn assignment() -> Assignment {
        Assignment {
            target: TargetId::new(Uuid::nil()),
            name: "shop".parse().expect("is a name"),
            generation: Generation::new(7),
            action: Action::Apply,
            manifest: Manifest::new(Vec::new()).expect("is a manifest"),
            prunable: Vec::new(),
            namespace: None,
            project: None,
            options: SyncOptions::default(),
            retried: Generation::default(),
            trace: None,
        }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey { api_version: "v1".to_owned(), kind: "ConfigMap".to_owned(), namespace: None, name: name.to_owned() }
    }

    fn standing(key: &ObjectKey, outcome: Outcome, verdict: Verdict) -> Standing<'_> {
        Standing { key, outcome, verdict, message: "".into(), hint: "", may_pass: false, is_told: false }
    }

    #[test]
    fn a_target_whose_objects_are_all_in_place_is_applied_and_has_no_lines() {
        let keys = [key("a"), key("b")];
        let standings = keys.iter().map(|key| standing(key, Outcome::Unchanged, Verdict::Healthy));

        let report = roll_up(&assignment(), standings, std::iter::empty());

        assert!(report.applied && report.lines.is_empty());
        assert_eq!((report.verdict, report.objects.total, report.objects.healthy), (Verdict::Healthy, 2, 2));
    }

    #[test]
    fn applied_and_healthy_are_told_apart() {
        let key = key("a");

        let report = roll_up(
            &assignment(),
            [standing(&key, Outcome::Applied, Verdict::Progressing)].into_iter(),
            std::iter::empty(),
        );

        assert!(report.applied);
        assert_eq!((report.verdict, report.objects.in_place, report.objects.healthy), (Verdict::Progressing, 1, 0));
        assert_eq!(report.lines.len(), 1);
    }

    #[test]
    fn a_final_failure_is_never_cut_off_behind_those_that_may_pass() {
        let keys: Vec<_> = (0..60).map(|number| key(&format!("a{number:02}"))).collect();
        let last = key("z");
        let mut standings: Vec<_> = keys
            .iter()
            .map(|key| Standing { may_pass: true, ..standing(key, Outcome::Rejected, Verdict::Failed) })
            .collect();

        assert!(roll_up(&assignment(), standings.iter().cloned(), std::iter::empty()).may_pass());
        standings.push(standing(&last, Outcome::Rejected, Verdict::Failed));
        let report = roll_up(&assignment(), standings.into_iter(), std::iter::empty());
        assert!(!report.may_pass() && report.lines[0].key.name == "z");
    }

    #[test]
    fn the_worst_come_first_and_what_does_not_fit_is_still_counted() {
        let keys: Vec<_> = (0..60).map(|number| key(&format!("a{number:02}"))).collect();
        let rejected = key("z");
        let standings = keys.iter().map(|key| standing(key, Outcome::Waiting, Verdict::Progressing)).chain([standing(
            &rejected,
            Outcome::Rejected,
            Verdict::Failed,
        )]);

        let report = roll_up(&assignment(), standings, std::iter::empty());

        assert_eq!((report.lines.len(), report.objects.total), (LINES_MAX, 61));
        assert_eq!((report.lines[0].key.name.as_str(), report.lines[1].key.name.as_str()), ("z", "a00"));
        assert_eq!(report.verdict, Verdict::Failed);
        assert!(!report.applied);
    }
}
