//! Lets a target that is held follow Git again.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::rollout;
use serde::Deserialize;

use super::{ask, check_stays, find};
use crate::http::auth::Caller;
use crate::http::input::{Body, Named};
use crate::http::problem::Refusal;
use crate::http::v1::answer;
use crate::process::clock;
use crate::store::intents::{TargetVerb, Verb};
use crate::store::work::Stage;
use crate::work::change::Change;
use crate::{Hub, store};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::http) struct ReleaseBody {
    reason: String,
}

pub(in crate::http) async fn release(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    Body(body): Body<ReleaseBody>,
) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let target = find(&mut change, &caller, &name).await?;
    check_stays(&target)?;
    let state = store::targets::find_state(&mut change, target.id).await?;
    if rollout::release(state.held).is_err() {
        return Err(Refusal::conflict("target_not_held", format!("target `{name}` is not held")));
    }
    let verb = Verb::Target(TargetVerb::Release);
    let intent = ask(&mut change, &target, verb, &caller, body.reason).await?;
    change.tell(Stage::Rollout, &[target.id.as_uuid()], now, None).await?;
    change.commit().await?;
    answer::wait_for(&hub, intent).await
}
