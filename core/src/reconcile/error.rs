//! What can go wrong with a request to a cluster, told apart by what to do about it. What each means for an object is
//! decided in [`super::judge`].

use std::time::Duration;

use crate::quoting::without_values;

/// The reason of an object that does not fit the schema of its kind: API servers give none.
pub const UNFIT_REASON: &str = "Unfit";

/// The reason of what cannot be changed, was to be replaced, and is not.
pub(super) const NOT_REPLACED_REASON: &str = "NotReplaced";

/// Why a request did not succeed, in the API server's words where it gave some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The API server, or something that it asks, does not take it.
    #[error("{message}")]
    Rejected {
        reason: String,
        message: String,
        /// Paths of the fields that Kubernetes' own validation finds at fault.
        fields: Vec<String>,
        /// There are some, and all that is wrong with them is that they cannot change.
        is_of_a_change: bool,
    },
    /// The agent's own rights do not allow it.
    #[error("{message}")]
    Forbidden { message: String },
    #[error("namespace {namespace} does not exist")]
    NamespaceMissing { namespace: String },
    #[error("the API server knows no {kind} in {api_version}")]
    KindMissing { api_version: String, kind: String },
    /// Other managers own fields that the manifest sets to other values; there is at least one.
    #[error("{}", conflict_message(.0))]
    Conflict(Vec<Contested>),
    #[error("not found")]
    NotFound,
    /// Somebody else wrote the object in between.
    #[error("{message}")]
    Stale { message: String },
    /// What is to be replaced is being deleted, because these fields cannot change; it is made anew when it is gone.
    #[error("{}", leaving_message(.finalizers))]
    Leaving { fields: Vec<String>, finalizers: Vec<String> },
    /// The API server did not answer, or asked to come back.
    #[error("{message}")]
    Retry { after: Option<Duration>, message: String },
}

/// A field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contested {
    /// As the API server writes it: `.spec.ports[port=80].name`.
    pub field: String,
    pub manager: String,
}

impl ClusterError {
    /// Of no field, or of none that is known.
    pub fn rejected(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Rejected { reason: reason.into(), message: message.into(), fields: Vec::new(), is_of_a_change: false }
    }

    /// Without a time that the server asked for.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::Retry { after: None, message: message.into() }
    }
}

fn leaving_message(finalizers: &[String]) -> String {
    let held = if finalizers.is_empty() { String::new() } else { format!("; held by {}", finalizers.join(", ")) };
    format!("the one before is being deleted, and it is made anew when that is gone{held}")
}

fn conflict_message(fields: &[Contested]) -> String {
    let Some((Contested { field, manager }, others)) = fields.split_first() else { return String::new() };
    let others = others.len();
    let more = if others == 0 { String::new() } else { format!(", and {others} more fields are in conflict") };
    // Of a list of plain items the path holds one.
    format!("field {} is managed by {manager}{more}", without_values(field))
}
