//! Tokens of the API, and how they are made. The hub keeps only their hashes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Name;
use crate::access::Role;

/// A token of the API, without the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenDocument {
    pub name: Name,
    pub role: Role,
    pub created_at: Timestamp,
    /// The token that made it; `None`: the hub's first start did.
    pub created_by: Option<String>,
    /// `None`: never.
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// To the minute.
    pub last_used_at: Option<Timestamp>,
}

/// `POST /api/v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateToken {
    pub name: Name,
    #[serde(default)]
    pub role: Role,
    /// For how long it is good; for ever when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
}

/// The answer to making a token: the only time it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedToken {
    pub token: TokenDocument,
    /// What goes into `Authorization: Bearer …`.
    pub secret: String,
}
