//! What a target does about what others change, shown without a cluster.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::Digest;
use bellwether_core::drift::{Change, Fingerprint, Response};
use bellwether_core::health::Ending;
use bellwether_core::report::{Outcome, Verdict};
use bellwether_core::session::{Assignment, DriftMode, SyncOptions};
use jiff::Timestamp;
use serde_json::json;

use super::owned::{Identity, LastApplied};
use super::scenarios::{
    START, applied, apply_all, assignment, at, body, condition, entry, names, object_event, phase, record, report,
    steps, target, uid,
};
use super::step::{Act, Answer, Finding, Found, Step};
use super::target::{Drifted, Past, Target};
use crate::executor::kubernetes::client::watch::{Condition, Kind, ObjectState};
use crate::executor::kubernetes::client::{ClusterError, Contested};

fn mode(drift: DriftMode, assignment: Assignment) -> Assignment {
    Assignment { options: SyncOptions { drift, ..SyncOptions::default() }, ..assignment }
}

/// Our entry has these fields.
fn owning(fields: &str) -> Condition {
    let metadata = json!({"uid": "u", "generation": 1, "managedFields": [
        {"manager": "bellwether", "operation": "Apply", "apiVersion": "v1", "time": "t", "fieldsV1": {fields: {}}}]});
    Condition { fingerprint: Fingerprint::of(&metadata, "bellwether"), ..condition(Verdict::Healthy) }
}

fn applied_with(step: &Step, version: u64, fields: &str) -> Finding {
    Finding::Applied { uid: uid(step), version, condition: owning(fields), body: body("{}") }
}

fn found(change: Change) -> Found {
    let name = |text: &str| Some(text.to_owned());
    let fields = vec![".data.a".to_owned()];
    Found { change, manager: name("kubectl-edit"), operation: name("Update"), fields }
}

fn drifted(finding: Finding) -> Answer {
    Answer { finding, drift: Some(found(Change::Modified)) }
}

/// A target with one object in place, whose fields somebody takes.
fn edited(assignment: Assignment) -> (Target, Step) {
    let mut target = Target::new(assignment, Past::default(), phase);
    let step = steps(&mut target, START).remove(0);
    record(&mut target, &step, applied_with(&step, 1, "f:ours"));
    report(&mut target);
    target.see(object_event(&step, 2, ObjectState::Present(owning("f:less"))), at(5));
    (target, step)
}

fn is_question(step: &Step, expected: bool) -> bool {
    matches!(step.act, Act::Correct { writes, .. } if writes == expected)
}

fn responses(target: &mut Target) -> Vec<(Change, Response, Timestamp)> {
    let drifts: Vec<Drifted> = target.take_drifts();
    drifts.iter().map(|drift| (drift.found.change, drift.response, drift.found_at)).collect()
}

#[test]
fn an_edit_is_put_right_at_once_and_told_without_a_change_of_health() {
    let (mut target, _) = edited(assignment(1, "ConfigMap/a@1"));

    let question = steps(&mut target, at(5)).remove(0);
    assert!(is_question(&question, true));
    assert_eq!(question.last_applied.as_ref().map(|last_applied| last_applied.uid), Some(uid(&question)));
    record(&mut target, &question, drifted(applied_with(&question, 3, "f:ours")));

    assert_eq!(responses(&mut target), [(Change::Modified, Response::Corrected, at(5))]);
    assert!(target.take_report(true, at(6)).is_none_or(|report| report.applied && report.verdict == Verdict::Healthy));
    target.see(object_event(&question, 3, ObjectState::Present(owning("f:ours"))), at(7));
    assert_eq!(steps(&mut target, at(3_600)), [], "our own write is nobody's edit");
}

#[test]
fn a_question_that_finds_nothing_changed_tells_nothing() {
    let (mut target, _) = edited(assignment(1, "ConfigMap/a@1"));
    let question = steps(&mut target, at(5)).remove(0);

    record(&mut target, &question, applied_with(&question, 2, "f:less"));

    assert_eq!(responses(&mut target), []);
    target.see(object_event(&question, 2, ObjectState::Present(owning("f:less"))), at(7));
    assert_eq!(steps(&mut target, at(3_600)), []);
}

