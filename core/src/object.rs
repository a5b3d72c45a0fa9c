//! Kubernetes objects as Bellwether names and writes them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Digest;

/// The largest object that travels, as canonical JSON: etcd refuses a request over 1.5 MiB.
pub const OBJECT_BYTES_MAX: usize = 1_536 * 1024;

/// The field manager that agents apply as.
pub const MANAGER: &str = "bellwether";

/// Which target of this installation owns the object: the target's id, without dashes.
pub const TARGET_LABEL: &str = "bellwether.dev/target";
/// `installation/project/target`, for people and for telling another installation's objects from ours.
pub const OWNER_ANNOTATION: &str = "bellwether.dev/owner";

/// Which object. Its version is how to talk about it, not part of what it is: see [`ObjectKey::identity`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectKey {
    pub api_version: String,
    pub kind: String,
    /// `None` for what is cluster-scoped, and for what the renderer could not know to be namespaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
}

impl ObjectKey {
    /// Of an object that has a kind and a name; `None` for anything else.
    pub fn of(object: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let metadata = object.get("metadata")?;
        Some(Self {
            api_version: text(object.get("apiVersion")?)?,
            kind: text(object.get("kind")?)?,
            namespace: metadata.get("namespace").and_then(text).filter(|namespace| !namespace.is_empty()),
            name: text(metadata.get("name")?)?,
        })
    }

    /// The API group; empty for the core group.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    pub fn version(&self) -> &str {
        self.api_version.split_once('/').map_or(&self.api_version, |(_, version)| version)
    }

    /// What makes two objects the same one to an API server, whatever version they are written in.
    pub fn identity(&self) -> (&str, &str, Option<&str>, &str) {
        (self.group(), &self.kind, self.namespace.as_deref(), &self.name)
    }
}

/// `Deployment shop/web`, as kubectl's users read it.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// JSON with sorted keys and no white space: the bytes that are hashed, stored, sent and applied.
///
/// Keys are sorted here and not by the map that holds them, so that no dependency's feature can change a digest.
pub fn canonical_json(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_canonical(value, &mut bytes);
    bytes
}

/// The digest of [`canonical_json`].
pub fn digest_of(value: &Value) -> Digest {
    Digest::of(&canonical_json(value))
}

fn write_canonical(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            bytes.push(b'[');
            for (index, item) in items.iter().enumerate() {
                separate(index, bytes);
                write_canonical(item, bytes);
            }
            bytes.push(b']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|&(key, _)| key);
            bytes.push(b'{');
            for (index, (key, item)) in fields.into_iter().enumerate() {
                separate(index, bytes);
                write_scalar(&Value::String(key.clone()), bytes);
                bytes.push(b':');
                write_canonical(item, bytes);
            }
            bytes.push(b'}');
        }
        scalar => write_scalar(scalar, bytes),
    }
}

fn separate(index: usize, bytes: &mut Vec<u8>) {
    if index > 0 {
        bytes.push(b',');
    }
}

fn write_scalar(scalar: &Value, bytes: &mut Vec<u8>) {
    serde_json::to_writer(bytes, scalar).expect("writing a scalar into memory cannot fail");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn canonical_json_sorts_keys_at_every_depth() {
        let bytes = canonical_json(&json!({"b": [{"z": 1, "a": "ü\n"}], "a": null}));

        assert_eq!(String::from_utf8_lossy(&bytes), r#"{"a":null,"b":[{"a":"ü\n","z":1}]}"#);
    }

    #[test]
    fn the_version_is_not_part_of_the_identity() {
        let object = |version: &str| json!({"apiVersion": version, "kind": "Ingress", "metadata": {"name": "a"}});
        let old = ObjectKey::of(&object("networking.k8s.io/v1beta1")).expect("has a key");
        let new = ObjectKey::of(&object("networking.k8s.io/v1")).expect("has a key");

        assert_ne!(old, new);
        assert_eq!(old.identity(), new.identity());
    }
}
