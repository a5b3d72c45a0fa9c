//! Clusters as the API shows and registers them. Labels are a person's word, facts an agent's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Metadata;
use crate::labels::Annotations;
use crate::report::{Counts, ObjectLine, Suspended, Verdict};
use crate::{Condition, Digest, Generation, Labels, Name};

/// A registered Kubernetes cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDocument {
    pub api_version: String,
    pub kind: String,
    pub metadata: Metadata,
    pub labels: Labels,
    /// A person's word too; what is rendered may read them, and nothing is chosen by them.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    pub status: ClusterStatus,
}

/// What the hub knows of a cluster now: from the row of its newest stream, and from whether a hub that lives holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    pub phase: ClusterPhase,
    /// Since when it is in its phase; `None` before its agent has joined.
    pub since: Option<Timestamp>,
    /// As the agent said in its newest Hello; `None` before the first.
    pub agent_version: Option<String>,
    /// What its agent says of it, such as `kubernetes.version`. What is rendered may read them; nothing is chosen by them.
    pub facts: BTreeMap<String, String>,
    /// When its agent last said its facts, and which APIs it serves; while it is connected, it says so when they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts_told_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apis_told_at: Option<Timestamp>,
    /// When its agent's certificate ends; the agent renews it at half of its life.
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

/// `GET /api/v1/clusters/{name}/apis`: what it serves, as its agent says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterApis {
    pub cluster: Name,
    pub facts: BTreeMap<String, String>,
    /// Such as `apps/v1` and `apps/v1/Deployment`, in order; `None`: its agent has not said them.
    pub apis: Option<Vec<String>>,
    /// When its agent last said its facts, and which APIs it serves; while it is connected, it says so when they change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts_told_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apis_told_at: Option<Timestamp>,
}

/// `GET /api/v1/clusters/{name}/rbac`: what its agent has to be allowed, by what its targets hold, and no more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRights {
    pub cluster: Name,
    /// Roles and their bindings, as Kubernetes has them, in the place of those that the agent is installed with.
    pub objects: Vec<Value>,
    /// What they do not say by themselves, in sentences.
    pub notes: Vec<String>,
}

/// `GET /api/v1/clusters/{name}/definitions`: which CustomResourceDefinitions it has, as its agent says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDefinitions {
    pub cluster: Name,
    /// When it last said so.
    pub told_at: Option<Timestamp>,
    /// In order; `None`: its agent has not said them.
    pub definitions: Option<Vec<NamedDefinition>>,
    /// How many more there are than an agent names.
    pub more: u64,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedDefinition {
    /// `widgets.example.org`.
    pub name: String,
    /// Of what it defines; `None`: it is too large to be told.
    pub digest: Option<Digest>,
    /// What it defines can be asked for.
    pub is_stored: bool,
}

/// `GET /api/v1/clusters/{name}/definitions/{definition}`: what it defines, without descriptions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDefinition {
    pub cluster: Name,
    pub told_at: Timestamp,
    pub digest: Digest,
    /// A CustomResourceDefinition.
    pub definition: Box<RawValue>,
}

/// Where a cluster is between being registered and being refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterPhase {
    /// Its agent has not joined yet.
    Registered,
    /// A hub that lives holds a stream of its agent.
    Connected,
    /// It has joined, and no hub that lives holds a stream of its agent.
    Disconnected,
    /// Its certificates are refused, until it is enrolled again.
    Revoked,
}

/// What one cluster is assigned for one target, and what its agent last said about exactly that generation and digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterTarget {
    pub target: Name,
    pub digest: Digest,
    pub generation: Generation,
    /// Every object of this digest is in place.
    pub applied: bool,
    /// Unknown while nothing was said about this generation, and while nobody hears the agent.
    pub verdict: Verdict,
    /// All zero when nothing was said yet.
    pub objects: Counts,
    /// When the hub recorded that, by the hub's clock.
    pub reported_at: Option<Timestamp>,
    /// What is not well, worst first; at most [`LINES_MAX`](crate::report::LINES_MAX).
    pub lines: Vec<ObjectLine>,
    /// Somebody of the cluster has stopped it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspended>,
}

/// `POST /api/v1/clusters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisterCluster {
    pub name: Name,
    #[serde(default)]
    pub labels: Labels,
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
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
    /// The join token, `bwj_…`: good for one agent's key, until it expires.
    pub token: String,
    pub expires_at: Timestamp,
    /// SHA-256 of the root certificate's DER, in hexadecimal digits.
    pub ca_fingerprint: String,
    /// `host:port` of the agents' port, as agents reach it.
    pub hub: String,
    /// What `kubectl apply -f -` installs the agent with.
    pub manifest: String,
}
