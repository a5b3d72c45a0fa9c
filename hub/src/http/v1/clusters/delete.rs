//! Deletes a revoked cluster.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::audit::Action;

use super::{event, lock, shut_out};
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::work::Stage;
use crate::work::change::Change;
use crate::{Hub, store};

/// Forgets a cluster. What runs there goes on running: nothing is deleted in it.
pub(in crate::http) async fn delete(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Refusal> {
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let cluster = lock(&mut change, &caller, &name).await?;
    // From here on no rollout begins that has it as a member, or it is seen.
    store::clusters::lock_whole(&mut change, cluster.id).await?;
    let concerned = store::rollouts::list_targets_of(&mut change, &[cluster.id]).await?;
    store::clusters::delete(&mut change, cluster.id).await?;
    // Their waves have a member less to wait for.
    change.tell(Stage::Rollout, &concerned, clock::now(), None).await?;
    change.audit(&event(&cluster, &caller, Action::ClusterDeleted)).await?;
    change.commit().await?;
    shut_out(&hub, cluster.id).await;
    Ok(StatusCode::NO_CONTENT)
}
