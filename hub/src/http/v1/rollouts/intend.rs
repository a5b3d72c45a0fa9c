//! Takes what a person wants of a rollout.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use bellwether_core::api::RolloutIntent;
use bellwether_core::audit::{Action, Event};
use bellwether_core::rollout::Intent;

use super::find;
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::Body;
use crate::http::problem::Refusal;
use crate::http::v1::answer;
use crate::process::clock;
use crate::store;
use crate::store::intents::{self, Verb};
use crate::store::work::Stage;
use crate::work::change::Change;
use crate::work::subjects;

/// Writes down what a person asks; the rollout stage answers.
pub(in crate::http) async fn intend(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(asked): Body<RolloutIntent>,
) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let (row, target) = find(&mut change, &caller, &id).await?;
    if !row.state.takes(&asked.intent) {
        let detail = format!("the rollout is over: {}", serde_word(&row.state));
        return Err(Refusal::conflict("rollout_over", detail)
            .hint(format!("to go back to what ran before: bellwether rollout rollback {}", target.name)));
    }
    let subject = subjects::rollout(row.id, &target.project, &target.name);
    let mut event = Event::new(clock::new_id(), now, caller.actor(), action_of(&asked.intent), subject);
    event.reason.clone_from(&asked.reason);
    if let Intent::Skip { cluster } | Intent::Retry { cluster } = &asked.intent {
        let named = store::clusters::find(&mut change, *cluster).await?;
        event.cluster = Some(named.map_or_else(|| cluster.to_string(), |cluster| cluster.name.to_string()));
    }
    change.audit(&event).await?;
    let intent = intents::IntentRow {
        id: clock::new_id(),
        target: row.target,
        rollout: Some(row.id),
        verb: Verb::Rollout(asked.intent),
        actor: caller.name,
        reason: asked.reason,
    };
    intents::insert(&mut change, &intent, now).await?;
    change.tell(Stage::Rollout, &[row.target.as_uuid()], now, None).await?;
    change.commit().await?;
    answer::wait_for(&hub, intent.id).await
}

fn action_of(intent: &Intent) -> Action {
    match intent {
        Intent::Pause => Action::RolloutPauseAsked,
        Intent::Resume => Action::RolloutResumeAsked,
        Intent::Abort => Action::RolloutAbortAsked,
        Intent::Skip { .. } => Action::RolloutSkipAsked,
        Intent::Retry { .. } => Action::RolloutRetryAsked,
        Intent::Promote => Action::RolloutPromoteAsked,
    }
}

fn serde_word(state: &impl serde::Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}
