//! An object as the API server has it: its metadata read, the rest as bytes.

use std::collections::BTreeMap;

use bellwether_core::object::canonical_json;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::ClusterError;

/// What the API server answered to an apply.
pub(crate) struct Live {
    pub(crate) metadata: Metadata,
    /// The whole object, for those rules that need it.
    pub(crate) body: Vec<u8>,
}

/// What ownership and freshness are read from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) uid: Uuid,
    /// `None` for a cluster-scoped kind, whatever a manifest says.
    pub(crate) namespace: Option<String>,
    pub(crate) resource_version: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) finalizers: Vec<String>,
    pub(crate) deletion_timestamp: Option<String>,
    pub(crate) owner_references: Vec<OwnerReference>,
    pub(crate) managed_fields: Vec<ManagedFields>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct OwnerReference {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) controller: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct ManagedFields {
    pub(crate) manager: String,
    pub(crate) operation: String,
    pub(crate) subresource: String,
}

impl Metadata {
    pub(super) fn of(object: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Metadata,
        }
        serde_json::from_slice(object).map(|object: Object| object.metadata)
    }

    /// Versions of one object can be compared: a greater one is newer. 0 when this one does not tell.
    pub(crate) fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or_default()
    }
}

/// How an object of a bundle is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sending {
    /// A manifest may give a namespace to what has none; kubectl drops it, the API server would refuse it.
    pub(super) drops_namespace: bool,
    /// The API server refuses the apply unless it is about the object with this uid.
    pub(super) uid: Option<Uuid>,
}

impl Sending {
    pub(super) fn prepare(self, object: &[u8]) -> Result<Vec<u8>, ClusterError> {
        if !self.drops_namespace && self.uid.is_none() {
            return Ok(object.to_vec());
        }
        let mut object: Value = serde_json::from_slice(object).map_err(|error| ClusterError::Rejected {
            reason: "BadRequest".to_owned(),
            message: format!("the object is not JSON: {error}"),
        })?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            if self.drops_namespace {
                metadata.remove("namespace");
            }
            if let Some(uid) = self.uid {
                metadata.insert("uid".to_owned(), Value::String(uid.to_string()));
            }
        }
        Ok(canonical_json(&object))
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

    #[test]
    fn only_what_is_asked_for_is_changed() {
        let object = br#"{"kind":"Namespace","metadata":{"name":"a","namespace":"b"}}"#;
        let sent = |sending: Sending| String::from_utf8(sending.prepare(object).expect("is JSON")).expect("is text");

        let uid = Some(Uuid::nil());
        let without = sent(Sending { drops_namespace: true, uid: None });
        let of_one = sent(Sending { drops_namespace: false, uid });

        assert_eq!(sent(Sending::default()).as_bytes(), object);
        assert_eq!(without, r#"{"kind":"Namespace","metadata":{"name":"a"}}"#);
        let expected = r#"{"kind":"Namespace","metadata":{"name":"a","namespace":"b","uid":"00000000-0000-0000-0000-000000000000"}}"#;
        assert_eq!(of_one, expected);
    }
}
