//! Gives a cluster a new join token.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::api::RegisteredCluster;
use bellwether_core::audit::Action;

use super::{checked_ttl, event, hand_out_token, lock, next, shut_out};
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::install;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::clusters::Cluster;
use crate::work::change::Change;
use crate::{Hub, store};

/// Whoever had the cluster's identity before has it no more. The manifest gives no rights: the agent's may have been narrowed.
pub(in crate::http) async fn reenroll(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<(StatusCode, Json<RegisteredCluster>), Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let cluster = lock(&mut change, &caller, &name).await?;
    store::clusters::delete_enrollments(&mut change, cluster.id).await?;
    store::certificates::mark_all_revoked(&mut change, cluster.id, now).await?;
    store::clusters::mark_welcome_again(&mut change, cluster.id, now).await?;
    if cluster.revoked_at.is_some() {
        change.tell_of_labels(&cluster, None, Some(&cluster.labels), now).await?;
    }
    store::sessions::mark_identity_conflict(&mut change, cluster.id, None).await?;
    let ttl = checked_ttl(None)?;
    let cluster = Cluster { revoked_at: None, version: next(cluster.version), ..cluster };
    let registered = hand_out_token(&hub, &mut change, &cluster, (ttl, now), install::manifest_again).await?;
    change.audit(&event(&cluster, &caller, Action::ClusterReenrolled)).await?;
    change.commit().await?;
    shut_out(&hub, cluster.id).await;
    Ok((StatusCode::CREATED, Json(registered)))
}
