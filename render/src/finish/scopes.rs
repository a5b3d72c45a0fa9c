//! Which kinds have a namespace, as far as that can be known without an API server.

use std::collections::BTreeMap;

use bellwether_core::ObjectKey;
use bellwether_core::object::is_built_in_group;
use serde_json::Value;

/// Cluster-scoped kinds of built-in groups; every other kind in them is namespaced. It is what Kubernetes 1.37 marks `+genclient:nonNamespaced`, and what older versions had.
const CLUSTER_SCOPED: &[(&str, &str)] = &[
    ("", "ComponentStatus"),
    ("", "Namespace"),
    ("", "Node"),
    ("", "PersistentVolume"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
    ("authentication.k8s.io", "SelfSubjectReview"),
    ("authentication.k8s.io", "TokenReview"),
    ("authorization.k8s.io", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "SelfSubjectRulesReview"),
    ("authorization.k8s.io", "SubjectAccessReview"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
    ("certificates.k8s.io", "ClusterTrustBundle"),
    ("extensions", "PodSecurityPolicy"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("internal.apiserver.k8s.io", "StorageVersion"),
    ("networking.k8s.io", "ClusterCIDR"),
    ("networking.k8s.io", "IPAddress"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "ServiceCIDR"),
    ("node.k8s.io", "RuntimeClass"),
    ("policy", "PodSecurityPolicy"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("resource.k8s.io", "DeviceClass"),
    ("resource.k8s.io", "DeviceTaintRule"),
    ("resource.k8s.io", "ResourcePoolStatusRequest"),
    ("resource.k8s.io", "ResourceSlice"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("storage.k8s.io", "VolumeAttributesClass"),
    ("storagemigration.k8s.io", "StorageVersionMigration"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Cluster,
    Namespaced,
    /// A custom resource whose definition is not among the documents. It is taken for namespaced, as most are. The agent,
    /// which has an API server to ask, knows better: for a cluster-scoped kind the namespace is no part of the identity.
    Unknown,
}

/// The built-in kinds, and those that CustomResourceDefinitions among the documents define.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    defined: BTreeMap<(String, String), Scope>,
}

impl Scopes {
    /// Learns from a CustomResourceDefinition; other objects teach nothing.
    pub(crate) fn learn(&mut self, object: &Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let is_definition = text("/kind") == Some("CustomResourceDefinition")
            && text("/apiVersion").is_some_and(|version| version.starts_with("apiextensions.k8s.io/"));
        if !is_definition {
            return;
        }
        if let (Some(group), Some(kind), Some(scope)) =
            (text("/spec/group"), text("/spec/names/kind"), text("/spec/scope"))
        {
            let scope = if scope == "Cluster" { Scope::Cluster } else { Scope::Namespaced };
            self.defined.insert((group.to_owned(), kind.to_owned()), scope);
        }
    }

    pub(crate) fn of(&self, key: &ObjectKey) -> Scope {
        let (group, kind) = (key.group(), key.kind.as_str());
        if CLUSTER_SCOPED.contains(&(group, kind)) {
            Scope::Cluster
        } else if is_built_in_group(group) {
            Scope::Namespaced
        } else {
            let defined = self.defined.get(&(group.to_owned(), kind.to_owned()));
            defined.copied().unwrap_or(Scope::Unknown)
        }
    }
}
