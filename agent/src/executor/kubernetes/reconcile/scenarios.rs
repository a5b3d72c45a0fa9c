//! What one target does next, shown without a cluster: what is assigned and found goes in, steps and reports come out.

use bellwether_core::apply::{self, Phase};
use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::health::Health;
use bellwether_core::report::{Outcome, Report, Verdict};
use bellwether_core::session::{Action, Assignment, SyncOptions};
use bellwether_core::{Digest, Generation, ObjectKey, TargetId};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::bodies::Body;
use super::step::{Act, Answer, Finding, Step};
use super::target::{Past, Target};
use crate::executor::kubernetes::client::ClusterError;
use crate::executor::kubernetes::client::watch::{Condition, ObjectEvent, ObjectState};

pub(super) const START: Timestamp = Timestamp::UNIX_EPOCH;

pub(super) fn at(seconds: i64) -> Timestamp {
    START + SignedDuration::from_secs(seconds)
}

/// `Kind/name@content`, all of them in namespace shop but the cluster's own.
pub(super) fn entry(text: &str) -> Entry {
    let (object, content) = text.split_once('@').expect("has a content");
    let (kind, name) = object.split_once('/').expect("has a kind");
    let (api_version, namespace) = match kind {
        "Namespace" => ("v1", None),
        "CustomResourceDefinition" => ("apiextensions.k8s.io/v1", None),
        "ValidatingWebhookConfiguration" => ("admissionregistration.k8s.io/v1", None),
        _ => ("v1", Some("shop".to_owned())),
    };
    let key =
        ObjectKey { api_version: api_version.to_owned(), kind: kind.to_owned(), namespace, name: name.to_owned() };
    Entry { key, digest: Digest::of(content.as_bytes()) }
}

pub(super) fn assignment(generation: i64, objects: &str) -> Assignment {
    let entries = objects.split_whitespace().map(entry).collect();
    Assignment {
        target: TargetId::new(Uuid::from_u128(7)),
        name: "shop".parse().expect("is a name"),
        generation: Generation::new(generation),
        action: Action::Apply,
        manifest: Manifest::new(entries).expect("is a manifest"),
        prunable: Vec::new(),
        options: SyncOptions::default(),
        trace: None,
    }
}

pub(super) fn phase(entry: &Entry) -> Phase {
    apply::phase(&entry.key, &std::collections::BTreeMap::new())
}

pub(super) fn target(objects: &str) -> Target {
    Target::new(assignment(1, objects), Past::default(), phase)
}

pub(super) fn steps(target: &mut Target, now: Timestamp) -> Vec<Step> {
    std::iter::from_fn(|| target.take_step(now, |_| false)).collect()
}

pub(super) fn names(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.key.name.as_str()).collect()
}

fn inspects_first(step: &Step) -> bool {
    matches!(step.act, Act::Apply { inspect_first: true, .. })
}

fn digest(step: &Step) -> Option<Digest> {
    match step.act {
        Act::Apply { digest, .. } => Some(digest),
        _ => None,
    }
}

pub(super) fn uid(step: &Step) -> Uuid {
    Uuid::from_bytes(Digest::of(step.key.name.as_bytes()).as_bytes()[..16].try_into().expect("16 bytes"))
}

pub(super) fn health(verdict: Verdict) -> Health {
    Health { verdict, message: String::new(), fails_at: None }
}

pub(super) fn condition(verdict: Verdict) -> Condition {
    Condition { health: health(verdict), finished: None, fingerprint: None }
}

pub(super) fn body(text: &str) -> Body {
    std::sync::Arc::<[u8]>::from(text.as_bytes()).into()
}

pub(super) fn applied(step: &Step, version: u64, verdict: Verdict) -> Finding {
    Finding::Applied { uid: uid(step), version, condition: condition(verdict), body: body("{}") }
}

pub(super) fn record(target: &mut Target, step: &Step, answer: impl Into<Answer>) {
    target.record(step, answer.into(), START, 0.999);
}

/// Applies whatever there is to do, until there is nothing more.
pub(super) fn apply_all(target: &mut Target) {
    loop {
        let taken = steps(target, START);
        if taken.is_empty() {
            return;
        }
        for step in taken {
            let finding = applied(&step, 1, Verdict::Healthy);
            record(target, &step, finding);
        }
    }
}

