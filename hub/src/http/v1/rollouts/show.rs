//! Shows a rollout.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use bellwether_core::api::RolloutDocument;

use super::{document_of, find, members};
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::pages;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::store::{StoreError, views};

/// With the first page of its members.
pub(in crate::http) async fn show(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RolloutDocument>, Refusal> {
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let (row, _) = find(&mut db, &caller, &id).await?;
    let page = members::page(&mut db, row.id, None, pages::FULL).await?;
    let view =
        views::rollouts::load(&mut db, vec![row]).await?.pop().ok_or_else(|| Refusal::not_found("rollout", id))?;
    let document = document_of(view, clock::now());
    Ok(Json(RolloutDocument { members: page.items, members_next: page.next, ..document }))
}
