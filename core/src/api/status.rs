use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Condition, TargetDocument};
use crate::report::{Counts, Verdict};
use crate::{Digest, Name};

/// A page of what runs where: targets in order, and every cluster that each has an assignment in. `next` is given back as
/// `?cursor=` for the page after it, which may go on within a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusDocument {
    pub targets: Vec<TargetDocument>,
    pub rows: Vec<StatusRow>,
    /// Of repos, on the first page; those of targets stand with them.
    pub conditions: Vec<NamedCondition>,
    #[serde(default)]
    pub next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedCondition {
    pub kind: String,
    pub name: Name,
    #[serde(flatten)]
    pub condition: Condition,
}

/// Of a hub that does not say.
const fn yes() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusRow {
    pub target: Name,
    pub cluster: Name,
    pub connected: bool,
    /// The target selects it; if not, it goes on with what it has and gets nothing newer.
    #[serde(default = "yes")]
    pub selected: bool,
    /// Since when it is connected or not.
    pub since: Option<Timestamp>,
    pub commit: Option<String>,
    pub digest: Digest,
    /// Every object of this digest is in place there.
    pub applied: bool,
    /// A disconnected cluster's is unknown, whatever it said last.
    pub verdict: Verdict,
    pub objects: Counts,
    /// The worst object's message; empty when all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    pub reported_at: Option<Timestamp>,
}
