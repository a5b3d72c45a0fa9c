//! Gives a repo a new webhook secret; the one before is good for nothing from then on.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::api::CreatedRepo;
use bellwether_core::audit::Action;

use super::{answer, event, new_webhook_secret};
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::work::change::Change;
use crate::{Hub, store};

pub(in crate::http) async fn renew_webhook_secret(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Json<CreatedRepo>, Refusal> {
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let known = store::repos::lock_by_name(&mut change, caller.project.id, &name).await?;
    let repo = known.ok_or_else(|| Refusal::not_found("repo", &name))?;
    let (secret, sealed) = new_webhook_secret(&hub, repo.id);
    store::repos::mark_webhook_secret(&mut change, repo.id, &sealed, clock::now()).await?;
    change.audit(&event(&repo, &caller, Action::RepoWebhookChanged)).await?;
    let created = answer(&mut change, &repo, Some(&secret)).await?;
    change.commit().await?;
    Ok(Json(created))
}
