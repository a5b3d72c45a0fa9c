//! What is wrong: with a request, and with what the hub keeps trying. `docs/api.md` lists every code.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a request was refused: RFC 9457, with a stable code and a hint. Texts are at most 1 KiB each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: the code tells more.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of the status.
    pub title: String,
    pub status: u16,
    /// For people; names what was asked for.
    pub detail: String,
    /// Stable, for programs: `repo_not_found`.
    pub code: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What only fetching, rendering or applying can know: it stands at the repo, target or cluster until it is fixed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Stable, for programs: `path_not_found`.
    pub code: String,
    /// For people: the error and its causes, at most 1 KiB.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Within the repo, of what is wrong in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// When the hub saw it first; `None` of what is found out anew with every answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}
