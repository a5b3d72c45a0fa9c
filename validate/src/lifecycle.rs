//! When a version of an API came, and when it goes.
//!
//! Of the versions that are carried, their schemas say which kinds there are. What was before them, when something is
//! deprecated and what to use instead stands in `lifecycle.json`, which `schemas/generate` takes from the marks in
//! Kubernetes' own types, and below, for types that are gone from there or have no mark.

use serde::Deserialize;

use crate::schema::{Version, split};

const MARKED: &str = include_str!("../schemas/lifecycle.json");

/// Group, version, kind, deprecated in, removed in (0: not yet), and what to use instead.
const UNMARKED: &[(&str, &str, &str, u32, u32, &str)] = &[
    ("", "v1", "ComponentStatus", 19, 0, ""),
    ("", "v1", "Endpoints", 33, 0, "discovery.k8s.io/v1 EndpointSlice"),
    ("extensions", "v1beta1", "PodSecurityPolicy", 11, 16, "a ValidatingAdmissionPolicy, or Pod Security Admission"),
    ("policy", "v1beta1", "PodSecurityPolicy", 21, 25, "a ValidatingAdmissionPolicy, or Pod Security Admission"),
    (
        "apiextensions.k8s.io",
        "v1beta1",
        "CustomResourceDefinition",
        16,
        22,
        "apiextensions.k8s.io/v1 CustomResourceDefinition",
    ),
    ("apiregistration.k8s.io", "v1beta1", "APIService", 19, 22, "apiregistration.k8s.io/v1 APIService"),
    ("batch", "v2alpha1", "CronJob", 8, 21, "batch/v1 CronJob"),
    ("node.k8s.io", "v1alpha1", "RuntimeClass", 20, 24, "node.k8s.io/v1 RuntimeClass"),
    ("flowcontrol.apiserver.k8s.io", "v1alpha1", "FlowSchema", 20, 24, "flowcontrol.apiserver.k8s.io/v1 FlowSchema"),
    (
        "flowcontrol.apiserver.k8s.io",
        "v1alpha1",
        "PriorityLevelConfiguration",
        20,
        24,
        "flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration",
    ),
    ("scheduling.k8s.io", "v1alpha1", "PriorityClass", 14, 22, "scheduling.k8s.io/v1 PriorityClass"),
    ("storage.k8s.io", "v1alpha1", "VolumeAttachment", 21, 24, "storage.k8s.io/v1 VolumeAttachment"),
    ("rbac.authorization.k8s.io", "v1alpha1", "Role", 17, 22, "rbac.authorization.k8s.io/v1 Role"),
    ("rbac.authorization.k8s.io", "v1alpha1", "RoleBinding", 17, 22, "rbac.authorization.k8s.io/v1 RoleBinding"),
    ("rbac.authorization.k8s.io", "v1alpha1", "ClusterRole", 17, 22, "rbac.authorization.k8s.io/v1 ClusterRole"),
    (
        "rbac.authorization.k8s.io",
        "v1alpha1",
        "ClusterRoleBinding",
        17,
        22,
        "rbac.authorization.k8s.io/v1 ClusterRoleBinding",
    ),
    ("autoscaling", "v2beta1", "HorizontalPodAutoscaler", 22, 25, "autoscaling/v2 HorizontalPodAutoscaler"),
    ("autoscaling", "v2beta2", "HorizontalPodAutoscaler", 23, 26, "autoscaling/v2 HorizontalPodAutoscaler"),
];

/// The life of one kind of one version of an API. Numbers are minor versions of Kubernetes 1; 0: not known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Life {
    group: String,
    version: String,
    kind: String,
    #[serde(default)]
    pub(crate) deprecated: u32,
    #[serde(default)]
    pub(crate) removed: u32,
    #[serde(default)]
    pub(crate) replacement: String,
}

impl Life {
    pub(crate) fn is_deprecated_in(&self, version: Version) -> bool {
        self.deprecated > 0 && self.deprecated <= version.minor()
    }

    pub(crate) fn is_removed_in(&self, version: Version) -> bool {
        self.removed > 0 && self.removed <= version.minor()
    }
}

/// All that is known.
#[derive(Debug)]
pub(crate) struct Lives {
    lives: Vec<Life>,
}

impl Lives {
    pub(crate) fn load() -> Self {
        let mut lives: Vec<Life> =
            serde_json::from_str(MARKED).expect("it was written by the generator, and a test reads it");
        lives.extend(UNMARKED.iter().map(|&(group, version, kind, deprecated, removed, replacement)| Life {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            deprecated,
            removed,
            replacement: replacement.to_owned(),
        }));
        Self { lives }
    }

    pub(crate) fn find(&self, api_version: &str, kind: &str) -> Option<&Life> {
        let (group, version) = split(api_version);
        self.lives.iter().find(|life| life.group == group && life.version == version && life.kind == kind)
    }

    /// What to use instead, in a version that may not have the next one any more.
    pub(crate) fn hint(&self, life: &Life, version: Version) -> Option<String> {
        let mut last = life;
        // Longer than any chain of them.
        for _ in 0..10 {
            let next = last.replacement.split_once(' ').and_then(|(api_version, kind)| self.find(api_version, kind));
            let Some(next) = next.filter(|next| next.is_removed_in(version)) else { break };
            last = next;
        }
        (!last.replacement.is_empty()).then(|| format!("use {}", last.replacement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_names_what_to_use_instead() {
        let lives = Lives::load();
        for (api_version, kind, removed, replacement) in [
            ("extensions/v1beta1", "Ingress", 22, "networking.k8s.io/v1 Ingress"),
            ("extensions/v1beta1", "Deployment", 16, "apps/v1 Deployment"),
            ("apps/v1beta2", "StatefulSet", 16, "apps/v1 StatefulSet"),
            ("batch/v1beta1", "CronJob", 25, "batch/v1 CronJob"),
            ("policy/v1beta1", "PodDisruptionBudget", 25, "policy/v1 PodDisruptionBudget"),
            ("autoscaling/v2beta2", "HorizontalPodAutoscaler", 26, "autoscaling/v2 HorizontalPodAutoscaler"),
            ("rbac.authorization.k8s.io/v1beta1", "Role", 22, "rbac.authorization.k8s.io/v1 Role"),
        ] {
            let life = lives.find(api_version, kind).unwrap_or_else(|| panic!("{api_version} {kind}"));
            assert_eq!((life.removed, life.replacement.as_str()), (removed, replacement), "{api_version} {kind}");
            assert!(life.is_removed_in(Version::newest()));
        }
        assert!(lives.find("apps/v1", "Deployment").is_none());
    }
}