#[test]
fn what_is_deleted_is_made_again() {
    let mut target = target("Deployment/web@1");
    apply_all(&mut target);
    let (learned, _) = (target.take_learned(), report(&mut target));
    assert_eq!(learned.applied.len(), 1);
    let step = Step { key: learned.applied[0].key.clone(), ..dummy(&target) };

    target.see(object_event(&step, 2, ObjectState::Deleted), at(5));
    let question = steps(&mut target, at(5)).remove(0);
    record(
        &mut target,
        &question,
        Answer { drift: Some(found(Change::Deleted)), ..applied(&question, 9, Verdict::Progressing).into() },
    );

    assert_eq!(responses(&mut target), [(Change::Deleted, Response::Corrected, at(5))]);
    assert_eq!(report(&mut target).verdict, Verdict::Progressing);
}

fn dummy(target: &Target) -> Step {
    let assignment = assignment(1, "ConfigMap/x@1");
    assert_eq!(target.name(), &assignment.name);
    let key = entry("ConfigMap/x@1").key;
    Step {
        target: assignment.target,
        generation: assignment.generation,
        key,
        act: Act::Inspect,
        last_applied: None,
        twin: None,
    }
}

#[test]
fn a_target_that_warns_leaves_it_and_says_so_until_the_next_assignment() {
    let warns = |generation, objects| mode(DriftMode::Warn, assignment(generation, objects));
    let (mut target, _) = edited(warns(1, "ConfigMap/a@1"));
    let question = steps(&mut target, at(5)).remove(0);
    assert!(is_question(&question, false));
    let kept = || Finding::Kept { seen: Some((uid(&question), 2, owning("f:less"))) };

    record(&mut target, &question, drifted(kept()));
    assert_eq!(responses(&mut target), [(Change::Modified, Response::Warned, at(5))]);
    let warned = report(&mut target);
    let line = &warned.lines[0];
    assert_eq!((line.outcome, line.verdict), (Outcome::Drifted, Verdict::Degraded));
    assert_eq!(line.message, "modified by kubectl-edit: .data.a");

    target.see(object_event(&question, 3, ObjectState::Present(owning("f:even-less"))), at(8));
    let again = steps(&mut target, at(8)).remove(0);
    record(&mut target, &again, drifted(kept()));
    assert_eq!(responses(&mut target), [], "it was said");

    target.accept(warns(2, "ConfigMap/a@1"), phase);
    let overwritten = steps(&mut target, at(9)).remove(0);
    assert!(matches!(overwritten.act, Act::Apply { inspect_first: false, .. }));
    assert!(overwritten.last_applied.is_some(), "what was ours is taken back");
}

#[test]
fn a_target_that_ignores_drift_asks_nothing() {
    let (mut target, _) = edited(mode(DriftMode::Ignore, assignment(1, "ConfigMap/a@1")));

    assert_eq!(steps(&mut target, at(3_600)), []);
}

#[test]
fn a_correction_that_is_refused_is_a_failure_and_one_that_is_not_answered_is_tried_again() {
    let (mut target, _) = edited(assignment(1, "ConfigMap/a@1"));
    let question = steps(&mut target, at(5)).remove(0);
    record(&mut target, &question, Finding::Failed(ClusterError::retry("away")));
    assert_eq!(steps(&mut target, START), []);
    let wake = target.next_wake().expect("it is asked again");

    let again = steps(&mut target, wake).remove(0);
    let contested = Contested { field: ".data.a".to_owned(), manager: "helm".to_owned() };
    record(&mut target, &again, drifted(Finding::Failed(ClusterError::Conflict(vec![contested]))));

    assert_eq!(responses(&mut target), [(Change::Modified, Response::Failed, at(5))]);
    let refused = report(&mut target);
    let line = &refused.lines[0];
    assert_eq!((line.outcome, line.verdict), (Outcome::Drifted, Verdict::Degraded));
    let why = "modified by kubectl-edit: .data.a; it cannot be put right: field .data.a is managed by helm";
    assert_eq!((line.message.as_str(), refused.applied), (why, false));
    target.see(object_event(&again, 9, ObjectState::Present(owning("f:other"))), wake);
    assert_eq!(names(&steps(&mut target, wake)), ["a"], "whoever held it may have let go");
}

