use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Condition, Metadata};
use crate::report::{Counts, ObjectLine, Verdict};
use crate::{Digest, Generation, Labels, Name};

/// A registered Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDocument {
    pub api_version: String,
    pub kind: String,
    pub metadata: Metadata,
    pub labels: Labels,
    pub status: ClusterStatus,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    pub phase: ClusterPhase,
    /// Of the phase.
    pub since: Option<Timestamp>,
    pub agent_version: Option<String>,
    /// What its agent says of it.
    pub facts: BTreeMap<String, String>,
    pub certificate_expires_at: Option<Timestamp>,
    /// What keeps it from being told what to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Only in the document of one cluster, not in lists: its first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<ClusterTarget>,
    /// Where the list of its targets goes on; `None`: all of them are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets_next: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterPhase {
    /// Its agent has not joined yet.
    Registered,
    Connected,
    Disconnected,
    Revoked,
}

/// What one cluster runs for one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterTarget {
    pub target: Name,
    pub digest: Digest,
    pub generation: Generation,
    pub applied: bool,
    pub verdict: Verdict,
    pub objects: Counts,
    pub reported_at: Option<Timestamp>,
    pub lines: Vec<ObjectLine>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisterCluster {
    pub name: Name,
    #[serde(default)]
    pub labels: Labels,
    /// Where the agent is installed; `bellwether-system` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// For how long the join token may be used; an hour when left out, at most 7 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
}

/// The answer to registering a cluster: the only time its join token is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredCluster {
    pub cluster: ClusterDocument,
    pub token: String,
    pub expires_at: Timestamp,
    /// SHA-256 of the root certificate's DER, in hexadecimal digits.
    pub ca_fingerprint: String,
    pub hub: String,
    /// What `kubectl apply -f -` installs the agent with.
    pub manifest: String,
}
