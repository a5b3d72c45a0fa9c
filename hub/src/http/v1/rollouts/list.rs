//! Lists rollouts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::Name;
use bellwether_core::api::{List, RolloutDocument};
use serde::Deserialize;
use uuid::Uuid;

use super::document_of;
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::QueryParams;
use crate::http::pages;
use crate::http::problem::Refusal;
use crate::http::v1::find;
use crate::process::clock;
use crate::store::stored::Entry;
use crate::store::{self, StoreError, views};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::http) struct ListQuery {
    target: Option<Name>,
    cursor: Option<String>,
    limit: Option<u32>,
}

pub(in crate::http) async fn list(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    QueryParams(query): QueryParams<ListQuery>,
) -> Result<Json<List<RolloutDocument>>, Refusal> {
    let before = query.cursor.as_deref().map(pages::decode_cursor::<Uuid>).transpose()?.unwrap_or(Uuid::max());
    let limit = pages::limit(query.limit);
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let target = find::asked_target(&mut db, &caller, query.target.as_ref()).await?;
    let listed = store::rollouts::list(&mut db, caller.project.id, target, before, limit).await?;
    let page = pages::page(listed, limit, pages::by_name);
    let now = clock::now();
    let rows = page.items.into_iter().filter_map(Entry::readable).collect();
    let views = views::rollouts::load(&mut db, rows).await?;
    let items = views.into_iter().map(|view| document_of(view, now)).collect();
    Ok(Json(List { items, next: page.next }))
}
