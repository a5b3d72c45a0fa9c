//! Who calls at the API, and what they may.

use bellwether_core::access::{Right, Role};
use bellwether_core::audit::Actor;

use crate::store::projects::Project;
use crate::work::actors;

/// Somebody with a token that is good now.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// What they name is looked for there, and nowhere else.
    pub(crate) project: Project,
}

impl Caller {
    pub(crate) fn actor(&self) -> Actor {
        actors::token(&self.name)
    }

    pub(crate) const fn may(&self, right: Right) -> bool {
        self.role.may(right)
    }
}
