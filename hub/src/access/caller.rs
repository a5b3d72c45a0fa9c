//! Who calls at the API, and what they may.

use bellwether_core::api::TokenRole;
use bellwether_core::audit::Actor;

use crate::work::actors;

/// Somebody with a token that is good now.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) role: TokenRole,
}

impl Caller {
    pub(crate) fn actor(&self) -> Actor {
        actors::token(&self.name)
    }

    pub(crate) fn may_change(&self) -> bool {
        match self.role {
            TokenRole::Admin => true,
            TokenRole::Viewer => false,
        }
    }
}
