//! What runs where: the answer to `GET /api/v1/status`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::TargetDocument;
use crate::report::{Counts, Verdict};
use crate::{Condition, Digest, Name};

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

/// A condition, and what it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedCondition {
    /// `Repo` or `Target`.
    pub kind: String,
    pub name: Name,
    #[serde(flatten)]
    pub condition: Condition,
}

/// Of a hub that does not say.
const fn yes() -> bool {
    true
}

/// What one cluster is assigned for one target, and what its agent last said about exactly that generation and digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusRow {
    pub target: Name,
    pub cluster: Name,
    /// A hub that lives holds a stream of its agent.
    pub connected: bool,
    /// The target selects it; if not, it goes on with what it has and gets nothing newer.
    #[serde(default = "yes")]
    pub selected: bool,
    /// Since when it is connected or not.
    pub since: Option<Timestamp>,
    /// Of the render that it was assigned from; `None` when that is not stored any more.
    pub commit: Option<String>,
    /// The bundle that it is assigned.
    pub digest: Digest,
    /// Every object of this digest is in place there.
    pub applied: bool,
    /// A disconnected cluster's is unknown, whatever it said last.
    pub verdict: Verdict,
    /// All zero when nothing was said yet.
    pub objects: Counts,
    /// The worst object and why it is not well; empty when all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When the hub recorded that, by the hub's clock.
    pub reported_at: Option<Timestamp>,
}
