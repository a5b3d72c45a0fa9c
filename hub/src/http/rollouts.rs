//! Rollouts, and what people ask of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use bellwether_core::api::{List, MemberDocument, RolloutDocument, RolloutIntent, WaveDocument};
use bellwether_core::audit::{Event, Subject};
use bellwether_core::rollout::{Intent, Wave, why};
use bellwether_core::{Name, RolloutId};
use serde::Deserialize;
use uuid::Uuid;

use super::auth::Caller;
use super::input::{Body, QueryParams};
use super::pages;
use super::problem::Refusal;
use super::targets;
use crate::change::Change;
use crate::store::intents::{self, Verb};
use crate::store::rollouts::{Rollout as Row, Which};
use crate::store::work::Stage;
use crate::store::{self, Connection, StoreError};
use crate::{Hub, clock, rollout};

/// How long a request waits for the rollout stage's answer: a person waits at the other end.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Polls without a signal this often: for what another hub answered.
const ANSWER_POLL: Duration = Duration::from_millis(250);

/// Members in the document of one rollout.
const MEMBERS_MAX: i64 = 20_000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ListQuery {
    target: Option<Name>,
    cursor: Option<String>,
    limit: Option<u32>,
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    QueryParams(query): QueryParams<ListQuery>,
) -> Result<Json<List<RolloutDocument>>, Refusal> {
    let before = query.cursor.as_deref().map(pages::decode_cursor::<Uuid>).transpose()?.unwrap_or(Uuid::max());
    let limit = pages::limit(query.limit);
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let target = targets::find_asked(&mut db, query.target.as_ref()).await?;
    let mut documents = Vec::new();
    for row in store::rollouts::list(&mut db, target, before, limit).await? {
        let Some(target) = store::targets::find(&mut db, row.target).await? else { continue };
        documents.push(document_of(&mut db, &row, &target.name).await?);
    }
    Ok(Json(pages::page(documents, limit, |document| pages::encode_cursor(&document.id))))
}

pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<RolloutDocument>, Refusal> {
    let now = clock::now();
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let (row, target) = find(&mut db, &id).await?;
    let mut document = document_of(&mut db, &row, &target).await?;
    let which = Which { limit: Some(MEMBERS_MAX), ..Which::default() };
    let mut members = store::rollouts::list_members(&mut db, row.id, which, now).await?;
    members.sort_by(|a, b| (a.member.wave, &a.cluster_name).cmp(&(b.member.wave, &b.cluster_name)));
    for judged in members {
        let Ok(cluster) = judged.cluster_name.parse() else { continue };
        let wave = document.waves.get(judged.member.wave as usize).map_or_else(String::new, |wave| wave.name.clone());
        document.members.push(MemberDocument {
            cluster,
            wave,
            state: judged.member.state,
            digest: judged.member.digest,
            digest_before: judged.member.digest_before,
            generation: judged.member.generation,
            reason: judged.member.reason,
        });
    }
    Ok(Json(document))
}

/// Writes down what a person asks; the rollout stage answers.
pub(super) async fn intend(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(asked): Body<RolloutIntent>,
) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let (row, target) = find(&mut change, &id).await?;
    if !row.state.takes(&asked.intent) {
        let detail = format!("the rollout is over: {}", serde_word(&row.state));
        return Err(Refusal::conflict("rollout_over", detail)
            .hint(format!("to go back to what ran before: bellwether rollout rollback {target}")));
    }
    let subject = Subject { kind: "rollout".to_owned(), name: row.id.to_string() };
    let mut event = Event::new(clock::new_id(), now, caller.actor(), action_of(&asked.intent), subject);
    event.target = Some(target.to_string());
    event.rollout = Some(row.id);
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
    answer(&hub, intent.id).await
}

/// What the rollout stage said to an intent: done, refused with its reason, or not yet.
pub(super) async fn answer(hub: &Hub, intent: Uuid) -> Result<StatusCode, Refusal> {
    let patience = tokio::time::Instant::now() + ANSWER_MAX;
    while tokio::time::Instant::now() < patience {
        let next = hub.signals.next_answer();
        let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
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

fn action_of(intent: &Intent) -> &'static str {
    match intent {
        Intent::Pause => "rollout.pause.asked",
        Intent::Resume => "rollout.resume.asked",
        Intent::Abort => "rollout.abort.asked",
        Intent::Rollback => "rollout.rollback.asked",
        Intent::Skip { .. } => "rollout.skip.asked",
        Intent::Retry { .. } => "rollout.retry.asked",
        Intent::Promote => "rollout.promote.asked",
    }
}

fn serde_word(state: &impl serde::Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}

async fn find(db: &mut Connection, id: &str) -> Result<(Row, Name), Refusal> {
    let missing = || Refusal::not_found("rollout", id);
    let uuid: Uuid = id.parse().map_err(|_| missing())?;
    let row = store::rollouts::find(db, RolloutId::new(uuid)).await?.ok_or_else(missing)?;
    let target = store::targets::find(db, row.target).await?.ok_or_else(missing)?;
    Ok((row, target.name))
}

pub(super) async fn document_of(db: &mut Connection, row: &Row, target: &Name) -> Result<RolloutDocument, StoreError> {
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
