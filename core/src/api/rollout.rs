use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rollout::{Intent, MemberState, RolloutState, WaveState};
use crate::{Digest, Generation, Name, RolloutId};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutDocument {
    pub id: RolloutId,
    pub target: Name,
    pub state: RolloutState,
    /// What it waits for, or why it ended, in one sentence.
    pub why: String,
    pub from_commit: Option<String>,
    pub to_commit: String,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub waves: Vec<WaveDocument>,
    /// Only in the document of one rollout, not in lists: its first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberDocument>,
    /// Where the list of its members goes on; `None`: all of them are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members_next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaveDocument {
    pub name: String,
    pub state: WaveState,
    pub opened_at: Option<Timestamp>,
    pub soak_until: Option<Timestamp>,
    pub members: u32,
    pub waiting: u32,
    pub in_flight: u32,
    pub healthy: u32,
    pub failed: u32,
    pub offline: u32,
    pub skipped: u32,
    pub rolled_back: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberDocument {
    pub cluster: Name,
    pub wave: String,
    pub state: MemberState,
    pub digest: Digest,
    pub digest_before: Option<Digest>,
    pub generation: Option<Generation>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A person's word on a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutIntent {
    pub intent: Intent,
    /// Why; kept in the audit log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
