//! In which order a target's objects are applied, and in which they are deleted.
//!
//! What others need comes first: definitions, namespaces and the rights of the cluster, then classes, then everything
//! else, which annotations can split further, and last what can refuse all the rest: admission webhooks and policies.
//! It never leaves an object out, and deletion is the exact reverse.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ObjectKey;

/// A whole number that orders what has no phase of its own; 0 when there is none. Negative ones come earlier. It moves
/// what has one too: webhooks that the pods of the same target wait for must not wait for those pods.
pub const PHASE_ANNOTATION: &str = "bellwether.dev/phase";
/// Argo CD's name for it; where it stands on what has a phase of its own, that phase stays.
pub const SYNC_WAVE_ANNOTATION: &str = "argocd.argoproj.io/sync-wave";

/// When an object is applied: each phase waits for the health of the one before. The order is that of applying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Definitions, namespaces, and the cluster's roles.
    Foundation,
    /// Storage classes, ingress classes, priority classes and their like.
    Class,
    /// Everything else, in the order that its annotations give.
    Main(i32),
    /// Webhooks and policies that judge what is applied after them.
    Admission,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("annotation `{annotation}` is `{value}`: write a whole number such as 1 or -1")]
pub struct InvalidPhase {
    pub annotation: &'static str,
    pub value: String,
}

/// The phase of an object. An annotation that is no number counts as 0: [`check_phase`] refuses it where a person can
/// still be told.
pub fn phase(key: &ObjectKey, annotations: &BTreeMap<String, String>) -> Phase {
    phase_by(key, |annotation| annotations.get(annotation).map(String::as_str))
}

/// The phase of an object as JSON; `None` when it has no key.
pub fn phase_of(object: &Value) -> Option<Phase> {
    let annotations = &object["metadata"]["annotations"];
    Some(phase_by(&ObjectKey::of(object)?, |annotation| annotations.get(annotation)?.as_str()))
}

fn phase_by<'a>(key: &ObjectKey, annotation: impl Fn(&'static str) -> Option<&'a str>) -> Phase {
    if let Some(number) = annotation(PHASE_ANNOTATION).and_then(|text| text.trim().parse().ok()) {
        return Phase::Main(number);
    }
    match (key.group(), key.kind.as_str()) {
        ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("", "Namespace")
        | ("rbac.authorization.k8s.io", "ClusterRole" | "ClusterRoleBinding") => Phase::Foundation,
        ("admissionregistration.k8s.io", _) => Phase::Admission,
        // A namespaced `…Class` is somebody's own kind, and nothing of the cluster refers to it.
        (_, kind) if kind.ends_with("Class") && key.namespace.is_none() => Phase::Class,
        _ => Phase::Main(number(annotation).unwrap_or_default().unwrap_or_default()),
    }
}

/// The number that the annotations give; ours counts before Argo CD's.
fn number<'a>(annotation: impl Fn(&'static str) -> Option<&'a str>) -> Result<Option<i32>, InvalidPhase> {
    for name in [PHASE_ANNOTATION, SYNC_WAVE_ANNOTATION] {
        if let Some(text) = annotation(name) {
            let refuse = |_| InvalidPhase { annotation: name, value: text.chars().take(40).collect() };
            return text.trim().parse().map(Some).map_err(refuse);
        }
    }
    Ok(None)
}

/// Refuses an annotation that is no number.
pub fn check_phase(annotations: &BTreeMap<String, String>) -> Result<(), InvalidPhase> {
    number(|annotation| annotations.get(annotation).map(String::as_str)).map(|_| ())
}

/// The objects by phase, in the order of applying; inside a phase in the order in which they came.
pub fn plan_phases<T>(objects: impl IntoIterator<Item = T>, phase: impl Fn(&T) -> Phase) -> Vec<Vec<T>> {
    let mut phases: BTreeMap<Phase, Vec<T>> = BTreeMap::new();
    for object in objects {
        phases.entry(phase(&object)).or_default().push(object);
    }
    phases.into_values().collect()
}

/// The objects by phase, in the order of deleting: the reverse of applying, also inside a phase.
pub fn plan_deletions<T>(objects: impl IntoIterator<Item = T>, phase: impl Fn(&T) -> Phase) -> Vec<Vec<T>> {
    let mut phases = plan_phases(objects, phase);
    phases.reverse();
    for objects in &mut phases {
        objects.reverse();
    }
    phases
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

    fn names(phases: &[Vec<Value>]) -> Vec<String> {
        let name = |object: &Value| object["metadata"]["name"].as_str().expect("a name").to_owned();
        phases.iter().map(|objects| objects.iter().map(name).collect::<Vec<_>>().join(" ")).collect()
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
        let phases = plan_phases(OBJECTS.map(object), of);

        assert_eq!(
            names(&phases),
            ["shop widgets rights", "fast gate", "widget", "web settings own", "late", "hook policy"]
        );
    }

    #[test]
    fn our_annotation_moves_a_webhook_to_what_waits_for_it_and_argos_does_not() {
        let webhook = "admissionregistration.k8s.io/v1 MutatingWebhookConfiguration injector";

        assert_eq!(of(&object(&format!("{webhook} bellwether.dev/phase=0"))), Phase::Main(0));
        assert_eq!(of(&object(&format!("{webhook} bellwether.dev/phase=soon"))), Phase::Admission);
        assert_eq!(of(&object(&format!("{webhook} argocd.argoproj.io/sync-wave=1"))), Phase::Admission);
    }

    #[test]
    fn deletion_is_the_exact_reverse() {
        let phases = plan_deletions(OBJECTS.map(object), of);

        assert_eq!(
            names(&phases),
            ["policy hook", "late", "own settings web", "widget", "gate fast", "rights widgets shop"]
        );
    }

    #[test]
    fn our_annotation_counts_before_argos_and_nonsense_is_refused() {
        let annotations = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let key = ObjectKey::of(&object("v1 ConfigMap a")).expect("a key");
        let both = annotations(&[(PHASE_ANNOTATION, "3"), (SYNC_WAVE_ANNOTATION, "1")]);
        let nonsense = annotations(&[(SYNC_WAVE_ANNOTATION, "soon")]);

        assert_eq!(phase(&key, &both), Phase::Main(3));
        assert_eq!((phase(&key, &nonsense), check_phase(&both)), (Phase::Main(0), Ok(())));
        let refusal = check_phase(&nonsense).expect_err("refused").to_string();
        assert!(refusal.contains("sync-wave") && refusal.contains("`soon`"), "{refusal}");
    }

    #[test]
    fn a_kind_is_known_by_its_group() {
        assert_eq!(of(&object("example.org/v1 Namespace a")), Phase::Main(0));
        assert_eq!(of(&object("example.org/v1 ClusterRole a")), Phase::Main(0));
    }
}
