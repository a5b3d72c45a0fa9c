//! Tokens of the API: what they may do, and how they are made. The hub keeps only their hashes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Name;

/// What the holder of a token may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// Everything.
    Admin,
    /// Only reads.
    #[default]
    Viewer,
}

impl TokenRole {
    /// As rows and people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }
}

impl std::str::FromStr for TokenRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Admin, Self::Viewer]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a role: `admin` or `viewer`"))
    }
}

/// A token of the API, without the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenDocument {
    pub name: Name,
    pub role: TokenRole,
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
    pub role: TokenRole,
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
