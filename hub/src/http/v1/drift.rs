//! What others changed in the clusters.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use bellwether_core::Name;
use bellwether_core::api::{DriftDocument, List};
use serde::Deserialize;
use uuid::Uuid;

use super::{clusters, find};
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::QueryParams;
use crate::http::pages;
use crate::http::problem::Refusal;
use crate::store::StoreError;
use crate::store::views::drifts::{self, Place};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::http) struct DriftQuery {
    cluster: Option<Name>,
    target: Option<Name>,
    cursor: Option<String>,
    limit: Option<u32>,
}

pub(in crate::http) async fn list(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    QueryParams(query): QueryParams<DriftQuery>,
) -> Result<Json<List<DriftDocument>>, Refusal> {
    let before = query.cursor.as_deref().map(pages::decode_cursor::<Place>).transpose()?;
    let limit = pages::limit(query.limit);
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let cluster = match &query.cluster {
        Some(name) => Some(clusters::find(&mut db, &caller, name).await?.id),
        None => None,
    };
    let target = find::asked_target(&mut db, &caller, query.target.as_ref()).await?;
    let drifts = drifts::list(&mut db, caller.project.id, cluster, target, before, limit).await?;
    let page = pages::page(drifts, limit, |(_, place)| pages::encode_cursor(place));
    let items = page.items.into_iter().map(|(document, _)| document).collect();
    Ok(Json(List { items, next: page.next }))
}

/// One, with what the fields were made.
pub(in crate::http) async fn show(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<DriftDocument>, Refusal> {
    let missing = || Refusal::not_found("drift", &id);
    let uuid: Uuid = id.parse().map_err(|_| missing())?;
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let drift = drifts::find(&mut db, caller.project.id, uuid).await?;
    Ok(Json(drift.ok_or_else(missing)?))
}
