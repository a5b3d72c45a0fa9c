//! Whose an object is, and what follows from that, shown without a cluster.

use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::report::{Outcome, Verdict};
use bellwether_core::session::{Action, Assignment, DriftMode, SyncOptions};
use bellwether_core::{Digest, ObjectKey};

use super::scenarios::{
    START, applied, apply_all, assignment, at, condition, names, object_event, phase, record, report, steps, target,
    uid,
};
use super::step::{Act, Finding, Step};
use super::target::{Past, Target};
use crate::executor::kubernetes::client::ClusterError;
use crate::executor::kubernetes::client::watch::{ObjectEvent, ObjectState};

/// A custom resource, whose kind may have namespaces or not.
fn realm(namespace: Option<&str>) -> ObjectKey {
    ObjectKey {
        api_version: "demo.example.org/v1".to_owned(),
        kind: "Realm".to_owned(),
        namespace: namespace.map(str::to_owned),
        name: "blue".to_owned(),
    }
}

fn with(keys: &[ObjectKey], prunable: &[ObjectKey], assignment: Assignment) -> Assignment {
    let entries = keys.iter().map(|key| Entry { key: key.clone(), digest: Digest::of(b"1") });
    let all = assignment.manifest.entries().iter().cloned().chain(entries).collect();
    Assignment { manifest: Manifest::new(all).expect("is a manifest"), prunable: prunable.to_vec(), ..assignment }
}

fn there(step: &Step, namespace: Option<&str>) -> Finding {
    let namespace = namespace.map(str::to_owned);
    Finding::There { uid: uid(step), namespace, version: "1".to_owned(), finalizers: Vec::new(), is_leaving: false }
}

/// A target with this realm in place, which is then spelled in another way.
fn respelled(from: Option<&str>, to: Option<&str>) -> Target {
    let mut target = Target::new(with(&[realm(from)], &[], assignment(1, "")), Past::default(), phase);
    apply_all(&mut target);
    target.accept(with(&[realm(to)], &[realm(from)], assignment(2, "")), phase);
    let again = steps(&mut target, START);
    assert!(matches!(again[0].act, Act::Apply { inspect_first: true, .. }));
    record(&mut target, &again[0], applied(&again[0], 2, Verdict::Healthy));
    target
}

#[test]
fn an_object_that_is_wanted_in_another_spelling_is_not_deleted_and_still_followed() {
    for (from, to) in [(Some("a"), Some("b")), (Some("a"), None), (None, Some("a"))] {
        let mut target = respelled(from, to);
        let inspect = steps(&mut target, START).remove(0);
        assert_eq!((&inspect.act, &inspect.key), (&Act::Inspect, &realm(from)));

        record(&mut target, &inspect, there(&inspect, None));

        assert_eq!(steps(&mut target, at(3_600)), []);
        assert_eq!(report(&mut target).verdict, Verdict::Healthy);
        assert_eq!(target.take_learned().gone, [realm(from)]);
        target.see(object_event(&inspect, 9, ObjectState::Deleted), at(3_601));
        assert_eq!(steps(&mut target, at(3_601))[0].key, realm(to), "its deletion is seen");
    }
}

#[test]
fn an_object_of_another_namespace_is_another_object() {
    let mut target = respelled(Some("a"), Some("b"));
    let inspect = steps(&mut target, START).remove(0);
    let another = Finding::There {
        uid: uuid::Uuid::from_u128(5),
        namespace: Some("a".to_owned()),
        version: "1".to_owned(),
        finalizers: Vec::new(),
        is_leaving: false,
    };

    record(&mut target, &inspect, another);

    assert_eq!(steps(&mut target, START)[0].act, Act::Delete { uid: uuid::Uuid::from_u128(5) });
}

#[test]
fn what_another_target_wants_in_another_spelling_is_left_once_its_scope_is_known() {
    let mut target = Target::new(with(&[realm(Some("a"))], &[], assignment(1, "")), Past::default(), phase);
    apply_all(&mut target);
    target.accept(Assignment { action: Action::Delete, ..assignment(2, "") }, phase);
    let is_claimed = |live: &ObjectKey| realm(None).is_at(live) && live.namespace.is_none();
    let inspect = target.take_step(START, is_claimed).expect("it is inspected");

    record(&mut target, &inspect, there(&inspect, None));

    assert_eq!(target.take_step(START, is_claimed), None);
    assert!(report(&mut target).applied);
}

#[test]
fn objects_that_may_be_one_are_sent_with_each_other_s_name() {
    let keys = [realm(Some("a")), realm(None)];
    let mut target = Target::new(with(&keys, &[], assignment(1, "ConfigMap/a@1")), Past::default(), phase);

    let taken = steps(&mut target, START);

    let twins: Vec<_> = taken.iter().map(|step| step.twin.clone()).collect();
    assert_eq!(twins, [None, Some(keys[0].clone()), Some(keys[1].clone())]);
}

