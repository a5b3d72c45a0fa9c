//! What the hub keeps trying and people have to fix.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::report::bounded_message;

/// What only fetching, rendering or applying can know: it stands at the repo, target or cluster until it is fixed.
/// `docs/api.md` lists every code.
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

impl Condition {
    /// With texts that are as long as they may be.
    pub fn new(code: &str, message: &str, hint: Option<&str>, since: Option<Timestamp>) -> Self {
        Self {
            code: code.to_owned(),
            message: bounded_message(message),
            hint: hint.map(bounded_message),
            file: None,
            line: None,
            since,
        }
    }

    /// In that file, at that line.
    #[must_use]
    pub fn at(self, file: Option<&str>, line: Option<u32>) -> Self {
        Self { file: file.map(bounded_message), line, ..self }
    }

    /// With another message.
    #[must_use]
    pub fn saying(self, message: &str) -> Self {
        Self { message: bounded_message(message), ..self }
    }

    /// People know it already: only since when it is so, or what helps, is another.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.code == other.code && self.message == other.message
    }
}
