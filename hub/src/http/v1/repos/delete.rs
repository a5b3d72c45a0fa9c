//! Deletes a repo.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::audit::Action;

use super::{event, find};
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::work::Stage;
use crate::store::{self, StoreError};
use crate::work::change::Change;

pub(in crate::http) async fn delete(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Refusal> {
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let repo = find(&mut change, &caller, &name).await?;
    store::repos::delete(&mut change, repo.id).await.map_err(|error| match error {
        StoreError::InUse => Refusal::conflict("repo_in_use", format!("targets still use repo `{name}`"))
            .hint("delete those targets first: bellwether target list"),
        other => other.into(),
    })?;
    change.audit(&event(&repo, &caller, Action::RepoDeleted)).await?;
    // Its mirror goes.
    change.tell(Stage::Source, &[repo.id.as_uuid()], clock::now(), None).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
