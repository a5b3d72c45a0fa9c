//! Fields that the API's contract gives to a controller, though manifests often carry them.
//!
//! Whatever is applied there is overwritten, so it is not applied at all: nobody fights over it, and what the controller
//! wrote stays. Only what a contract says belongs here; what merely some controllers do is a conflict, and is told.

use serde_json::Value;

use crate::ObjectKey;
use crate::object::canonical_json;

/// Annotations by which somebody asks an injector to fill in `caBundle`.
const INJECTED: [&str; 4] = [
    "cert-manager.io/inject-ca-from",
    "cert-manager.io/inject-ca-from-secret",
    "cert-manager.io/inject-apiserver-ca",
    "service.beta.openshift.io/inject-cabundle",
];

/// The object without them, as it is to be applied; `None`: as it is.
pub fn without_yielded(key: &ObjectKey, body: &[u8]) -> Option<Vec<u8>> {
    let yields: fn(&mut Value) -> bool = match (key.group(), key.kind.as_str()) {
        ("rbac.authorization.k8s.io", "ClusterRole") => yield_rules,
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration")
        | ("apiextensions.k8s.io", "CustomResourceDefinition")
        | ("apiregistration.k8s.io", "APIService") => yield_bundles,
        _ => return None,
    };
    let mut object: Value = serde_json::from_slice(body).ok()?;
    yields(&mut object).then(|| canonical_json(&object))
}

/// "The values of rules are overwritten by the controller", says the API of a role that is made of others.
fn yield_rules(role: &mut Value) -> bool {
    role.get("aggregationRule").is_some_and(|rule| !rule.is_null()) && remove(role, "rules")
}

fn yield_bundles(object: &mut Value) -> bool {
    let annotations = &object["metadata"]["annotations"];
    if !INJECTED.iter().any(|name| annotations.get(name).is_some()) {
        return false;
    }
    let mut places: Vec<&mut Value> = Vec::new();
    let Some(fields) = object.as_object_mut() else { return false };
    for (field, value) in fields {
        match field.as_str() {
            "webhooks" => {
                let webhooks = value.as_array_mut().into_iter().flatten();
                places.extend(webhooks.filter_map(|webhook| webhook.get_mut("clientConfig")));
            }
            "spec" => {
                if value.get("caBundle").is_some() {
                    places.push(value);
                } else if let Some(config) = value.pointer_mut("/conversion/webhook/clientConfig") {
                    places.push(config);
                }
            }
            _ => {}
        }
    }
    let removed = places.into_iter().filter_map(|place| remove(place, "caBundle").then_some(()));
    removed.count() > 0
}

fn remove(object: &mut Value, field: &str) -> bool {
    object.as_object_mut().is_some_and(|fields| fields.remove(field).is_some())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(object: &Value) -> Option<Value> {
        let key = ObjectKey::of(object).expect("has a key");
        without_yielded(&key, object.to_string().as_bytes()).map(|body| serde_json::from_slice(&body).expect("is JSON"))
    }

    fn role(more: &Value) -> Value {
        let mut role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "reader"}, "rules": []});
        role.as_object_mut().expect("a role").extend(more.as_object().expect("fields").clone());
        role
    }

    #[test]
    fn the_rules_of_a_role_that_is_made_of_others_are_not_applied() {
        let made = role(&json!({"aggregationRule": {"clusterRoleSelectors": []}}));

        let applied_as = applied(&made).expect("it yields");

        assert_eq!((applied_as.get("rules"), &applied_as["aggregationRule"]), (None, &made["aggregationRule"]));
        assert_eq!(applied(&role(&json!({}))), None, "of other roles they are ours");
        assert_eq!(applied(&role(&json!({"aggregationRule": null}))), None);
    }

    #[test]
    fn a_bundle_that_an_injector_fills_in_is_not_applied() {
        let hook = |annotations: Value| {
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
                   "metadata": {"name": "a", "annotations": annotations},
                   "webhooks": [{"name": "x", "clientConfig": {"caBundle": "Cg==", "url": "u"}}]})
        };

        let injected = applied(&hook(json!({"cert-manager.io/inject-ca-from": "a/b"}))).expect("it yields");

        assert_eq!(injected["webhooks"][0]["clientConfig"], json!({"url": "u"}));
        assert_eq!(applied(&hook(json!({}))), None, "nobody fills it in");
        let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "a",
            "annotations": {"cert-manager.io/inject-ca-from": "a/b"}}, "spec": {"caBundle": "Cg==", "version": "v1"}});
        assert_eq!(applied(&service).expect("it yields")["spec"], json!({"version": "v1"}));
    }
}
