//! In which order a target's objects are applied, and in which they are deleted.
//!
//! What others need comes first: definitions, namespaces and the rights of the cluster, then classes, then everything
//! else, which annotations can split further, and then what can refuse all the rest: admission webhooks and policies.
//! Hooks of Helm and Argo CD come where these have them: before everything else that is installed, or when all of that is well.
//! Inside a phase, kinds have the order that Helm and Flux give them. Nothing waits for the health of the kind before, so
//! it costs no time; it spares pods that start without their ConfigMap or account.
//!
//! Deletion is the reverse, with one more step in each phase: custom resources go first, and whoever answers their
//! finalizers, which is likely to be applied with them, goes when they are gone. No object is ever left out.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::ObjectKey;
use crate::hooks::{self, SYNC_WAVE, Time, number};
use crate::object::is_built_in_group;

/// A whole number that orders what has no phase of its own; 0 when there is none. Negative ones come earlier. It moves
/// what has one too: webhooks that the pods of the same target wait for must not wait for those pods.
pub const PHASE_ANNOTATION: &str = "bellwether.dev/phase";

/// On an object: `once` has it made where it is absent, and left as it is where it is there, whoever has it.
pub const APPLY_ANNOTATION: &str = "bellwether.dev/apply";
/// All that [`APPLY_ANNOTATION`] may say.
pub const ONCE: &str = "once";

/// When an object is applied: each phase waits for the health of the one before. The order is that of applying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Definitions, namespaces, and the cluster's roles.
    Foundation,
    /// Storage classes, ingress classes, priority classes and their like.
    Class,
    /// What Helm does before it installs or upgrades, and Argo CD before it syncs, in the order of weights and waves.
    PreHook(i32),
    /// Everything else, in the order that its annotations give.
    Main(i32),
    /// Webhooks and policies that judge what is applied after them.
    Admission,
    /// What Helm does when all is installed, and Argo CD when all is synced, in the order of weights and waves.
    PostHook(i32),
}

/// The phase of an object. An annotation of ours that is no number is refused where a person can still be told, by
/// [`is_phase`]; here, as one of Argo CD's, it counts for nothing.
pub fn phase(key: &ObjectKey, annotations: &BTreeMap<String, String>) -> Phase {
    phase_by(key, |annotation| annotations.get(annotation).map(String::as_str))
}

/// The phase of an object as JSON; `None` when it has no key.
pub fn phase_of(object: &Value) -> Option<Phase> {
    let annotations = &object["metadata"]["annotations"];
    Some(phase_by(&ObjectKey::of(object)?, |annotation| annotations.get(annotation)?.as_str()))
}

fn phase_by<'a>(key: &ObjectKey, annotation: impl Fn(&'static str) -> Option<&'a str>) -> Phase {
    if let Some(number) = annotation(PHASE_ANNOTATION).and_then(number) {
        return Phase::Main(number);
    }
    match (key.group(), key.kind.as_str()) {
        ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("", "Namespace")
        | ("rbac.authorization.k8s.io", "ClusterRole" | "ClusterRoleBinding") => Phase::Foundation,
        (group, kind) if kind.ends_with("Class") && CLASS_GROUPS.contains(&group) => Phase::Class,
        (group, _) => hook_phase(&annotation).unwrap_or_else(|| match group {
            "admissionregistration.k8s.io" => Phase::Admission,
            _ => Phase::Main(annotation(SYNC_WAVE).and_then(number).unwrap_or_default()),
        }),
    }
}

/// Whether an object, as canonical JSON, asks to be [applied once](APPLY_ANNOTATION).
pub fn is_applied_once(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    // Hardly any does, and what is sent is otherwise not read.
    const SAID: &[u8] = br#""bellwether.dev/apply":"once""#;
    let may_ask = body.windows(SAID.len()).any(|bytes| bytes == SAID);
    let annotations = || Some(serde_json::from_slice::<Object>(body).ok()?.metadata.annotations);
    may_ask && annotations().is_some_and(|annotations| annotations.get(APPLY_ANNOTATION).is_some_and(|it| it == ONCE))
}

