//! Rollouts, and what people ask of them.

mod document;
mod intend;
mod list;
mod members;
mod show;

use bellwether_core::RolloutId;
use uuid::Uuid;

use crate::http::auth::Caller;
use crate::http::problem::Refusal;
use crate::store::rollouts::Rollout as Row;
use crate::store::targets::Target;
use crate::store::{self, Connection};

pub(in crate::http::v1) use document::document_of;
pub(in crate::http) use intend::intend;
pub(in crate::http) use list::list;
pub(in crate::http) use members::list as list_members;
pub(in crate::http) use show::show;

/// What another project has is not there.
async fn find(db: &mut Connection, caller: &Caller, id: &str) -> Result<(Row, Target), Refusal> {
    let missing = || Refusal::not_found("rollout", id);
    let uuid: Uuid = id.parse().map_err(|_| missing())?;
    let row = store::rollouts::find(db, RolloutId::new(uuid)).await?.ok_or_else(missing)?;
    let target = store::targets::find(db, row.target).await?;
    let target = target.filter(|target| target.project == caller.project).ok_or_else(missing)?;
    Ok((row, target))
}
