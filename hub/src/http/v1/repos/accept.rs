//! Lets a commit in that does not build on the one before it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::api::AcceptHead;
use bellwether_core::audit::Action;

use super::event;
use crate::http::auth::Caller;
use crate::http::input::{Body, Named};
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::work::Stage;
use crate::work::change::Change;
use crate::{Hub, store};

/// Exactly that commit: should the ref lead elsewhere by now, that waits in its turn.
pub(in crate::http) async fn accept(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    Body(body): Body<AcceptHead>,
) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let known = store::repos::lock_by_name(&mut change, caller.project.id, &name).await?;
    let repo = known.ok_or_else(|| Refusal::not_found("repo", &name))?;
    let (commit, reference) = (&body.commit, body.reference.as_deref());
    let references = store::heads::mark_accepted(&mut change, repo.id, commit, reference, now).await?;
    if references.len() > 1 {
        // Not one of them was meant for sure: who owns one branch looks at that.
        let detail = format!("commit `{commit}` waits at {}", references.join(", "));
        change.abandon().await?;
        return Err(Refusal::invalid("head_waits_at_several", detail).hint("say at which with `ref`, or `--ref`"));
    }
    if references.is_empty() {
        let detail = format!("commit `{}` does not wait in repo `{name}`", body.commit);
        return Err(Refusal::invalid("head_not_waiting", detail)
            .hint("the condition of a target that waits names the commit, all 40 digits of it"));
    }
    let trace_id = clock::new_trace();
    let mut event = event(&repo, &caller, Action::RepoHeadAccepted);
    event.commit = Some(body.commit);
    event.trace_id = Some(trace_id.clone());
    event.detail = serde_json::json!({"refs": references});
    change.audit(&event).await?;
    store::repos::end_pauses(&mut change, repo.id).await?;
    change.tell(Stage::Source, &[repo.id.as_uuid()], now, Some(&trace_id)).await?;
    change.commit().await?;
    Ok(StatusCode::ACCEPTED)
}
