//! What would change where: of two manifests what becomes of each object, and for which clusters it is the same.
//!
//! Reads what a cluster is assigned and what a head gives it. Says no more than follows from these: what a cluster holds
//! besides is for its agent to say. It must never tell what a Secret holds, nor a digest of that.

mod dry_run;
mod fields;
mod groups;
mod hidden;
mod told;

use std::collections::BTreeMap;

use serde_json::Value;

pub use dry_run::dry_run;
pub use groups::{ClusterChange, cut, group};
pub use hidden::{HIDDEN, Hidden, texts_held};
pub use told::{HookTime, ObjectChange, PlanCounts, PlanDryRun, PlanField, PlanGroup, PlanObject, PlanTried};

use crate::apply::{APPLY_ANNOTATION, ONCE, Phase, phase_of};
use crate::bundle::{Entry, Manifest};
use crate::hooks::{HOOK_ANNOTATION, UPGRADE};
use crate::reconcile::is_protected;
use crate::rollout::{Replaced, left_behind, prunable};
use crate::session::{Prune, Replace, SyncOptions};
use crate::{Digest, ObjectKey, health, keep, replace};

/// What becomes of one object of a cluster, by the digests of what it is before and after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    pub key: ObjectKey,
    pub change: ObjectChange,
    /// Of one that moves: where it is.
    pub from: Option<ObjectKey>,
    /// `None`: it is not of what the cluster is assigned.
    pub before: Option<Digest>,
    pub after: Option<Digest>,
    /// The cluster is assigned nothing of the target yet: hooks of upgrades are passed over.
    pub first_install: bool,
}

/// In the order of the keys, and how many objects stay as they are. `replaced` is what the cluster is assigned; `None`:
/// nothing of the target.
pub fn steps(replaced: Option<&Replaced<'_>>, head: &Manifest) -> (Vec<Step>, usize) {
    let base = replaced.map(|replaced| replaced.manifest.entries()).unwrap_or_default();
    let known: BTreeMap<_, _> = base.iter().map(|entry| (entry.key.identity(), entry)).collect();
    let first_install = replaced.is_none();
    let (mut steps, mut unchanged) = (Vec::new(), 0);
    for entry in head.entries() {
        let before = known.get(&entry.key.identity()).map(|before| before.digest);
        if before == Some(entry.digest) {
            unchanged += 1;
            continue;
        }
        let change = if before.is_some() { ObjectChange::Changed } else { ObjectChange::Created };
        let (key, after) = (entry.key.clone(), Some(entry.digest));
        steps.push(Step { key, change, from: None, before, after, first_install });
    }
    let gone = replaced.map(|replaced| prunable(replaced, &left_behind(replaced.manifest, head), head));
    for key in gone.unwrap_or_default() {
        let before = known.get(&key.identity()).map(|before| before.digest);
        match moved_to(&key, before, base, &mut steps) {
            Some(step) => (step.change, step.before, step.from) = (ObjectChange::Moved, before, Some(key)),
            None => {
                let change = ObjectChange::Pruned;
                steps.push(Step { key, change, from: None, before, after: None, first_install });
            }
        }
    }
    steps.sort_by(|one, other| one.key.cmp(&other.key));
    (steps, unchanged)
}

/// The one new object of that kind and name, where that is the only one that goes: both are in another namespace.
fn moved_to<'s>(
    gone: &ObjectKey,
    before: Option<Digest>,
    base: &[Entry],
    steps: &'s mut [Step],
) -> Option<&'s mut Step> {
    before?;
    let is_like = |key: &ObjectKey| (key.group(), &key.kind, &key.name) == (gone.group(), &gone.kind, &gone.name);
    if base.iter().filter(|entry| is_like(&entry.key)).count() > 1 {
        return None;
    }
    let mut new = steps.iter_mut().filter(|step| is_like(&step.key));
    let one = new.next().filter(|step| step.change == ObjectChange::Created)?;
    new.next().is_none().then_some(one)
}

