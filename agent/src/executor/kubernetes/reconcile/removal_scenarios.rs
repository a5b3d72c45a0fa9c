//! What a target takes away, and when, shown without a cluster.

use bellwether_core::ObjectKey;
use bellwether_core::report::{Outcome, Report, Verdict};
use bellwether_core::session::{Action, Assignment, Prune, SyncOptions};
use jiff::Timestamp;

use super::scenarios::{
    START, applied, apply_all, assignment, at, entry, names, phase, record, report, steps, target, uid,
};
use super::step::{Act, Finding, Step};
use super::target::Target;
use crate::executor::kubernetes::client::ClusterError;

fn keys(objects: &str) -> Vec<ObjectKey> {
    objects.split_whitespace().map(|object| entry(&format!("{object}@1")).key).collect()
}

fn pruning(generation: i64, objects: &str, prunable: &str) -> Assignment {
    Assignment { prunable: keys(prunable), ..assignment(generation, objects) }
}

fn tombstone(generation: i64, action: Action) -> Assignment {
    Assignment { action, ..assignment(generation, "") }
}

/// A target that has applied these, and then is to have others.
fn moved(from: &str, to: Assignment) -> Target {
    let mut target = target(from);
    apply_all(&mut target);
    target.accept(to, phase);
    target
}

fn there(step: &Step) -> Finding {
    let (namespace, version) = (step.key.namespace.clone(), "1".to_owned());
    Finding::There { uid: uid(step), namespace, version, finalizers: Vec::new(), is_leaving: false }
}

fn leaving(step: &Step, finalizer: &str) -> Finding {
    let finalizers = finalizer.split_whitespace().map(str::to_owned).collect();
    let (namespace, version) = (step.key.namespace.clone(), "2".to_owned());
    Finding::There { uid: uid(step), namespace, version, finalizers, is_leaving: true }
}

/// Answers all inspections with "there", and tells what is done then.
fn inspect_all(target: &mut Target) -> Vec<Step> {
    for step in steps(target, START) {
        assert_eq!(step.act, Act::Inspect, "{}", step.key);
        let finding = there(&step);
        record(target, &step, finding);
    }
    steps(target, START)
}

fn line<'a>(report: &'a Report, name: &str) -> (Outcome, Verdict, &'a str) {
    let line = report.lines.iter().find(|line| line.key.name == name).expect("has a line");
    (line.outcome, line.verdict, line.message.as_str())
}

#[test]
fn what_left_is_deleted_when_the_new_objects_are_healthy_and_not_before() {
    let mut target =
        moved("ConfigMap/a@1 ConfigMap/old@1", pruning(2, "Deployment/web@1", "ConfigMap/a ConfigMap/old"));
    let web = steps(&mut target, START);
    assert_eq!(names(&web), ["web"]);
    record(&mut target, &web[0], applied(&web[0], 5, Verdict::Progressing));

    assert_eq!(steps(&mut target, START), []);
    let waiting = report(&mut target);
    assert_eq!(line(&waiting, "old"), (Outcome::Pruning, Verdict::Progressing, "waits for the new objects"));
    assert!(waiting.applied);
    record(&mut target, &web[0], applied(&web[0], 6, Verdict::Healthy));

    let deletions = inspect_all(&mut target);
    assert_eq!(names(&deletions), ["old", "a"]);
    assert!(deletions.iter().all(|step| step.act == Act::Delete { uid: uid(step) }));
    assert_eq!(report(&mut target).verdict, Verdict::Progressing, "healthy means that the prune is done");
    for step in &deletions {
        record(&mut target, step, Finding::Gone);
    }

    let done = report(&mut target);
    assert_eq!((done.verdict, done.lines.len(), done.objects.total), (Verdict::Healthy, 0, 1));
    assert_eq!(target.take_learned().gone.len(), 2);
}

