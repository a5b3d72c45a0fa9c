//! What a repo is: where it is fetched from, and how often.
//!
//! A stored form as well, as a target's is: see [`target`](crate::target).

use serde::{Deserialize, Serialize};

/// Where a repo is fetched from, and how. Its URL was checked by whoever wrote it; whether it may be reached is checked
/// again at each fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoSpec {
    pub url: String,
    /// Certificates (PEM) of a private authority that signs the Git server's, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// By ssh: which keys its host has, as lines of a `known_hosts` file. No other is let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<String>,
    /// Seconds between two fetches without a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_seconds: Option<u32>,
}