#[test]
fn a_drift_that_cannot_be_put_right_stays_shown_until_it_is() {
    let (mut target, _) = edited(assignment(1, "ConfigMap/a@1"));
    let denied = || ClusterError::Forbidden { message: "admission webhook denied the request".to_owned() };
    let mut now = at(5);
    for number in 0..8 {
        let question = steps(&mut target, now).remove(0);
        assert!(is_question(&question, true));
        // Once the question itself is not answered: what was found before is still so.
        let answer = if number == 4 { denied_unseen() } else { drifted(Finding::Failed(denied())) };
        target.record(&question, answer, now, 0.999);
        if let Some(report) = target.take_report(true, now) {
            let line = &report.lines[0];
            assert_eq!((line.outcome, report.verdict, report.applied), (Outcome::Drifted, Verdict::Degraded, false));
        }
        now = target.next_wake().expect("it is tried again");
    }
    assert_eq!(responses(&mut target), [(Change::Modified, Response::Failed, at(5))], "told once");

    let question = steps(&mut target, now).remove(0);
    record(&mut target, &question, drifted(applied_with(&question, 9, "f:ours")));

    assert_eq!(report(&mut target).verdict, Verdict::Healthy);
    assert_eq!(responses(&mut target), [(Change::Modified, Response::Corrected, at(5))]);
}

fn denied_unseen() -> Answer {
    Finding::Failed(ClusterError::retry("away")).into()
}

#[test]
fn what_cannot_be_inspected_for_long_is_not_known_to_be_healthy() {
    let (mut target, _) = edited(assignment(1, "ConfigMap/a@1"));
    let mut now = at(5);
    for _ in 0..4 {
        let question = steps(&mut target, now).remove(0);
        target.record(&question, Finding::Failed(ClusterError::retry("away")).into(), now, 0.999);
        now = target.next_wake().expect("it is asked again");
    }

    assert_eq!(report(&mut target).verdict, Verdict::Unknown);
}

#[test]
fn a_job_that_failed_stays_failed_when_it_is_gone() {
    let mut target = target("Job/migrate@1");
    let step = steps(&mut target, START).remove(0);
    record(&mut target, &step, applied(&step, 1, Verdict::Healthy));
    let failed = Condition { finished: Some(Ending::Failed), ..condition(Verdict::Failed) };
    target.see(object_event(&step, 2, ObjectState::Present(failed)), at(1));
    target.see(object_event(&step, 3, ObjectState::Deleted), at(2));

    let gone = report(&mut target);
    assert_eq!((gone.verdict, gone.may_pass()), (Verdict::Failed, false));
    assert_eq!(steps(&mut target, at(3_600)), [], "it does not run twice");
    target.accept(assignment(2, "Job/migrate@1 ConfigMap/b@1"), phase);
    assert_eq!(report(&mut target).verdict, Verdict::Failed);

    let mut next = restarted(assignment(1, "Job/migrate@1"), "Job/migrate@1", Some(Ending::Failed));
    let question = steps(&mut next, at(1)).remove(0);
    record(&mut next, &question, Finding::Finished);
    assert_eq!(report(&mut next).verdict, Verdict::Failed, "the next process knows how it ended");
}

#[test]
fn who_changes_it_again_and_again_is_named() {
    let (mut target, step) = edited(assignment(1, "ConfigMap/a@1"));
    for version in 3..8 {
        let question = steps(&mut target, at(5)).remove(0);
        record(&mut target, &question, drifted(applied_with(&question, 2 * version, "f:ours")));
        target.see(object_event(&step, 2 * version + 1, ObjectState::Present(owning("f:less"))), START);
    }

    assert_eq!(steps(&mut target, START), [], "now it waits");
    let report = report(&mut target);
    assert_eq!((report.lines[0].outcome, report.verdict), (Outcome::Drifted, Verdict::Degraded));
    assert_eq!(report.lines[0].message, "modified by kubectl-edit: .data.a");
    assert_eq!(names(&steps(&mut target, at(3_600))), ["a"]);
}

