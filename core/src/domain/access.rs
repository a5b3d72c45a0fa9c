//! Who may do what: roles of callers, and the rights that they have.

use serde::{Deserialize, Serialize};

/// What the holder of a token is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May do everything.
    Admin,
    /// Only reads.
    #[default]
    Viewer,
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To be shown what there is; it changes nothing.
    Read,
    /// To change what there is.
    Change,
}

impl Role {
    /// Whether its holder may ask for what needs this right.
    pub const fn may(self, right: Right) -> bool {
        match (self, right) {
            (Self::Admin, _) | (Self::Viewer, Right::Read) => true,
            (Self::Viewer, Right::Change) => false,
        }
    }

    /// As rows and people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Viewer => "viewer",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Admin, Self::Viewer]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("`{text}` is not a role: `admin` or `viewer`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_only_reads() {
        let may = [Role::Admin, Role::Viewer].map(|role| [Right::Read, Right::Change].map(|right| role.may(right)));

        assert_eq!(may, [[true, true], [true, false]]);
    }
}
