//! Deletes a target.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::api::TargetDocument;
use bellwether_core::audit::Action;
use bellwether_core::session;
use serde::Deserialize;

use super::{changed_event, document_of, find, spec_for_audit};
use crate::http::auth::Caller;
use crate::http::input::{Named, QueryParams};
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::targets::Deletion;
use crate::store::work::Stage;
use crate::work::change::Change;
use crate::{Hub, store};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::http) struct DeleteQuery {
    mode: Option<String>,
    force: bool,
}

/// Begins a target's end: its clusters delete its objects or let go of them, and it is gone when they have answered.
pub(in crate::http) async fn delete(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    QueryParams(query): QueryParams<DeleteQuery>,
) -> Result<(StatusCode, Json<TargetDocument>), Refusal> {
    let action = match query.mode.as_deref() {
        Some("prune") => session::Action::Delete,
        Some("orphan") => session::Action::Orphan,
        _ => {
            return Err(Refusal::invalid("delete_mode_invalid", "`mode` must be `prune` or `orphan`")
                .hint("prune deletes its objects in the clusters, orphan leaves them there"));
        }
    };
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let target = find(&mut change, &caller, &name).await?;
    let deletion = Deletion { action, forced: query.force, by: caller.name.clone(), at: now };
    let is_asked = |known: &Deletion| (known.action, known.forced) == (deletion.action, deletion.forced);
    if !target.deletion.as_ref().is_some_and(is_asked) {
        store::targets::mark_deletion(&mut change, target.id, &deletion).await?;
        let mut event = changed_event(&hub, &target, &caller, Action::TargetDeleted);
        event.detail =
            serde_json::json!({"spec": spec_for_audit(&hub, &target), "mode": query.mode, "force": query.force});
        change.audit(&event).await?;
    }
    change.tell(Stage::Rollout, &[target.id.as_uuid()], now, None).await?;
    let target = find(&mut change, &caller, &name).await?;
    let document = document_of(&mut change, &target).await?;
    change.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(document)))
}
