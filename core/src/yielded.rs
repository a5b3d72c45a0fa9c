//! Fields that the API's contract gives to a controller, though manifests often carry them.
//!
//! Whatever is applied there is overwritten, so it is not applied at all: nobody fights over it, and what the controller
//! wrote stays. Some fields are a controller's by what the object itself says ([`without_yielded`]); others only once
//! somebody has set them and something in the cluster gives them away ([`Yielded`]), and these are told. Only what a
//! contract says belongs here; what merely some controllers do is a conflict.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::ObjectKey;
use crate::object::{MANAGER, canonical_json};

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

/// A field of the manifest that somebody else has set in the cluster, and may keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Yielded {
    /// How many replicas there are: the HorizontalPodAutoscaler of this name says that.
    Replicas { autoscaler: String },
    /// How large a volume is to be: somebody asked for that much, and no volume shrinks.
    Storage { size: String },
}

const REPLICAS: [&str; 2] = ["spec", "replicas"];
const STORAGE: [&str; 4] = ["spec", "resources", "requests", "storage"];

impl Yielded {
    /// Of an object that is to be like `wanted`, as it is in the cluster, in a namespace with these autoscalers.
    pub fn of(key: &ObjectKey, wanted: &Value, found: &Value, autoscalers: &[Autoscaler]) -> Option<Self> {
        if is_scaled(wanted, found) {
            let autoscaler = autoscalers.iter().find(|autoscaler| autoscaler.scales(key))?.metadata.name.clone();
            return Some(Self::Replicas { autoscaler });
        }
        let is_claim = (key.group(), key.kind.as_str()) == ("", "PersistentVolumeClaim");
        let (asked, size) = (at(wanted, &STORAGE).and_then(amount)?, at(found, &STORAGE)?);
        let has_grown = is_claim && is_taken(&STORAGE, wanted, found) && amount(size)? > asked;
        has_grown.then(|| Self::Storage { size: size.as_str().unwrap_or_default().to_owned() })
    }

    /// The object without that field.
    pub fn without(&self, mut object: Value) -> Value {
        let path: &[&str] = match self {
            Self::Replicas { .. } => &REPLICAS,
            Self::Storage { .. } => &STORAGE,
        };
        if let Some((field, parents)) = path.split_last()
            && let Some(parent) = parents.iter().try_fold(&mut object, |object, name| object.get_mut(name))
        {
            remove(parent, field);
        }
        object
    }

    /// Whether it may end without anything being seen of the object.
    pub fn may_end(&self) -> bool {
        matches!(self, Self::Replicas { .. })
    }
}

/// As a line of a report says it.
impl fmt::Display for Yielded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicas { autoscaler } => {
                write!(f, "its replicas are left to HorizontalPodAutoscaler {autoscaler}")
            }
            Self::Storage { size } => write!(f, "it was grown to {size}, and no volume shrinks"),
        }
    }
}

/// A HorizontalPodAutoscaler, as far as it is asked.
#[derive(Debug, Deserialize)]
pub struct Autoscaler {
    metadata: Named,
    spec: Scaling,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scaling {
    scale_target_ref: Scaled,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scaled {
    #[serde(default)]
    api_version: String,
    kind: String,
    name: String,
}

impl Autoscaler {
    /// Whatever version either names.
    fn scales(&self, key: &ObjectKey) -> bool {
        let Scaled { api_version, kind, name } = &self.spec.scale_target_ref;
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        (group, kind, name) == (key.group(), &key.kind, &key.name)
    }
}

/// Whether somebody else has set how many of it there are: then the autoscalers of its namespace are to be asked about.
pub fn is_scaled(wanted: &Value, found: &Value) -> bool {
    is_taken(&REPLICAS, wanted, found)
}

/// Whether one may be yielded of fields that an apply is in conflict about.
pub fn may_be_yielded(field: &str) -> bool {
    let is_at = |path: &[&str]| field.strip_prefix('.').is_some_and(|field| field == path.join("."));
    is_at(&REPLICAS) || is_at(&STORAGE)
}

fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |object, name| object.get(name))
}

