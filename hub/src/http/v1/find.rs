//! What requests name, in rows.

use bellwether_core::{Name, TargetId};

use crate::http::auth::Caller;
use crate::http::problem::Refusal;
use crate::store::targets::Target;
use crate::store::{self, Connection};

pub(super) async fn target(db: &mut Connection, caller: &Caller, name: &Name) -> Result<Target, Refusal> {
    store::targets::find_by_name(db, caller.project.id, name).await?.ok_or_else(|| Refusal::not_found("target", name))
}

/// The target that a list is asked for, if it is asked for one.
pub(super) async fn asked_target(
    db: &mut Connection,
    caller: &Caller,
    name: Option<&Name>,
) -> Result<Option<TargetId>, Refusal> {
    match name {
        Some(name) => Ok(Some(target(db, caller, name).await?.id)),
        None => Ok(None),
    }
}
