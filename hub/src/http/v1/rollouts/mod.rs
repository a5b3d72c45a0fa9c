//! Rollouts, and what people ask of them.

mod intend;
mod list;
mod show;

use std::time::Duration;

use axum::http::StatusCode;
use bellwether_core::api::{RolloutDocument, WaveDocument};
use bellwether_core::rollout::{Wave, why};
use bellwether_core::{Name, RolloutId};
use uuid::Uuid;

use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::rollouts::Rollout as Row;
use crate::store::{self, Connection, StoreError, intents};
use crate::{Hub, rollout};

pub(in crate::http) use intend::intend;
pub(in crate::http) use list::list;
pub(in crate::http) use show::show;

/// How long a request waits for the rollout stage's answer: a person waits at the other end.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Polls without a signal this often: for what another hub answered.
const ANSWER_POLL: Duration = Duration::from_millis(250);

/// What the rollout stage said to an intent: done, refused with its reason, or not yet.
pub(in crate::http) async fn answer(hub: &Hub, intent: Uuid) -> Result<StatusCode, Refusal> {
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

async fn find(db: &mut Connection, id: &str) -> Result<(Row, Name), Refusal> {
    let missing = || Refusal::not_found("rollout", id);
    let uuid: Uuid = id.parse().map_err(|_| missing())?;
    let row = store::rollouts::find(db, RolloutId::new(uuid)).await?.ok_or_else(missing)?;
    let target = store::targets::find(db, row.target).await?.ok_or_else(missing)?;
    Ok((row, target.name))
}

pub(in crate::http) async fn document_of(
    db: &mut Connection,
    row: &Row,
    target: &Name,
) -> Result<RolloutDocument, StoreError> {
    let now = clock::now();
    let rollout = rollout::load_rollout(db, row, now).await?;
    let from_commit = match row.from_render {
        Some(render) => commit_of(db, render).await?,
        None => None,
    };
    Ok(RolloutDocument {
        id: row.id,
        target: target.clone(),
        state: row.state,
        why: why(&rollout, now),
        from_commit,
        to_commit: commit_of(db, row.render).await?.unwrap_or_default(),
        started_at: row.created_at,
        ended_at: row.ended_at,
        waves: rollout.waves.into_iter().map(wave_document).collect(),
        members: Vec::new(),
    })
}

fn wave_document(wave: Wave) -> WaveDocument {
    WaveDocument {
        name: wave.name,
        state: wave.state,
        opened_at: wave.opened_at,
        soak_until: wave.soak_until,
        members: wave.members,
        waiting: wave.waiting,
        in_flight: wave.in_flight,
        healthy: wave.healthy,
        failed: wave.failed,
        offline: wave.offline,
        skipped: wave.skipped,
        rolled_back: wave.rolled_back,
    }
}

async fn commit_of(db: &mut Connection, render: bellwether_core::RenderId) -> Result<Option<String>, StoreError> {
    let Some(render) = store::renders::find(db, render).await? else { return Ok(None) };
    Ok(store::revisions::find(db, render.revision).await?.map(|revision| revision.commit))
}