/// Of a hook that has a time in the life of a target.
fn hook_phase<'a>(annotation: impl Fn(&'static str) -> Option<&'a str>) -> Option<Phase> {
    match hooks::time(annotation)? {
        Time::Before(weight) => Some(Phase::PreHook(weight)),
        Time::Amid(weight) => Some(Phase::Main(weight)),
        Time::After(weight) => Some(Phase::PostHook(weight)),
        // Whoever assigns one all the same has it applied with the rest.
        Time::Skipped | Time::Never => None,
    }
}

/// Where classes are the cluster's. Elsewhere they may be namespaced and need what is applied with them, as Cluster API's
/// do; whether the object names a namespace does not tell.
const CLASS_GROUPS: [&str; 8] = [
    "gateway.networking.k8s.io",
    "groupsnapshot.storage.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "snapshot.storage.k8s.io",
    "storage.k8s.io",
];

/// Kinds in the order of applying inside a phase; what is not listed comes after all that is.
const KINDS: [&str; 29] = [
    "Namespace",
    "CustomResourceDefinition",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "ConfigMap",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "Endpoints",
    "EndpointSlice",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "StatefulSet",
    "HorizontalPodAutoscaler",
    "Job",
    "CronJob",
    "Ingress",
    "APIService",
];

/// The place of an object inside its phase, in the order of applying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The place of its kind in the order of applying; kinds that are not listed share the last.
    BuiltIn(usize),
    /// Its controller may come with it, so it is applied after that.
    Custom,
}

/// By its group and kind alone: what is of no group of Kubernetes' own is custom.
pub fn rank(key: &ObjectKey) -> Rank {
    if is_built_in_group(key.group()) {
        Rank::BuiltIn(KINDS.iter().position(|kind| *kind == key.kind).unwrap_or(KINDS.len()))
    } else {
        Rank::Custom
    }
}

/// Objects that are deleted together: those of a later stage wait until these are gone. The order is that of deleting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeletionStage {
    phase: Reverse<Phase>,
    is_built_in: bool,
}

impl DeletionStage {
    /// Of an object and the [`phase`] that it was applied in.
    pub fn of(key: &ObjectKey, phase: Phase) -> Self {
        Self { phase: Reverse(phase), is_built_in: rank(key) != Rank::Custom }
    }

    /// Custom resources: who answers their finalizers may be in a later stage.
    pub fn is_of_custom_resources(self) -> bool {
        !self.is_built_in
    }
}

/// Whether a text is a number such as [`PHASE_ANNOTATION`] has to be: a whole one.
pub fn is_phase(text: &str) -> bool {
    number(text).is_some()
}

/// Brings objects into the order of applying; what has the same place stays as it came.
pub fn sort_for_applying<T>(objects: &mut [T], place: impl Fn(&T) -> (&ObjectKey, Phase)) {
    objects.sort_by_key(|object| {
        let (key, phase) = place(object);
        (phase, rank(key))
    });
}

