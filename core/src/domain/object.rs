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

    /// Without the group: `v1` of `apps/v1`.
    pub fn version(&self) -> &str {
        self.api_version.split_once('/').map_or(&self.api_version, |(_, version)| version)
    }

    /// What makes two objects the same one to an API server, whatever version they are written in.
    ///
    /// A cluster-scoped kind has no namespaces, and one that is written all the same is decoration. Who does not know the
    /// scope of a kind takes two such spellings for two objects; the agent, which can ask, does not: see [`Self::is_at`].
    pub fn identity(&self) -> (&str, &str, Option<&str>, &str) {
        (self.group(), &self.kind, self.namespace.as_deref(), &self.name)
    }

    /// Whether this names the object that an API server keeps under `live`: without a namespace there, the namespace that
    /// is written here is decoration.
    pub fn is_at(&self, live: &Self) -> bool {
        let same_namespace = live.namespace.is_none() || live.namespace == self.namespace;
        same_namespace && (self.group(), &self.kind, &self.name) == (live.group(), &live.kind, &live.name)
    }
}

/// [`ObjectKey::identity`], to be kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    group: String,
    kind: String,
    namespace: Option<String>,
    name: String,
}

impl Identity {
    /// Of a spelling: see [`ObjectKey::identity`] for what is not part of it.
    pub fn of(key: &ObjectKey) -> Self {
        let (group, kind, namespace, name) = key.identity();
        Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }
}

/// Groups of Kubernetes itself. Other groups that end in `k8s.io` belong to CustomResourceDefinitions.
const BUILT_IN_GROUPS: &[&str] = &[
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// Whether an API server has this group by itself, and not because somebody defined it.
pub fn is_built_in_group(group: &str) -> bool {
    BUILT_IN_GROUPS.contains(&group)
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

/// Whatever group the kind is of: what is called so holds secrets.
pub fn is_secret_kind(kind: &str) -> bool {
    kind.ends_with("Secret")
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

    #[test]
    fn a_namespace_that_an_object_does_not_have_is_decoration() {
        let key = |version: &str, namespace: &[&str]| {
            let metadata = json!({"name": "blue", "namespace": namespace.first()});
            let object = json!({"apiVersion": version, "kind": "Realm", "metadata": metadata});
            ObjectKey::of(&object).expect("has a key")
        };
        let (of_cluster, of_a) = (key("g/v1", &[]), key("g/v1", &["a"]));

        assert!(key("g/v1", &["a"]).is_at(&of_cluster) && key("g/v2", &["b"]).is_at(&of_cluster));
        assert!(key("g/v2", &["a"]).is_at(&of_a));
        assert!(!key("g/v1", &["b"]).is_at(&of_a) && !key("h/v1", &[]).is_at(&of_cluster));
    }
}
