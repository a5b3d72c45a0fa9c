//! What an agent saw, as it tells the hub: of which generation, with which verdict, object by object.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, Generation, ObjectKey, TargetId};

/// Object lines of one report. What is not healthy comes first; the rest is in the counts.
pub const LINES_MAX: usize = 50;
/// Bytes of a message from an API server or a rule that travel; more is cut.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// How well something is. Unknown is never healthy.
///
/// The order is that of a roll-up: the worst of several is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// By its own status, for the newest of what was asked of it.
    Healthy,
    /// On its way.
    Progressing,
    /// Nobody can tell now.
    Unknown,
    /// Not well, and no failure of what was assigned, or none yet.
    Degraded,
    /// As it is, it does not get there; whether it may yet, its line says.
    Failed,
}

impl Verdict {
    /// As rows, documents and metrics have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Progressing => "progressing",
            Self::Unknown => "unknown",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }

    /// Of a whole, from its parts; a whole without parts is healthy.
    pub fn worst(verdicts: impl IntoIterator<Item = Self>) -> Self {
        verdicts.into_iter().max().unwrap_or(Self::Healthy)
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Healthy, Self::Progressing, Self::Unknown, Self::Degraded, Self::Failed]
            .into_iter()
            .find(|verdict| verdict.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a verdict"))
    }
}

/// What became of one object when the agent last dealt with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Not dealt with yet: an earlier phase holds it up.
    Waiting,
    /// Sent and accepted by the API server.
    Applied,
    /// As after our last apply; nothing was sent.
    Unchanged,
    /// There already without this target's label; nothing was sent.
    Exists,
    /// Another manager owns a field of it that was never ours; nothing was sent.
    Conflict,
    /// Refused by the API server, or not sendable.
    Rejected,
    /// The API server did not answer or asked to wait; it is tried again.
    Retrying,
    /// Found changed by somebody else.
    Drifted,
    /// No longer wanted, and being deleted.
    Pruning,
}

impl Outcome {
    /// As documents and rows have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Exists => "exists",
            Self::Conflict => "conflict",
            Self::Rejected => "rejected",
            Self::Retrying => "retrying",
            Self::Drifted => "drifted",
            Self::Pruning => "pruning",
        }
    }

    /// The cluster holds what the bundle says.
    pub const fn is_in_place(self) -> bool {
        matches!(self, Self::Applied | Self::Unchanged)
    }

    /// Hardly anything but a new revision or a person in the cluster helps.
    pub const fn is_stalled(self) -> bool {
        matches!(self, Self::Exists | Self::Conflict | Self::Rejected)
    }
}

/// One object of a target, in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectLine {
    #[serde(flatten)]
    pub key: ObjectKey,
    pub outcome: Outcome,
    pub verdict: Verdict,
    /// Why, in the API server's or the rule's own words; at most [`MESSAGE_BYTES_MAX`]. Empty when all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What a person can do about it; empty when there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// Of a failed one: it may get well without another revision, and the agent goes on trying or looking. Where this is
    /// not said, the failure is final.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_pass: bool,
}

impl ObjectLine {
    /// Nothing but another revision makes it well.
    pub fn is_final_failure(&self) -> bool {
        self.verdict == Verdict::Failed && !self.may_pass
    }
}

/// `ConfigMap shop/web: the reason; what a person can do`, or what is done with it where nobody gave a reason.
impl std::fmt::Display for ObjectLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = if self.message.is_empty() { self.outcome.as_str() } else { &self.message };
        write!(f, "{}: {why}", self.key)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

/// The state of one target in one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub target: TargetId,
    pub generation: Generation,
    pub digest: Digest,
    /// Every object is in place for this generation. Applied and healthy are told apart.
    pub applied: bool,
    pub verdict: Verdict,
    /// Of all objects of the bundle, whatever has a line.
    pub objects: Counts,
    /// What is not well, worst first, and what is left to others; at most [`LINES_MAX`].
    pub lines: Vec<ObjectLine>,
    /// Nothing is done to it until that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspended>,
}

/// Somebody of the cluster has stopped what its agent does with a target ([`crate::assignment`]). The texts are a person's,
/// cut and cleaned: at most [`crate::assignment::SUSPENSION_BYTES_MAX`] bytes each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspended {
    /// When the agent saw it first, by its own clock.
    pub since: Timestamp,
    /// It ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why, or why the text cannot be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The program that wrote it, as the API server has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

/// `suspended by kubectl-annotate until 2026-11-29T12:00:00Z: INC-42`
impl std::fmt::Display for Suspended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("suspended")?;
        if !self.by.is_empty() {
            write!(f, " by {}", self.by)?;
        }
        if let Some(until) = self.until {
            write!(f, " until {}", until.strftime("%Y-%m-%dT%H:%M:%SZ"))?;
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, ": {}", self.reason) }
    }
}

impl Report {
    /// Whether [it may pass](may_pass).
    pub fn may_pass(&self) -> bool {
        may_pass(self.verdict, &self.lines)
    }
}

/// It failed, and everything that failed may pass: other evidence may follow for the same generation.
pub fn may_pass(verdict: Verdict, lines: &[ObjectLine]) -> bool {
    verdict == Verdict::Failed && !lines.iter().any(ObjectLine::is_final_failure)
}

/// Objects of a target, by how they stand. `in_place` and `healthy` are each of `total` and overlap. What is being
/// deleted is in none of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub total: u32,
    pub in_place: u32,
    pub healthy: u32,
}

/// What a terminal or a browser obeys instead of showing it: control characters, line separators, and what turns the order
/// of the text around it.
pub fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cuts a message to what travels, at a character's border, without what somebody's terminal would obey.
pub fn bounded_message(text: &str) -> String {
    bounded_text(text, MESSAGE_BYTES_MAX)
}

/// The same to so many bytes.
pub fn bounded_text(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|character| if is_obeyed(character) { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_hides_neither_in_healthy_nor_in_progressing() {
        assert_eq!(Verdict::worst([Verdict::Healthy, Verdict::Unknown, Verdict::Progressing]), Verdict::Unknown);
        assert_eq!(Verdict::worst([Verdict::Unknown, Verdict::Failed]), Verdict::Failed);
        assert_eq!(Verdict::worst([]), Verdict::Healthy);
    }

    #[test]
    fn a_line_says_why_and_what_a_person_can_do() {
        let line = |why: &str| {
            let line = format!(
                r#"{{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "outcome": "exists", "verdict": "failed"{why}}}"#
            );
            serde_json::from_str::<ObjectLine>(&line).expect("a line").to_string()
        };

        assert_eq!(line(""), "ConfigMap a: exists");
        assert_eq!(
            line(r#", "message": "it is there already", "hint": "delete it""#),
            "ConfigMap a: it is there already; delete it"
        );
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let text = "ü".repeat(MESSAGE_BYTES_MAX);

        assert_eq!(bounded_message(&text).len(), MESSAGE_BYTES_MAX);
        assert_eq!(bounded_message("a\u{1b}[31m\nb"), "a [31m b");
        assert_eq!(bounded_message("a\u{202e}b\u{2066}c\u{200f}d\u{2028}e"), "a b c d e");
    }
}
