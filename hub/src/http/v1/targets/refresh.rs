//! Has a target rendered now.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::audit::{Action, Event};

use super::find;
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::work::Stage;
use crate::work::change::Change;
use crate::work::subjects;
use crate::{Hub, store};

/// Fetches and renders anew, and compares with what every cluster runs.
pub(in crate::http) async fn refresh(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let trace_id = clock::new_trace();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let target = find(&mut change, &caller, &name).await?;
    store::repos::end_pauses(&mut change, target.repo).await?;
    change.tell(Stage::Source, &[target.repo.as_uuid()], now, Some(&trace_id)).await?;
    change.tell(Stage::Bundle, &[target.id.as_uuid()], now, Some(&trace_id)).await?;
    let mut event = Event::new(
        clock::new_id(),
        now,
        caller.actor(),
        Action::TargetRefreshAsked,
        subjects::target(&target.project, &target.name),
    );
    event.trace_id = Some(trace_id);
    change.audit(&event).await?;
    change.commit().await?;
    Ok(StatusCode::ACCEPTED)
}