/// How many of them do what.
pub fn counts<'a>(objects: impl IntoIterator<Item = &'a PlanObject>, unchanged: usize) -> PlanCounts {
    let mut counts = PlanCounts { unchanged: Some(unchanged), ..PlanCounts::default() };
    for object in objects {
        *match object.change {
            ObjectChange::Created => &mut counts.created,
            ObjectChange::Changed => &mut counts.changed,
            ObjectChange::Moved => &mut counts.moved,
            ObjectChange::Pruned => &mut counts.pruned,
            ObjectChange::Left => &mut counts.left,
        } += 1;
    }
    counts
}

/// Of one that is compared with what cannot be read, or beside a Secret that cannot be: nobody knows what to hide.
const NOT_READ: &str = "what it was or is to be, or a Secret beside it, could not be read: its fields are not compared";

/// Of one that goes.
const WISH_NOT_READ: &str = "what it was could not be read: it may ask to be kept";

const REPLACED: &str = "a field that cannot be changed has it deleted and made anew";

const PASSED_OVER: &str = "it runs at upgrades only, and is passed over at a first installation";

/// A step as it is told. The bodies are those of its digests; `None` of one that there is: it could not be read.
pub fn object(
    step: &Step,
    (before, after): (Option<&Value>, Option<&Value>),
    sync: &SyncOptions,
    hidden: &Hidden,
) -> PlanObject {
    let mut object = PlanObject {
        key: step.key.clone(),
        change: step.change,
        from_namespace: step.from.as_ref().map(|from| from.namespace.clone().unwrap_or_default()),
        fields: Vec::new(),
        more_fields: 0,
        restarts: false,
        hook: None,
        note: None,
    };
    if step.change == ObjectChange::Pruned {
        (object.change, object.note) = stays(step, before, sync.prune);
        return object;
    }
    if (step.before.is_some() && before.is_none()) || (step.after.is_some() && after.is_none()) {
        object.note = Some(NOT_READ.to_owned());
        return object;
    }
    let mut notes = Vec::new();
    if step.change == ObjectChange::Moved && stays(step, before, sync.prune).0 == ObjectChange::Left {
        notes.push("the one in the namespace before stays there");
    }
    if is_once(after) {
        if step.change == ObjectChange::Changed {
            object.change = ObjectChange::Left;
        }
        notes.push("applied once: what is there already stays as it is");
    }
    let mut found = fields::between((before, after));
    if step.change == ObjectChange::Moved {
        found.retain(|(pointer, _)| pointer != "/metadata/namespace");
    }
    if object.change == ObjectChange::Changed {
        object.restarts = fields::restarts(&step.key, after, &found);
        if fields::are_any_of_content(&found) && may_be_replaced(step, (before, after), sync.replace) {
            notes.push(REPLACED);
        }
    }
    (object.fields, object.more_fields) = fields::told(&step.key, found, hidden);
    if step.first_install && is_of_upgrades(after) {
        notes.push(PASSED_OVER);
    } else if object.change != ObjectChange::Left {
        object.hook = hook_time(&step.key, after);
    }
    object.note = (!notes.is_empty()).then(|| notes.join("; "));
    object
}

/// What becomes of one that is no longer of the target.
fn stays(step: &Step, before: Option<&Value>, prune: Prune) -> (ObjectChange, Option<String>) {
    let gone = step.from.as_ref().unwrap_or(&step.key);
    if is_protected(gone) {
        let note = format!("a {} is never deleted: it may hold more than this target's", gone.kind);
        return (ObjectChange::Left, Some(note));
    }
    if prune == Prune::Never {
        return (ObjectChange::Left, Some("`sync.prune` is never".to_owned()));
    }
    if before.is_some_and(|before| keep::is_asked(&before["metadata"])) {
        return (ObjectChange::Left, Some("it asks to be kept".to_owned()));
    }
    let note = match (step.before, before) {
        (None, _) => Some("of an assignment before, and not known to be gone".to_owned()),
        (Some(_), None) => Some(WISH_NOT_READ.to_owned()),
        (Some(_), Some(_)) => None,
    };
    (ObjectChange::Pruned, note)
}