/// Whether the field has another value than is wanted, and would keep it if it were not applied: what is managed by us
/// alone would go, or fall back to a default.
fn is_taken(path: &[&str], wanted: &Value, found: &Value) -> bool {
    let (Some(wanted), Some(there)) = (at(wanted, path), at(found, path)) else { return false };
    let entries = found["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut managers = entries.filter(|entry| lists(entry, path)).map(|entry| &entry["manager"]).peekable();
    wanted != there && (managers.peek().is_none() || managers.any(|manager| manager != MANAGER))
}

/// Whether the field is among those of an entry of `managedFields`.
fn lists(entry: &Value, path: &[&str]) -> bool {
    path.iter().try_fold(&entry["fieldsV1"], |fields, name| fields.get(format!("f:{name}"))).is_some()
}

/// Of `1.5Gi`, `100M` or `2e9`. Two that differ by less than a double can tell are as good as one.
fn amount(quantity: &Value) -> Option<f64> {
    let Some(text) = quantity.as_str() else { return quantity.as_f64() };
    let end = text.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        _ => return text.parse().ok(),
    };
    Some(number.parse::<f64>().ok()? * factor)
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

    fn entry(manager: &str, subresource: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": if manager == MANAGER { "Apply" } else { "Update" },
            "subresource": subresource, "fieldsV1": {"f:spec": fields}})
    }

    fn deployment(replicas: u32, managed_fields: &[Value]) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop",
            "managedFields": managed_fields}, "spec": {"replicas": replicas, "paused": false}})
    }

    fn autoscaler(api_version: &str, kind: &str, name: &str) -> Autoscaler {
        let of = json!({"apiVersion": api_version, "kind": kind, "name": name});
        let autoscaler = json!({"metadata": {"name": "busy"}, "spec": {"scaleTargetRef": of, "maxReplicas": 5}});
        serde_json::from_value(autoscaler).expect("is one")
    }

    #[test]
    fn replicas_are_left_to_the_autoscaler_of_the_object_once_somebody_has_set_them() {
        let wanted = deployment(1, &[]);
        let key = ObjectKey::of(&wanted).expect("has a key");
        let of = |found: &Value, autoscaler| Yielded::of(&key, &wanted, found, &[autoscaler]);
        let ours = entry(MANAGER, "", &json!({"f:replicas": {}}));
        let theirs = entry("kube-controller-manager", "scale", &json!({"f:replicas": {}}));
        let scaled = deployment(3, &[ours.clone(), theirs]);
        let busy = || autoscaler("apps/v1beta1", "Deployment", "web");

        let left = Yielded::Replicas { autoscaler: "busy".to_owned() };
        assert_eq!(of(&scaled, busy()).as_ref(), Some(&left));
        assert_eq!(of(&deployment(0, &[]), busy()).as_ref(), Some(&left), "whoever scales to nothing manages nothing");
        assert_eq!(left.without(wanted.clone())["spec"], json!({"paused": false}));

        assert_eq!(of(&scaled, autoscaler("apps/v1", "Deployment", "other")), None);
        assert_eq!(of(&scaled, autoscaler("apps/v1", "StatefulSet", "web")), None);
        assert_eq!(of(&scaled, autoscaler("argoproj.io/v1alpha1", "Deployment", "web")), None);
        assert_eq!(of(&deployment(1, &[]), busy()), None, "it is as wanted");
        assert_eq!(of(&deployment(3, &[ours]), busy()), None, "without us there would be one");
    }

    #[test]
    fn the_size_of_a_volume_is_left_as_it_is_when_somebody_asked_for_more() {
        let claim = |size: &str, manager: &str| {
            let fields = json!({"f:resources": {"f:requests": {"f:storage": {}}}});
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "shop",
                "managedFields": [entry(manager, "", &fields)]}, "spec": {"resources": {"requests": {"storage": size}}}})
        };
        let left = |wanted: &str, found: &str, manager: &str| {
            let (wanted, found) = (claim(wanted, MANAGER), claim(found, manager));
            Yielded::of(&ObjectKey::of(&wanted).expect("has a key"), &wanted, &found, &[])
        };

        let more = Some(Yielded::Storage { size: "2Gi".to_owned() });
        assert_eq!(left("1Gi", "2Gi", "kubectl-edit"), more);
        assert_eq!(left("2G", "2Gi", "kubectl-edit"), more);
        assert_eq!(left("3Gi", "2Gi", "kubectl-edit"), None, "Git wants more by now");
        assert_eq!(left("2048Mi", "2Gi", "kubectl-edit"), None);
        assert_eq!(amount(&json!(1_000)), Some(1000.0), "whoever writes no unit may write a number");
        assert_eq!(left("1Gi", "2Gi", MANAGER), None, "it is Git that wants less by now");
        let amounts = ["1.5Ki", "1536", "1536e0", "2k", "odd", "1Xi"].map(|text| amount(&json!(text)));
        assert_eq!(amounts, [Some(1536.0), Some(1536.0), Some(1536.0), Some(2000.0), None, None]);
    }

    #[test]
    fn a_conflict_about_what_may_be_yielded_is_told_from_others() {
        assert!(may_be_yielded(".spec.replicas") && may_be_yielded(".spec.resources.requests.storage"));
        assert!(!may_be_yielded(".spec.replica") && !may_be_yielded(".spec.template.spec.replicas"));
    }
}