#[test]
fn prune_after_apply_waits_for_no_health_and_never_is_never() {
    let options = |prune| SyncOptions { prune, ..SyncOptions::default() };
    let to = |prune| Assignment { options: options(prune), ..pruning(2, "Deployment/web@1", "ConfigMap/old") };
    for (prune, inspected) in [(Prune::AfterApply, 1), (Prune::Never, 0)] {
        let mut target = moved("ConfigMap/old@1", to(prune));
        let web = steps(&mut target, START);
        record(&mut target, &web[0], applied(&web[0], 5, Verdict::Progressing));
        assert_eq!(steps(&mut target, START).len(), inspected, "{prune:?}");
    }
}

#[test]
fn nothing_at_all_is_pruned_when_something_left_that_is_in_no_plan() {
    let mut target = moved("ConfigMap/a@1 ConfigMap/b@1 ConfigMap/c@1", pruning(2, "ConfigMap/a@1", "ConfigMap/b"));

    assert_eq!(inspect_all(&mut target), []);
    let refused = report(&mut target);
    assert_eq!(line(&refused, "c"), (Outcome::Pruning, Verdict::Degraded, "prune refused: not in the plan"));
    assert_eq!((refused.verdict, steps(&mut target, at(3_600)).len()), (Verdict::Degraded, 0));

    target.accept(pruning(3, "ConfigMap/a@1", "ConfigMap/c"), phase);
    assert_eq!(names(&inspect_all(&mut target)), ["c", "b"], "b was allowed before, and nobody wanted it since");
}

#[test]
fn what_is_not_there_or_not_ours_needs_no_plan() {
    let mut target = moved("ConfigMap/a@1 ConfigMap/b@1", pruning(2, "ConfigMap/a@1", ""));

    let inspection = steps(&mut target, START);
    record(&mut target, &inspection[0], Finding::Gone);

    assert_eq!((report(&mut target).verdict, steps(&mut target, START).len()), (Verdict::Healthy, 0));
}

#[test]
fn definitions_namespaces_and_volumes_stay_and_the_line_says_so() {
    let kept = "CustomResourceDefinition/crd Namespace/ns PersistentVolumeClaim/data";
    let from = "CustomResourceDefinition/crd@1 Namespace/ns@1 PersistentVolumeClaim/data@1 ConfigMap/a@1";
    let mut target = moved(from, pruning(2, "ConfigMap/a@1", kept));

    assert_eq!(steps(&mut target, START), []);
    let report = report(&mut target);
    assert_eq!((report.verdict, report.lines.len()), (Verdict::Healthy, 3));
    assert!(line(&report, "ns").2.starts_with("never deleted"));
}

#[test]
fn what_another_target_has_now_is_left() {
    let mut target = moved("ConfigMap/a@1 ConfigMap/b@1", pruning(2, "ConfigMap/a@1", "ConfigMap/b"));

    assert_eq!(target.take_step(START, |key| key.name == "b"), None);

    let report = report(&mut target);
    assert_eq!((report.verdict, line(&report, "b").1), (Verdict::Healthy, Verdict::Healthy));
}

#[test]
fn a_finalizer_is_waited_for_and_named_after_a_minute() {
    let mut target = moved("ConfigMap/a@1 ConfigMap/b@1", pruning(2, "ConfigMap/a@1", "ConfigMap/b"));
    let delete = inspect_all(&mut target);
    record(&mut target, &delete[0], leaving(&delete[0], "example.org/hold"));
    assert_eq!(line(&report(&mut target), "b").2, "being deleted");

    let mut now = START;
    while now < at(60) {
        now = target.next_wake().expect("it is inspected again");
        for step in steps(&mut target, now) {
            assert_eq!(step.act, Act::Inspect);
            target.record(&step, leaving(&step, "example.org/hold").into(), now, 0.999);
        }
    }
    let blocked = target.take_report(true, now).expect("it is new");
    assert_eq!(line(&blocked, "b"), (Outcome::Pruning, Verdict::Degraded, "blocked by finalizer example.org/hold"));

    now = target.next_wake().expect("it is inspected again");
    for step in steps(&mut target, now) {
        target.record(&step, Finding::Gone.into(), now, 0.999);
    }
    assert_eq!(target.take_report(true, now).map(|report| report.verdict), Some(Verdict::Healthy));
}

