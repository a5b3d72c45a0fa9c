//! Lists repos.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::api::{List, RepoDocument};

use super::documents_of;
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::QueryParams;
use crate::http::pages::{self, Paging};
use crate::http::problem::Refusal;
use crate::store::stored::Entry;
use crate::store::{self, StoreError};

pub(in crate::http) async fn list(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<List<RepoDocument>>, Refusal> {
    let after = paging.cursor.as_deref().map(pages::decode_cursor::<String>).transpose()?.unwrap_or_default();
    let limit = pages::limit(paging.limit);
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let listed = store::repos::list(&mut db, caller.project.id, &after, limit).await?;
    let page = pages::page(listed, limit, pages::by_name);
    let repos = page.items.into_iter().filter_map(Entry::readable).collect();
    Ok(Json(List { items: documents_of(&mut db, repos).await?, next: page.next }))
}