pub(super) fn report(target: &mut Target) -> Report {
    target.take_report(true, START).expect("there is something to say")
}

fn outcomes(report: &Report) -> Vec<(&str, Outcome)> {
    report.lines.iter().map(|line| (line.key.name.as_str(), line.outcome)).collect()
}

#[test]
fn the_first_report_comes_at_once_and_says_progressing() {
    let mut target = target("ConfigMap/a@1");

    let first = target.take_report(false, START).expect("it acknowledges the assignment");

    assert_eq!((first.generation, first.applied, first.verdict), (Generation::new(1), false, Verdict::Progressing));
    assert_eq!(target.take_report(false, START), None);
}

#[test]
fn when_all_is_applied_the_next_report_says_so_and_then_there_is_silence() {
    let mut target = target("ConfigMap/a@1 ConfigMap/b@1");
    report(&mut target);
    let taken = steps(&mut target, START);

    record(&mut target, &taken[0], applied(&taken[0], 1, Verdict::Healthy));
    assert_eq!(target.take_report(false, START), None, "another is still on its way");
    record(&mut target, &taken[1], applied(&taken[1], 1, Verdict::Healthy));
    let last = target.take_report(false, START).expect("all is applied");

    assert!(last.applied);
    assert_eq!((last.verdict, last.objects.healthy), (Verdict::Healthy, 2));
    assert_eq!((target.take_report(true, START), target.next_wake()), (None, None));
}

#[test]
fn what_is_new_is_inspected_before_it_is_applied_and_what_we_own_is_not() {
    let mut target = target("ConfigMap/a@1");
    let first = steps(&mut target, START);
    record(&mut target, &first[0], applied(&first[0], 1, Verdict::Healthy));

    target.accept(assignment(2, "ConfigMap/a@2 ConfigMap/b@1"), phase);

    let inspections: Vec<_> = steps(&mut target, START).iter().map(inspects_first).collect();
    assert!(inspects_first(&first[0]));
    assert_eq!(inspections, [false, true]);
}

#[test]
fn what_did_not_change_is_not_sent() {
    let mut target = target("ConfigMap/a@1 ConfigMap/b@1");
    apply_all(&mut target);

    target.accept(assignment(2, "ConfigMap/a@1 ConfigMap/b@2"), phase);
    let taken = steps(&mut target, START);
    assert_eq!(names(&taken), ["b"]);

    record(&mut target, &taken[0], applied(&taken[0], 2, Verdict::Healthy));
    target.accept(assignment(3, "ConfigMap/a@1 ConfigMap/b@2"), phase);
    let unchanged = report(&mut target);

    assert_eq!(steps(&mut target, START), []);
    assert!(unchanged.applied && unchanged.generation == Generation::new(3));
}

#[test]
fn a_later_phase_waits_for_the_health_of_the_one_before() {
    let mut target = target("ValidatingWebhookConfiguration/w@1 ConfigMap/a@1 CustomResourceDefinition/crd@1");
    let first = steps(&mut target, START);
    assert_eq!(names(&first), ["crd"]);

    record(&mut target, &first[0], applied(&first[0], 5, Verdict::Progressing));
    assert_eq!(steps(&mut target, START), []);
    target.see(object_event(&first[0], 6, ObjectState::Present(condition(Verdict::Healthy))), START);

    let second = steps(&mut target, START);
    assert_eq!(names(&second), ["a"]);
    record(&mut target, &second[0], applied(&second[0], 7, Verdict::Healthy));
    assert_eq!(names(&steps(&mut target, START)), ["w"]);
}

pub(super) fn object_event(step: &Step, version: u64, seen: ObjectState) -> ObjectEvent {
    ObjectEvent { target: step.label(), key: step.key.clone(), uid: uid(step), version, listed_at: None, seen }
}

