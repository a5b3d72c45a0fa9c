//! The part of an object's metadata, as an API server has it, that ownership and freshness are read from.

use std::collections::BTreeMap;

use serde::Deserialize;
use uuid::Uuid;

/// What is read of an object's `metadata`; what is missing there is empty here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Nil when there is none: the object was never in an API server.
    pub uid: Uuid,
    /// `None` for a cluster-scoped kind, whatever a manifest says.
    pub namespace: Option<String>,
    /// To be sent back as it came; see [`Metadata::version`] for comparing.
    pub resource_version: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub finalizers: Vec<String>,
    /// Set while it is being deleted and its finalizers are waited for.
    pub deletion_timestamp: Option<String>,
    pub owner_references: Vec<OwnerReference>,
    /// Who owns fields; which ones is not read here.
    pub managed_fields: Vec<ManagedFields>,
}

/// Whose object it is in the cluster, such as a ReplicaSet's Deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct OwnerReference {
    pub kind: String,
    pub name: String,
    pub controller: bool,
}

/// One manager of fields, in one way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ManagedFields {
    pub manager: String,
    /// `Apply` or `Update`.
    pub operation: String,
    /// Such as `status`; empty for the object itself.
    pub subresource: String,
}

impl Metadata {
    /// Of an object as JSON; the rest of it is not read.
    pub fn of(object: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Metadata,
        }
        serde_json::from_slice(object).map(|object: Object| object.metadata)
    }

    /// Versions of one object can be compared: a greater one is newer. 0 when this one does not tell.
    pub fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_from_whatever_else_there_is() {
        let object = br#"{"kind": "ConfigMap", "data": {"a": "b"}, "metadata": {"name": "x", "uid": "9b2f6a3e-3f5e-4d0e-9a55-0f2c1d1f7a11",
            "resourceVersion": "12", "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:data": {}}}]}}"#;

        let metadata = Metadata::of(object).expect("is an object");

        assert_eq!((metadata.uid.get_version_num(), metadata.version()), (4, 12));
        assert_eq!(metadata.managed_fields[0].manager, "kubectl");
    }
}