/// Whether its agent deletes it where an API server refuses the change. Whether it asks to be kept, what is there says.
fn may_be_replaced(step: &Step, (before, after): (Option<&Value>, Option<&Value>), replace: Replace) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    let body = serde_json::json!({"metadata": after["metadata"]}).to_string();
    !is_protected(&step.key)
        && !keep::is_asked(&before["metadata"])
        && replace::is_asked(replace, &step.key, body.as_bytes())
}

fn is_of_upgrades(after: Option<&Value>) -> bool {
    after.is_some_and(|after| after["metadata"]["annotations"][HOOK_ANNOTATION].as_str() == Some(UPGRADE))
}

/// When it runs, if it is a hook, and of a kind that does: an account that hooks need is there, and does nothing.
fn hook_time(key: &ObjectKey, after: Option<&Value>) -> Option<HookTime> {
    if !health::runs_once(key.group(), &key.kind) {
        return None;
    }
    match phase_of(after?)? {
        Phase::PreHook(_) => Some(HookTime::Before),
        Phase::PostHook(_) => Some(HookTime::After),
        _ => None,
    }
}

fn is_once(after: Option<&Value>) -> bool {
    after.is_some_and(|after| after["metadata"]["annotations"][APPLY_ANNOTATION].as_str() == Some(ONCE))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::object::digest_of;

    fn manifest(objects: &[Value]) -> Manifest {
        let entry = |object: &Value| Entry { key: ObjectKey::of(object).expect("a key"), digest: digest_of(object) };
        Manifest::new(objects.iter().map(entry).collect()).expect("a manifest")
    }

    fn map(namespace: &str, name: &str, value: &str) -> Value {
        let metadata = json!({"namespace": namespace, "name": name});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": value}})
    }

    /// What becomes of what, told.
    fn plan(before: &[Value], after: &[Value], prune: Prune) -> (Vec<PlanObject>, usize) {
        let (base, head) = (manifest(before), manifest(after));
        let (steps, unchanged) = steps(Some(&Replaced { manifest: &base, prunable: &[], is_done: true }), &head);
        let body = |digest: Option<Digest>| {
            let is_it = |object: &&Value| Some(digest_of(object)) == digest;
            before.iter().chain(after).find(is_it)
        };
        let sync = SyncOptions { prune, ..SyncOptions::default() };
        let told = |step: &Step| object(step, (body(step.before), body(step.after)), &sync, &Hidden::default());
        (steps.iter().map(told).collect(), unchanged)
    }

    fn words(objects: &[PlanObject]) -> Vec<String> {
        objects.iter().map(|object| format!("{} {:?}", object.key, object.change)).collect()
    }

    #[test]
    fn each_object_is_made_changed_pruned_or_left_as_it_is() {
        let before = [map("a", "same", "1"), map("a", "other", "1"), map("a", "gone", "1")];
        let after = [map("a", "same", "1"), map("a", "other", "2"), map("a", "new", "1")];

        let (objects, unchanged) = plan(&before, &after, Prune::AfterHealthy);

        assert_eq!(
            words(&objects),
            ["ConfigMap a/gone Pruned", "ConfigMap a/new Created", "ConfigMap a/other Changed"]
        );
        let counted = PlanCounts { created: 1, changed: 1, pruned: 1, unchanged: Some(1), ..PlanCounts::default() };
        assert_eq!(counts(&objects, unchanged), counted);
        let field = &objects[2].fields[0];
        assert_eq!(
            (&*field.pointer, &field.before, &field.after),
            ("/data/a", &Some(json!("1")), &Some(json!("2"))),
            "and nothing else of it is told"
        );
    }

    #[test]
    fn what_goes_to_another_namespace_moves_and_two_of_a_name_do_not() {
        let (objects, _) = plan(&[map("a", "x", "1")], &[map("b", "x", "1")], Prune::AfterHealthy);
        assert_eq!(words(&objects), ["ConfigMap b/x Moved"]);
        assert_eq!(objects[0].from_namespace.as_deref(), Some("a"));

        let (objects, _) = plan(&[map("a", "x", "1"), map("b", "x", "1")], &[map("c", "x", "1")], Prune::AfterHealthy);
        assert_eq!(words(&objects), ["ConfigMap a/x Pruned", "ConfigMap b/x Pruned", "ConfigMap c/x Created"]);
    }

    #[test]
    fn what_is_not_pruned_is_said_to_stay() {
        let kept = |mut object: Value| {
            object["metadata"]["annotations"] = json!({"helm.sh/resource-policy": "keep"});
            object
        };

        let (objects, _) = plan(&[map("a", "x", "1")], &[], Prune::Never);
        assert_eq!(words(&objects), ["ConfigMap a/x Left"]);
        let (objects, _) = plan(&[kept(map("a", "x", "1"))], &[], Prune::AfterHealthy);
        assert_eq!(words(&objects), ["ConfigMap a/x Left"]);
        assert_eq!(objects[0].note.as_deref(), Some("it asks to be kept"));
    }

    #[test]
    fn what_no_agent_deletes_is_said_to_stay_and_why() {
        let claim = |namespace: &str| {
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"namespace": namespace, "name": "x"}})
        };
        let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}});

        let (objects, _) = plan(&[claim("a"), space], &[], Prune::AfterHealthy);
        assert_eq!(words(&objects), ["Namespace x Left", "PersistentVolumeClaim a/x Left"]);
        assert!(objects.iter().all(|object| object.note.as_ref().is_some_and(|it| it.contains("never deleted"))));

        let (objects, _) = plan(&[claim("a")], &[claim("b")], Prune::AfterHealthy);
        assert_eq!(words(&objects), ["PersistentVolumeClaim b/x Moved"]);
        assert_eq!(objects[0].note.as_deref(), Some("the one in the namespace before stays there"));
    }

    #[test]
    fn what_goes_and_cannot_be_read_may_ask_to_be_kept() {
        let (base, head) = (manifest(&[map("a", "x", "1")]), manifest(&[]));
        let (found, _) = steps(Some(&Replaced { manifest: &base, prunable: &[], is_done: true }), &head);

        let told = object(&found[0], (None, None), &SyncOptions::default(), &Hidden::default());

        assert_eq!((told.change, told.note.as_deref()), (ObjectChange::Pruned, Some(WISH_NOT_READ)));
    }

    #[test]
    fn what_is_deleted_and_made_anew_where_a_field_cannot_change_is_noted() {
        let selector = |app: &str, annotations: Value| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"selector": {"matchLabels": {"app": app}}},
                "metadata": {"namespace": "a", "name": "web", "annotations": annotations}})
        };
        let note = |before: &Value, after: &Value, replace: Replace| {
            let (base, head) = (manifest(std::slice::from_ref(before)), manifest(std::slice::from_ref(after)));
            let (found, _) = steps(Some(&Replaced { manifest: &base, prunable: &[], is_done: true }), &head);
            let sync = SyncOptions { replace, ..SyncOptions::default() };
            object(&found[0], (Some(before), Some(after)), &sync, &Hidden::default()).note
        };
        let (one, other) = (selector("a", json!({})), selector("b", json!({})));

        assert_eq!(note(&one, &other, Replace::Immutable).as_deref(), Some(REPLACED));
        assert_eq!(note(&one, &other, Replace::Never), None);
        let asks = selector("b", json!({"bellwether.dev/replace": "immutable"}));
        assert_eq!(note(&one, &asks, Replace::Never).as_deref(), Some(REPLACED));
        let kept = selector("a", json!({"helm.sh/resource-policy": "keep"}));
        assert_eq!(note(&kept, &other, Replace::Immutable), None);
        let labelled = selector("a", json!({"x": "y"}));
        assert_eq!(note(&one, &labelled, Replace::Immutable), None, "annotations can always change");
    }

    #[test]
    fn hooks_of_upgrades_are_passed_over_at_a_first_installation_and_what_does_not_run_is_not_said_to() {
        let hook = |api_version: &str, kind: &str, annotations: Value| {
            json!({"apiVersion": api_version, "kind": kind,
                "metadata": {"namespace": "a", "name": "x", "annotations": annotations}})
        };
        let of_upgrades = json!({"helm.sh/hook": "pre-upgrade", "bellwether.dev/hook": "upgrade"});
        let job = hook("batch/v1", "Job", of_upgrades);
        let told = |replaced: Option<&Replaced<'_>>, after: &Value| {
            let (found, _) = steps(replaced, &manifest(std::slice::from_ref(after)));
            object(&found[0], (None, Some(after)), &SyncOptions::default(), &Hidden::default())
        };
        let empty = manifest(&[]);
        let replaced = Replaced { manifest: &empty, prunable: &[], is_done: true };

        let first = told(None, &job);
        assert_eq!((first.hook, first.note.as_deref()), (None, Some(PASSED_OVER)));
        let later = told(Some(&replaced), &job);
        assert_eq!((later.hook, later.note), (Some(HookTime::Before), None));
        let account = hook("v1", "ServiceAccount", json!({"helm.sh/hook": "pre-install"}));
        assert_eq!(told(None, &account).hook, None);
    }

    #[test]
    fn what_was_to_go_before_and_is_not_known_to_be_gone_is_pruned_too() {
        let (base, head) = (manifest(&[map("a", "x", "1")]), manifest(&[map("a", "x", "1")]));
        let undone = [ObjectKey::of(&map("a", "old", "1")).expect("a key")];

        let (found, unchanged) = steps(Some(&Replaced { manifest: &base, prunable: &undone, is_done: false }), &head);

        assert_eq!((found.len(), unchanged), (1, 1));
        let told = object(&found[0], (None, None), &SyncOptions::default(), &Hidden::default());
        assert_eq!((told.change, told.note.is_some()), (ObjectChange::Pruned, true));
    }

    #[test]
    fn what_is_applied_once_is_not_said_to_change() {
        let once = |value: &str| {
            let mut object = map("a", "x", value);
            object["metadata"]["annotations"] = json!({"bellwether.dev/apply": "once"});
            object
        };

        let (objects, _) = plan(&[once("1")], &[once("2")], Prune::AfterHealthy);

        assert_eq!(words(&objects), ["ConfigMap a/x Left"]);
    }

    #[test]
    fn a_pod_template_that_changes_is_a_restart_and_a_new_hook_runs() {
        let deployment = |image: &str, replicas: i64| {
            let pod = json!({"spec": {"containers": [{"name": "web", "image": image}]}});
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "a", "name": "web"},
                "spec": {"replicas": replicas, "template": pod}})
        };
        let hook = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "a", "name": "migrate",
            "annotations": {"helm.sh/hook": "pre-upgrade,pre-install"}}});

        let (objects, _) = plan(&[deployment("a:1", 1)], &[deployment("a:2", 1), hook], Prune::AfterHealthy);
        assert!(objects[0].restarts && objects[0].hook.is_none(), "{objects:?}");
        assert_eq!((objects[1].restarts, objects[1].hook), (false, Some(HookTime::Before)));
        let (objects, _) = plan(&[deployment("a:1", 1)], &[deployment("a:1", 2)], Prune::AfterHealthy);
        assert!(!objects[0].restarts, "{objects:?}");
    }

    #[test]
    fn what_cannot_be_read_is_told_and_not_compared() {
        let (base, head) = (manifest(&[map("a", "x", "1")]), manifest(&[map("a", "x", "2")]));
        let (found, _) = steps(Some(&Replaced { manifest: &base, prunable: &[], is_done: true }), &head);

        let told = object(&found[0], (None, Some(&map("a", "x", "2"))), &SyncOptions::default(), &Hidden::default());

        assert!(told.fields.is_empty() && told.note.is_some(), "{told:?}");
    }
}
