//! The audit log as the API shows it: entries that have their number, and what checking all of them found.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::audit::{Actor, Outcome, Subject};
use crate::{Digest, Name};

/// One sealed entry, out of the columns that index it. What was hashed is its [`body`](AuditDocument::body).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Gapless, from 1.
    pub seq: i64,
    /// The [`EventId`](crate::EventId) that it had before it had a number.
    pub event_id: Uuid,
    /// By the clock of the hub that wrote it, in microseconds: the numbers' order may differ.
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    pub actor: Actor,
    /// A spelling of [`Action`](crate::audit::Action), or one of a later hub: `rollout.wave.opened`.
    pub action: String,
    pub subject: Subject,
    /// A cluster's name; its id when no row gave the name any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    pub outcome: Outcome,
    /// A person's reason, or why it failed or was denied; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Of the change that led to it: the same in the logs of hub and agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// What else belongs to this action; parts of an entry that is too large are told by their digests.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub detail: serde_json::Value,
    /// [`leaf_hash`](crate::audit::leaf_hash) of number and body.
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

/// `GET /api/v1/audit?…`: all that are given must hold. Names are matched whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuditFilter {
    /// An actor's name, of whatever kind.
    pub actor: Option<String>,
    /// A prefix by words: `rollout` finds `rollout.wave.opened`.
    pub action: Option<String>,
    pub cluster: Option<String>,
    pub target: Option<String>,
    pub rollout: Option<Uuid>,
    pub outcome: Option<Outcome>,
    /// From this time on, itself included.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// 100 when left out, at most 1,000.
    pub limit: Option<u32>,
    pub cursor: Option<String>,
}

/// What reading and checking the whole log found: numbers without a gap, bytes that fit their hashes, columns that say
/// what the bytes say, and a tree that follows from the entries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditVerification {
    /// Entries that were read: all there are, or those up to the first that does not hold.
    pub entries: i64,
    /// Nothing is wrong.
    pub verified: bool,
    /// The first entry that does not hold.
    pub first_bad: Option<i64>,
    /// What is wrong there; `None` when all holds.
    pub problem: Option<String>,
    /// Of the tree over the entries that hold. Kept elsewhere, it shows later that the log was not rewritten.
    pub root: Digest,
}
