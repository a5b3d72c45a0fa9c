//! Shows a rollout.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use bellwether_core::api::{MemberDocument, RolloutDocument};

use super::{document_of, find};
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::rollouts::Which;
use crate::store::{self, StoreError};

/// Members in the document of one rollout.
const MEMBERS_MAX: i64 = 20_000;

pub(in crate::http) async fn show(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    Path(id): Path<String>,
) -> Result<Json<RolloutDocument>, Refusal> {
    let now = clock::now();
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
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