#[test]
fn under_the_name_of_what_is_gone_is_inspected_before_anything_is_applied() {
    for drift in [DriftMode::Warn, DriftMode::Ignore] {
        let options = SyncOptions { drift, ..SyncOptions::default() };
        let to = |generation, objects| Assignment { options, ..assignment(generation, objects) };
        let mut target = Target::new(to(1, "ConfigMap/a@1"), Past::default(), phase);
        let first = steps(&mut target, START).remove(0);
        record(&mut target, &first, applied(&first, 1, Verdict::Healthy));
        target.see(object_event(&first, 2, ObjectState::Deleted), START);

        target.accept(to(2, "ConfigMap/a@2"), phase);

        let again = steps(&mut target, START);
        assert!(again.iter().any(|step| matches!(step.act, Act::Apply { inspect_first: true, .. })), "{again:?}");
    }
}

#[test]
fn when_another_object_has_the_name_by_now_it_is_inspected_next_time() {
    let mut target = target("ConfigMap/a@1");
    apply_all(&mut target);
    target.accept(assignment(2, "ConfigMap/a@2"), phase);
    let apply = steps(&mut target, START).remove(0);
    assert!(matches!(apply.act, Act::Apply { inspect_first: false, .. }));

    record(&mut target, &apply, Finding::Failed(ClusterError::Stale { message: "the uid differs".to_owned() }));

    let wake = target.next_wake().expect("it is tried again");
    assert!(matches!(steps(&mut target, wake)[0].act, Act::Apply { inspect_first: true, .. }));
}

#[test]
fn a_copy_that_carries_the_label_stays_and_is_told() {
    let mut target = target("ConfigMap/a@1");
    apply_all(&mut target);
    target.accept(Assignment { action: Action::Delete, ..assignment(2, "") }, phase);
    let inspect = steps(&mut target, START).remove(0);
    assert_eq!(
        inspect.last_applied.as_ref().map(|last| last.uid),
        Some(uid(&inspect)),
        "it is known which one was ours"
    );

    record(&mut target, &inspect, Finding::Exists { hint: "written by somebody".to_owned() });

    assert_eq!(steps(&mut target, at(3_600)), []);
    let report = report(&mut target);
    assert!(report.applied && report.lines[0].message.contains("not applied by this target"));
    assert_eq!((report.lines[0].outcome, report.verdict), (Outcome::Pruning, Verdict::Healthy));
}

#[test]
fn a_list_is_believed_though_its_versions_are_lower_than_those_seen_before() {
    let mut target = target("Deployment/web@1");
    let step = steps(&mut target, START).remove(0);
    record(&mut target, &step, applied(&step, 900, Verdict::Healthy));
    report(&mut target);
    let degraded = || object_event(&step, 7, ObjectState::Present(condition(Verdict::Degraded)));

    target.see(degraded(), at(1));
    target.see(ObjectEvent { listed_at: Some(START), ..degraded() }, at(1));
    assert_eq!(target.take_report(true, at(1)), None, "an event, or a list that began before our answer, may be old");

    target.see(ObjectEvent { listed_at: Some(at(1)), ..degraded() }, at(2));
    assert_eq!(report(&mut target).verdict, Verdict::Degraded);
    target.see(object_event(&step, 8, ObjectState::Present(condition(Verdict::Healthy))), at(3));
    assert_eq!(report(&mut target).verdict, Verdict::Healthy, "and so is what follows it");
}

#[test]
fn custom_resources_are_waited_for_without_limit_while_a_finalizer_holds_them() {
    let keys = [realm(Some("a"))];
    let mut target = Target::new(with(&keys, &[], assignment(1, "ConfigMap/operator@1")), Past::default(), phase);
    apply_all(&mut target);
    target.accept(Assignment { action: Action::Delete, ..assignment(2, "") }, phase);
    for inspect in steps(&mut target, START) {
        let finding = there(&inspect, inspect.key.namespace.as_deref());
        record(&mut target, &inspect, finding);
    }
    let delete = steps(&mut target, START);
    assert_eq!(names(&delete), ["blue"]);
    let (namespace, version) = (Some("a".to_owned()), "2".to_owned());
    let finalizers = vec!["example.org/hold".to_owned()];
    let leaving = Finding::There { uid: uid(&delete[0]), namespace, version, finalizers, is_leaving: true };
    record(&mut target, &delete[0], leaving.clone());

    let later = steps(&mut target, at(3_600));
    assert_eq!(names(&later), ["blue"], "only that is inspected");
    record(&mut target, &later[0], leaving);
    let blocked = target.take_report(true, at(3_600)).expect("it is new");
    assert!(blocked.lines.iter().any(|line| line.message == "blocked by finalizer example.org/hold"));
    let last = steps(&mut target, at(7_200));
    record(&mut target, &last[0], Finding::Gone);

    assert_eq!(names(&steps(&mut target, at(7_200))), ["operator"]);
}
