//! Rollouts as the API shows them, and what a person asks of one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SourceCommit;
use crate::rollout::{Intent, MemberState, RolloutState, WaveState};
use crate::{Digest, Generation, Name, RolloutId};

/// One rollout, with the explanation that comes from the same rows as its decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutDocument {
    pub id: RolloutId,
    pub target: Name,
    pub state: RolloutState,
    /// What it waits for, or why it ended, in one sentence.
    pub why: String,
    /// What most of its members ran before; `None` when they ran nothing, or it is not stored any more.
    pub from_commit: Option<String>,
    /// 40 hexadecimal digits; empty when the revision is not stored any more.
    pub to_commit: String,
    /// What it was rendered from besides, in other repos.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceCommit>,
    /// When it was planned.
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// Clusters that may fail; one that goes on past more is done all the same.
    #[serde(default)]
    pub failures_allowed: u32,
    pub waves: Vec<WaveDocument>,
    /// Only in the document of one rollout, not in lists: its first page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberDocument>,
    /// Where the list of its members goes on; `None`: all of them are here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members_next: Option<String>,
}

impl RolloutDocument {
    /// More of its clusters failed than were allowed.
    pub fn is_over_budget(&self) -> bool {
        self.waves.iter().map(|wave| wave.failed).sum::<u32>() > self.failures_allowed
    }
}

/// A wave and its members by state. Each member is in one of the counts from `waiting` to `rolled_back`, unless a later
/// rollout has taken it over: that one counts in none, and not in `members`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaveDocument {
    pub name: String,
    pub state: WaveState,
    pub opened_at: Option<Timestamp>,
    /// While it soaks and the soak's clock runs.
    pub soak_until: Option<Timestamp>,
    pub members: u32,
    pub waiting: u32,
    /// Assigned, and neither healthy, failed nor offline yet.
    pub in_flight: u32,
    pub healthy: u32,
    pub failed: u32,
    pub offline: u32,
    pub skipped: u32,
    pub rolled_back: u32,
}

/// One cluster of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberDocument {
    pub cluster: Name,
    /// Its wave's name.
    pub wave: String,
    pub state: MemberState,
    /// The bundle that the rollout gives it.
    pub digest: Digest,
    /// What it ran before; `None`: nothing of this target.
    pub digest_before: Option<Digest>,
    /// Of the assignment that it is judged by; `None`: none yet, or it waits for another try.
    pub generation: Option<Generation>,
    /// Why it is in its state; empty when there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// `POST /api/v1/rollouts/{id}/intents`: what a person asks of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutIntent {
    pub intent: Intent,
    /// Why; kept in the audit log. At most 4 KiB; a promotion needs one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
