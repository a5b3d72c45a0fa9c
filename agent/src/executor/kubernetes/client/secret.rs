//! The agent's own Secrets: its identity and its journal. Never another's.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Secret {
    #[serde(default = "v1")]
    api_version: String,
    #[serde(default = "kind")]
    kind: String,
    metadata: SecretMetadata,
    #[serde(default)]
    pub(crate) data: BTreeMap<String, Bytes>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretMetadata {
    namespace: String,
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// What a replacement replaces; absent until it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
}

/// Bytes that are Base64 in JSON.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Secret {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        let labels = BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "bellwether-agent".to_owned())]);
        let metadata =
            SecretMetadata { namespace: namespace.to_owned(), name: name.to_owned(), labels, resource_version: None };
        Self { api_version: v1(), kind: kind(), metadata, data: BTreeMap::new() }
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.metadata.name
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.metadata.resource_version.is_some()
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(&self.data.get(key)?.0).ok()
    }

    pub(crate) fn label(&mut self, key: &str, value: &str) {
        self.metadata.labels.insert(key.to_owned(), value.to_owned());
    }

    pub(crate) fn set(&mut self, key: &str, text: &str) {
        self.data.insert(key.to_owned(), Bytes(text.as_bytes().to_vec()));
    }
}

/// Names only: no log line shows what is in it.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.metadata.name)
            .field("keys", &self.data.keys())
            .finish_non_exhaustive()
    }
}

fn v1() -> String {
    "v1".to_owned()
}

fn kind() -> String {
    "Secret".to_owned()
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The error does not repeat the text: it is a secret.
        STANDARD.decode(text).map(Self).map_err(|_| serde::de::Error::custom("not Base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_as_kubernetes_reads_it_and_never_into_a_log() {
        let mut secret = Secret::new("bellwether-system", "identity");
        secret.set("key.pem", "hush");

        let json = serde_json::to_value(&secret).expect("serializes");
        let shown = format!("{secret:?}");

        assert_eq!(json["data"]["key.pem"], "aHVzaA==");
        assert!(json["metadata"].get("resourceVersion").is_none());
        assert!(shown.contains("key.pem") && !shown.contains("hush") && !shown.contains("aHVzaA"), "{shown}");
        assert_eq!(serde_json::from_value::<Secret>(json).ok().as_ref(), Some(&secret));
    }
}
