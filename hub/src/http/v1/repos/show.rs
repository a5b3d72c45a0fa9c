//! Shows a repo.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::api::RepoDocument;

use super::{document_of, find};
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::Named;
use crate::http::problem::Refusal;
use crate::store::StoreError;

pub(in crate::http) async fn show(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Json<RepoDocument>, Refusal> {
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let repo = find(&mut db, &caller, &name).await?;
    Ok(Json(document_of(&mut db, &repo).await?))
}
