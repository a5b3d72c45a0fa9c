//! What asks to be deleted and made anew when it cannot be changed to what is wanted, and which refusals mean that.
//!
//! Some fields never change once an object is there: the selector of a Deployment, the template of a Job. Who changes one in
//! Git has to delete the object, or has it deleted. Whether this may be done to the one that is there is decided in
//! [`crate::reconcile::Replacement`].

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ObjectKey;
use crate::object::is_built_in_group;
use crate::session::Replace;

/// On an object, whatever its target says: `immutable` has it replaced, `never` has it left.
pub const REPLACE_ANNOTATION: &str = "bellwether.dev/replace";
const IMMUTABLE: &str = "immutable";
pub(crate) const NEVER: &str = "never";

/// Flux's: an object is made anew when a field of it is immutable.
const FLUX: &str = "kustomize.toolkit.fluxcd.io/force";
const ARGO: &str = "argocd.argoproj.io/sync-options";
/// `kubectl apply --force`, or `kubectl replace --force` with `Replace=true`. That alone only updates, which is refused for the
/// same reason.
const ARGO_OPTION: &str = "Force=true";

/// Whether an annotation of ours says a word that it may say.
pub fn is_word(text: &str) -> bool {
    [IMMUTABLE, NEVER].contains(&text)
}

/// Whether an object, as JSON, asks for it, or else its target does. A custom resource may stand for a database: what its
/// controller takes down with it nobody here knows, so it has to ask for it by itself.
pub fn is_asked(target: Replace, key: &ObjectKey, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Object {
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Metadata {
        annotations: BTreeMap<String, String>,
        labels: BTreeMap<String, String>,
    }
    let Metadata { annotations, labels } =
        serde_json::from_slice(body).map(|object: Object| object.metadata).unwrap_or_default();
    match annotations.get(REPLACE_ANNOTATION).map(String::as_str) {
        Some(IMMUTABLE) => return true,
        Some(NEVER) => return false,
        _ => {}
    }
    // Flux reads both.
    let flux = [annotations.get(FLUX), labels.get(FLUX)];
    let is_forced = flux.into_iter().flatten().any(|value| value.trim().eq_ignore_ascii_case("enabled"));
    let options = annotations.get(ARGO).map(String::as_str).unwrap_or_default();
    is_forced || options.split(',').any(|option| option.trim() == ARGO_OPTION) || counts_for(target, key)
}

/// Whether what a target says is meant of such an object.
fn counts_for(target: Replace, key: &ObjectKey) -> bool {
    target == Replace::Immutable && is_built_in_group(key.group())
}

/// Whether what Kubernetes' validation finds at fault with a field, without values, is that it cannot change.
pub fn is_of_a_change(fault: &str) -> bool {
    const WORDS: [&str; 8] = [
        "immutable",
        // Addresses of a Service.
        "may not change once set",
        "may not be changed",
        // Of a StatefulSet, of its claims too, and of a Pod.
        "updates to statefulset spec for fields other than",
        "pod updates may not change fields other than",
        // Of a RoleBinding or a ClusterRoleBinding.
        "cannot change roleRef",
        // Of a StorageClass; its volumes stay as they are.
        "updates to parameters are forbidden",
        "updates to provisioner are forbidden",
    ];
    WORDS.iter().any(|words| fault.contains(words))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn key(api_version: &str) -> ObjectKey {
        let (kind, name) = ("Kind".to_owned(), "a".to_owned());
        ObjectKey { api_version: api_version.to_owned(), kind, namespace: None, name }
    }

    fn asks(target: Replace, metadata: &Value) -> bool {
        is_asked(target, &key("apps/v1"), json!({"metadata": metadata}).to_string().as_bytes())
    }

    #[test]
    fn a_custom_resource_asks_for_it_by_itself() {
        let asks = |metadata: Value| {
            let body = json!({"metadata": metadata}).to_string();
            is_asked(Replace::Immutable, &key("postgresql.cnpg.io/v1"), body.as_bytes())
        };

        assert!(!asks(json!({})));
        assert!(asks(json!({"annotations": {REPLACE_ANNOTATION: "immutable"}})));
    }

    #[test]
    fn an_object_asks_for_it_in_our_word_or_in_that_of_other_tools_and_may_decline_it() {
        let annotated = |name: &str, value: &str| asks(Replace::Never, &json!({"annotations": {name: value}}));

        assert!(annotated(REPLACE_ANNOTATION, "immutable"));
        assert!(annotated(FLUX, "Enabled") && asks(Replace::Never, &json!({"labels": {FLUX: "enabled"}})));
        assert!(annotated(ARGO, "ServerSideApply=true, Force=true") && annotated(ARGO, "Force=true,Replace=true"));
        assert!(asks(Replace::Immutable, &json!({})));
        for (name, value) in
            [(REPLACE_ANNOTATION, "never"), (FLUX, "disabled"), (ARGO, "Replace=true"), (ARGO, "Force=false")]
        {
            assert!(!annotated(name, value), "{name}: {value}");
        }
        assert!(!asks(Replace::Immutable, &json!({"annotations": {REPLACE_ANNOTATION: "never", FLUX: "enabled"}})));
    }

    #[test]
    fn what_cannot_change_is_told_from_what_is_wrong() {
        for fault in [
            "Invalid value: …: field is immutable",
            "Forbidden: field is immutable when `immutable` is set",
            "Invalid value: …: may not change once set",
            "Forbidden: updates to statefulset spec for fields other than 'replicas', 'template' are forbidden",
            "Invalid value: …: cannot change roleRef",
            "Forbidden: updates to parameters are forbidden.",
        ] {
            assert!(is_of_a_change(fault), "{fault}");
        }
        for fault in ["Unsupported value: …", "Invalid value: …: may not be set to 'None' for NodePort services"] {
            assert!(!is_of_a_change(fault), "{fault}");
        }
    }
}
