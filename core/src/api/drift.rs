//! What others changed in the clusters, as the API tells it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use crate::drift::{Change as DriftChange, ChangedValue, Response as DriftAction};
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
    /// Paths that differed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// What they were made and what is wanted, of one that is shown by itself; of a Secret never.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ChangedValue>,
    /// There are others, which were too many or too long together, or are in a Secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub are_more_values: bool,
}