#[test]
fn one_bad_object_does_not_hold_up_the_others_of_its_phase() {
    let mut target = target("ConfigMap/a@1 ConfigMap/bad@1 ConfigMap/z@1 ValidatingWebhookConfiguration/w@1");
    let taken = steps(&mut target, START);
    assert_eq!(names(&taken), ["a", "bad", "z"]);

    for step in &taken {
        let rejected = ClusterError::Rejected { reason: "Invalid".to_owned(), message: "data: no".to_owned() };
        let is_bad = step.key.name == "bad";
        let finding = if is_bad { Finding::Failed(rejected) } else { applied(step, 1, Verdict::Healthy) };
        record(&mut target, step, finding);
    }

    let report = report(&mut target);
    assert_eq!(outcomes(&report), [("bad", Outcome::Rejected), ("w", Outcome::Waiting)]);
    assert_eq!((report.verdict, report.objects.in_place), (Verdict::Failed, 2));
    assert_eq!(report.lines[0].message, "data: no");
    assert_eq!((target.next_wake(), steps(&mut target, at(3_600)).len()), (None, 0), "it stalls");
}

#[test]
fn an_object_of_somebody_else_is_left_alone_and_stalls() {
    let mut target = target("ConfigMap/a@1");
    let taken = steps(&mut target, START);

    record(&mut target, &taken[0], Finding::Exists { hint: "owned by helm".to_owned() });

    let report = report(&mut target);
    assert_eq!(outcomes(&report), [("a", Outcome::Exists)]);
    assert_eq!((report.verdict, report.lines[0].hint.as_str()), (Verdict::Failed, "owned by helm"));
    assert!(report.may_pass(), "somebody may delete it");
}

#[test]
fn what_was_taken_is_applied_within_seconds_of_its_being_free_however_long_it_was_taken() {
    let mut target = target("ConfigMap/a@1");
    for _ in 0..100 {
        let wake = target.next_wake().unwrap_or(START);
        let step = steps(&mut target, wake).remove(0);
        assert!(inspects_first(&step));
        target.record(&step, Finding::Exists { hint: String::new() }.into(), wake, 0.999);
        let next = target.next_wake().expect("it is inspected again");
        assert!(next.duration_since(wake) < SignedDuration::from_secs(20), "{wake} {next}");
    }
    let wake = target.next_wake().expect("it is inspected again");
    let step = steps(&mut target, wake).remove(0);

    record(&mut target, &step, applied(&step, 1, Verdict::Healthy));

    assert_eq!(report(&mut target).verdict, Verdict::Healthy);
    assert_eq!(target.next_wake(), None);
}

#[test]
fn of_many_objects_in_a_missing_namespace_one_is_tried_and_all_follow() {
    let objects: Vec<_> = (0..300).map(|number| format!("ConfigMap/a{number:03}@1")).collect();
    let mut target = target(&objects.join(" "));
    let missing = || Finding::Failed(ClusterError::NamespaceMissing { namespace: "shop".to_owned() });
    for step in steps(&mut target, START) {
        record(&mut target, &step, missing());
    }

    let tried: usize = (0..60)
        .map(|second| {
            let taken = steps(&mut target, at(second));
            for step in &taken {
                target.record(step, missing().into(), at(second), 0.999);
            }
            taken.len()
        })
        .sum();
    assert!((2..10).contains(&tried), "{tried} tries in a minute");

    let wake = target.next_wake().expect("it is tried again");
    let probe = steps(&mut target, wake);
    assert_eq!(probe.len(), 1);
    record(&mut target, &probe[0], applied(&probe[0], 1, Verdict::Healthy));
    assert_eq!(steps(&mut target, wake).len(), 299);
}

#[test]
fn a_success_forgets_the_failures_before_it() {
    let mut target = target("ConfigMap/a@1");
    let away = || Finding::Failed(ClusterError::retry("away"));
    let mut now = START;
    for _ in 0..10 {
        let step = steps(&mut target, now).remove(0);
        target.record(&step, away().into(), now, 0.999);
        now = target.next_wake().expect("it is tried again");
    }
    let step = steps(&mut target, now).remove(0);
    target.record(&step, applied(&step, 1, Verdict::Healthy).into(), now, 0.999);

    target.see(object_event(&step, 2, ObjectState::Deleted), now);
    let question = steps(&mut target, now).remove(0);
    target.record(&question, away().into(), now, 0.999);

    let wake = target.next_wake().expect("it is asked again");
    assert!(wake.duration_since(now) <= SignedDuration::from_secs(1));
}

