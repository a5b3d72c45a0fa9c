//! What is wrong with a request. `docs/api.md` lists every code.

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
