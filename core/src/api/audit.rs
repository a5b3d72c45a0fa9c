use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audit::{Actor, Outcome, Subject};
use crate::{Digest, Name};

/// One sealed entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Gapless, from 1.
    pub seq: i64,
    pub event_id: Uuid,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    pub actor: Actor,
    /// `rollout.wave.opened`
    pub action: String,
    pub subject: Subject,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
    pub leaf_hash: Digest,
}

/// An entry as it is read back, with the bytes that were hashed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditDocument {
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// The canonical bytes; RFC 8785.
    pub body: String,
}

/// `GET /api/v1/audit?…`: all that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuditFilter {
    pub actor: Option<String>,
    /// A prefix by words: `rollout` finds `rollout.wave.opened`.
    pub action: Option<String>,
    pub cluster: Option<String>,
    pub target: Option<String>,
    pub rollout: Option<Uuid>,
    pub outcome: Option<Outcome>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub limit: Option<u32>,
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditVerification {
    pub entries: i64,
    pub verified: bool,
    /// The first entry that does not hold.
    pub first_bad: Option<i64>,
    pub problem: Option<String>,
    pub root: Digest,
}