/// Brings objects into the order of deleting: the reverse of applying.
pub fn sort_for_deleting<T>(objects: &mut [T], place: impl Fn(&T) -> (&ObjectKey, Phase)) {
    objects.reverse();
    objects.sort_by_key(|object| {
        let (key, phase) = place(object);
        (DeletionStage::of(key, phase), Reverse(rank(key)))
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `apiVersion kind name`, and then annotations.
    fn object(text: &str) -> Value {
        let words: Vec<_> = text.split(' ').collect();
        let annotations: BTreeMap<_, _> = words[3..].iter().filter_map(|word| word.split_once('=')).collect();
        json!({"apiVersion": words[0], "kind": words[1], "metadata": {"name": words[2], "annotations": annotations}})
    }

    fn placed(objects: &[&str]) -> Vec<(ObjectKey, Phase)> {
        let placed = |text: &&str| {
            let object = object(text);
            (ObjectKey::of(&object).expect("a key"), of(&object))
        };
        objects.iter().map(placed).collect()
    }

    fn place((key, phase): &(ObjectKey, Phase)) -> (&ObjectKey, Phase) {
        (key, *phase)
    }

    fn names(objects: &[(ObjectKey, Phase)]) -> String {
        objects.iter().map(|(key, _)| key.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    const OBJECTS: [&str; 12] = [
        "admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration hook",
        "apps/v1 Deployment web",
        "apps/v1 Deployment late bellwether.dev/phase=2",
        "storage.k8s.io/v1 StorageClass fast",
        "v1 Namespace shop",
        "example.org/v1 Widget widget argocd.argoproj.io/sync-wave=-1",
        "apiextensions.k8s.io/v1 CustomResourceDefinition widgets",
        "v1 ConfigMap settings",
        "gateway.networking.k8s.io/v1 GatewayClass gate",
        "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy policy",
        "rbac.authorization.k8s.io/v1 ClusterRoleBinding rights",
        "rbac.authorization.k8s.io/v1 RoleBinding own",
    ];

    fn of(object: &Value) -> Phase {
        phase_of(object).expect("an object with a key")
    }

    #[test]
    fn what_others_need_comes_first_and_what_can_refuse_them_last() {
        let mut objects = placed(&OBJECTS);

        sort_for_applying(&mut objects, place);

        let expected = "shop widgets rights fast gate widget settings own web late hook policy";
        assert_eq!(names(&objects), expected);
    }

    #[test]
    fn our_annotation_moves_a_webhook_to_what_waits_for_it_and_argos_does_not() {
        let webhook = "admissionregistration.k8s.io/v1 MutatingWebhookConfiguration injector";

        assert_eq!(of(&object(&format!("{webhook} bellwether.dev/phase=0"))), Phase::Main(0));
        assert_eq!(of(&object(&format!("{webhook} bellwether.dev/phase=soon"))), Phase::Admission);
        assert_eq!(of(&object(&format!("{webhook} argocd.argoproj.io/sync-wave=1"))), Phase::Admission);
    }

    #[test]
    fn deletion_is_the_reverse() {
        let mut objects = placed(&OBJECTS);

        sort_for_deleting(&mut objects, place);

        assert_eq!(names(&objects), "policy hook late web own settings widget gate fast rights widgets shop");
    }

    #[test]
    fn workloads_come_after_what_they_refer_to_and_custom_resources_after_their_controllers() {
        let mut objects = placed(&[
            "batch/v1 Job job",
            "example.org/v1 Widget widget",
            "apps/v1 Deployment web",
            "v1 Secret secret",
            "rbac.authorization.k8s.io/v1 Role role",
            "v1 ServiceAccount account",
            "autoscaling/v2 Unheard new",
            "v1 ConfigMap settings",
        ]);

        sort_for_applying(&mut objects, place);

        assert_eq!(names(&objects), "account secret settings role web job new widget");
    }

    #[test]
    fn custom_resources_are_a_stage_of_their_own_and_go_before_the_rest_of_their_phase() {
        let mut objects = placed(&[
            "apps/v1 Deployment operator",
            "example.org/v1 Widget widget",
            "v1 ServiceAccount account",
            "example.org/v1 Widget early bellwether.dev/phase=-1",
        ]);

        sort_for_deleting(&mut objects, place);

        assert_eq!(names(&objects), "widget operator account early");
        let stages: Vec<_> = objects.iter().map(|(key, phase)| DeletionStage::of(key, *phase)).collect();
        assert!(stages[0] < stages[1] && stages[1] == stages[2] && stages[2] < stages[3]);
        assert!(stages[0].is_of_custom_resources() && !stages[1].is_of_custom_resources());
    }

    #[test]
    fn a_class_is_known_by_its_group_and_not_by_a_namespace_that_it_may_not_have() {
        let class = |group: &str, namespace: Option<&str>| {
            let metadata = json!({"name": "a", "namespace": namespace});
            of(&json!({"apiVersion": format!("{group}/v1"), "kind": "GatewayClass", "metadata": metadata}))
        };
        for namespace in [None, Some("shop")] {
            assert_eq!(class("gateway.networking.k8s.io", namespace), Phase::Class);
            assert_eq!(class("example.org", namespace), Phase::Main(0));
        }
    }

    #[test]
    fn our_annotation_counts_before_argos_and_nonsense_for_nothing() {
        let annotations = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let key = ObjectKey::of(&object("v1 ConfigMap a")).expect("a key");
        let both = annotations(&[(PHASE_ANNOTATION, "3"), (SYNC_WAVE, "1")]);
        let nonsense = annotations(&[(SYNC_WAVE, "soon")]);

        assert_eq!(phase(&key, &both), Phase::Main(3));
        assert_eq!(phase(&key, &nonsense), Phase::Main(0));
        assert_eq!(["1", " -3 ", "soon", "1.5", ""].map(is_phase), [true, true, false, false, false]);
    }

    #[test]
    fn an_object_is_applied_once_if_its_own_annotation_says_so() {
        let said = r#""bellwether.dev/apply":"once""#;
        let asks = |body: &str| is_applied_once(body.as_bytes());

        assert!(asks(&format!(r#"{{"metadata":{{"annotations":{{{said}}},"name":"a"}}}}"#)));
        assert!(!asks(&format!(
            r#"{{"metadata":{{"name":"a"}},"spec":{{"template":{{"metadata":{{"annotations":{{{said}}}}}}}}}}}"#
        )));
        assert!(!asks(r#"{"metadata":{"annotations":{"bellwether.dev/apply":"always"},"name":"a"}}"#));
        assert!(!asks("once"));
    }

    #[test]
    fn a_hook_comes_before_or_after_all_else_by_weight_and_our_annotation_moves_it() {
        let in_order = [
            "rbac.authorization.k8s.io/v1 ClusterRole role helm.sh/hook=post-install",
            "batch/v1 Job second helm.sh/hook=pre-install,post-upgrade helm.sh/hook-weight=-1",
            "batch/v1 Job third helm.sh/hook=pre-upgrade",
            "apps/v1 Deployment web",
            "batch/v1 Job moved helm.sh/hook=post-install bellwether.dev/phase=3",
            "admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration w",
            "batch/v1 Job last helm.sh/hook=post-install helm.sh/hook-weight=5",
        ];
        let phases: Vec<_> = placed(&in_order).into_iter().map(|(_, phase)| phase).collect();

        assert!(phases.is_sorted(), "{phases:?}");
        let hooks = [Phase::PreHook(-1), Phase::PreHook(0), Phase::Main(0), Phase::Main(3), Phase::Admission];
        assert_eq!((&phases[1..6], phases[6]), (&hooks[..], Phase::PostHook(5)));
        assert_eq!(of(&object("batch/v1 Job test helm.sh/hook=test")), Phase::Main(0));
        assert_eq!(of(&object("batch/v1 Job m helm.sh/hook=pre-upgrade,post-install")), Phase::PostHook(0));
    }

    #[test]
    fn hooks_of_argo_cd_come_before_all_else_amid_it_and_after_it_in_the_order_of_their_waves() {
        let in_order = [
            "v1 Namespace shop argocd.argoproj.io/hook=PreSync",
            "batch/v1 Job first argocd.argoproj.io/hook=PreSync argocd.argoproj.io/sync-wave=-1",
            "batch/v1 Job migrate argocd.argoproj.io/hook=PreSync",
            "apps/v1 Deployment web",
            "batch/v1 Job amid argocd.argoproj.io/hook=Sync argocd.argoproj.io/sync-wave=1",
            "admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration hook",
            "batch/v1 Job after argocd.argoproj.io/hook=PostSync",
            "batch/v1 Job last argocd.argoproj.io/hook=PostSync argocd.argoproj.io/sync-wave=1",
        ];
        let phases: Vec<_> = placed(&in_order).into_iter().map(|(_, phase)| phase).collect();

        assert!(phases.is_sorted(), "{phases:?}");
        assert_eq!((phases[1], phases[4], phases[7]), (Phase::PreHook(-1), Phase::Main(1), Phase::PostHook(1)));
        let placed = "batch/v1 Job a argocd.argoproj.io/hook=PreSync bellwether.dev/phase=2";
        assert_eq!(of(&object(placed)), Phase::Main(2), "who says when is heard");
    }

    #[test]
    fn a_kind_is_known_by_its_group() {
        assert_eq!(of(&object("example.org/v1 Namespace a")), Phase::Main(0));
        assert_eq!(of(&object("example.org/v1 ClusterRole a")), Phase::Main(0));
    }
}
