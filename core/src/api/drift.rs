//! What others changed in the clusters, as the API tells it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Name, ObjectKey};

/// One change that somebody else made to what a target owns, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftDocument {
    pub id: Uuid,
    /// When the agent found it.
    pub at: Timestamp,
    pub cluster: Name,
    pub target: Name,
    #[serde(flatten)]
    pub object: ObjectKey,
    /// Who changed it, as the API server's managedFields say; `None` when nothing says so, as after a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<String>,
    /// How: `Apply` or `Update`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    pub change: DriftChange,
    pub action: DriftAction,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftChange {
    /// A field of ours has another value.
    Modified,
    Deleted,
    /// Deleted and made again by somebody else.
    Replaced,
    /// It no longer carries its target's label.
    Unlabelled,
}

impl DriftChange {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Replaced => "replaced",
            Self::Unlabelled => "unlabelled",
        }
    }
}

/// What the agent did about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftAction {
    Corrected,
    /// Left as it is: the target only warns.
    Warned,
    /// The correction did not succeed, or somebody undoes it again and again.
    Failed,
}

impl DriftAction {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Corrected => "corrected",
            Self::Warned => "warned",
            Self::Failed => "failed",
        }
    }
}
