//! Revokes a cluster: its agent is refused from now on.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::audit::Action;

use super::{event, lock, shut_out};
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::work::change::Change;
use crate::{Hub, store};

/// The cluster's certificates are refused from now on, and its live stream ends.
pub(in crate::http) async fn revoke(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let cluster = lock(&mut change, &caller, &name).await?;
    store::clusters::delete_enrollments(&mut change, cluster.id).await?;
    store::clusters::mark_revoked(&mut change, cluster.id, now).await?;
    store::certificates::mark_all_revoked(&mut change, cluster.id, now).await?;
    change.audit(&event(&cluster, &caller, Action::ClusterRevoked)).await?;
    change.commit().await?;
    shut_out(&hub, cluster.id).await;
    Ok(StatusCode::NO_CONTENT)
}
