//! Lists a rollout's members.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use bellwether_core::RolloutId;
use bellwether_core::api::{List, MemberDocument};

use super::find;
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::QueryParams;
use crate::http::pages::{self, Paging};
use crate::http::problem::Refusal;
use crate::store::views::rollouts::{self as views, MemberPlace};
use crate::store::{Connection, StoreError};

pub(in crate::http) async fn list(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Path(id): Path<String>,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<List<MemberDocument>>, Refusal> {
    let after = paging.cursor.as_deref().map(pages::decode_cursor::<MemberPlace>).transpose()?;
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let (row, _) = find(&mut db, &caller, &id).await?;
    Ok(Json(page(&mut db, row.id, after, pages::limit(paging.limit)).await?))
}

/// In the order of the waves, and of names in each.
pub(super) async fn page(
    db: &mut Connection,
    rollout: RolloutId,
    after: Option<MemberPlace>,
    limit: i64,
) -> Result<List<MemberDocument>, Refusal> {
    let members = views::list_members(db, rollout, after, limit).await?;
    let page = pages::page(members, limit, |(_, place)| pages::encode_cursor(place));
    Ok(List { items: page.items.into_iter().map(|(member, _)| member).collect(), next: page.next })
}
