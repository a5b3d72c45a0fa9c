//! What no target may write: what an agent was installed with, and the marks by which Bellwether finds its own.
//!
//! The renderer refuses it with the file and the line; the agent refuses it again, because the hub that rendered may know
//! nothing of this agent, or not be the one that it should be.

use serde_json::Value;

use crate::ObjectKey;
use crate::apply::{APPLY_ANNOTATION, PHASE_ANNOTATION};
use crate::assignment::DEFINITION;
use crate::health::HEALTH_ANNOTATION;
use crate::hooks::{HOOK_ANNOTATION, UPGRADE};
use crate::object::{OWNER_ANNOTATION, TARGET_LABEL};
use crate::replace::REPLACE_ANNOTATION;
use crate::sealed::SEALED_ANNOTATION;

/// Before an agent's namespace in the names of its ClusterRole, of what binds it, and of the role of who may stop it.
const AGENT_PREFIXES: [&str; 2] = ["bellwether-agent-", "bellwether-break-glass-"];

/// What manifests may say to Bellwether.
const FOR_PEOPLE: [&str; 5] =
    [APPLY_ANNOTATION, HEALTH_ANNOTATION, "bellwether.dev/substitute", PHASE_ANNOTATION, REPLACE_ANNOTATION];

/// Whether the object belongs to an agent that is installed in such a namespace. There are its journal and its identity:
/// a target that wrote there, or over the rights that it was installed with, could take the agent over or keep it from
/// starting again.
pub fn is_of_an_agent(key: &ObjectKey, is_home: impl Fn(&str) -> bool) -> bool {
    match (&key.namespace, key.group(), key.kind.as_str()) {
        // Agents write these, and the people of a cluster stop agents by them.
        (_, "bellwether.dev", "Assignment") => true,
        (_, "apiextensions.k8s.io", "CustomResourceDefinition") if key.name == DEFINITION => true,
        // What is cluster-scoped may name a namespace all the same.
        (_, "", "Namespace") | (_, "project.openshift.io", "Project") => is_home(&key.name),
        (_, "rbac.authorization.k8s.io", "ClusterRole" | "ClusterRoleBinding") => {
            AGENT_PREFIXES.into_iter().filter_map(|prefix| key.name.strip_prefix(prefix)).any(is_home)
        }
        (Some(namespace), ..) => is_home(namespace),
        (None, ..) => false,
    }
}

/// By labels and annotations of this prefix Bellwether finds what is its own, the journal too: whoever wrote one could
/// pass off an object as another target's, or as a part of the journal.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with("bellwether.dev/") && !FOR_PEOPLE.contains(&name)
}

/// A label or an annotation that an object of the target with this label may not have: `metadata.labels.NAME`.
pub fn reserved_mark(object: &Value, target: &str) -> Option<String> {
    let metadata = object.get("metadata")?;
    let is_ours = |field: &str, name: &str, value: &Value| match field {
        "labels" => name == TARGET_LABEL && value == target,
        _ => {
            let is_said_by_a_render = name == OWNER_ANNOTATION || name == SEALED_ANNOTATION;
            is_said_by_a_render || (name == HOOK_ANNOTATION && value == UPGRADE)
        }
    };
    ["labels", "annotations"].into_iter().find_map(|field| {
        let marks = metadata.get(field)?.as_object()?;
        let (name, _) = marks.iter().find(|(name, value)| is_reserved(name) && !is_ours(field, name, value))?;
        Some(format!("metadata.{field}.{name}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectKey {
        ObjectKey {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    #[test]
    fn what_an_agent_was_installed_with_is_no_targets() {
        let rbac = "rbac.authorization.k8s.io/v1";
        let is_home = |namespace: &str| namespace == "home";
        let theirs = [
            key("v1", "Secret", Some("home"), "any"),
            key("v1", "Namespace", None, "home"),
            key("v1", "Namespace", Some("shop"), "home"),
            key(rbac, "ClusterRole", None, "bellwether-agent-home"),
            key(rbac, "ClusterRoleBinding", Some("shop"), "bellwether-agent-home"),
            key(rbac, "ClusterRole", None, "bellwether-break-glass-home"),
            key("bellwether.dev/v1alpha1", "Assignment", None, "web"),
            key("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, "assignments.bellwether.dev"),
        ];
        let others = [
            key("v1", "Secret", Some("shop"), "bellwether-agent-home"),
            key("v1", "Namespace", None, "shop"),
            key(rbac, "ClusterRole", None, "bellwether-agent-elsewhere"),
            key(rbac, "ClusterRole", None, "bellwether-break-glass-elsewhere"),
            key("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, "others.bellwether.dev"),
        ];

        assert!(theirs.iter().all(|key| is_of_an_agent(key, is_home)));
        assert!(!others.iter().any(|key| is_of_an_agent(key, is_home)));
    }

    #[test]
    fn only_the_targets_own_marks_and_what_people_may_say_pass() {
        let object =
            |labels: Value, annotations: Value| json!({"metadata": {"labels": labels, "annotations": annotations}});
        let good = object(
            json!({TARGET_LABEL: "7", "app": "x"}),
            json!({OWNER_ANNOTATION: "main/shop", PHASE_ANNOTATION: "2", APPLY_ANNOTATION: "once", REPLACE_ANNOTATION: "never", "demo.bellwether.dev/x": "1"}),
        );
        let found = |labels, annotations| reserved_mark(&object(labels, annotations), "7");

        assert_eq!(reserved_mark(&good, "7"), None);
        assert_eq!(
            found(json!({TARGET_LABEL: "8"}), json!({})).as_deref(),
            Some("metadata.labels.bellwether.dev/target")
        );
        assert_eq!(found(json!({}), json!({HOOK_ANNOTATION: "upgrade"})), None);
        assert!(found(json!({}), json!({HOOK_ANNOTATION: "install"})).is_some() && is_reserved(HOOK_ANNOTATION));
        assert!(found(json!({}), json!({SEALED_ANNOTATION: "{}"})).is_none() && is_reserved(SEALED_ANNOTATION));
        assert!(found(json!({"bellwether.dev/journal": "v1"}), json!({})).is_some());
        assert!(found(json!(null), json!({"bellwether.dev/suspend": "x"})).is_some());
        assert_eq!(found(json!({}), json!(null)), None);
    }
}