#[test]
fn an_old_failure_of_what_an_assignment_does_not_change_is_no_failure_of_it() {
    let mut target = target("Deployment/web@1");
    let step = steps(&mut target, START).remove(0);
    record(&mut target, &step, applied(&step, 1, Verdict::Progressing));
    report(&mut target);
    target.see(object_event(&step, 2, ObjectState::Present(condition(Verdict::Failed))), at(5));
    let failed = target.take_report(true, at(5)).expect("it is new");
    assert_eq!((failed.verdict, failed.may_pass()), (Verdict::Failed, true));

    target.accept(assignment(2, "Deployment/web@1 ServiceAccount/account@1"), phase);
    let account = steps(&mut target, at(100)).remove(0);
    let first = target.take_report(true, at(100)).expect("it acknowledges the assignment");
    assert_eq!(first.verdict, Verdict::Degraded);
    target.record(&account, applied(&account, 3, Verdict::Healthy).into(), at(100), 0.5);
    let second = target.take_report(true, at(101)).expect("it is new");
    assert_eq!((second.applied, second.verdict), (true, Verdict::Degraded));

    let wake = target.next_wake().expect("it does not wait for ever");
    assert_eq!(target.take_report(true, wake).map(|report| report.verdict), Some(Verdict::Failed));
    target.see(object_event(&step, 4, ObjectState::Present(condition(Verdict::Healthy))), wake);
    assert_eq!(target.take_report(true, wake).map(|report| report.verdict), Some(Verdict::Healthy));
}

#[test]
fn a_failure_that_begins_after_the_assignment_counts_at_once() {
    let mut target = target("Deployment/web@1");
    apply_all(&mut target);
    target.accept(assignment(2, "Deployment/web@1"), phase);
    assert_eq!(report(&mut target).verdict, Verdict::Healthy);
    let step = Step { act: Act::Inspect, last_applied: None, ..web() };

    target.see(object_event(&step, 2, ObjectState::Present(condition(Verdict::Failed))), at(5));

    assert_eq!(target.take_report(true, at(5)).map(|report| report.verdict), Some(Verdict::Failed));
}