#[test]
fn a_tombstone_deletes_in_reverse_and_then_has_nothing_left() {
    let from = "ConfigMap/a@1 ConfigMap/b@1 ValidatingWebhookConfiguration/w@1";
    let mut target = moved(from, tombstone(2, Action::Delete));
    assert!(!report(&mut target).applied);

    let mut order = Vec::new();
    let mut taken = inspect_all(&mut target);
    while !taken.is_empty() {
        order.push(names(&taken).join(" "));
        for step in &taken {
            record(&mut target, step, Finding::Gone);
        }
        taken = steps(&mut target, START);
    }

    assert_eq!(order, ["w", "b a"]);
    let done = report(&mut target);
    assert_eq!((done.applied, done.verdict), (true, Verdict::Healthy));
}

#[test]
fn an_orphaned_object_loses_our_label_and_is_no_longer_ours() {
    let mut target = moved("ConfigMap/a@1", tombstone(2, Action::Orphan));

    let orphaning = inspect_all(&mut target);
    assert_eq!(orphaning[0].act, Act::Orphan { version: "1".to_owned() });
    record(&mut target, &orphaning[0], Finding::Gone);
    let orphaned = report(&mut target);
    target.accept(assignment(3, "ConfigMap/a@1"), phase);

    assert_eq!((orphaned.applied, orphaned.verdict), (true, Verdict::Healthy));
    let again = steps(&mut target, START);
    assert!(matches!(again[0].act, Act::Apply { inspect_first: true, .. }));
}

#[test]
fn what_comes_back_while_it_is_being_deleted_is_applied_after_the_answer() {
    let mut target = moved("ConfigMap/a@1 ConfigMap/b@1", pruning(2, "ConfigMap/a@1", "ConfigMap/b"));
    let delete = inspect_all(&mut target);

    target.accept(assignment(3, "ConfigMap/a@1 ConfigMap/b@1"), phase);
    assert_eq!(steps(&mut target, START), [], "the deletion is on its way");
    record(&mut target, &delete[0], Finding::Gone);

    let back = steps(&mut target, START);
    assert_eq!(names(&back), ["b"]);
    assert!(matches!(back[0].act, Act::Apply { inspect_first: true, .. }));
}

#[test]
fn an_inspection_that_an_older_plan_began_deletes_nothing() {
    let mut target = moved("ConfigMap/a@1 ConfigMap/b@1", pruning(2, "ConfigMap/a@1", "ConfigMap/b"));
    let inspection = steps(&mut target, START);

    target.accept(assignment(3, "ConfigMap/a@1"), phase);
    record(&mut target, &inspection[0], there(&inspection[0]));

    assert_eq!(steps(&mut target, START)[0].act, Act::Inspect, "the new plan inspects for itself");
}

#[test]
fn a_deletion_that_fails_is_tried_again_after_another_inspection() {
    let mut target = moved("ConfigMap/a@1 ConfigMap/b@1", pruning(2, "ConfigMap/a@1", "ConfigMap/b"));
    let delete = inspect_all(&mut target);
    let stale = ClusterError::Stale { message: "the uid differs".to_owned() };
    record(&mut target, &delete[0], Finding::Failed(stale));

    let wake: Timestamp = target.next_wake().expect("it is tried again");
    let inspection = steps(&mut target, wake);
    assert_eq!(inspection[0].act, Act::Inspect);
    record(&mut target, &inspection[0], there(&inspection[0]));

    assert!(matches!(steps(&mut target, wake)[0].act, Act::Delete { .. }));
}
