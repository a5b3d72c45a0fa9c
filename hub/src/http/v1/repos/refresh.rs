//! Has a repo fetched now.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::audit::Action;

use super::{event, find};
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::work::Stage;
use crate::work::change::Change;
use crate::{Hub, store};

pub(in crate::http) async fn refresh(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Refusal> {
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let repo = find(&mut change, &caller, &name).await?;
    store::repos::end_pauses(&mut change, repo.id).await?;
    let trace_id = clock::new_trace();
    change.tell(Stage::Source, &[repo.id.as_uuid()], clock::now(), Some(&trace_id)).await?;
    let mut event = event(&repo, &caller, Action::RepoRefreshAsked);
    event.trace_id = Some(trace_id);
    change.audit(&event).await?;
    change.commit().await?;
    Ok(StatusCode::ACCEPTED)
}
