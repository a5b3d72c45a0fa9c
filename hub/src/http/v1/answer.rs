//! What the rollout stage says to what a person asked.

use std::time::Duration;

use axum::http::StatusCode;
use uuid::Uuid;

use crate::Hub;
use crate::http::problem::Refusal;
use crate::store::{StoreError, intents};

/// How long a request waits for the rollout stage's answer: a person waits at the other end.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Polls without a signal this often: for what another hub answered.
const ANSWER_POLL: Duration = Duration::from_millis(250);

/// What the rollout stage said to an intent: done, refused with its reason, or not yet.
pub(super) async fn wait_for(hub: &Hub, intent: Uuid) -> Result<StatusCode, Refusal> {
    let patience = tokio::time::Instant::now() + ANSWER_MAX;
    while tokio::time::Instant::now() < patience {
        let next = hub.signals.next_answer();
        let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
        match intents::find_outcome(&mut db, intent).await?.as_deref() {
            Some("done") => return Ok(StatusCode::NO_CONTENT),
            Some(reason) => return Err(Refusal::conflict("refused", reason)),
            None => {}
        }
        drop(db);
        let _ = tokio::time::timeout(ANSWER_POLL, next).await;
    }
    Ok(StatusCode::ACCEPTED)
}