/// A new process, where this object was applied by the one before.
fn restarted(assignment: Assignment, object: &str, finished: Option<Ending>) -> Target {
    let key = entry(object).key;
    let last_applied = LastApplied {
        uid: uid(&Step { key: key.clone(), ..dummy(&target("ConfigMap/x@1")) }),
        digest: entry(object).digest,
        body: Some(body("{}")),
        finished,
    };
    let past = Past { before: Vec::new(), last_applied: BTreeMap::from([(Identity::of(&key), last_applied)]) };
    Target::new(assignment, past, phase)
}

#[test]
fn a_new_process_asks_about_what_was_applied_and_applies_the_rest() {
    let mut target = restarted(assignment(1, "ConfigMap/a@1 ConfigMap/b@1"), "ConfigMap/a@1", None);
    let taken = steps(&mut target, at(1));
    assert!(is_question(&taken[0], true) && matches!(taken[1].act, Act::Apply { inspect_first: true, .. }));

    record(&mut target, &taken[0], drifted(applied(&taken[0], 2, Verdict::Healthy)));
    assert_eq!(responses(&mut target), [(Change::Modified, Response::Corrected, at(1))]);

    let mut moved = restarted(assignment(2, "ConfigMap/a@2"), "ConfigMap/a@1", None);
    let step = steps(&mut moved, at(1)).remove(0);
    assert!(matches!(step.act, Act::Apply { inspect_first: true, .. }));
    assert_eq!(
        step.last_applied.map(|last_applied| last_applied.digest),
        Some(Digest::of(b"1")),
        "what was ours is known"
    );
}

#[test]
fn a_job_that_ran_to_its_end_is_not_missed() {
    let mut target = target("Job/migrate@1");
    let step = steps(&mut target, START).remove(0);
    record(&mut target, &step, applied(&step, 1, Verdict::Healthy));
    target.see(
        object_event(
            &step,
            2,
            ObjectState::Present(Condition { finished: Some(Ending::Succeeded), ..condition(Verdict::Healthy) }),
        ),
        at(1),
    );
    assert!(target.take_learned().applied.iter().any(|applied| applied.finished.is_some()), "the next process knows");

    target.see(object_event(&step, 3, ObjectState::Deleted), at(2));
    assert_eq!(steps(&mut target, at(3_600)), []);
    assert_eq!(report(&mut target).verdict, Verdict::Healthy);

    let mut next = restarted(assignment(1, "Job/migrate@1"), "Job/migrate@1", Some(Ending::Succeeded));
    let question = steps(&mut next, at(1)).remove(0);
    assert!(question.last_applied.as_ref().is_some_and(|last_applied| last_applied.finished.is_some()));
    record(&mut next, &question, Finding::Finished);
    let report = report(&mut next);
    assert!(report.applied && report.verdict == Verdict::Healthy);
}

#[test]
fn what_is_missing_in_a_list_went_away_unseen() {
    let mut target = target("ConfigMap/a@1 ConfigMap/b@1");
    let taken = steps(&mut target, START);
    for step in &taken {
        record(&mut target, step, applied(step, 1, Verdict::Healthy));
    }
    let kind = Kind::of(&taken[0].key);

    target.see_all(&kind, START, &BTreeSet::new(), at(1));
    assert_eq!(steps(&mut target, at(1)), [], "they were made after the list began");
    target.see_all(&kind, at(1), &BTreeSet::from([uid(&taken[0])]), at(2));

    assert_eq!(names(&steps(&mut target, at(2))), ["b"]);
}

#[test]
fn while_a_watch_is_broken_nothing_is_known_to_be_healthy() {
    let mut target = target("ConfigMap/a@1");
    apply_all(&mut target);
    assert_eq!(report(&mut target).verdict, Verdict::Healthy);
    let kind = Kind::of(&entry("ConfigMap/a@1").key);

    target.set_not_synced(&kind, true);
    assert_eq!(report(&mut target).verdict, Verdict::Unknown);
    target.set_not_synced(&kind, false);
    assert_eq!(report(&mut target).verdict, Verdict::Healthy);
}
