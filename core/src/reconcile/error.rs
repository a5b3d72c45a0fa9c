//! What can go wrong with a request to a cluster, told apart by what to do about it. What each means for an object is
//! decided in [`super::judge`].

use std::time::Duration;

use super::replacement::{Refusal, named};
use crate::policy;
use crate::quoting::without_values;

/// The reason of an object that does not fit the schema of its kind: API servers give none.
pub const UNFIT_REASON: &str = "Unfit";

/// The reason of a sealed object that none of its cluster's keys opens: it may come.
pub const NO_KEY_REASON: &str = "SealedForOthers";

/// The reason of a sealed object that cannot be opened as it is.
pub const SEALED_REASON: &str = "SealedUnreadable";

/// In the place of words that quote what was sealed.
const LEFT_OUT: &str = "it was refused in words that quote what was sealed, and they are left out";

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
    #[error("{}", missing_message(.namespace, .not_made.as_deref()))]
    NamespaceMissing {
        namespace: String,
        /// It was to be made, and why it is not.
        not_made: Option<String>,
    },
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
    #[error("{}", leaving_message(.finalizers, .pods_end_within.is_some()))]
    Leaving {
        fields: Vec<String>,
        /// Those that somebody else has set.
        finalizers: Vec<String>,
        /// Its pods go first, and have so long to end.
        pods_end_within: Option<Duration>,
    },
    /// It cannot be changed, was to be replaced, and stays as it is.
    #[error("{message}; it is not replaced: {why}")]
    NotReplaced { message: String, why: Refusal },
    /// What is to take its place would be refused, so it stays as it is.
    #[error("it has to be made anew for {}, and a new one is refused: {why}", named(.fields))]
    NewOneRefused { fields: Vec<String>, why: Box<ClusterError> },
    /// It was deleted to be made anew, and is not made yet.
    #[error("the one before was deleted, since {} cannot change, and the new one could not be made: {why}", named(.fields))]
    Absent { fields: Vec<String>, why: Box<ClusterError> },
    /// The cluster's owner does not allow it.
    #[error("{}", .0.message)]
    Policy(policy::Refusal),
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

    /// Without the words of API servers, and of whoever they ask, that quote something: by what is told of each, and it is told then
    /// that they are left out.
    #[must_use]
    pub fn without_quotes(self, quotes: &dyn Fn(&str) -> bool) -> Self {
        let told = |text: String| if quotes(&text) { LEFT_OUT.to_owned() } else { text };
        let all = |texts: Vec<String>| texts.into_iter().filter(|text| !quotes(text)).collect();
        match self {
            Self::Rejected { reason, message, fields, is_of_a_change } => {
                let reason = Some(reason).filter(|reason| !quotes(reason)).unwrap_or_default();
                Self::Rejected { reason, message: told(message), fields: all(fields), is_of_a_change }
            }
            Self::Forbidden { message } => Self::Forbidden { message: told(message) },
            Self::NamespaceMissing { namespace, not_made } => {
                Self::NamespaceMissing { namespace, not_made: not_made.map(told) }
            }
            Self::Conflict(fields) => {
                let one = |Contested { field, manager }| Contested { field: told(field), manager: told(manager) };
                Self::Conflict(fields.into_iter().map(one).collect())
            }
            Self::Stale { message } => Self::Stale { message: told(message) },
            Self::NotReplaced { message, why } => Self::NotReplaced { message: told(message), why },
            Self::NewOneRefused { fields, why } => {
                Self::NewOneRefused { fields: all(fields), why: Box::new(why.without_quotes(quotes)) }
            }
            Self::Absent { fields, why } => {
                Self::Absent { fields: all(fields), why: Box::new(why.without_quotes(quotes)) }
            }
            Self::Retry { after, message } => Self::Retry { after, message: told(message) },
            Self::KindMissing { .. } | Self::NotFound | Self::Leaving { .. } | Self::Policy(_) => self,
        }
    }

    /// Without a time that the server asked for.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::Retry { after: None, message: message.into() }
    }
}

fn missing_message(namespace: &str, not_made: Option<&str>) -> String {
    match not_made {
        Some(why) => format!("namespace {namespace} is missing, and it cannot be made: {why}"),
        None => format!("namespace {namespace} does not exist"),
    }
}

fn leaving_message(finalizers: &[String], is_by_its_pods: bool) -> String {
    let held = if finalizers.is_empty() { String::new() } else { format!("; held by {}", finalizers.join(", ")) };
    let pods = if is_by_its_pods { "; its pods are ending" } else { "" };
    format!("the one before is being deleted, and it is made anew when that is gone{pods}{held}")
}

fn conflict_message(fields: &[Contested]) -> String {
    let Some((Contested { field, manager }, others)) = fields.split_first() else { return String::new() };
    let others = others.len();
    let more = if others == 0 { String::new() } else { format!(", and {others} more fields are in conflict") };
    // Of a list of plain items the path holds one.
    format!("field {} is managed by {manager}{more}", without_values(field))
}