fn web() -> Step {
    let assignment = assignment(1, "Deployment/web@1");
    let key = entry("Deployment/web@1").key;
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
fn a_missing_namespace_is_tried_again_until_it_is_there() {
    let mut target = target("ConfigMap/a@1");
    let missing = || Finding::Failed(ClusterError::NamespaceMissing { namespace: "shop".to_owned() });
    let taken = steps(&mut target, START);

    record(&mut target, &taken[0], missing());
    let seen = report(&mut target);
    assert_eq!(outcomes(&seen), [("a", Outcome::Retrying)]);
    assert_eq!(seen.verdict, Verdict::Degraded, "a rollout waits for its deadline");
    assert_eq!(steps(&mut target, START), [], "not before its time");

    let wake = target.next_wake().expect("it is tried again");
    let again = steps(&mut target, wake);
    record(&mut target, &again[0], applied(&again[0], 1, Verdict::Healthy));
    assert_eq!(report(&mut target).verdict, Verdict::Healthy);
}

#[test]
fn the_server_is_not_asked_again_before_the_time_it_says() {
    let mut target = target("ConfigMap/a@1");
    let taken = steps(&mut target, START);
    let after = Some(std::time::Duration::from_secs(40));

    record(&mut target, &taken[0], Finding::Failed(ClusterError::Retry { after, message: "busy".to_owned() }));

    assert_eq!(target.next_wake(), Some(at(40)));
}

#[test]
fn a_newer_assignment_drops_the_waits_of_the_old_one_at_once() {
    let mut target = target("ConfigMap/a@1");
    let taken = steps(&mut target, START);
    record(&mut target, &taken[0], Finding::Failed(ClusterError::retry("busy")));
    assert!(target.next_wake().is_some());

    target.accept(assignment(2, "ConfigMap/a@2"), phase);

    assert_eq!(names(&steps(&mut target, START)), ["a"]);
    assert_eq!(target.next_wake(), None);
}

#[test]
fn an_object_never_has_two_requests_on_their_way() {
    let mut target = target("ConfigMap/a@1 ConfigMap/b@1");
    let old = steps(&mut target, START);
    assert_eq!(names(&old), ["a", "b"]);

    target.accept(assignment(2, "ConfigMap/a@2 ConfigMap/c@1"), phase);
    let new = steps(&mut target, START);
    assert_eq!(names(&new), ["c"], "a is on its way");

    record(&mut target, &old[0], applied(&old[0], 1, Verdict::Healthy));
    let then = steps(&mut target, START);
    assert_eq!((names(&then), then[0].generation), (vec!["a"], Generation::new(2)));
}

#[test]
fn going_back_while_the_new_one_is_on_its_way_sends_the_old_one_again() {
    let mut target = target("ConfigMap/a@old");
    apply_all(&mut target);
    target.accept(assignment(2, "ConfigMap/a@new"), phase);
    let new = steps(&mut target, START);

    target.accept(assignment(3, "ConfigMap/a@old"), phase);
    assert!(!report(&mut target).applied, "the new one may arrive any moment");
    record(&mut target, &new[0], applied(&new[0], 2, Verdict::Healthy));

    let back = steps(&mut target, START);
    assert_eq!((names(&back), digest(&back[0])), (vec!["a"], Some(Digest::of(b"old"))));
}

#[test]
fn what_an_older_assignment_sent_counts_when_it_is_what_the_newer_one_wants() {
    let mut target = target("ConfigMap/a@1");
    let taken = steps(&mut target, START);

    target.accept(assignment(2, "ConfigMap/a@1"), phase);
    record(&mut target, &taken[0], applied(&taken[0], 1, Verdict::Healthy));

    assert!(report(&mut target).applied);
    assert_eq!(steps(&mut target, START), []);
}

#[test]
fn after_a_request_whose_end_is_unknown_the_object_is_sent_again() {
    let mut target = target("ConfigMap/a@1");
    apply_all(&mut target);
    target.accept(assignment(2, "ConfigMap/a@2"), phase);
    let lost = steps(&mut target, START);
    record(&mut target, &lost[0], Finding::Failed(ClusterError::retry("no answer")));

    target.accept(assignment(3, "ConfigMap/a@1"), phase);

    assert_eq!(names(&steps(&mut target, START)), ["a"]);
}

#[test]
fn health_from_before_our_write_is_not_believed() {
    let mut target = target("Deployment/web@1");
    let taken = steps(&mut target, START);
    record(&mut target, &taken[0], applied(&taken[0], 10, Verdict::Progressing));

    target.see(object_event(&taken[0], 9, ObjectState::Present(condition(Verdict::Healthy))), START);
    assert_eq!(report(&mut target).verdict, Verdict::Progressing);

    target.see(object_event(&taken[0], 11, ObjectState::Present(condition(Verdict::Healthy))), START);
    assert_eq!(report(&mut target).verdict, Verdict::Healthy);
}

#[test]
fn health_that_is_seen_before_the_answer_to_our_write_is_not_lost() {
    let mut target = target("Deployment/web@1");
    let taken = steps(&mut target, START);

    target.see(object_event(&taken[0], 11, ObjectState::Present(condition(Verdict::Healthy))), START);
    record(&mut target, &taken[0], applied(&taken[0], 10, Verdict::Progressing));

    assert_eq!(report(&mut target).verdict, Verdict::Healthy);
}

#[test]
fn what_takes_too_long_fails_without_anything_being_seen() {
    let mut target = target("Deployment/web@1");
    let taken = steps(&mut target, START);
    let late = Health { fails_at: Some(at(30)), ..health(Verdict::Progressing) };
    record(
        &mut target,
        &taken[0],
        Finding::Applied {
            uid: uid(&taken[0]),
            version: 1,
            condition: Condition { health: late, ..condition(Verdict::Progressing) },
            body: body("{}"),
        },
    );
    assert_eq!(report(&mut target).verdict, Verdict::Progressing);

    assert_eq!(target.next_wake(), Some(at(30)));
    let report = target.take_report(false, at(30)).expect("it is new");

    assert_eq!((report.verdict, report.applied), (Verdict::Failed, true));
}

#[test]
fn an_object_that_somebody_deletes_is_no_longer_healthy_and_is_sent_next_time() {
    let mut target = target("Deployment/web@1");
    let taken = steps(&mut target, START);
    record(&mut target, &taken[0], applied(&taken[0], 1, Verdict::Healthy));
    report(&mut target);

    target.see(object_event(&taken[0], 2, ObjectState::Deleted), START);
    assert_eq!(report(&mut target).verdict, Verdict::Degraded);
    target.accept(assignment(2, "Deployment/web@1"), phase);

    assert_eq!(names(&steps(&mut target, START)), ["web"]);
}
